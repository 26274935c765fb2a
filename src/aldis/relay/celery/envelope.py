"""What is published of a row: its columns as they were sent, and how often it was tried. JSON, and never pickle."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct, ValidationError, convert, to_builtins

from aldis.relay.storage.rows import Row
from aldis.relay.worker.consumer import Disposition, Outcome

FORMAT: Final = 1


class NewerEnvelopeError(Exception):
    """An envelope of a newer Aldis."""


class MalformedEnvelopeError(Exception):
    """No envelope."""


class Envelope(Struct, frozen=True, kw_only=True):
    """A row on its way.

    ``token`` is that of the publication, and ``end`` what came of it, if that could not be written when it was known.
    The others are columns of :class:`Row`.
    """

    format: Literal[1] = FORMAT
    message_id: str
    signal: str
    receiver: str
    version: int
    sender: str | None
    payload: str
    trace: str | None
    ordering_key: str | None
    sent_ms: int
    attempts: int
    losses: int
    token: str
    end: tuple[Literal["failed", "dead", "waits"], str, float, bool] | None = None


_COLUMNS: Final = tuple(name for name in Envelope.__struct_fields__ if name in Row._fields)


def written(row: Row, outcome: Outcome | None = None) -> dict[str, Any]:
    """The envelope of a row, as JSON can be made of it.

    :raises MalformedEnvelopeError: when a column has a value of another type than its own, as SQLite lets it.
    """
    end = None if outcome is None else (outcome.what.value, *outcome[1:])
    columns = {name: getattr(row, name) for name in _COLUMNS}
    found: dict[str, Any] = to_builtins(_checked({**columns, "format": FORMAT, "end": end}))
    return found


def read(found: Any) -> tuple[Row, Outcome | None]:
    """The row of an envelope, and what came of it if that is to be written yet.

    :raises NewerEnvelopeError: when a newer Aldis wrote it.
    :raises MalformedEnvelopeError: when it is none.
    """
    format = found.get("format") if isinstance(found, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]

    if type(format) is int and format > FORMAT:  # pyright: ignore[reportUnknownArgumentType]
        raise NewerEnvelopeError

    envelope = _checked(found)
    columns = {name: getattr(envelope, name) for name in _COLUMNS}
    outcome = None if envelope.end is None else Outcome(Disposition(envelope.end[0]), *envelope.end[1:])
    return Row(id=0, **columns), outcome


def _checked(found: Any) -> Envelope:
    try:
        return convert(found, Envelope)
    except ValidationError as error:
        raise MalformedEnvelopeError(str(error)) from None  # It names places and types, and no values.
