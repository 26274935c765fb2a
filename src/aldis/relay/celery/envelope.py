"""Encode a row for the broker: its columns as they were sent, and its counts of attempts. The format is JSON, never
pickle.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct, ValidationError, convert, to_builtins

from aldis.relay.storage.rows import Row
from aldis.relay.worker.consumer import Disposition, Outcome

FORMAT: Final = 1


class NewerEnvelopeError(Exception):
    """The envelope was written by a newer Aldis."""


class MalformedEnvelopeError(Exception):
    """The text is not an envelope of a row."""


class Envelope(Struct, frozen=True, kw_only=True):
    """A row on its way through the broker.

    ``token`` identifies the publication. ``end`` is the outcome of the attempt, if the database was away when the
    worker had to write it. The other fields are columns of :class:`Row`.
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
    crashes: int
    token: str
    end: tuple[Literal["failed", "dead", "waits"], str, float, bool] | None = None


_COLUMNS: Final = tuple(name for name in Envelope.__struct_fields__ if name in Row._fields)


def encode(row: Row, outcome: Outcome | None = None) -> dict[str, Any]:
    """Return the envelope of a row, in types that JSON has.

    :param outcome: how the attempt ended, if this is not in the database yet.
    :raises MalformedEnvelopeError: when a column has a value of a wrong type, which SQLite allows.
    """
    end = None if outcome is None else (outcome.disposition.value, *outcome[1:])
    columns = {name: getattr(row, name) for name in _COLUMNS}
    found: dict[str, Any] = to_builtins(_checked({**columns, "format": FORMAT, "end": end}))
    return found


def decode(found: Any) -> tuple[Row, Outcome | None]:
    """Return the row of an envelope, and the outcome of the attempt if it is not in the database yet.

    :raises NewerEnvelopeError: when a newer Aldis wrote the envelope.
    :raises MalformedEnvelopeError: when it is not an envelope.
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
        raise MalformedEnvelopeError(str(error)) from None  # The error's text has places and types, and no values.
