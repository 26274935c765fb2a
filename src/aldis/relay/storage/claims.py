"""Claims: how workers take rows, keep them, and release them. Each function executes one statement or a few, in a
transaction of the caller.

.. code-block:: text

    (sent) ──> due ──claim: attempts + 1, token, lease──> claimed ──success──> (deleted)
                ^                                           │ │ │
                ├──────── backoff ── the receiver raised ───┘ │ └── attempts used up, unreadable ──> dead letter
                └──────── the lease ran out ── worker died ───┘                        requeue ──> due

A worker writes about a claimed row only with the token of its claim. A worker whose lease expired can no longer
complete or retry the message, once another worker has claimed the row.

A row that killed :data:`POISON` workers is a poison message: it is claimed alone, and runs alone, so that no other
message is lost with it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import (
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from . import ordered_claims
from .dialects import CHANNEL, LISTS, as_ids, is_among
from .rows import LAST_MS, Row, printable
from .tables import messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection, Delete, Update

    from .rows import KnownReceiver

_m: Final = messages.c

POISON: Final = 2
"""After how many crashes a row is a poison message."""

_LARGEST_INT: Final = 2**31 - 1  # The largest value of the columns that count.


def next_due(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return in how many milliseconds the next row of each receiver is due, or its lease ends. 0 or less means now.

    Receivers without rows are left out.
    """
    soonest: Any = connection.execute(_soonest(connection.dialect.name), {"names": json.dumps([*names])})
    # Subtract in Python: in the database, a time at the end of its type would overflow. SQLite may have a text there.
    return {name: int(due_ms) - now for name, due_ms, now in soonest if isinstance(due_ms, (int, float))}


# One look into the index for each name. SQLAlchemy takes longer to compile a list that grows with the names than the
# database takes to look them up, and SQLite takes no UNION of more than 500. GROUP BY would read all of a backlog.
@lru_cache
def _soonest(dialect: str) -> Any:
    name = literal_column("known.value", String)
    first = select(_m.due_ms).where(_m.receiver == name).order_by(_m.due_ms).limit(1)
    known = text(LISTS[dialect]).bindparams(bindparam("names", type_=String))
    return select(name, first.scalar_subquery(), now_ms()).select_from(known)


def claim(connection: Connection, name: str, known: KnownReceiver, limit: int, lease_ms: int) -> list[Row]:
    """Claim due rows of one receiver, in the order in which they became due.

    Rows of versions that are newer than the code stay, and so do ordered rows that are not the first row of their key.
    A poison message is claimed alone.
    """
    token = uuid4().hex
    rows = _until_poison([_row(row, token) for row in ordered_claims.choose(connection, name, known, limit)])
    values = {"lease_ms": lease_ms, "claim": token}

    for make, ids in (
        (_claiming, [row.id for row in rows if not row.is_malformed]),
        (_claiming_malformed, [row.id for row in rows if row.is_malformed]),
    ):
        if ids:
            dialect = connection.dialect.name
            connection.execute(make(dialect), {**values, "ids": as_ids(ids, dialect)})

    return rows


# Statements about many rows are made once: SQLAlchemy takes as long to make them as the database to execute them.
@lru_cache
def _claiming(dialect: str) -> Update:
    return (
        update(messages)
        .where(is_among(_m.id, dialect))
        .values(
            due_ms=now_ms() + bindparam("lease_ms"),
            attempts=_m.attempts + 1,
            crashes=case((_m.token.is_not(None), _m.crashes + 1), else_=_m.crashes),
            token=bindparam("claim"),
        )
    )


@lru_cache
def _claiming_malformed(dialect: str) -> Update:
    zeros: dict[str, Any] = {"version": 0, "sent_ms": 0, "attempts": 1, "crashes": 0}
    lease: dict[str, Any] = {"due_ms": now_ms() + bindparam("lease_ms"), "token": bindparam("claim")}
    return update(messages).where(is_among(_m.id, dialect)).values(**zeros, **lease)


def _row(row: Any, claim: str) -> Row:
    """Return a row as it is after the claim. It counts one more crash if it has the token of a claim that expired.

    SQLite takes a value of any type in any column. A row whose numbers no send or claim can have written is malformed:
    the claim writes zeros in their place, and the row becomes a dead letter. Repairing the row would be guessing.
    """
    # As a tuple: reading one column of the row by name takes as long as all of this.
    id, message_id, signal, receiver, version, sender, payload, trace, key, sent_ms, attempts, crashes, token = row

    if _are_counts(version, attempts, crashes) and version > 0 and type(sent_ms) is int and 0 <= sent_ms <= LAST_MS:
        attempts, crashes = attempts + 1, crashes + (token is not None)
    else:
        version, sent_ms, attempts, crashes = 0, 0, 1, 0

    return Row(
        id, message_id, signal, receiver, version, sender, payload, trace, key, sent_ms, attempts, crashes, claim
    )


def _are_counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < _LARGEST_INT for value in values)


def _until_poison(rows: list[Row]) -> list[Row]:
    """Return the rows before the first poison message, or that message alone."""
    for place, row in enumerate(rows):
        if row.crashes >= POISON:
            return rows[: max(place, 1)]

    return rows


def renew_leases(connection: Connection, leases: Collection[tuple[int, str]], lease_ms: int) -> set[tuple[int, str]]:
    """Renew leases. Return the leases that are still held."""
    held: set[tuple[int, str]] = set()

    for token, ids in _by_token(leases).items():
        mine = and_(_m.id.in_(ids), _m.token == token)
        connection.execute(update(messages).where(mine).values(due_ms=now_ms() + lease_ms))
        held.update((id, token) for id in connection.scalars(select(_m.id).where(mine)))

    return held


def acknowledge(connection: Connection, leases: Iterable[tuple[int, str]]) -> int:
    """Delete rows that were received. Return how many were deleted: fewer than given, if leases were lost."""
    dialect = connection.dialect.name
    statement = _acknowledging(dialect)
    return sum(
        connection.execute(statement, {"ids": as_ids(ids, dialect), "claim": token}).rowcount
        for token, ids in _by_token(leases).items()
    )


@lru_cache
def _acknowledging(dialect: str) -> Delete:
    return delete(messages).where(is_among(_m.id, dialect), _m.token == bindparam("claim"))


def notify_workers(connection: Connection) -> None:
    """Tell workers to look for rows, where the database can: a row that waited for another may be due now."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))


def retry(connection: Connection, row: Row, wait_ms: int, failure: str) -> bool:
    """Make a row due again after a while. Return whether the lease was still held."""
    values: dict[str, Any] = {"due_ms": now_ms() + wait_ms, "token": None, "failure": printable(failure), "crashes": 0}
    return _change(connection, row, values)


def release(connection: Connection, row: Row, wait_ms: int, failure: str | None = None) -> bool:
    """Make a row due again after a while, as if it had not been claimed. Return whether the lease was still held."""
    values: dict[str, Any] = {"due_ms": now_ms() + wait_ms, "token": None, "attempts": row.attempts - 1}
    return _change(connection, row, values if failure is None else {**values, "failure": printable(failure)})


def _change(connection: Connection, row: Row, values: dict[str, Any]) -> bool:
    mine = and_(_m.id == row.id, _m.token == row.token)
    return connection.execute(update(messages).where(mine).values(**values)).rowcount == 1


def reinsert(connection: Connection, row: Row, wait_ms: int, failure: str) -> None:
    """Insert a row that was deleted, with the attempts and the crashes that it has now, due after a while."""
    counts = {"attempts": row.attempts, "crashes": row.crashes, "failure": printable(failure)}
    connection.execute(insert(messages).values(**row.sent(), due_ms=now_ms() + wait_ms, **counts))


def drop_messages(connection: Connection, receiver: str) -> int:
    """Delete the rows of a receiver that no worker has claimed. Return how many there were."""
    is_claimed = and_(_m.token.is_not(None), _m.due_ms > now_ms())
    return connection.execute(delete(messages).where(_m.receiver == receiver, ~is_claimed)).rowcount


def _by_token(leases: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}

    for id, token in leases:
        found.setdefault(token, []).append(id)

    return found
