"""What the relay's tests share: databases of their own, and engines that are closed when the test is over."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from tools.chaos.processes import Nursery, TooLateError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Servers that may be used. Each run of the tests makes a database of its own there, and drops it.
POSTGRESQL = os.environ.get("ALDIS_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("ALDIS_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/mysql")


class MakeEngine(Protocol):
    """What the fixture ``make_engine`` is."""

    def __call__(self, url: str, **options: Any) -> Engine: ...


def pytest_exception_interact(call: pytest.CallInfo[object], report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where a process was too late, show what it was doing."""
    if call.excinfo is not None and call.excinfo.errisinstance(TooLateError):
        report.sections += [("Log of the processes", nursery.account()) for nursery in Nursery.open]


class Server:
    """A server, and the database on it that is ours."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10})
        self.name = f"aldis_test_{uuid4().hex}"
        self.url = make_url(url).set(database=self.name).render_as_string(hide_password=False)
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

    def empty(self) -> None:
        """Leave nothing of the test before: neither tables nor connections."""
        for id in self.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = :name"
            if self.is_postgresql
            else "SELECT id FROM information_schema.processlist WHERE db = :name"
        ):
            with suppress(OperationalError):  # It may have gone by itself.
                self.execute("SELECT pg_terminate_backend(:id)" if self.is_postgresql else f"KILL {id}", id=id)

        if self.is_postgresql:  # To make databases takes PostgreSQL long.
            self.execute(f"ALTER DATABASE {self.name} RESET ALL")

            with self.inside.connect() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
        else:
            self.drop()
            self.execute(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        """Drop the database, whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {self.name}{' WITH (FORCE)' if self.is_postgresql else ''}")

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """Execute a statement on the server, outside of the database. Gives the first column of what it gives."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), {"name": self.name, **values})
            return list(result.scalars()) if result.returns_rows else []


def serve(url: str) -> Iterator[Server]:
    """A server for the time of the session."""
    server = Server(url)
    server.make()
    yield server
    server.drop()
    server.engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """PostgreSQL, or a skip where it is missing; in CI, that is a failure."""
    yield from serve(POSTGRESQL)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """MariaDB, or a skip where it is missing; in CI, that is a failure."""
    yield from serve(MARIADB)


@pytest.fixture
def sqlite_url(tmp_path: Any) -> str:
    """An empty database of SQLite, in a file."""
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """An empty database of PostgreSQL."""
    postgresql.empty()
    return postgresql.url


@pytest.fixture
def mariadb_url(mariadb: Server) -> str:
    """An empty database of MariaDB."""
    mariadb.empty()
    return mariadb.url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind, one after the other."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Makes engines that are disposed of when the test is over."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Engine:
            engine = create_engine(url, **options)
            stack.callback(engine.dispose)
            return engine

        yield make
