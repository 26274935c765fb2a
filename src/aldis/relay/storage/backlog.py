"""The backlog: how many rows each receiver has, and how old they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, case, func, select

from .tables import messages, now_ms

if TYPE_CHECKING:
    from sqlalchemy import Connection

_m: Final = messages.c


class Backlog(NamedTuple):
    """The rows of one receiver, counted."""

    receiver: str
    waiting: int
    in_flight: int
    retrying: int
    oldest_age_s: float
    failure: str | None


def count(connection: Connection) -> list[Backlog]:
    """Count all rows, by receiver."""
    is_claimed = and_(_m.token.is_not(None), _m.due_ms > now_ms())
    waits_again = and_(_m.token.is_(None), _m.attempts > 0)
    statement = select(
        _m.receiver,
        func.count(),
        func.sum(case((is_claimed, 1), else_=0)),
        func.sum(case((waits_again, 1), else_=0)),
        func.min(_m.sent_ms),
        func.max(_m.failure),
        now_ms(),
    ).group_by(_m.receiver)
    return [
        # MariaDB returns sums of integers as decimals.
        Backlog(str(receiver), rows - int(in_flight), int(in_flight), int(retrying), _age_s(oldest, now), failure)
        for receiver, rows, in_flight, retrying, oldest, failure, now in connection.execute(statement)
    ]


def _age_s(sent_ms: object, now: int) -> float:
    """Return the age of a row. Subtract in Python, where no number overflows. SQLite may have a text for a time."""
    return max(now - sent_ms, 0) / 1000 if isinstance(sent_ms, (int, float)) else 0.0
