"""Fixtures of the relay's tests: databases of their own, and engines that are closed after the test."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from aldis.relay import Relay
from tests.relay.programs.worker_program import Program
from tools.chaos.processes import Nursery, TooLateError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A receiver's time may end at any line, also inside coverage in the receiver's thread. If that thread holds coverage's
# lock, the lock is never released, and each measured thread waits forever. The lock is for threads without a GIL, which
# are not measured.
with suppress(ImportError):
    from coverage.collector import Collector

    Collector.lock_data = lambda self: None  # type: ignore[method-assign]
    Collector.unlock_data = lambda self: None  # type: ignore[method-assign]

# Servers that may be used. Each run of the tests makes its own databases there, and drops them.
POSTGRESQL = os.environ.get("ALDIS_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("ALDIS_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/mysql")


TABLES = {
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'aldis_relay'",
    "mariadb": "SELECT table_name FROM information_schema.tables"
    " WHERE table_schema = database() AND table_name <> 'aldis_relay'",
}
"""The tables whose rows belong to one test."""


class MakeEngine(Protocol):
    """The type of the fixture ``make_engine``."""

    def __call__(self, url: str, **options: Any) -> Engine: ...


def pytest_exception_interact(call: pytest.CallInfo[object], report: pytest.TestReport | pytest.CollectReport) -> None:
    """If a process was too late, show what it was doing."""
    if call.excinfo is not None and call.excinfo.errisinstance(TooLateError):
        report.sections += [("Log of the processes", nursery.account()) for nursery in Nursery.open]


class Server:
    """A server, and the tests' own database on it.

    A test of the tables themselves begins with :meth:`empty`. Most tests need the relay's tables without rows. A server
    takes longer to make them than such a test takes, so these tests share a second database, and begin with
    :meth:`clear`.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10})
        self.name = f"aldis_test_{uuid4().hex}"
        self.url = make_url(url).set(database=self.name).render_as_string(hide_password=False)
        self._has_tables = False
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        self.inside = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def make(self) -> None:
        """Make the database."""
        try:
            self.execute(f"CREATE DATABASE {self.name}")
        except OperationalError as error:
            missing = f"no server answers at {self.engine.url!r}"

            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing}: {error.orig}")

            pytest.skip(missing)

    def _end_connections(self) -> None:
        for id in self.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = :name"
            if self.is_postgresql
            else "SELECT id FROM information_schema.processlist WHERE db = :name"
        ):
            with suppress(OperationalError):  # The connection may have ended by itself.
                self.execute("SELECT pg_terminate_backend(:id)" if self.is_postgresql else f"KILL {id}", id=id)

    def empty(self) -> None:
        """Remove the tables and connections of the test before."""
        self._end_connections()

        if self.is_postgresql:  # PostgreSQL takes long to make a database.
            self.execute(f"ALTER DATABASE {self.name} RESET ALL")

            with self.inside.connect() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
        else:
            self.drop()
            self.execute(f"CREATE DATABASE {self.name}")

    def clear(self) -> None:
        """Delete all rows of the test before, except the version of the relay's tables. Make missing tables."""
        self._end_connections()

        if not self._has_tables:
            engine = create_engine(self.url, poolclass=NullPool)
            Relay(engine).create_tables()
            self._has_tables = True

        with self.inside.connect() as connection:
            for table in connection.scalars(text(TABLES[self.engine.dialect.name])).all():
                connection.execute(text(f"DELETE FROM {table}"))

    def drop(self) -> None:
        """Drop the database, even while clients are connected."""
        self.execute(f"DROP DATABASE IF EXISTS {self.name}{' WITH (FORCE)' if self.is_postgresql else ''}")

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """Execute a statement on the server, outside of the database. Return the first column of its rows."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), {"name": self.name, **values})
            return list(result.scalars()) if result.returns_rows else []


def serve(url: str) -> Iterator[Server]:
    """Yield a server for the session."""
    server = Server(url)
    server.make()
    yield server
    server.drop()
    server.engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Yield PostgreSQL. If it is missing, skip the test, or fail in CI."""
    yield from serve(POSTGRESQL)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """Yield MariaDB. If it is missing, skip the test, or fail in CI."""
    yield from serve(MARIADB)


@pytest.fixture(scope="session")
def shared_postgresql() -> Iterator[Server]:
    """Yield PostgreSQL with the relay's tables, which no test changes."""
    yield from serve(POSTGRESQL)


@pytest.fixture(scope="session")
def shared_mariadb() -> Iterator[Server]:
    """Yield MariaDB with the relay's tables, which no test changes."""
    yield from serve(MARIADB)


@pytest.fixture
def sqlite_url(tmp_path: Any) -> str:
    """Return the URL of an empty SQLite database in a file."""
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """Return the URL of an empty PostgreSQL database."""
    postgresql.empty()
    return postgresql.url


@pytest.fixture
def mariadb_url(mariadb: Server) -> str:
    """Return the URL of an empty MariaDB database."""
    mariadb.empty()
    return mariadb.url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def ready_postgresql_url(shared_postgresql: Server) -> str:
    """Return the URL of a PostgreSQL database with the relay's tables and without rows."""
    shared_postgresql.clear()
    return shared_postgresql.url


@pytest.fixture
def ready_mariadb_url(shared_mariadb: Server) -> str:
    """Return the URL of a MariaDB database with the relay's tables and without rows."""
    shared_mariadb.clear()
    return shared_mariadb.url


@pytest.fixture
def ready_sqlite_url(sqlite_url: str) -> str:
    """Return the URL of an SQLite file with the relay's tables and without rows."""
    engine = create_engine(sqlite_url)
    Relay(engine).create_tables()
    engine.dispose()
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def ready_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a database with the relay's tables and without rows, of each kind in turn."""
    found: str = request.getfixturevalue(f"ready_{request.param}_url")
    return found


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Make engines, and dispose of them after the test."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Engine:
            engine = create_engine(url, **options)
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def program(sqlite_url: str, make_engine: MakeEngine) -> Program:
    """Return a program with workers, in an SQLite file."""
    return Program(make_engine(sqlite_url))
