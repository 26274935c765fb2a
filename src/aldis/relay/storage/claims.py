"""What happens to rows: claimed, kept alive, deleted, tried again, buried. Each function is one statement or a few, in
a transaction of the caller's.

.. code-block:: text

    (sent) ──> due ──claim: attempts + 1, token, lease──> claimed ──success──> (deleted)
                ^                                           │ │ │
                ├──────── backoff ── the receiver raised ───┘ │ └── attempts used up, unreadable ──> dead letter
                └──────── the lease ran out ── worker died ───┘                          retry ──> due

Whatever a worker says of a row that it claimed, it says with the token of its claim: when the lease has run out and
another has claimed the row, it changes nothing.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    String,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    update,
)

from aldis.relay.sending.outbox import LARGEST_PAYLOAD

from .dialects import CHANNEL, LISTS, as_ids, is_among, take_turns
from .rows import DeadLetter, Row, as_time
from .tables import SENT_COLUMNS, dead_letters, effects, messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Delete, Update
    from sqlalchemy.sql import Select

    from aldis.relay._registry import Known

_m: Final = messages.c
_d: Final = dead_letters.c
_other: Final = messages.alias("other")

# A row that killed two workers runs alone, so that it does not take others with it. See _cut().
SUSPICIOUS: Final = 2

# What is too large to have been written by a send is not loaded. Its payload is told from one that is empty.
_PAYLOAD: Final = case((func.length(_m.payload) > LARGEST_PAYLOAD * 4, None), else_=_m.payload).label("payload")
_CLAIMED: Final = [_PAYLOAD if name == "payload" else _m[name] for name in ("id", *SENT_COLUMNS)]

_MOST: Final = 2**31 - 1


def _one_more(count: ColumnElement[int]) -> ColumnElement[int]:
    """A count of a row and one, whatever somebody has written there."""
    return case((count < 0, 1), (count < _MOST, count + 1), else_=_MOST)


# What a worker says of many rows is made once: to put such statements together takes as long as to have them done.
@lru_cache
def _claiming(dialect: str) -> Update:
    return (
        update(messages)
        .where(is_among(_m.id, dialect))
        .values(
            due_ms=now_ms() + bindparam("lease_ms"),
            attempts=_one_more(_m.attempts),
            losses=case((_m.token.is_not(None), _one_more(_m.losses)), else_=_m.losses),
            token=bindparam("claim"),
        )
    )


@lru_cache
def _finishing(dialect: str) -> Delete:
    return delete(messages).where(is_among(_m.id, dialect), _m.token == bindparam("claim"))


def due(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """In how many milliseconds the next row of each receiver is due, or its lease ends; 0 or less: now.

    Receivers without rows are left out.
    """
    soonest: Any = connection.execute(_soonest(connection.dialect.name), {"names": json.dumps([*names])})
    return {name: wait for name, wait in soonest if wait is not None}


# One look into the index for each name. A list that grows with them would be put together for longer than it is looked
# up, and SQLite takes no UNION of more than 500. GROUP BY would read all of a backlog.
@lru_cache
def _soonest(dialect: str) -> Any:
    name = literal_column("known.value", String)
    first = select(_since_1970(_m.due_ms) - now_ms()).where(_m.receiver == name).order_by(_m.due_ms).limit(1)
    known = text(LISTS[dialect]).bindparams(bindparam("names", type_=String))
    return select(name, first.scalar_subquery()).select_from(known)


def _since_1970(time: ColumnElement[int]) -> ColumnElement[int | None]:
    """A time, from which another can be taken, whatever somebody has written there."""
    return case((time < 0, 0), else_=time)


def claim(connection: Connection, name: str, known: Known, limit: int, lease_ms: int) -> list[Row]:
    """Claim due rows of one receiver, the first that were due first.

    Those of versions that are newer than the code are left, and of ordered rows those that are not the first of their
    key. A row that has killed two workers is claimed alone.
    """
    token = uuid4().hex
    rows = _cut([_row(row, token) for row in _choose(connection, name, known, limit)])

    if rows:
        dialect = connection.dialect.name
        ids = as_ids([row.id for row in rows], dialect)
        connection.execute(_claiming(dialect), {"ids": ids, "lease_ms": lease_ms, "claim": token})

    return rows


def _choose(connection: Connection, name: str, known: Known, limit: int) -> Sequence[Any]:
    """The rows to claim, whose token is not written yet."""
    versions, names = tuple(known.versions.items()), known.names
    values: dict[str, Any] = {"name": name, "most": limit}

    if known.queue.key is None:
        return connection.execute(_claimable(versions), values).all()

    take_turns(connection, known.queue.name)
    end = connection.execute(_END_OF_FRONT, values).first()

    if end is None:
        return connection.execute(_claimable(versions, names), values).all()

    # Of a long backlog of few values, hardly any row is the first of its value: to look at all of them takes long. So
    # these are found by their values, beside what is in front.
    values.update(end_ms=end.due_ms, end_id=end.id)
    found = {row.id: row for row in connection.execute(_claimable(versions, names, Part.FRONT), values)}

    if len(found) < limit:
        found.update((row.id, row) for row in connection.execute(_claimable(versions, names, Part.FIRSTS), values))

    if not found:
        values["last"] = connection.scalar(_LAST_KEY, values)
        found = {row.id: row for row in connection.execute(_claimable(versions, names, Part.REST), values)}

    return [*found.values()][:limit]


class Part(Enum):
    """Where rows are chosen from."""

    ALL = 1
    FRONT = 2
    FIRSTS = 3
    REST = 4


@lru_cache
def _claimable(
    versions: tuple[tuple[str, int], ...], ordered: tuple[str, ...] | None = None, part: Part = Part.ALL
) -> Select[Any]:
    can_be_read = or_(*(and_(_m.signal == signal, _m.version <= version) for signal, version in versions))
    conditions = [*_due(part), can_be_read]

    if ordered is not None:
        is_first = and_(~_older(ordered), _m.ordering_key.not_in(_under_way(ordered)))
        conditions.append(or_(_m.ordering_key.is_(None), is_first))

    chosen = select(*_CLAIMED, _m.attempts, _m.losses, _m.token).where(*conditions).order_by(_m.due_ms, _m.id)
    return chosen.limit(bindparam("most")).with_for_update(skip_locked=True)


def _due(part: Part) -> list[Any]:
    """The conditions of due rows of one receiver."""
    is_its, is_due = _m.receiver == bindparam("name"), _m.due_ms <= now_ms()

    if part is Part.ALL:
        return [is_its, is_due]

    if part is Part.FRONT:
        end_ms, end_id = bindparam("end_ms", type_=BigInteger), bindparam("end_id", type_=BigInteger)
        return [is_its, _m.due_ms <= end_ms, or_(_m.due_ms < end_ms, _m.id < end_id)]

    if part is Part.REST:
        return [is_its, is_due, or_(_m.ordering_key.is_(None), _m.ordering_key > bindparam("last", type_=String))]

    # As no index has them, for databases would rather read all that is due than look for some by their ids.
    is_its, is_due = func.coalesce(_m.receiver, "") == bindparam("name"), func.coalesce(_m.due_ms, 0) <= now_ms()
    return [_m.id.in_(_firsts()), is_its, is_due]


# Where the front of a backlog ends. Most are shorter.
_FRONT: Final = 1000
_END_OF_FRONT: Final = (
    select(_m.due_ms, _m.id)
    .where(_m.receiver == bindparam("name"), _m.due_ms <= now_ms())
    .order_by(_m.due_ms, _m.id)
    .limit(1)
    .offset(_FRONT)
)


def _keys() -> Any:
    """The values that rows of a receiver have, in order: one look into the index for each, up to a number of them."""
    is_theirs = and_(_m.receiver == bindparam("name"), _m.ordering_key.is_not(None))  # Which the index is for.
    least = select(func.min(_m.ordering_key)).where(is_theirs)
    keys = select(least.scalar_subquery().label("value"), literal(1).label("place")).cte("keys", recursive=True)
    following = least.where(_m.ordering_key > keys.c.value).correlate(keys).scalar_subquery()
    are_more = and_(keys.c.value.is_not(None), keys.c.place < _MOST_KEYS)
    return keys.union_all(select(following, keys.c.place + 1).where(are_more))


def _firsts() -> Select[Any]:
    """The first row of each of these values, due or not."""
    keys = _keys()
    first = select(func.min(_other.c.id)).where(
        _other.c.receiver == bindparam("name"), _other.c.ordering_key == keys.c.value
    )
    return select(first.correlate(keys).scalar_subquery()).where(keys.c.value.is_not(None))


def _last_key() -> Select[Any]:
    """The last of these values, if there are more."""
    keys = _keys()
    return select(keys.c.value).where(keys.c.place == _MOST_KEYS)


_MOST_KEYS: Final = 1000
_LAST_KEY: Final = _last_key()


def _older(names: Sequence[str]) -> ColumnElement[bool]:
    """Whether there is an older row of the key, which an ordered row waits for."""
    other = _other.c
    return exists().where(other.receiver.in_(names), other.ordering_key == _m.ordering_key, other.id < _m.id)


def _under_way(names: Sequence[str]) -> Select[Any]:
    """The keys that are being received: by a younger row, it may be, that was committed first.

    Asked for all of them at once: there are few, and of one key there may be a million rows to look through.
    """
    other = _other.c
    is_claimed = and_(other.token.is_not(None), other.due_ms > now_ms())
    return select(other.ordering_key).where(other.receiver.in_(names), is_claimed, other.ordering_key.is_not(None))


def _cut(rows: list[Row]) -> list[Row]:
    """Up to the first suspicious row, or that one alone."""
    for place, row in enumerate(rows):
        if row.losses >= SUSPICIOUS:
            return rows[: max(place, 1)]

    return rows


def _row(row: Any, claim: str) -> Row:
    """A row as it is after the claim. SQLite lets a column have a value of any type.

    It has lost one worker more, if it has the token of a claim that ran out.
    """
    # As a tuple: to ask it for a column by name takes as long as all of this.
    id, message_id, signal, receiver, version, sender, payload, trace, key, sent_ms, attempts, losses, token = row
    sent = (message_id, signal, receiver, _int(version), sender, payload, trace, key, _int(sent_ms))
    return Row(id, *sent, _count(attempts) + 1, _count(losses) + (token is not None), claim)


def _count(value: Any) -> int:
    return min(max(_int(value), 0), _MOST - 1)


def _int(value: Any) -> int:
    if type(value) is int:
        return value

    return int(value) if isinstance(value, float) and abs(value) < 2**63 else 0


def extend(connection: Connection, leases: Collection[tuple[int, str]], lease_ms: int) -> set[tuple[int, str]]:
    """Put off the ends of leases. Gives those that are still held."""
    held: set[tuple[int, str]] = set()

    for token, ids in _by_token(leases).items():
        mine = and_(_m.id.in_(ids), _m.token == token)
        connection.execute(update(messages).where(mine).values(due_ms=now_ms() + lease_ms))
        held.update((id, token) for id in connection.scalars(select(_m.id).where(mine)))

    return held


def finish(connection: Connection, leases: Iterable[tuple[int, str]]) -> int:
    """Delete rows that were received. Gives how many: fewer, if leases were lost."""
    dialect = connection.dialect.name
    statement = _finishing(dialect)
    return sum(
        connection.execute(statement, {"ids": as_ids(ids, dialect), "claim": token}).rowcount
        for token, ids in _by_token(leases).items()
    )


def tell(connection: Connection) -> None:
    """Have workers look, where they can be told: a row that waited for another may be claimed now."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))


def try_again(connection: Connection, row: Row, wait_ms: int, failure: str) -> bool:
    """Have a row claimed again after a while. Gives whether the lease was still held."""
    values: dict[str, Any] = {"due_ms": now_ms() + wait_ms, "token": None, "failure": _said(failure), "losses": 0}
    return _change(connection, row, values)


def put_back(connection: Connection, row: Row, wait_ms: int, failure: str | None = None) -> bool:
    """Have a row claimed again as if it had not been. Gives whether the lease was still held."""
    values: dict[str, Any] = {"due_ms": now_ms() + wait_ms, "token": None, "attempts": row.attempts - 1}
    return _change(connection, row, values if failure is None else {**values, "failure": _said(failure)})


def _change(connection: Connection, row: Row, values: dict[str, Any]) -> bool:
    mine = and_(_m.id == row.id, _m.token == row.token)
    return connection.execute(update(messages).where(mine).values(**values)).rowcount == 1


def bury(connection: Connection, row: Row, reason: str) -> bool:
    """Make a dead letter of a row. Gives whether the lease was still held."""
    names = [*SENT_COLUMNS, "died_ms", "attempts", "reason"]
    mine = and_(_m.id == row.id, _m.token == row.token)
    sent, ended = (_m[name] for name in SENT_COLUMNS), (now_ms(), literal(row.attempts), literal(_said(reason)))
    source = select(*sent, *ended).where(mine)
    source = source.with_for_update()  # Or another could claim it between the two statements.
    connection.execute(insert(dead_letters).from_select(names, source, include_defaults=False))
    return connection.execute(delete(messages).where(mine)).rowcount == 1


def add_again(connection: Connection, row: Row, wait_ms: int, failure: str) -> None:
    """Make a row of one that was deleted, with the attempts and the losses that it has now, due after a while."""
    counts = {"attempts": row.attempts, "losses": row.losses, "failure": _said(failure)}
    connection.execute(insert(messages).values(**row.sent(), due_ms=now_ms() + wait_ms, **counts))


def bury_sent(connection: Connection, row: Row, reason: str) -> None:
    """Make a dead letter of a row that was deleted."""
    values = {**row.sent(), "attempts": row.attempts, "reason": _said(reason)}
    connection.execute(insert(dead_letters).values(**values, died_ms=now_ms()))


def do_once(connection: Connection, message_id: str, receiver: str) -> bool:
    """Note an effect. Gives whether it was not noted before; waits for a transaction that is about to note it."""
    values = {"message_id": message_id, "receiver": receiver, "done_ms": now_ms()}
    dialect: Any = connection.dialect.name

    if dialect in ("mysql", "mariadb"):
        statement: Any = insert(effects).prefix_with("IGNORE")
    elif dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_there

        statement = insert_there(effects).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_here

        statement = insert_here(effects).on_conflict_do_nothing()

    # Of an INSERT, SQLAlchemy keeps the count of rows only when it is told to.
    done = connection.execute(statement.values(**values), execution_options={"preserve_rowcount": True})
    return done.rowcount == 1


# Dead letters.


def dead(connection: Connection, receiver: str | None, most: int, after: int) -> list[DeadLetter]:
    """Dead letters, the oldest first, from after a number on."""
    names = ("id", "message_id", "signal", "receiver", "attempts", "sent_ms", "died_ms", "reason")
    conditions = [_d.id > after, *([_d.receiver == receiver] if receiver is not None else [])]
    statement = select(*(_d[name] for name in names)).where(*conditions).order_by(_d.id).limit(most)
    return [
        DeadLetter(
            row.id,
            row.message_id,
            row.signal,
            row.receiver,
            _int(row.attempts),
            as_time(_int(row.sent_ms)),
            as_time(_int(row.died_ms)),
            row.reason,
        )
        for row in connection.execute(statement)
    ]


def payload_of(connection: Connection, number: int) -> str | None:
    """The payload of a dead letter."""
    return connection.scalar(select(_d.payload).where(_d.id == number))


def revive(connection: Connection, numbers: Collection[int]) -> int:
    """Make messages of dead letters, as if they had been sent now. Gives how many there were."""
    chosen = _d.id.in_(numbers)
    names = [*SENT_COLUMNS, "due_ms", "attempts", "losses"]
    source = select(*(_d[name] for name in SENT_COLUMNS), now_ms(), literal(0), literal(0)).where(chosen)
    source = source.order_by(_d.id).with_for_update()  # Who does the same at the same time finds them gone.
    connection.execute(insert(messages).from_select(names, source, include_defaults=False))
    return connection.execute(delete(dead_letters).where(chosen)).rowcount


def drop(connection: Connection, numbers: Collection[int]) -> int:
    """Delete dead letters. Gives how many there were."""
    return connection.execute(delete(dead_letters).where(_d.id.in_(numbers))).rowcount


def drop_messages(connection: Connection, receiver: str) -> int:
    """Delete the rows of a receiver that nobody has claimed. Gives how many there were."""
    is_claimed = and_(_m.token.is_not(None), _m.due_ms > now_ms())
    return connection.execute(delete(messages).where(_m.receiver == receiver, ~is_claimed)).rowcount


def purge_effects(connection: Connection, age_ms: int) -> int:
    """Delete notes of effects that are older. Gives how many there were."""
    return connection.execute(delete(effects).where(effects.c.done_ms < now_ms() - age_ms)).rowcount


def purge_dead(connection: Connection, age_ms: int) -> int:
    """Delete dead letters that are older. Gives how many there were."""
    return connection.execute(delete(dead_letters).where(_d.died_ms < now_ms() - age_ms)).rowcount


# Looking.


def counts(connection: Connection) -> list[Any]:
    """By receiver: rows, of these in flight and to be tried again, the age of the oldest in milliseconds, a failure."""
    is_claimed = and_(_m.token.is_not(None), _m.due_ms > now_ms())
    waits_again = and_(_m.token.is_(None), _m.attempts > 0)
    statement = select(
        _m.receiver,
        func.count().label("rows"),
        func.sum(case((is_claimed, 1), else_=0)).label("in_flight"),
        func.sum(case((waits_again, 1), else_=0)).label("retrying"),
        (now_ms() - _since_1970(func.min(_m.sent_ms))).label("oldest_ms"),
        func.max(_m.failure).label("failure"),
    ).group_by(_m.receiver)
    return list(connection.execute(statement))


def dead_counts(connection: Connection) -> dict[str, int]:
    """How many dead letters each receiver has."""
    rows = connection.execute(select(_d.receiver, func.count()).group_by(_d.receiver))
    return {str(row[0]): row[1] for row in rows}


def _by_token(leases: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}

    for id, token in leases:
        found.setdefault(token, []).append(id)

    return found


def _said(reason: str) -> str:
    """A reason as every database takes it."""
    return "".join(letter if letter.isprintable() else "?" for letter in reason[:500])
