"""A message: as it stands in the database, as a receiver sees it, and as one that died is shown."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .tables import SENT_COLUMNS

_LAST_MS: Final = 253_402_300_799_000  # The end of the year 9999.


class Row(NamedTuple):
    """One row that was claimed: one receiver of one message."""

    id: int
    message_id: str
    signal: str
    receiver: str
    version: int
    sender: str | None
    payload: str | None  # None is one that is too large to be loaded.
    trace: str | None
    ordering_key: str | None
    sent_ms: int
    attempts: int
    losses: int
    token: str

    def sent(self) -> dict[str, Any]:
        """What was sent, by the names of the columns."""
        return {name: getattr(self, name) for name in SENT_COLUMNS}


class Message(NamedTuple):
    """The message that a durable receiver is receiving: what :meth:`Relay.current` gives.

    .. versionadded:: 0.1
    """

    id: str
    """The id of the message. All receivers of one send get the same, and each attempt does."""

    signal: str
    """The name of the signal."""

    receiver: str
    """The name of the receiver, as it was when the message was sent."""

    attempt: int
    """Which attempt this is, from 1. One that ended with the death of its worker counts."""

    sent_at: datetime
    """When it was sent, in UTC, by the database's clock."""


class DeadLetter(NamedTuple):
    """A message that one receiver could not be brought to receive.

    .. versionadded:: 0.1
    """

    id: int
    """Its number, by which it is retried or dropped."""

    message_id: str
    """The id of the message."""

    signal: str
    """The name of the signal."""

    receiver: str
    """The name of the receiver."""

    attempts: int
    """How often it was tried."""

    sent_at: datetime
    """When it was sent, in UTC."""

    died_at: datetime
    """When it was given up, in UTC."""

    reason: str
    """Why it was given up. It shows nothing of the payload."""


def message_of(row: Row) -> Message:
    """A row as its receiver sees it."""
    return Message(row.message_id, row.signal, row.receiver, row.attempts, as_time(row.sent_ms))


def as_time(milliseconds: int) -> datetime:
    """A time of the database, if it is one that there can be; else the first or the last of those."""
    return datetime.fromtimestamp(min(max(milliseconds, 0), _LAST_MS) / 1000, UTC)


current: Final[ContextVar[Message | None]] = ContextVar("aldis.relay.current", default=None)
"""The message that is being received here."""
