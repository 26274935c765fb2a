"""Signals, connections and sends as lines for a terminal, and as data for ``--json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from aldis._core.callables import qualified_name, signal_name
from aldis.observe import describe_delivery

from .lookup import connected, contract_of, is_mirror

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aldis.observe import CallRecord, ConnectionRecord, SendRecord

_LAST: Final = ("└─ ", "   ")
_OTHER: Final = ("├─ ", "│  ")

_NO_RECEIVERS: Final = (
    "No receiver is connected. If you expected one here:",
    "- Was the module that connects it imported?",
    "- Was it garbage collected? Signals hold receivers weakly: keep a reference to it, or connect it with",
    "  weak=False. Run with python -X dev, or call aldis.debug(), and Aldis warns of such a loss.",
    "- Is it connected to a signal of the same name in another namespace?",
)


def as_data(signals: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Return the data that ``list --json`` prints: a record for each signal, with its connections.

    :param signals: signals of Aldis and of Blinker, in groups.
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
    """Yield the lines that ``list`` prints: groups, their signals, and the connections in the order of calling.

    :param signals: signals of Aldis and of Blinker, in groups.
    """
    for group, members in signals.items():
        yield click.style(group, bold=True)
        yield from _branches([(_heading(signal), map(line_of, connected(signal))) for signal in members])


def _heading(signal: Any) -> str:
    name = click.style(signal_name(signal), fg="cyan")
    return name if connected(signal) else f"{name}  {click.style('no receivers', dim=True)}"


def _branches(nodes: list[tuple[str, Iterable[str]]]) -> Iterator[str]:
    for number, (text, leaves) in enumerate(nodes, 1):
        first, rest = _LAST if number == len(nodes) else _OTHER
        yield first + text
        below = list(leaves)

        for place, leaf in enumerate(below, 1):
            yield rest + (_LAST if place == len(below) else _OTHER)[0] + leaf


def line_of(record: ConnectionRecord) -> str:
    """Return one connection as one line."""
    notes = [f"for {record.sender}"] if record.sender != "ANY" else []
    notes += [f"priority {record.priority:g}"] if record.priority else []
    notes += ["async"] if record.is_async else []
    notes += ["once"] if record.is_once else []
    notes += [f"via {record.via}"] if record.via else []
    notes += ["on Blinker's signal"] if record.library == "blinker" else []
    noted = f" ({', '.join(notes)})" if notes else ""
    place = click.style(f"  {_relative(record.place)}", dim=True) if record.place else ""
    return f"{record.receiver}{noted}{place}"


def _relative(place: str) -> str:
    """Return a place relative to the current folder, if it is inside. Terminals and editors can open such a place."""
    path, here = Path(place), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else place


def described(signal: Any, sender: Any = None) -> Iterator[str]:
    """Yield the lines that ``show`` prints: the contract, the state and the connections of a signal.

    :param signal: a signal of Aldis or of Blinker.
    :param sender: an application. If a receiver asks for a sender, the last line says which receivers a send by this
        application would call.
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
        yield from _NO_RECEIVERS

    for number, record in enumerate(records, 1):
        yield f"{number}. {line_of(record)}"
        yield f"   held {'weakly: disconnected when nothing else refers to it' if record.is_weak else 'strongly'}"

        if record.sender != "ANY":
            yield "   called only when that sender sends: an object matches by identity, str, int and bytes by value"

    has_filters = any(record.sender != "ANY" for record in records)

    if sender is not None and has_filters and not signal.is_muted:
        yield from ("", f"Sent by this application, it calls: {_called(signal, sender) or 'no receiver'}")


def _called(signal: Any, sender: Any) -> str:
    names = map(qualified_name, signal.receivers_for(sender))
    return ", ".join(name for name in names if not is_mirror(name))


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
        yield "  muted: sends call no receiver"

    errors = getattr(signal, "errors", "propagate")

    if errors != "propagate":
        yield f"  errors   {errors if isinstance(errors, str) else getattr(errors, '__qualname__', 'a policy')}"


# Sends.


def send_tree(sends: Iterable[SendRecord]) -> Iterator[str]:
    """Yield the lines that ``trace`` prints: each send, the receivers that it called, and their own sends, with
    milliseconds.
    """
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


# Printing.


def print_list(groups: Mapping[str, Iterable[Any]], *, as_json: bool) -> None:
    """Print the lines of ``list``.

    :param groups: signals of Aldis and of Blinker, in groups.
    """
    if as_json:
        click.echo(json.dumps(as_data(groups), indent=2))
        return

    for line in tree(groups):
        click.echo(line)


def print_signals(signals: Iterable[Any], *, sender: Any = None) -> None:
    """Print the lines of ``show``, for each signal.

    :param sender: as for :func:`described`.
    """
    for signal in signals:
        for line in described(signal, sender):
            click.echo(line)
