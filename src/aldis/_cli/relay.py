"""The commands that look after the relay, for ``flask signals`` and for ``python -m aldis``.

What they need is imported when they run, for neither needs it to look at signals.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from aldis.exceptions import RelayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aldis.relay import ReceiverStatus, Relay

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HEADS: Final = ("RECEIVER", "BACKLOG", "OLDEST", "IN FLIGHT", "RETRYING", "DEAD", "")
_DEAD_HEADS: Final = ("NUMBER", "RECEIVER", "ATTEMPTS", "DIED", "REASON")


def needs_relay() -> None:
    """See that what the relay needs is installed.

    :raises click.ClickException: when not.
    """
    try:
        import aldis.relay  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"This needs {error.name}, which is not installed. Install it with: pip install 'aldis[relay]'"
        ) from None


def relay_commands(find: Callable[..., Relay], *arguments: Callable[..., Any]) -> click.Group:
    """The group ``relay``: status, dead letters, purge.

    :param find: gives the relay, called with what ``arguments`` add to each command.
    :param arguments: decorators that add to each command what the relay is found by.
    """

    @click.group("relay")
    def group() -> None:
        """Look after durable receivers: what waits, what died."""

    def add(parent: click.Group, name: str, function: Callable[..., Any]) -> None:
        @wraps(function)
        def run(*, path: str | None = None, **options: Any) -> None:
            needs_relay()

            try:
                function(find() if path is None else find(path), **options)
            except RelayError as error:
                raise click.ClickException(str(error)) from None

        # A list of its own: the decorators below add to it, and the function serves several groups.
        run.__dict__["__click_params__"] = [*getattr(function, "__click_params__", ())]
        command: Any = run

        for argument in arguments:
            command = argument(command)

        parent.command(name)(command)

    @group.group("dead")
    def dead() -> None:
        """Look at dead letters, have them received again, or drop them."""

    add(group, "status", _status)
    add(group, "purge", _purge)
    add(dead, "list", _dead_list)
    add(dead, "show", _dead_show)
    add(dead, "retry", _dead_retry)
    add(dead, "drop", _dead_drop)
    return group


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_all = click.option("--all", "all_", is_flag=True, help="All of them.")
_of_receiver = click.option("--receiver", default=None, metavar="NAME", help="Those of this receiver.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_numbers = click.argument("numbers", nargs=-1, type=int, metavar="[NUMBER]...")


@_as_json
def _status(relay: Relay, *, as_json: bool) -> None:
    """Print what waits, for whom, and for how long."""
    found = relay.status()

    if as_json:
        click.echo(json.dumps([status._asdict() for status in found], indent=2))
        return

    if not found:
        click.echo("No durable receiver is connected, and no message waits.")
        return

    _print_table(_HEADS, [_cells(status) for status in found])


def _cells(status: ReceiverStatus) -> tuple[object, ...]:
    age = _age(status.oldest_age_s) if status.backlog or status.in_flight else "-"
    note = _note(status.is_known, status.failure)
    return status.receiver, status.backlog, age, status.in_flight, status.retrying, status.dead, note


def _note(is_known: bool, failure: str | None) -> str:
    unknown = "" if is_known else "not known to this program: its messages wait"
    return "; ".join(filter(None, (unknown, failure)))


@_of_receiver
@_as_json
def _dead_list(relay: Relay, *, receiver: str | None, as_json: bool) -> None:
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
@click.option("--payload", "shows_payload", is_flag=True, help="Print what was sent, too.")
def _dead_show(relay: Relay, *, number: int, shows_payload: bool) -> None:
    """Print one dead letter, by its number."""
    letter = next(iter(relay.dead_letters(most=1, after=number - 1)), None)

    if letter is None or letter.id != number:
        raise click.ClickException(f"There is no dead letter {number}.")

    for name, value in letter._asdict().items():
        click.echo(f"{name:<12}{_as_text(value)}")

    if shows_payload:
        click.echo(f"{'payload':<12}{relay.dead_payload(number)}")


@_numbers
@_of_receiver
@_all
def _dead_retry(relay: Relay, *, numbers: tuple[int, ...], receiver: str | None, all_: bool) -> None:
    """Have dead letters received again: those of the given numbers, of a receiver, or all."""
    count = sum(relay.retry_dead(*chosen) for chosen in _chosen(relay, numbers, receiver, all_))
    click.echo(f"{count} will be received again.")


@_numbers
@_of_receiver
@_all
@_yes
def _dead_drop(relay: Relay, *, numbers: tuple[int, ...], receiver: str | None, all_: bool, yes: bool) -> None:
    """Delete dead letters: those of the given numbers, of a receiver, or all."""
    chosen = list(_chosen(relay, numbers, receiver, all_))
    _confirm(f"Delete {sum(map(len, chosen))} dead letters?", yes)
    click.echo(f"{sum(relay.drop_dead(*some) for some in chosen)} were deleted.")


@click.argument("what", type=click.Choice(["effects", "dead", "messages"]))
@_of_receiver
@click.option("--older-than", metavar="AGE", help="For effects and dead: such as 90d, 12h, 30m.")
@_yes
def _purge(relay: Relay, *, what: str, older_than: str | None, receiver: str | None, yes: bool) -> None:
    """Delete notes of effects, or dead letters, that are older; or the messages that wait for a receiver."""
    if what == "messages":
        if receiver is None or older_than is not None:
            raise click.UsageError("purge messages takes --receiver, whose waiting messages are deleted, and no age.")

        _confirm(f"Delete all messages that wait for {receiver}?", yes)
        click.echo(f"{relay.drop_messages(receiver)} were deleted.")
        return

    if older_than is None or receiver is not None:
        raise click.UsageError(f"purge {what} takes --older-than, such as --older-than 90d, and no receiver.")

    age_s = _seconds(older_than)
    _confirm(f"Delete {what} that are older than {older_than}?", yes)
    click.echo(f"{relay.purge(what, older_than_s=age_s)} were deleted.")  # type: ignore[arg-type]


def _pages(relay: Relay, receiver: str | None) -> Iterable[Any]:
    after = 0

    while found := relay.dead_letters(receiver, most=1000, after=after):
        yield from found
        after = found[-1].id


def _chosen(relay: Relay, numbers: tuple[int, ...], receiver: str | None, all_: bool) -> Iterable[tuple[int, ...]]:
    if sum((bool(numbers), receiver is not None, all_)) != 1:
        raise click.UsageError("Give the numbers of dead letters, or --receiver NAME, or --all.")

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
