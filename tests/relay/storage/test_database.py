"""The user's database: the relay's own transactions in it, for every kind of engine, and the meaning of its errors."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import AsyncAdaptedQueuePool, Connection, Engine, NullPool, StaticPool, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis import InvalidOptionError
from aldis.exceptions import TransactionError
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage.database import Database, RetryPolicy, _close_portals
from aldis.relay.storage.dialects import check_dialect, is_away, is_busy, is_full, use_wal
from tests.relay.programs.worker_program import SOON_S, Program, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.relay.conftest import MakeEngine


# The relay's own transactions.


@pytest.fixture
def memory(make_engine: MakeEngine) -> Engine:
    """Return a database in memory, with its one connection."""
    return make_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


def tables(database: Database) -> None:
    database.run(lambda connection: connection.execute(text("CREATE TABLE t (n int)")))


def insert(n: int) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(text(f"INSERT INTO t VALUES ({n})"))


def numbers(connection: Connection) -> list[int]:
    return list(connection.scalars(text("SELECT n FROM t ORDER BY n")))


def make_async(engine: Engine) -> AsyncEngine:
    return create_async_engine(str(engine.url).replace("sqlite:", "sqlite+aiosqlite:"), poolclass=NullPool)


GIVEN: dict[str, Callable[[Engine], Any]] = {
    "Engine": lambda engine: engine,
    "an Engine with options": lambda engine: engine.execution_options(isolation_level="AUTOCOMMIT"),
    "sessionmaker": sessionmaker,
    "sessionmaker of a connection": lambda engine: sessionmaker(engine.connect()),
    "scoped_session": lambda engine: scoped_session(sessionmaker(engine)),
    "AsyncEngine": make_async,
    "async_sessionmaker": lambda engine: async_sessionmaker(make_async(engine)),
}


@pytest.fixture(params=GIVEN)
def database(request: pytest.FixtureRequest, sqlite_url: str, make_engine: MakeEngine) -> Iterator[Database]:
    """Return the same database, given in another way."""
    given = GIVEN[request.param](make_engine(sqlite_url))
    yield Database(given, 0.0)
    bind = getattr(given, "kw", {}).get("bind")

    if isinstance(bind, Connection):
        bind.detach()  # Its pool is no longer the engine's.
        bind.close()


def test_a_transaction(database: Database) -> None:
    """Work in a transaction is committed at its end, and work that raises leaves nothing."""
    tables(database)

    def work(connection: Connection) -> None:
        insert(1)(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.run(work)

    database.run(insert(2))
    assert database.look(numbers) == [2]
    assert asyncio.run(database.run_async(numbers)) == [2] if database.is_async else True
    assert database.run_plain(numbers) == [2]
    database.reconnect()
    assert database.look(numbers) == [2]


def test_a_look_keeps_no_writer_waiting(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R6: While the relay reads an SQLite file, other connections can write."""
    engine = make_engine(sqlite_url)
    Relay(engine).create_tables()
    database = Database(engine, 0.0)
    tables(database)
    other = make_engine(sqlite_url, connect_args={"timeout": 0})

    def look(connection: Connection) -> list[int]:
        found = numbers(connection)
        Database(other, 0.0).run(insert(1))
        return found

    assert database.look(look) == []
    assert database.look(numbers) == [1]


@pytest.mark.parametrize("begins_itself", [False, True])
def test_an_engine_that_begins_by_itself(sqlite_url: str, make_engine: MakeEngine, begins_itself: bool) -> None:
    """R6: If the user's engine begins transactions by its own hook, the relay's transactions still work."""
    engine = make_engine(sqlite_url)
    statements: list[str] = []

    if begins_itself:
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    database = Database(engine, 0.0)
    tables(database)

    assert statements == [
        *(["BEGIN", "ROLLBACK"] if begins_itself else []),
        "BEGIN IMMEDIATE",
        "CREATE TABLE t (n int)",
    ]


# One connection for all.


def sharing(engine: Engine, make_engine: MakeEngine, kind: str) -> Engine:
    return engine if kind == "of all threads" else make_engine("sqlite://")


@pytest.mark.parametrize("kind", ["of all threads", "of a thread"])
@pytest.mark.parametrize("verb", ["drain", "status", "create_tables", "dead_letters"])
def test_the_connection_is_in_use(memory: Engine, make_engine: MakeEngine, kind: str, verb: str) -> None:
    """R1: In memory, where there is one connection, the relay does not end a transaction of the program."""
    program = Program(sharing(memory, make_engine, kind))
    program.connect()

    with Session(program.engine) as session:
        session.execute(text("CREATE TABLE t (n int)"))
        session.execute(text("INSERT INTO t VALUES (7)"))
        program.signal.send("sender", number=7)

        with pytest.raises(TransactionError, match=r"in memory.*Commit it or roll it back first"):
            getattr(program.relay, verb)()

        session.commit()

    getattr(program.relay, verb)()
    program.relay.drain()
    assert (program.numbers(), program.run(numbers)) == ([7], [7])


@pytest.mark.parametrize("kind", ["of all threads", "of a thread"])
def test_a_connection_that_was_only_read(memory: Engine, make_engine: MakeEngine, kind: str) -> None:
    """In memory, a session that has only read blocks no other, because Python's driver begins no transaction for it."""
    program = Program(sharing(memory, make_engine, kind))
    program.connect()
    program.send(7)

    with Session(program.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM aldis_messages")) == 1
        assert program.relay.drain() == DrainCounts(done=1)
        assert session.scalar(text("SELECT count(*) FROM aldis_messages")) == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has had autocommit= since Python 3.12")
def test_a_connection_that_is_always_in_a_transaction(make_engine: MakeEngine) -> None:
    """In memory, a connection with autocommit=False is always in a transaction, which counts as no transaction."""
    program = Program(make_engine("sqlite://", poolclass=StaticPool, connect_args={"autocommit": False}))
    program.connect()
    program.send(7)

    assert program.relay.drain() == DrainCounts(done=1)


@pytest.mark.parametrize("kind", ["of all threads", "of a thread"])
def test_a_database_in_memory_is_not_closed(memory: Engine, make_engine: MakeEngine, kind: str) -> None:
    """The relay never closes a database in memory, because its content would be lost."""
    program = Program(sharing(memory, make_engine, kind))
    program.relay._parts.database.reconnect()

    assert program.relay.status() == []


def test_an_async_database_in_memory() -> None:
    """R1: An async database in memory is shared by awaited and other work, and its transactions are separate."""

    async def program() -> list[int]:
        engine = create_async_engine("sqlite+aiosqlite://")
        database = Database(engine, 0.0)
        await asyncio.to_thread(tables, database)
        await database.run_async(insert(1))
        await asyncio.to_thread(database.run, insert(2))
        await asyncio.to_thread(database.reconnect)

        async with engine.begin() as connection:
            await connection.run_sync(insert(3))

            with pytest.raises(TransactionError, match="in memory"):
                await database.run_async(insert(4))

        found = await database.run_async(numbers)
        await engine.dispose()
        return found

    assert asyncio.run(program()) == [1, 2, 3]


@pytest.mark.parametrize("close", [Database.close_portal, lambda _: _close_portals()], ids=["asked to", "at exit"])
def test_a_fork_has_connections_of_its_own(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, close: Callable[[Database], None]
) -> None:
    """A forked process makes its own connections to an async database, and does not touch its parent's."""
    database = Database(create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:")), 0.0)
    tables(database)
    parents = database._portal_engine(database.engine())
    assert database._portal_engine(database.engine()) is parents
    parents_pool = parents.sync_engine.pool

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        database.run(insert(1))
        assert database._portal_engine(database.engine()) is not parents
        close(database)

    assert parents.sync_engine.pool is parents_pool
    assert isinstance(parents_pool, AsyncAdaptedQueuePool)
    assert parents_pool.checkedin() == 1
    close(database)
    assert parents.sync_engine.pool is not parents_pool


def test_what_is_read_before_it_is_written(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R6: In SQLite, the relay locks the file before it reads, so that a write needs no second attempt."""
    database = Database(make_engine(sqlite_url), 0.0)
    tables(database)
    database.run_plain(use_wal)
    hasty = make_engine(sqlite_url, connect_args={"timeout": 0.01})
    tries: list[list[int]] = []

    def read_and_write(connection: Connection) -> None:
        tries.append(numbers(connection))

        with pytest.raises(OperationalError, match="locked"), hasty.begin() as other:
            insert(1)(other)

        insert(2)(connection)

    database.run(read_and_write)
    assert (tries, database.look(numbers)) == ([[]], [2])


def test_connections_of_a_worker(database: Database) -> None:
    """A worker has its own connections, and closes them, and no others, when it ends."""
    tables(database)
    own = database.for_worker()
    own.run(insert(1))
    own.close()
    own.run(insert(2))
    own.reconnect()
    database.close()

    assert database.look(numbers) == [1, 2]


# The meaning of errors.


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_databases(name: str) -> None:
    """R6: The relay runs on these databases."""
    check_dialect(name)


def test_another_database() -> None:
    """R6: On other databases the relay raises an error that says so."""
    with pytest.raises(InvalidOptionError, match="not on oracle"):
        check_dialect("oracle")


def error_of(work: Callable[[], Any]) -> DBAPIError:
    with pytest.raises(DBAPIError) as found:
        work()

    return found.value


def meaning(work: Callable[[], Any]) -> str:
    """Return the meaning of the error that some work raises, in the order of the checks."""
    error = error_of(work)

    if is_busy(error):
        return "busy"

    assert not (is_away(error) and is_full(error))
    return "away" if is_away(error) else "full" if is_full(error) else "else"


def executing(engine: Engine, statement: str) -> Callable[[], Any]:
    return lambda: once(engine, lambda connection: connection.execute(text(statement)))


def once(engine: Engine, work: Callable[[Connection], Any]) -> None:
    """Do some work in a transaction, without a second attempt."""
    with engine.begin() as connection:
        work(connection)


def test_sqlite_is_busy(sqlite_url: str, make_engine: MakeEngine) -> None:
    """While another transaction writes, the error means: try again."""
    engine = make_engine(sqlite_url, connect_args={"timeout": 0})
    tables(Database(engine, 0.0))

    with engine.begin() as connection:
        insert(1)(connection)
        assert meaning(executing(engine, "INSERT INTO t VALUES (2)")) == "busy"


def test_a_server_that_says_so_is_away(ready_postgresql_url: str) -> None:
    """A server that starts or stops is away; asyncpg reports this by a code only."""
    engine = create_async_engine(ready_postgresql_url.replace("psycopg", "asyncpg"))
    database = Database(engine, 0.0)

    def failing(code: str) -> Callable[[], Any]:
        statement = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
        return lambda: database.run(lambda connection: connection.execute(text(statement)))

    codes = ["08006", "57P01", "57P03", "25006"]
    assert {code: meaning(failing(code)) for code in codes} == dict.fromkeys(codes, "away")
    database.close_portal()


def test_sqlite_is_away(tmp_path: Any, make_engine: MakeEngine) -> None:
    """An SQLite file that cannot be opened or written is away, and a missing table is a different error."""
    engine = make_engine(f"sqlite:///{tmp_path}/there.sqlite")
    tables(Database(engine, 0.0))
    missing = make_engine(f"sqlite:///{tmp_path}/missing/there.sqlite")
    read_only = make_engine(f"sqlite:///file:{tmp_path}/there.sqlite?mode=ro&uri=true")

    assert meaning(executing(missing, "INSERT INTO t VALUES (1)")) == "away"
    assert meaning(executing(read_only, "INSERT INTO t VALUES (1)")) == "away"
    assert meaning(executing(engine, "SELECT * FROM nowhere")) == "else"


def test_sqlite_is_full(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A full disk is neither busy nor away."""
    engine = make_engine(sqlite_url)
    tables(Database(engine, 0.0))

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        connection.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))

    assert meaning(lambda: once(engine, work)) == "full"


# By their SQLSTATEs, as PostgreSQL raises them.
STATES = {
    "40001": "busy",
    "40P01": "busy",
    "55P03": "busy",
    "25006": "away",
    "57P03": "away",
    "53100": "full",
    "22012": "else",
}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_postgresql(ready_postgresql_url: str, make_engine: MakeEngine, driver: str) -> None:
    """PostgreSQL's errors are understood with every driver."""
    engine = make_engine(ready_postgresql_url.replace("psycopg", driver))

    def failing(state: str) -> Callable[[], Any]:
        return executing(engine, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")

    assert {state: meaning(failing(state)) for state in STATES} == STATES


def test_postgresql_went_away(postgresql_url: str, make_engine: MakeEngine) -> None:
    """A connection that was cut is away, and so is a server that cannot be reached."""
    nowhere = make_engine("postgresql+psycopg://127.0.0.1:1/test")

    assert meaning(executing(make_engine(postgresql_url), "SELECT pg_terminate_backend(pg_backend_pid())")) == "away"
    assert meaning(executing(nowhere, "SELECT 1")) == "away"


def test_mariadb(mariadb_url: str, make_engine: MakeEngine) -> None:
    """A wait for a lock that took too long is busy; a cut connection is away; a missing table is neither."""
    engine = make_engine(mariadb_url)
    tables(Database(engine, 0.0))
    once(engine, insert(1))

    def wait(connection: Connection) -> None:
        connection.execute(text("SET innodb_lock_wait_timeout = 0"))
        connection.execute(text("UPDATE t SET n = 2"))

    with engine.begin() as connection:
        connection.execute(text("UPDATE t SET n = 3"))
        assert meaning(lambda: once(engine, wait)) == "busy"

    assert meaning(executing(engine, "KILL connection_id()")) == "away"
    assert meaning(executing(engine, "SELECT * FROM nowhere")) == "else"


# Waiting.


def test_another_writer_is_waited_for(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R6: Work that another transaction blocks is done when that transaction has ended."""
    engine = make_engine(sqlite_url, connect_args={"timeout": 0})
    database = Database(engine, 0.0)
    tables(database)
    tries: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: tries.append(args[2]))

    with engine.begin() as connection:
        insert(1)(connection)
        thread = Thread(target=database.run, args=[insert(2)])
        thread.start()
        soon(lambda: len(tries) > 3)
        assert thread.is_alive()

    thread.join(SOON_S)
    assert database.look(numbers) == [1, 2]


def test_a_database_that_comes_back(tmp_path: Any, make_engine: MakeEngine) -> None:
    """R6: The relay waits for a database that is away, up to its waiting time, and then raises the error."""
    engine = make_engine(f"sqlite:///{tmp_path}/later/test.sqlite")
    tries: list[Any] = []

    @event.listens_for(engine, "do_connect")
    def note(*args: Any) -> None:
        tries.append(args)

        if len(tries) == 4:
            (tmp_path / "later").mkdir()

    with pytest.raises(OperationalError, match="unable to open"):
        Database(engine, 0.0).run(numbers)

    assert len(tries) == 1
    tables(Database(engine, 20.0))
    assert len(tries) == 4


def test_an_async_database_that_comes_back(tmp_path: Any) -> None:
    """R6: The same holds for an async database."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/later/test.sqlite", poolclass=NullPool)
    tries: list[Any] = []

    @event.listens_for(engine.sync_engine, "do_connect")
    def note(*args: Any) -> None:
        tries.append(args)

        if len(tries) == 3:
            (tmp_path / "later").mkdir()

    async def program() -> list[int]:
        database = Database(engine, 20.0)
        await database.run_async(lambda connection: connection.execute(text("CREATE TABLE t (n int)")))
        return await database.run_async(numbers)

    assert asyncio.run(program()) == []
    assert len(tries) == 4


def test_patience_ends(sqlite_url: str, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses grow, and waiting ends after its time, by a clock that cannot be set."""
    error = error_of(executing(make_engine(f"{sqlite_url}/no/where"), "SELECT 1"))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = RetryPolicy(60.0, 15.0)
    pauses = [patience.pause_s(error) for _ in range(12)]

    assert pauses[0] < 0.003 < pauses[4] < 0.07
    assert max(pauses) <= 1.0
    now[0] = 60.0

    with pytest.raises(OperationalError, match="unable to open"):
        patience.pause_s(error)
