"""Which transaction a send belongs to: the caller's, if the caller has one open.

A registry such as Flask-SQLAlchemy's ``db.session`` is asked for its session. For sessions that are made by hand, each
session that begins a transaction is noted for the thread and the task in which it does, until the transaction ends; a
send there finds it, if it is one of the relay's database. ``Relay.using`` says it where neither is enough.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import ref

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from aldis.exceptions import TransactionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import Engine
    from sqlalchemy.orm import scoped_session

    Caller: TypeAlias = Session | Connection
    Given: TypeAlias = Session | scoped_session[Any] | Connection | AsyncSession | AsyncConnection

Owner: TypeAlias = tuple[int, object]

_OWNER: Final = "aldis.relay.owner"

_open: Final[dict[Owner, list[ref[Session]]]] = {}
"""The sessions that are in a transaction, by thread and task. Only the owner looks at or changes its list."""

_used: Final[ContextVar[tuple[object, Owner, Caller] | None]] = ContextVar("aldis.relay.used", default=None)


def as_sync(given: Any) -> Caller:
    """The sync side of a session or a connection.

    :raises TransactionError: when it is neither.
    """
    found: Any = given

    if isinstance(given, AsyncSession):
        found = given.sync_session
    elif isinstance(given, AsyncConnection):
        found = given.sync_connection
    elif hasattr(given, "registry"):
        return as_sync(given())

    if not isinstance(found, (Session, Connection)):
        raise TransactionError(f"A transaction is that of a Session or a Connection of SQLAlchemy, not {given!r}.")

    return found


@contextmanager
def using(relay: object, given: Given) -> Generator[None, None, None]:
    """Have sends of this thread and task, in a ``with`` block, join a given transaction."""
    token = _used.set((relay, _owner(), as_sync(given)))

    try:
        yield
    finally:
        _used.reset(token)


def used(relay: object) -> Caller | None:
    """What :func:`using` says here. It is not for tasks that are started inside the block: no session is."""
    entry = _used.get()

    if entry is None or entry[0] is not relay or entry[1] != _owner():
        return None

    return entry[2]


def of_registry(registry: Any) -> Session | None:
    """The session of a registry, if it is there and in a transaction."""
    try:
        session = registry() if registry.registry.has() else None
    except RuntimeError:  # Flask-SQLAlchemy's outside of an application's context.
        return None

    sync = None if session is None else as_sync(session)
    return sync if isinstance(sync, Session) and sync.in_transaction() else None


def noted(engine: Callable[[], Engine]) -> Session | None:
    """The session of this thread and task that is in a transaction with an engine.

    :param engine: gives the engine, if there is any session to ask.
    :raises TransactionError: when there are several.
    """
    sessions = [session for entry in _open.get(_owner(), ()) if (session := entry()) is not None]

    if not sessions:
        return None

    pool = engine().pool  # Which an engine shares with those that are made of it, for options.
    found = [session for session in sessions if session.in_transaction() and _pool_of(session) is pool]

    if len(found) > 1:
        raise TransactionError(
            f"{len(found)} sessions of this thread are in a transaction with the relay's database. Say which one the"
            " send belongs to: with relay.using(session)."
        )

    return found[0] if found else None


def _pool_of(session: Session) -> Any:
    return getattr(getattr(session.bind, "engine", None), "pool", None)


def _owner() -> Owner:
    asyncio: Any = sys.modules.get("asyncio")

    try:
        task = asyncio.current_task() if asyncio is not None else None
    except RuntimeError:  # No event loop runs here.
        task = None

    return get_ident(), task


@event.listens_for(Session, "after_transaction_create")
def _note(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        owner = session.info[_OWNER] = _owner()
        _open.setdefault(owner, []).append(ref(session))


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        owner = session.info.pop(_OWNER, None)
        left = [entry for entry in _open.pop(owner, []) if entry() not in (None, session)]

        if left:
            _open[owner] = left
