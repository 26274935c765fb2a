"""Dead letters: messages that get no more attempts. They are kept until a user requeues or drops them.

Each function executes one statement or a few, in a transaction of the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, func, insert, literal, select

from .rows import DeadLetter, as_time, printable
from .tables import SENT_COLUMNS, dead_letters as letters, messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from .rows import Row

_m: Final = messages.c
_d: Final = letters.c


def dead_letter(connection: Connection, row: Row, reason: str) -> bool:
    """Make a claimed row a dead letter. Return whether the lease was still held."""
    names = [*SENT_COLUMNS, "died_ms", "attempts", "reason"]
    mine = and_(_m.id == row.id, _m.token == row.token)
    sent, ended = (_m[name] for name in SENT_COLUMNS), (now_ms(), literal(row.attempts), literal(printable(reason)))
    source = select(*sent, *ended).where(mine)
    source = source.with_for_update()  # Otherwise another worker could claim it between the two statements.
    connection.execute(insert(letters).from_select(names, source, include_defaults=False))
    return connection.execute(delete(messages).where(mine)).rowcount == 1


def dead_letter_deleted(connection: Connection, row: Row, reason: str) -> None:
    """Make a dead letter of a row that is no longer in the table."""
    values = {**row.sent(), "attempts": row.attempts, "reason": printable(reason)}
    connection.execute(insert(letters).values(**values, died_ms=now_ms()))


def find(connection: Connection, receiver: str | None, limit: int, after: int) -> list[DeadLetter]:
    """Return dead letters after a number, the oldest first.

    :param receiver: only dead letters of this receiver.
    """
    names = ("id", "message_id", "signal", "receiver", "attempts", "sent_ms", "died_ms", "reason")
    conditions = [_d.id > after, *([_d.receiver == receiver] if receiver is not None else [])]
    statement: Any = select(*(_d[name] for name in names)).where(*conditions).order_by(_d.id).limit(limit)
    return [
        DeadLetter(
            row.id,
            row.message_id,
            row.signal,
            row.receiver,
            row.attempts,
            as_time(row.sent_ms),
            as_time(row.died_ms),
            row.reason,
        )
        for row in connection.execute(statement)
    ]


def payload_of(connection: Connection, number: int) -> str | None:
    """Return the payload of a dead letter; ``None`` if there is no such letter."""
    found: Any = connection.scalar(select(_d.payload).where(_d.id == number))
    return found  # type: ignore[no-any-return]


def requeue(connection: Connection, numbers: Collection[int]) -> int:
    """Make rows of dead letters again, due now. Return how many there were."""
    chosen = _d.id.in_(numbers)
    names = [*SENT_COLUMNS, "due_ms", "attempts", "crashes"]
    source = select(*(_d[name] for name in SENT_COLUMNS), now_ms(), literal(0), literal(0)).where(chosen)
    source = source.order_by(_d.id).with_for_update()  # Another requeue at the same time then finds them gone.
    connection.execute(insert(messages).from_select(names, source, include_defaults=False))
    return connection.execute(delete(letters).where(chosen)).rowcount


def drop(connection: Connection, numbers: Collection[int]) -> int:
    """Delete dead letters. Return how many there were."""
    return connection.execute(delete(letters).where(_d.id.in_(numbers))).rowcount


def purge(connection: Connection, age_ms: int) -> int:
    """Delete dead letters that are older than a time. Return how many there were."""
    return connection.execute(delete(letters).where(_d.died_ms < now_ms() - age_ms)).rowcount


def counts(connection: Connection) -> dict[str, int]:
    """Return how many dead letters each receiver has."""
    rows = connection.execute(select(_d.receiver, func.count()).group_by(_d.receiver))
    return {str(row[0]): row[1] for row in rows}
