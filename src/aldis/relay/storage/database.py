"""The user's database: the object that was passed to a relay, and Aldis's own transactions in the database."""

from __future__ import annotations

import atexit
import os
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from random import uniform
from typing import TYPE_CHECKING, Any, Final, TypeVar, final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from aldis.exceptions import InvalidOptionError, TransactionError

from .dialects import as_dbapi_error, begin, check_dialect, is_away, is_busy, is_no_text, limit_wait, reading_any_text
from .portal import databases

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Target: TypeAlias = Any

T = TypeVar("T")

_BUSY_S: Final = 15.0
_BUSY_IN_WORKERS_S: Final = 1.0
_CLOSE_S: Final = 1.0
_REGISTRIES: Final = (scoped_session, async_scoped_session)
_MAKERS: Final = (sessionmaker, async_sessionmaker)

# The pools of databases in memory: one connection for all threads, or one for each thread.
_OF_ONE: Final = (StaticPool, SingletonThreadPool)


@final
class Database:
    """The database that was passed to a relay: an engine, a session maker or one of the other kinds.

    :ivar is_async: whether its engine is an ``AsyncEngine``.
    :ivar registry: the registry of sessions, if one was passed.
    :ivar scope: returns the context to enter before the engine is asked for: an application's context in Flask.
    :ivar wait_s: how many seconds a transaction of our own waits for a database that is away.
    """

    def __init__(self, target: Target, wait_s: float) -> None:
        # Flask-SQLAlchemy's SQLAlchemy() is recognized by its attributes, so that it need not be installed.
        kind: Any = type(target)  # pyright: ignore[reportUnknownVariableType]
        self._is_extension = hasattr(target, "session") and hasattr(kind, "engines")
        self._target = target
        self.registry: Any = target.session if self._is_extension else None
        self.scope: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.wait_s: float = wait_s
        self._portal_engines: dict[tuple[Engine, int], AsyncEngine] = {}
        self._own_engines: dict[Engine, Engine] | None = None

        if isinstance(target, _REGISTRIES):
            self.registry = target
        elif not self._is_extension and not isinstance(target, (Engine, AsyncEngine, *_MAKERS)):
            raise InvalidOptionError(
                "Relay() takes a database: an Engine, a sessionmaker or a scoped_session of SQLAlchemy, their async"
                f" counterparts, or the SQLAlchemy() of Flask-SQLAlchemy; not {_named(target)}."
            )

        self.is_async: bool = isinstance(target, (AsyncEngine, async_sessionmaker, async_scoped_session))

        if isinstance(target, (Engine, AsyncEngine)):
            check_dialect(target.dialect.name)

    def for_drain(self) -> Database:
        """Return the same database for a drain, which does not wait for a database that is away.

        A drain that waits could not be stopped.
        """
        found = copy(self)
        found.wait_s = 0.0
        return found

    def for_worker(self) -> Database:
        """Return the same database for a worker, with connections of its own.

        Receivers that use up the pool cannot keep the worker from renewing their leases. It does not wait for a
        database that is away, and waits only a short time for other transactions. The worker tries again, and has other
        work meanwhile.
        """
        found = self.for_drain()
        found._own_engines = {}
        found._portal_engines = {}
        return found

    def engine(self) -> Engine:
        """Return the engine; for an async engine, its sync side.

        :raises InvalidOptionError: when there is no engine, or the relay cannot run on its database.
        """
        found = self._given()
        engine: Engine = found.sync_engine if isinstance(found, AsyncEngine) else found
        check_dialect(engine.dialect.name)
        return engine

    def _given(self) -> Any:
        target: Any = self._target

        if self._is_extension:
            return target.engine

        if isinstance(target, (Engine, AsyncEngine)):
            return target

        maker: Any = getattr(target, "session_factory", target)
        bind = maker.kw.get("bind")

        if bind is None:
            raise InvalidOptionError(f"The {type(maker).__name__} of the relay has no bind. Set bind to an engine.")

        # An AsyncEngine has its sync side as `engine`, and a connection, which tests bind to, has its engine.
        return bind if isinstance(bind, (Engine, AsyncEngine)) else bind.engine

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction of our own, and return its result.

        While another transaction is in the way, do it again, for some seconds.
        """
        return self._do(_in_transaction(work, begin))

    def look(self, work: Callable[[Connection], T]) -> T:
        """Do some work as :meth:`run` does, but only read, so that no writer has to wait."""
        return self._do(_in_transaction(work, Connection.begin))

    def run_plain(self, work: Callable[[Connection], T]) -> T:
        """Do some work as :meth:`run` does, but outside of a transaction."""
        return self._do(_autocommitting(work))

    def _do(self, work: Callable[[Connection], T]) -> T:
        with self.scope():
            engine = self.engine()
            patience = RetryPolicy(self.wait_s, self._busy_s())
            _check_is_free(engine)

            while True:
                try:
                    if self.is_async:
                        return databases.run(_connected(self._portal_engine(engine), work))

                    with self._own_engine(engine).connect() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if is_no_text(error):
                        work = reading_any_text(work)
                    else:
                        time.sleep(patience.pause_s(error))

    def _busy_s(self) -> float:
        """Return for how many seconds other transactions may block one of our transactions."""
        return _BUSY_S if self._own_engines is None else _BUSY_IN_WORKERS_S

    async def run_async(self, work: Callable[[Connection], T]) -> T:
        """Await some work as :meth:`run` does it, with the async engine itself."""
        from asyncio import sleep

        engine = self._given()
        patience = RetryPolicy(self.wait_s, self._busy_s())
        _check_is_free(engine.sync_engine)

        while True:
            try:
                return await _connected(engine, _in_transaction(work, begin))
            except DBAPIError as error:
                await sleep(patience.pause_s(error))

    def _portal_engine(self, engine: Engine) -> AsyncEngine:
        """Return the engine for the portal's loop.

        This engine is our own, because connections of most drivers belong to the loop in which they were made.
        """
        if isinstance(engine.pool, StaticPool):
            return AsyncEngine(engine)

        key = engine, os.getpid()  # A fork leaves the connections with its parent.

        if key not in self._portal_engines:
            made = self._portal_engines[key] = AsyncEngine(Engine(engine.pool.recreate(), engine.dialect, engine.url))
            _in_portals[made] = os.getpid()

            if self._own_engines is not None:
                limit_wait(made.sync_engine, _BUSY_IN_WORKERS_S)

        return self._portal_engines[key]

    def _own_engine(self, engine: Engine) -> Engine:
        if self._own_engines is None or isinstance(engine.pool, _OF_ONE):
            return engine

        if engine not in self._own_engines:
            own = self._own_engines[engine] = Engine(engine.pool.recreate(), engine.dialect, engine.url)
            limit_wait(own, _BUSY_IN_WORKERS_S)

        return self._own_engines[engine]

    def close(self) -> None:
        """Close this object's own connections, see :meth:`for_worker`."""
        if self._own_engines is not None:
            self.close_portal()

            for engine in self._own_engines.values():
                engine.dispose()

    def close_portal(self) -> None:
        """Close the connections to an async database that :meth:`run`, :meth:`look` and :meth:`run_plain` made."""
        for (_, process), engine in self._portal_engines.items():
            if process == os.getpid():  # The other connections belong to the parent process.
                databases.submit(engine.dispose()).result(_CLOSE_S)

    def reconnect(self) -> None:
        """Close the connections that are not in use: they may lead to a server that went away."""
        self.close()

        with self.scope():
            engine = self.engine()

            # There is no server behind SQLite, and in memory the connection is the database. The connections of an
            # async engine belong to a loop of the program.
            if engine.dialect.name != "sqlite" and not self.is_async:
                engine.dispose()


# The engines for portals, with the process that made them.
_in_portals: Final[WeakKeyDictionary[AsyncEngine, int]] = WeakKeyDictionary()


@atexit.register
def _close_portals() -> None:
    """Close the connections that the program cannot close: drivers warn of connections that are open at its end."""
    for engine, process in [*_in_portals.items()]:
        if process == os.getpid():
            with suppress(Exception):
                databases.submit(engine.dispose()).result(_CLOSE_S)


@final
class RetryPolicy:
    """How long to try again, and how long to pause before each try.

    :param wait_s: for how many seconds to try while the database is away.
    :param busy_s: for how many seconds to try while another transaction is in the way.
    """

    def __init__(self, wait_s: float, busy_s: float) -> None:
        self._began = time.monotonic()
        self._wait_s = wait_s
        self._busy_s = busy_s
        self._pause_s = 0.001

    def pause_s(self, error: DBAPIError) -> float:
        """Return how many seconds to pause before the next try.

        :raises DBAPIError: the error, when another try cannot succeed, or the time for tries is over.
        """
        is_busy_now = is_busy(error)
        lasts_s = self._busy_s if is_busy_now else self._wait_s if is_away(error) else 0.0

        if time.monotonic() - self._began >= lasts_s:
            raise error

        self._pause_s = min(self._pause_s * 2, 0.05 if is_busy_now else 1.0)
        return self._pause_s * uniform(0.5, 1.0)  # noqa: S311  # This is not a secret.


def _check_is_free(engine: Engine) -> None:
    """Raise if a transaction is open on the only connection of a database in memory.

    Beginning another transaction there would end the open one, and returning the connection to the pool would roll it
    back, both in silence.

    :raises TransactionError: when a transaction is open.
    """
    driver = _only_connection(engine)

    # Since Python 3.12, a connection can be in a transaction all the time.
    if getattr(driver, "in_transaction", False) and getattr(driver, "autocommit", True) is not False:
        raise TransactionError(
            "The relay cannot begin a transaction: the database is in memory, so it has one connection, and a"
            " transaction of the program is open on it. Commit it or roll it back first."
        )


def _only_connection(engine: Engine) -> Any:
    if isinstance(engine.pool, SingletonThreadPool):
        pooled = engine.raw_connection()  # If this thread uses the connection already, it only counts one more use.
        pooled.close()
        return pooled.driver_connection

    record = vars(engine.pool).get("connection") if isinstance(engine.pool, StaticPool) else None
    return None if record is None else record.driver_connection


def _in_transaction(
    work: Callable[[Connection], T], begins: Callable[[Connection], object]
) -> Callable[[Connection], T]:
    def transact(connection: Connection) -> T:
        begins(connection)
        result = work(connection)
        connection.commit()
        return result

    return transact


def _autocommitting(work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    def do(connection: Connection) -> T:
        return work(connection.execution_options(isolation_level="AUTOCOMMIT"))

    return do


async def _connected(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    with as_dbapi_error():
        async with engine.connect() as connection:
            return await connection.run_sync(work)


def _named(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__qualname__}"
