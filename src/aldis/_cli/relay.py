"""The commands that run a relay and look after it: ``flask relay ...`` and ``python -m aldis relay ...``.

This module does not import :mod:`aldis.relay`. Its caller passes functions that find a relay and run its worker. These
may import the relay when they are called, so a program without the relay's dependencies can still look at its signals.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from aldis.exceptions import RelayError

from .worker import worker_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HEADS: Final = ("RECEIVER", "BACKLOG", "OLDEST", "IN FLIGHT", "RETRYING", "DEAD", "")
_PURGED: Final = {"effects": "notes of effects", "dead": "dead letters"}
_DEAD_HEADS: Final = ("NUMBER", "RECEIVER", "ATTEMPTS", "DIED", "REASON")

# The packages that only the relay needs.
_NEEDED: Final = ("msgspec", "sqlalchemy")


class Status(Protocol):
    """The state of one receiver's messages: :class:`aldis.relay.ReceiverStatus`."""

    @property
    def receiver(self) -> str:
        """Return the receiver's name."""
        raise NotImplementedError

    @property
    def is_known(self) -> bool:
        """Whether the receiver is connected in this process."""
        raise NotImplementedError

    @property
    def backlog(self) -> int:
        """Return how many messages wait."""
        raise NotImplementedError

    @property
    def in_flight(self) -> int:
        """Return how many messages workers have claimed."""
        raise NotImplementedError

    @property
    def retrying(self) -> int:
        """Return how many messages of the backlog have failed before."""
        raise NotImplementedError

    @property
    def oldest_age_s(self) -> float:
        """Return for how many seconds the oldest message has waited."""
        raise NotImplementedError

    @property
    def dead(self) -> int:
        """Return how many dead letters there are."""
        raise NotImplementedError

    @property
    def failure(self) -> str | None:
        """Return the reason why one of the messages failed."""
        raise NotImplementedError


def relay_group(
    find_relay: Callable[..., Any],
    run_worker: Callable[..., object],
    *decorators: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> click.Group:
    """Make the group ``relay``: worker, status, dead letters, purge, tables.

    :param find_relay: return the relay. It is called with the path if ``decorators`` add an argument ``path``,
        otherwise without arguments.
    :param run_worker: run a worker of the relay until it ends, and exit. It is called with the relay and the options of
        :func:`aldis.relay.worker.process.run_worker`.
    :param decorators: decorators for each command: an argument ``path``, or Flask's ``with_appcontext``.
    """

    @click.group("relay")
    def group() -> None:
        """Run a worker for durable receivers, and look after their messages and tables."""

    @group.group("dead")
    def dead() -> None:
        """Look at dead letters, retry them, or delete them."""

    def add(parent: click.Group, name: str, function: Callable[..., Any]) -> None:
        command: Any = _with_relay(find_relay, function)

        for decorator in decorators:
            command = decorator(command)

        parent.command(name)(command)

    add(group, "worker", worker_command(run_worker))
    add(group, "status", _status)
    add(group, "purge", _purge)
    add(group, "create-tables", _create_tables)
    add(group, "check-tables", _check_tables)
    add(dead, "list", _dead_list)
    add(dead, "show", _dead_show)
    add(dead, "retry", _dead_retry)
    add(dead, "drop", _dead_drop)
    return group


def _with_relay(find_relay: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that finds the relay, calls the function with it, and reports the relay's errors."""

    @wraps(function)
    def run(*, path: str | None = None, **options: Any) -> None:
        try:
            function(find_relay() if path is None else find_relay(path), **options)
        except RelayError as error:
            raise click.ClickException(str(error)) from None
        except ModuleNotFoundError as error:
            if error.name not in _NEEDED:
                raise

            raise click.ClickException(
                f"This needs {error.name}, which is not installed. Install it with: pip install 'aldis[relay]'"
            ) from None

    # A new list: decorators add to it, and the function is used for several groups.
    run.__dict__["__click_params__"] = [*getattr(function, "__click_params__", ())]
    return run


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_all = click.option("--all", "all_", is_flag=True, help="All dead letters.")
_of_receiver = click.option(
    "--receiver", default=None, metavar="NAME", help="Only messages or dead letters of this receiver."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
_numbers = click.argument("numbers", nargs=-1, type=int, metavar="[NUMBER]...")


@_as_json
def _status(relay: Any, *, as_json: bool) -> None:
    """Print how many messages wait for each receiver, and for how long."""
    found = relay.status()

    if as_json:
        click.echo(json.dumps([status._asdict() for status in found], indent=2))
        return

    if not found:
        click.echo("No durable receiver is connected, and no message waits.")
        return

    _print_table(_HEADS, [_cells(status) for status in found])


def _cells(status: Status) -> tuple[object, ...]:
    age = _age(status.oldest_age_s) if status.backlog or status.in_flight else "-"
    note = _note(status.is_known, status.failure)
    return status.receiver, status.backlog, age, status.in_flight, status.retrying, status.dead, note


def _note(is_known: bool, failure: str | None) -> str:
    unknown = "" if is_known else "not known to this program: its messages wait"
    return "; ".join(filter(None, (unknown, failure)))


def _create_tables(relay: Any) -> None:
    """Create the relay's tables that are missing."""
    relay.create_tables()
    click.echo("The relay's tables are there.")


def _check_tables(relay: Any) -> None:
    """Check that the relay's tables are there, and that their version is the one that this code needs."""
    relay.check_tables()
    click.echo("The relay's tables are there, and their version is right.")


@_of_receiver
@_as_json
def _dead_list(relay: Any, *, receiver: str | None, as_json: bool) -> None:
    """Print dead letters, the oldest first."""
    found = list(_pages(relay, receiver))

    if as_json:
        click.echo(json.dumps([letter._asdict() for letter in found], indent=2, default=_as_text))
        return

    if not found:
        click.echo("There are no dead letters.")
        return

    now = datetime.now(UTC)
    _print_table(
        _DEAD_HEADS,
        [(d.id, d.receiver, d.attempts, f"{_age((now - d.died_at).total_seconds())} ago", d.reason) for d in found],
    )


@click.argument("number", type=int)
@click.option("--payload", "shows_payload", is_flag=True, help="Print the payload, too.")
def _dead_show(relay: Any, *, number: int, shows_payload: bool) -> None:
    """Print the dead letter with this number."""
    letter = next(iter(relay.dead_letters(limit=1, after=number - 1)), None)

    if letter is None or letter.id != number:
        raise click.ClickException(f"There is no dead letter {number}.")

    for name, value in letter._asdict().items():
        click.echo(f"{name:<12}{_as_text(value)}")

    if shows_payload:
        click.echo(f"{'payload':<12}{relay.dead_payload(number)}")


@_numbers
@_of_receiver
@_all
def _dead_retry(relay: Any, *, numbers: tuple[int, ...], receiver: str | None, all_: bool) -> None:
    """Retry dead letters: by their numbers, all of a receiver, or all."""
    count = sum(relay.retry_dead(*chosen) for chosen in _chosen(relay, numbers, receiver, all_))
    click.echo(f"{count} will be retried.")


@_numbers
@_of_receiver
@_all
@_yes
def _dead_drop(relay: Any, *, numbers: tuple[int, ...], receiver: str | None, all_: bool, yes: bool) -> None:
    """Delete dead letters: by their numbers, all of a receiver, or all."""
    chosen = list(_chosen(relay, numbers, receiver, all_))
    _confirm(f"Delete {sum(map(len, chosen))} dead letters?", yes)
    click.echo(f"{sum(relay.drop_dead(*some) for some in chosen)} deleted.")


@click.argument("what", type=click.Choice(["effects", "dead", "messages"]))
@_of_receiver
@click.option(
    "--older-than", metavar="AGE", help="Delete only older effects or dead letters: an age such as 90d, 12h or 30m."
)
@_yes
def _purge(relay: Any, *, what: str, older_than: str | None, receiver: str | None, yes: bool) -> None:
    """Delete old notes of effects, old dead letters, or the messages that wait for a receiver."""
    if what == "messages":
        if receiver is None or older_than is not None:
            raise click.UsageError(
                "purge messages takes --receiver, but no age. It deletes the messages that wait for the receiver."
            )

        _confirm(f"Delete all messages that wait for {receiver}?", yes)
        click.echo(f"{relay.drop_messages(receiver)} deleted.")
        return

    if older_than is None or receiver is not None:
        raise click.UsageError(f"purge {what} takes --older-than, such as --older-than 90d, but no --receiver.")

    age_s = _seconds(older_than)
    purge = relay.purge_effects if what == "effects" else relay.purge_dead_letters
    _confirm(f"Delete all {_PURGED[what]} older than {older_than}?", yes)
    click.echo(f"{purge(older_than_s=age_s)} deleted.")


def _pages(relay: Any, receiver: str | None) -> Iterable[Any]:
    after = 0

    while found := relay.dead_letters(receiver, limit=1000, after=after):
        yield from found
        after = found[-1].id


def _chosen(relay: Any, numbers: tuple[int, ...], receiver: str | None, all_: bool) -> Iterable[tuple[int, ...]]:
    if sum((bool(numbers), receiver is not None, all_)) != 1:
        raise click.UsageError("Choose dead letters by their numbers, by --receiver NAME, or by --all.")

    found = numbers or tuple(letter.id for letter in _pages(relay, receiver))
    return (found[first : first + 500] for first in range(0, len(found), 500))


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd])", text)

    if match is None:
        raise click.UsageError(f"An age is a number and a unit of s, m, h or d, such as 90d, not {text!r}.")

    return float(int(match[1]) * _UNITS_S[match[2]])


def _age(seconds: float) -> str:
    for unit, size in reversed(_UNITS_S.items()):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"

    return f"{max(seconds, 0):.1f} s"


def _as_text(value: object) -> str:
    return value.isoformat(sep=" ", timespec="seconds") if isinstance(value, datetime) else str(value)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    for number, row in enumerate(cells):
        line = "  ".join(
            cell.rjust(width) if number and values_are_numbers else cell.ljust(width)
            for cell, width, values_are_numbers in zip(row, widths, _numeric(rows), strict=True)
        ).rstrip()
        click.echo(line if number else click.style(line, bold=True))


def _numeric(rows: Sequence[Sequence[object]]) -> list[bool]:
    return [isinstance(value, int) for value in rows[0]]
