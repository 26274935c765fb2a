"""Find the transaction that a send belongs to: the caller's, if the caller has an open transaction.

:func:`callers_transaction` finds it, in this order:

1. the transaction that ``Relay.using`` names;
2. the session of a registry that was passed to the relay, such as Flask-SQLAlchemy's ``db.session``;
3. a session that was made by hand: each session that begins a transaction is noted, with the thread, the task and the
   context in which it begins, and a send there finds it if it uses the relay's database.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from weakref import ref

from sqlalchemy import Connection, event, insert
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from aldis.exceptions import TransactionError
from aldis.relay.storage.tables import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from sqlalchemy import Engine

    from aldis.relay.storage.database import Database

    Caller: TypeAlias = Session | Connection
    Given: TypeAlias = Session | scoped_session[Any] | Connection | AsyncSession | AsyncConnection

_WRITE: Final = insert(messages)
_REGISTRIES: Final[Any] = (scoped_session, async_scoped_session)


class Begun(NamedTuple):
    """The outermost transaction of a session, and the thread and the task in which it began.

    It keeps neither the session nor the task alive.
    """

    transaction: ref[SessionTransaction]
    thread: int
    task: ref[Any] | None

    def session(self) -> Session | None:
        """Return the session while it is in that transaction; afterwards ``None``."""
        transaction = self.transaction()
        session = None if transaction is None else transaction.session
        return session if session is not None and session.get_transaction() is transaction else None


# In a context variable: the threads of a web server serve one request after the other, each in a context of its own,
# while a session that began in one of them goes on in another. New tasks and threads get a copy of the context, so
# the thread and the task are compared, too.
_begun: Final[ContextVar[tuple[Begun, ...]]] = ContextVar("aldis.relay.begun", default=())


@final
class Using:
    """One ``with`` block of :func:`using`. When it ends, it drops its references, because copies of its context may
    live on.

    :ivar caller: the transaction, as long as the block is open.
    """

    __slots__ = ("caller", "database", "owner")

    caller: Caller | None

    def __init__(self, database: Database, caller: Caller) -> None:
        self.database: object = database
        self.caller = caller
        self.owner: object = (get_ident(), _task())

    def is_for(self, database: Database) -> bool:
        """Whether a send here joins it. A send in a task that was started inside the block does not: a task shares no
        session.
        """
        return self.database is database and self.owner == (get_ident(), _task())

    def end(self) -> None:
        """Drop all references."""
        self.database = self.caller = self.owner = None


_using: Final[ContextVar[tuple[Using, ...]]] = ContextVar("aldis.relay.using", default=())


def as_sync(given: Any) -> Caller:
    """Return the sync side of a session or a connection.

    :raises TransactionError: when it is neither.
    """
    found: Any = given() if isinstance(given, _REGISTRIES) else given

    if isinstance(found, AsyncSession):
        found = found.sync_session
    elif isinstance(found, AsyncConnection):
        found = found.sync_connection

    if not isinstance(found, (Session, Connection)):
        raise TransactionError(f"Pass a Session or a Connection of SQLAlchemy, not {_kind_of(given)}.")

    return found


def _kind_of(given: object) -> str:
    if isinstance(given, AsyncConnection):
        return "an AsyncConnection that was not started"

    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__qualname__}"


@contextmanager
def using(database: Database, given: Given) -> Generator[None, None, None]:
    """Join the sends of this thread and task in a ``with`` block to a transaction.

    :param database: the database of the relay whose sends join.
    :raises TransactionError: when it is neither a session nor a connection.
    """
    block = Using(database, as_sync(given))
    token = _using.set((*_using.get(), block))

    try:
        yield
    finally:
        _using.reset(token)
        block.end()


def callers_transaction(database: Database) -> Caller | None:
    """Return the session or connection whose transaction a send joins here, if there is one.

    :param database: the relay's database.
    :raises TransactionError: when there are several.
    """
    used = next((block.caller for block in reversed(_using.get()) if block.is_for(database)), None)

    if used is not None:
        return used

    registered = None if database.registry is None else _session_of(database.registry)
    return registered or _noted_session(database.engine)


def _session_of(registry: Any) -> Session | None:
    """Return the session of a registry, if there is one and it is in a transaction."""
    try:
        session = registry() if registry.registry.has() else None
    except RuntimeError:  # A registry of Flask-SQLAlchemy raises outside of an application context.
        return None

    sync = None if session is None else as_sync(session)
    return sync if isinstance(sync, Session) and sync.in_transaction() else None


def _noted_session(engine: Callable[[], Engine]) -> Session | None:
    """Return the session of this thread, task and context that is in a transaction with an engine.

    :param engine: returns the engine. Called only if there is a session to compare it with.
    :raises TransactionError: when there are several.
    """
    here = get_ident(), _task_ref()
    sessions = [session for begun in _begun.get() if begun[1:] == here and (session := begun.session()) is not None]

    if not sessions:
        return None

    pool = engine().pool  # An engine shares its pool with the engines that execution_options() makes of it.
    found = [session for session in sessions if pool in _pools_of(session)]

    if len(found) > 1:
        raise TransactionError(
            f"{len(found)} sessions of this thread are in a transaction with the relay's database. Say which one the"
            " send belongs to: with relay.using(session)."
        )

    return found[0] if found else None


def _pools_of(session: Session) -> list[Any]:
    """Return the pool of the engine that a session would use for our rows; if it has no engine for them, all its pools.

    A session may have an engine for each of the user's tables, but no engine for our tables.
    """
    try:
        binds: Any = [session.get_bind(clause=_WRITE)]
    except UnboundExecutionError:  # With a bind for each of the user's tables, this is the only way.
        known: Any = session
        binds = (known.binds if hasattr(known, "binds") else known._Session__binds).values()  # Public since 2.1.

    return [bind.engine.pool for bind in binds]


def _task_ref() -> ref[Any] | None:
    task = _task()
    return None if task is None else ref(task)


def _task() -> Any:
    asyncio: Any = sys.modules.get("asyncio")

    # First, because current_task() raises where no loop runs, and raising takes most of the time of this function.
    if asyncio is None or asyncio._get_running_loop() is None:
        return None

    return asyncio.current_task()


@event.listens_for(Session, "after_transaction_create")
def _note(_session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        others = (begun for begun in _begun.get() if begun.session() is not None)
        _begun.set((*others, Begun(ref(transaction), get_ident(), _task_ref())))
