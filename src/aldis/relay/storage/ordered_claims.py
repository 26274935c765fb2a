"""Choose the rows that a claim takes: the first rows that are due, but of rows with a key only the first row of each
key.

For a receiver without a key, one short statement does this. With a key, the plain statement "due, and no older row of
the same key" is right, but too slow for a long backlog: of a million rows of ten customers only ten are the first row
of their key, and to find them the database would look at all rows at each claim. So a claim looks where the rows that
it may take can be, in this order, and stops when it has found enough:

1. the front: the first thousand rows that are due;
2. the firsts: the first row of each key, for up to a thousand keys, by one look into the index for each key;
3. the rest: the rows of the other keys, only when the parts before had no row to claim.

A backlog that is shorter than the front is searched by the plain statement.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, String, and_, bindparam, case, exists, func, literal, or_, select

from .dialects import take_turns
from .tables import LARGEST_PAYLOAD, SENT_COLUMNS, messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection
    from sqlalchemy.sql import Select

    from .rows import KnownReceiver

_m: Final = messages.c
_other: Final = messages.alias("other")

FRONT: Final = 1000
MOST_KEYS: Final = 1000

# Load payloads above the send limit as NULL: no send wrote them. A character takes four bytes at the most.
_PAYLOAD: Final = case((func.length(_m.payload) > LARGEST_PAYLOAD * 4, None), else_=_m.payload).label("payload")
_SENT: Final = [_PAYLOAD if name == "payload" else _m[name] for name in ("id", *SENT_COLUMNS)]
_COLUMNS: Final = (*_SENT, _m.attempts, _m.crashes, _m.token)


class _Part(Enum):
    """The part of a backlog that rows are chosen from."""

    ALL = 1
    FRONT = 2
    FIRSTS = 3
    REST = 4


def choose(connection: Connection, name: str, known: KnownReceiver, limit: int) -> Sequence[Any]:
    """Return the rows to claim, locked, as they are before the claim.

    :param name: the name in the rows.
    :param known: their receiver.
    :param limit: the largest number of rows.
    """
    versions, names = tuple(known.versions.items()), known.names
    values: dict[str, Any] = {"name": name, "most": limit}

    if known.key is None:
        return connection.execute(_claimable(versions), values).all()

    take_turns(connection, known.name)
    end = connection.execute(_END_OF_FRONT, values).first()

    if end is None:
        return connection.execute(_claimable(versions, names), values).all()

    values.update(end_ms=end.due_ms, end_id=end.id)
    found = {row.id: row for row in connection.execute(_claimable(versions, names, _Part.FRONT), values)}

    if len(found) < limit:
        found.update((row.id, row) for row in connection.execute(_claimable(versions, names, _Part.FIRSTS), values))

    if not found:
        values["last"] = connection.scalar(_LAST_KEY, values)
        found = {row.id: row for row in connection.execute(_claimable(versions, names, _Part.REST), values)}

    return [*found.values()][:limit]


@lru_cache
def _claimable(
    versions: tuple[tuple[str, int], ...], ordered: tuple[str, ...] | None = None, part: _Part = _Part.ALL
) -> Select[Any]:
    """Return the statement for the rows of one part that can be claimed.

    :param versions: the newest version that can be read, by signal.
    :param ordered: all names of the receiver, if it has a key.
    """
    can_be_read = or_(*(and_(_m.signal == signal, _m.version <= version) for signal, version in versions))
    conditions = [*_due(part), can_be_read]

    if ordered is not None:
        is_first = and_(~_has_older(ordered), _m.ordering_key.not_in(_keys_under_way(ordered)))
        conditions.append(or_(_m.ordering_key.is_(None), is_first))

    chosen = select(*_COLUMNS).where(*conditions).order_by(_m.due_ms, _m.id)
    return chosen.limit(bindparam("most")).with_for_update(skip_locked=True)


def _due(part: _Part) -> list[Any]:
    """Return the conditions of the receiver's due rows in one part."""
    is_its, is_due = _m.receiver == bindparam("name"), _m.due_ms <= now_ms()

    if part is _Part.ALL:
        return [is_its, is_due]

    if part is _Part.FRONT:
        end_ms, end_id = bindparam("end_ms", type_=BigInteger), bindparam("end_id", type_=BigInteger)
        return [is_its, _m.due_ms <= end_ms, or_(_m.due_ms < end_ms, _m.id < end_id)]

    if part is _Part.REST:
        return [is_its, is_due, or_(_m.ordering_key.is_(None), _m.ordering_key > bindparam("last", type_=String))]

    # These conditions fit no index. Otherwise databases would read all due rows instead of a few rows by their ids.
    is_its, is_due = func.coalesce(_m.receiver, "") == bindparam("name"), func.coalesce(_m.due_ms, 0) <= now_ms()
    return [_m.id.in_(_firsts()), is_its, is_due]


# The first row after the front of a backlog. Most backlogs are shorter and have none.
_END_OF_FRONT: Final = (
    select(_m.due_ms, _m.id)
    .where(_m.receiver == bindparam("name"), _m.due_ms <= now_ms())
    .order_by(_m.due_ms, _m.id)
    .limit(1)
    .offset(FRONT)
)


def _keys() -> Any:
    """Return a query for the receiver's keys, in order: one look into the index for each, up to a number of keys."""
    is_theirs = and_(_m.receiver == bindparam("name"), _m.ordering_key.is_not(None))  # The index is for these rows.
    least = select(func.min(_m.ordering_key)).where(is_theirs)
    keys = select(least.scalar_subquery().label("value"), literal(1).label("place")).cte("keys", recursive=True)
    following = least.where(_m.ordering_key > keys.c.value).correlate(keys).scalar_subquery()
    are_more = and_(keys.c.value.is_not(None), keys.c.place < MOST_KEYS)
    return keys.union_all(select(following, keys.c.place + 1).where(are_more))


def _firsts() -> Select[Any]:
    """Return a query for the first row of each of these keys, due or not."""
    keys = _keys()
    first = select(func.min(_other.c.id)).where(
        _other.c.receiver == bindparam("name"), _other.c.ordering_key == keys.c.value
    )
    return select(first.correlate(keys).scalar_subquery()).where(keys.c.value.is_not(None))


def _last_key() -> Select[Any]:
    """Return a query for the last of these keys, if the receiver may have more."""
    keys = _keys()
    return select(keys.c.value).where(keys.c.place == MOST_KEYS)


_LAST_KEY: Final = _last_key()


def _has_older(names: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that there is an older row of the key, which an ordered row waits for."""
    other = _other.c
    return exists().where(other.receiver.in_(names), other.ordering_key == _m.ordering_key, other.id < _m.id)


def _keys_under_way(names: Sequence[str]) -> Select[Any]:
    """Return a query for the keys that are being received now: maybe by a younger row that was committed first.

    One query for all rows: few keys are being received, while one key may have a million rows to look through.
    """
    other = _other.c
    is_claimed = and_(other.token.is_not(None), other.due_ms > now_ms())
    return select(other.ordering_key).where(other.receiver.in_(names), is_claimed, other.ordering_key.is_not(None))
