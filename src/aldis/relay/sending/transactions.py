"""Which transaction a send belongs to: the caller's, if the caller has one open.

A registry such as Flask-SQLAlchemy's ``db.session`` is asked for its session. For sessions that are made by hand, each
session that begins a transaction is noted for the thread, the task and the context in which it does; a send there finds
it, if it is one of the relay's database. ``Relay.using`` says it where neither is enough.
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

    Caller: TypeAlias = Session | Connection
    Given: TypeAlias = Session | scoped_session[Any] | Connection | AsyncSession | AsyncConnection

_WRITE: Final = insert(messages)
_REGISTRIES: Final[Any] = (scoped_session, async_scoped_session)


class Begun(NamedTuple):
    """The outermost transaction of a session, and the thread and the task in which it began. It keeps neither alive."""

    transaction: ref[SessionTransaction]
    thread: int
    task: ref[Any] | None

    def session(self) -> Session | None:
        """The session, as long as it is in that transaction."""
        transaction = self.transaction()
        session = None if transaction is None else transaction.session
        return session if session is not None and session.get_transaction() is transaction else None


# In a context variable: the threads of a web server serve others, each in a context of its own, while a session that
# began in one of them goes on in another. Contexts are copied for new tasks and threads, so it is asked for these, too.
_begun: Final[ContextVar[tuple[Begun, ...]]] = ContextVar("aldis.relay.begun", default=())


@final
class Using:
    """One ``with`` block of :func:`using`. When that is over, what copies of its context have of it is empty.

    :ivar caller: the transaction, as long as the block is open.
    """

    __slots__ = ("caller", "owner", "relay")

    caller: Caller | None

    def __init__(self, relay: object, caller: Caller) -> None:
        self.relay: object = relay
        self.caller = caller
        self.owner: object = (get_ident(), _task())

    def is_for(self, relay: object) -> bool:
        """Whether it is this relay's. It is not for tasks that are started inside of the block: no session is."""
        return self.relay is relay and self.owner == (get_ident(), _task())

    def end(self) -> None:
        """Keep nothing."""
        self.relay = self.caller = self.owner = None


_using: Final[ContextVar[tuple[Using, ...]]] = ContextVar("aldis.relay.using", default=())


def as_sync(given: Any) -> Caller:
    """The sync side of a session or a connection.

    :raises TransactionError: when it is neither.
    """
    found: Any = given() if isinstance(given, _REGISTRIES) else given

    if isinstance(found, AsyncSession):
        found = found.sync_session
    elif isinstance(found, AsyncConnection):
        found = found.sync_connection

    if not isinstance(found, (Session, Connection)):
        raise TransactionError(
            f"A transaction is that of a Session or of a Connection of SQLAlchemy, not of {_kind_of(given)}."
        )

    return found


def _kind_of(given: object) -> str:
    if isinstance(given, AsyncConnection):
        return "an AsyncConnection that was not started"

    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__qualname__}"


@contextmanager
def using(relay: object, given: Given) -> Generator[None, None, None]:
    """Have sends of this thread and task, in a ``with`` block, join a given transaction."""
    block = Using(relay, as_sync(given))
    token = _using.set((*_using.get(), block))

    try:
        yield
    finally:
        _using.reset(token)
        block.end()


def used(relay: object) -> Caller | None:
    """What the innermost :func:`using` for a relay says here."""
    return next((block.caller for block in reversed(_using.get()) if block.is_for(relay)), None)


def of_registry(registry: Any) -> Session | None:
    """The session of a registry, if it is there and in a transaction."""
    try:
        session = registry() if registry.registry.has() else None
    except RuntimeError:  # Flask-SQLAlchemy's outside of an application's context.
        return None

    sync = None if session is None else as_sync(session)
    return sync if isinstance(sync, Session) and sync.in_transaction() else None


def noted(engine: Callable[[], Engine]) -> Session | None:
    """The session of this thread, task and context that is in a transaction with an engine.

    :param engine: gives the engine, if there is any session to ask.
    :raises TransactionError: when there are several.
    """
    here = get_ident(), _task_ref()
    sessions = [session for begun in _begun.get() if begun[1:] == here and (session := begun.session()) is not None]

    if not sessions:
        return None

    pool = engine().pool  # Which an engine shares with those that are made of it, for options.
    found = [session for session in sessions if pool in _pools_of(session)]

    if len(found) > 1:
        raise TransactionError(
            f"{len(found)} sessions of this thread are in a transaction with the relay's database. Say which one the"
            " send belongs to: with relay.using(session)."
        )

    return found[0] if found else None


def _pools_of(session: Session) -> list[Any]:
    """Of the engine that it would write our rows with; where it has none for them, of those that it has."""
    try:
        binds: Any = [session.get_bind(clause=_WRITE)]
    except UnboundExecutionError:  # A session with a bind for each of the user's tables has no other way to ask.
        known: Any = session
        binds = (known.binds if hasattr(known, "binds") else known._Session__binds).values()  # Public since 2.1.

    return [bind.engine.pool for bind in binds]


def _task_ref() -> ref[Any] | None:
    task = _task()
    return None if task is None else ref(task)


def _task() -> Any:
    asyncio: Any = sys.modules.get("asyncio")

    # Asked first, for current_task() raises where no loop runs: that takes most of the time of a look.
    if asyncio is None or asyncio._get_running_loop() is None:
        return None

    return asyncio.current_task()


@event.listens_for(Session, "after_transaction_create")
def _note(_session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        others = (begun for begun in _begun.get() if begun.session() is not None)
        _begun.set((*others, Begun(ref(transaction), get_ident(), _task_ref())))
