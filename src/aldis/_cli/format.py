"""Signals, connections and sends as text for a terminal, and as data for ``--json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from aldis._core.callables import qualified_name
from aldis.observe import connections, describe_delivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aldis.observe import CallRecord, ConnectionRecord, SendRecord

_LAST: Final = ("└─ ", "   ")
_OTHER: Final = ("├─ ", "│  ")

_FORWARDER: Final = "aldis._web.mirrors."

_NOBODY: Final = (
    "Nobody is connected. If you expected a receiver here:",
    "- Was the module that connects it imported?",
    "- Was it garbage collected? Signals hold receivers weakly: keep a reference to it, or connect it with",
    "  weak=False. Run with python -X dev, or call aldis.debug(), to be told of such a loss.",
    "- Is it connected to another signal of that name, of another namespace?",
)


def signal_name(signal: Any) -> str:
    """A signal's name; for a signal without one, the name of its class."""
    return getattr(signal, "name", None) or type(signal).__name__


def connected(signal: Any) -> list[ConnectionRecord]:
    """Who is connected, save what forwards from a framework's signal to its twin, which is listed itself."""
    return [record for record in connections(signal) if not record.receiver.startswith(_FORWARDER)]


def as_data(signals: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """What ``list --json`` prints: a record for each signal, with its connections.

    :param signals: signals of Aldis and of Blinker, by what they belong to.
    """
    return [
        {
            "group": group,
            "signal": signal_name(signal),
            "is_declared": contract_of(signal) is not None,
            "connections": [record._asdict() for record in connected(signal)],
        }
        for group, members in signals.items()
        for signal in members
    ]


def tree(signals: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    """What ``list`` prints: groups, their signals, and who is connected, in the order of calling.

    :param signals: as for :func:`as_data`.
    """
    for group, members in signals.items():
        yield click.style(group, bold=True)
        yield from _branches([(_heading(signal), map(line_of, connected(signal))) for signal in members])


def _heading(signal: Any) -> str:
    name = click.style(signal_name(signal), fg="cyan")
    return name if connected(signal) else f"{name}  {click.style('nobody is connected', dim=True)}"


def _branches(nodes: list[tuple[str, Iterable[str]]]) -> Iterator[str]:
    for number, (text, leaves) in enumerate(nodes, 1):
        first, rest = _LAST if number == len(nodes) else _OTHER
        yield first + text
        below = list(leaves)

        for place, leaf in enumerate(below, 1):
            yield rest + (_LAST if place == len(below) else _OTHER)[0] + leaf


def line_of(record: ConnectionRecord) -> str:
    """One connection in one line."""
    notes = [f"for {record.sender}"] if record.sender != "ANY" else []
    notes += [f"priority {record.priority:g}"] if record.priority else []
    notes += ["async"] if record.is_async else []
    notes += ["once"] if record.is_once else []
    notes += [f"via {record.via}"] if record.via else []
    notes += ["on Blinker's signal"] if record.library == "blinker" else []
    noted = f" ({', '.join(notes)})" if notes else ""
    place = click.style(f"  {_near(record.place)}", dim=True) if record.place else ""
    return f"{record.receiver}{noted}{place}"


def _near(place: str) -> str:
    """A place below the current folder as seen from there, as terminals and editors find it."""
    path, here = Path(place), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else place


def contract_of(signal: Any) -> Any:
    """The function that declares a signal, if one does."""
    return getattr(signal, "contract", None) if hasattr(signal, "_registry") else None


def described(signal: Any, sender: Any = None) -> Iterator[str]:
    """What ``show`` prints: the contract, the state, and who is connected.

    :param signal: of Aldis or of Blinker.
    :param sender: an application. Where receivers ask for a sender, it is said whom a send by this one would call.
    """
    contract = contract_of(signal)
    yield click.style(signal_name(signal), fg="cyan", bold=True)

    if contract is None:
        yield "  not declared: any payload"
    else:
        yield from _contract_lines(contract)

    yield from _state_lines(signal)
    records = connected(signal)
    yield ""

    if not records:
        yield from _NOBODY

    for number, record in enumerate(records, 1):
        yield f"{number}. {line_of(record)}"
        yield f"   held {'weakly: it goes when nothing else refers to it' if record.is_weak else 'strongly'}"

        if record.sender != "ANY":
            yield "   called only when that sender sends: an object matches by identity, str, int and bytes by value"

    has_filters = any(record.sender != "ANY" for record in records)

    if sender is not None and has_filters and not signal.is_muted:
        yield from ("", f"Sent by this application, it calls: {_called(signal, sender) or 'nobody'}")


def _called(signal: Any, sender: Any) -> str:
    names = map(qualified_name, signal.receivers_for(sender))
    return ", ".join(name for name in names if not name.startswith(_FORWARDER))


def _contract_lines(contract: Any) -> Iterator[str]:
    import inspect

    if contract.__doc__:
        yield f"  {contract.__doc__.strip().splitlines()[0]}"

    sender, *payload = inspect.signature(contract).parameters.values()
    yield f"  sender   {_type_of(sender)}"

    for parameter in payload:
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"  payload  {parameter.name}: {_type_of(parameter)}{default}"


def _type_of(parameter: Any) -> str:
    annotation = parameter.annotation

    if annotation is parameter.empty:
        return "any"

    return annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", repr(annotation))


def _state_lines(signal: Any) -> Iterator[str]:
    if signal.is_muted:
        yield "  muted: sends call nobody"

    errors = getattr(signal, "errors", "propagate")

    if errors != "propagate":
        yield f"  errors   {errors if isinstance(errors, str) else getattr(errors, '__qualname__', 'a policy')}"


# Sends.


def send_tree(sends: Iterable[SendRecord]) -> Iterator[str]:
    """What ``trace`` prints: each send, the receivers that it called, and what they sent, with milliseconds."""
    for send in sends:
        yield _send_line(send)
        yield from _call_lines(send, "")


def _call_lines(send: SendRecord, indent: str) -> Iterator[str]:
    for number, call in enumerate(send.calls, 1):
        first, rest = _LAST if number == len(send.calls) else _OTHER
        yield f"{indent}{first}{_call_line(call)}"

        for place, nested in enumerate(call.sends, 1):
            inner, below = _LAST if place == len(call.sends) else _OTHER
            yield f"{indent}{rest}{inner}{_send_line(nested)}"
            yield from _call_lines(nested, f"{indent}{rest}{below}")


def _send_line(send: SendRecord) -> str:
    names = f"({', '.join(send.payload_names)})" if send.payload_names else ""
    muted = "  muted" if send.is_muted else ""
    return f"{click.style(send.signal_name, fg='cyan')}{names}  {_took(send.duration_s)}{muted}"


def _call_line(call: CallRecord) -> str:
    via = "" if call.via is None else describe_delivery(call.via)
    noted = f" (via {via})" if via and not call.is_delivery else ""
    line = f"{call.receiver_name}{noted}  {_took(call.duration_s)}"

    if call.outcome == "raised":
        return f"{line}  {click.style(f'raised {call.exception_type}', fg='red')}"

    return f"{line}  handed over to {via}" if call.outcome == "delivered" else line


def _took(duration_s: float | None) -> str:
    return "under way" if duration_s is None else f"{duration_s * 1000:.2f} ms"
