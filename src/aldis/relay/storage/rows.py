"""Rows, messages and dead letters as Python objects, and the relay's counts."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .tables import SENT_COLUMNS

LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999: the last possible time."""


class Row(NamedTuple):
    """One claimed row: one receiver of one message."""

    id: int
    message_id: str
    signal: str
    receiver: str
    version: int
    sender: str | None
    payload: str | None  # None if it is too large to load.
    trace: str | None
    ordering_key: str | None
    sent_ms: int
    attempts: int
    crashes: int
    token: str

    def sent(self) -> dict[str, Any]:
        """Return the columns that the send wrote, by name."""
        return {name: getattr(self, name) for name in SENT_COLUMNS}

    @property
    def is_malformed(self) -> bool:
        """Whether the claim found numbers that no send writes, and has put zeros in their place."""
        return self.version < 1


class KnownReceiver(NamedTuple):
    """The facts that a claim needs about a receiver whose rows this process can receive."""

    name: str
    """The receiver's name."""

    names: tuple[str, ...]
    """Its name and its aliases: all names that its rows may have."""

    key: str | None
    """The keyword whose values are received in order."""

    versions: dict[str, int]
    """The newest version that can be read, by the names of its signals."""


class DrainCounts(NamedTuple):
    """How many messages had which outcome. :meth:`Relay.drain` returns it, and a worker counts in the same way.

    .. versionadded:: 0.1
    """

    done: int = 0
    """Messages that were received."""

    failed: int = 0
    """Attempts in which the receiver raised. The message waits for its next attempt."""

    dead: int = 0
    """Messages that became dead letters."""

    waiting: int = 0
    """Messages that could not be received here now. This does not count as an attempt."""

    lost: int = 0
    """Messages whose lease ended before the worker could write their outcome. They are received again."""

    released: int = 0
    """Messages that a worker claimed and released without an attempt, because it stopped or had no free thread."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={count}" for name, count in self._asdict().items() if count)
        return f"DrainCounts({shown})"

    def plus(self, other: DrainCounts) -> DrainCounts:
        """Return the sums of two counts."""
        return DrainCounts(*(mine + its for mine, its in zip(self, other, strict=True)))


class Message(NamedTuple):
    """The message that a durable receiver is receiving. :meth:`Relay.current` returns it.

    .. versionadded:: 0.1
    """

    id: str
    """The id of the message. It is the same for all receivers of one send, and in each attempt."""

    signal: str
    """The name of the signal."""

    receiver: str
    """The name of the receiver, as it was when the message was sent."""

    attempt: int
    """Which attempt this is, from 1. An attempt in which the worker died counts."""

    sent_at: datetime
    """When it was sent, in UTC, by the database's clock."""


class DeadLetter(NamedTuple):
    """A message that gets no more attempts for one receiver.

    .. versionadded:: 0.1
    """

    id: int
    """Its number. Use it to retry or drop the dead letter."""

    message_id: str
    """The id of the message."""

    signal: str
    """The name of the signal."""

    receiver: str
    """The name of the receiver."""

    attempts: int
    """How many attempts it had."""

    sent_at: datetime
    """When it was sent, in UTC."""

    died_at: datetime
    """When it became a dead letter, in UTC."""

    reason: str
    """Why it became a dead letter. This shows nothing of the payload."""


def message_of(row: Row) -> Message:
    """Return the message of a row, as its receiver sees it."""
    return Message(row.message_id, row.signal, row.receiver, row.attempts, as_time(row.sent_ms))


def as_time(milliseconds: int) -> datetime:
    """Return a time of the database."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def printable(reason: str) -> str:
    """Return a reason in a form that every database accepts: up to 500 printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in reason[:500])


current: Final[ContextVar[Message | None]] = ContextVar("aldis.relay.current", default=None)
"""The message that this thread or task is receiving."""
