"""The user's database: what a relay is given, the caller's transaction in it, and transactions of our own."""

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
from aldis.relay.sending import transactions as _transactions

from .dialects import as_dbapi_error, begin, check_dialect, is_away, is_busy, is_no_text, limit_wait, reading_any_text
from .portal import databases

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from aldis.relay.sending.transactions import Caller

    Target: TypeAlias = Any

T = TypeVar("T")

_BUSY_S: Final = 15.0
_BUSY_IN_WORKERS_S: Final = 1.0
_CLOSE_S: Final = 1.0
_REGISTRIES: Final = (scoped_session, async_scoped_session)
_MAKERS: Final = (sessionmaker, async_sessionmaker)

# What a database in memory has: one connection for all, or for each thread.
_OF_ONE: Final = (StaticPool, SingletonThreadPool)


@final
class Database:
    """What a relay was given, whichever of its kinds it is.

    :ivar is_async: whether its engine is an ``AsyncEngine``.
    :ivar scope: gives what has to be entered before the engine can be had: an application's context in Flask.
    :ivar wait_s: how many seconds a transaction of our own waits for a database that is away.
    """

    def __init__(self, target: Target, wait_s: float) -> None:
        # Flask-SQLAlchemy is known by what it has, so that it need not be installed.
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
                f" likes, or the SQLAlchemy() of Flask-SQLAlchemy; not {_named(target)}."
            )

        self.is_async: bool = isinstance(target, (AsyncEngine, async_sessionmaker, async_scoped_session))

        if isinstance(target, (Engine, AsyncEngine)):
            check_dialect(target.dialect.name)

    def for_drain(self) -> Database:
        """The same for a worker: it does not wait where the database is away, for then it could not be stopped."""
        found = copy(self)
        found.wait_s = 0.0
        return found

    def for_worker(self) -> Database:
        """As :meth:`for_drain`, with connections of its own: receivers that use up the pool cannot keep the worker from
        extending their leases. Nor does it wait for other transactions for long: it tries again, and has other things
        to do meanwhile.
        """
        found = self.for_drain()
        found._own_engines = {}
        found._portal_engines = {}
        return found

    def engine(self) -> Engine:
        """The engine; of an async one, its sync side.

        :raises InvalidOptionError: when there is none, or it is for a database that the relay cannot run on.
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
            raise InvalidOptionError(f"The {type(maker).__name__} of the relay has no bind. Give it an engine.")

        # An AsyncEngine has its sync side as `engine`; a connection, which tests bind to, the one that it is of.
        return bind if isinstance(bind, (Engine, AsyncEngine)) else bind.engine

    def caller(self, relay: object) -> Caller | None:
        """The session or connection whose transaction a send joins here, if there is one.

        :raises TransactionError: when there are several.
        """
        used = _transactions.used(relay)

        if used is not None:
            return used

        registered = None if self.registry is None else _transactions.of_registry(self.registry)
        return registered or _transactions.noted(self.engine)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction of our own.

        Where another transaction is in the way, it is done again, for some seconds.
        """
        return self._do(_in_transaction(work, begin))

    def look(self, work: Callable[[Connection], T]) -> T:
        """As :meth:`run`, to read only: no writer is kept waiting."""
        return self._do(_in_transaction(work, Connection.begin))

    def run_plain(self, work: Callable[[Connection], T]) -> T:
        """As :meth:`run`, what cannot be done in a transaction."""
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
        """For how many seconds other transactions may be in the way of one of ours."""
        return _BUSY_S if self._own_engines is None else _BUSY_IN_WORKERS_S

    async def run_async(self, work: Callable[[Connection], T]) -> T:
        """As :meth:`run`, awaited, with the async engine itself."""
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
        """The engine for the portal's loop: connections of most drivers belong to the loop that they were made in."""
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
        """Close the connections of its own, if it has some, see :meth:`for_worker`."""
        if self._own_engines is not None:
            self.close_portal()

            for engine in self._own_engines.values():
                engine.dispose()

    def close_portal(self) -> None:
        """Close the connections to an async database that what is not awaited has."""
        for (_, process), engine in self._portal_engines.items():
            if process == os.getpid():  # The others are the parent's.
                databases.submit(engine.dispose()).result(_CLOSE_S)

    def reconnect(self) -> None:
        """Forget the connections that are not in use: those to a server that went away are of no use."""
        self.close()

        with self.scope():
            engine = self.engine()

            # There is no server behind SQLite, and in memory the connection is the database. Those of an async
            # engine are of a loop of the program's.
            if engine.dialect.name != "sqlite" and not self.is_async:
                engine.dispose()


# The engines for portals, by the process that they are of.
_in_portals: Final[WeakKeyDictionary[AsyncEngine, int]] = WeakKeyDictionary()


@atexit.register
def _close_portals() -> None:
    """Close what the program cannot: drivers warn of connections that are left open at its end."""
    for engine, process in [*_in_portals.items()]:
        if process == os.getpid():
            with suppress(Exception):
                databases.submit(engine.dispose()).result(_CLOSE_S)


@final
class RetryPolicy:
    """How often something is tried again, and for how long."""

    def __init__(self, wait_s: float, busy_s: float) -> None:
        self._began = time.monotonic()
        self._wait_s = wait_s
        self._busy_s = busy_s
        self._pause_s = 0.001

    def pause_s(self, error: DBAPIError) -> float:
        """How many seconds to wait before the next try.

        :raises DBAPIError: the error, when it is of no use to try again, or was tried for long enough.
        """
        is_busy_now = is_busy(error)
        lasts_s = self._busy_s if is_busy_now else self._wait_s if is_away(error) else 0.0

        if time.monotonic() - self._began >= lasts_s:
            raise error

        self._pause_s = min(self._pause_s * 2, 0.05 if is_busy_now else 1.0)
        return self._pause_s * uniform(0.5, 1.0)  # noqa: S311  # No secret.


def _check_is_free(engine: Engine) -> None:
    """See that no transaction is open on the one connection that a database in memory has.

    To begin another there would end it, and to give the connection back would roll it back, without a word.

    :raises TransactionError: when there is one.
    """
    driver = _only_connection(engine)

    # Python 3.12 can have a connection be in a transaction all the time.
    if getattr(driver, "in_transaction", False) and getattr(driver, "autocommit", True) is not False:
        raise TransactionError(
            "The relay cannot begin a transaction: the database is in memory, so it has one connection, and there a"
            " transaction of the program is open. Commit it or roll it back before."
        )


def _only_connection(engine: Engine) -> Any:
    if isinstance(engine.pool, SingletonThreadPool):
        pooled = engine.raw_connection()  # If it is in use in this thread, this counts one more use of it.
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
