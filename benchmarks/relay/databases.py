"""Temporary databases for the relay's figures, set to be as durable as possible, and the settings that they report."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Servers that may be used. Each run creates a database there, and drops it.
SERVERS: Final = {
    "PostgreSQL": os.environ.get("ALDIS_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"),
    "MariaDB": os.environ.get("ALDIS_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/mysql"),
}
SETTINGS: Final = {
    "SQLite": {
        "journal_mode": "PRAGMA journal_mode",
        "synchronous": "SELECT CASE synchronous WHEN 2 THEN 'full' ELSE synchronous END FROM pragma_synchronous",
    },
    "PostgreSQL": {"fsync": "SHOW fsync", "synchronous_commit": "SHOW synchronous_commit"},
    "MariaDB": {"innodb_flush_log_at_trx_commit": "SELECT @@innodb_flush_log_at_trx_commit"},
}


@dataclass(frozen=True)
class Database:
    """A temporary database.

    :ivar name: its name in tables.
    :ivar url: its address, also for other processes.
    """

    name: str
    url: str

    def engine(self, **options: Any) -> Engine:
        """Return a new engine for it."""
        return make_engine(self.url, **options)

    def settings(self) -> str:
        """Return its settings that decide how durable a write is."""
        engine = self.engine()

        with engine.connect() as connection:
            found = [(name, connection.exec_driver_sql(ask).scalar()) for name, ask in SETTINGS[self.name].items()]

        engine.dispose()
        return f"{self.name}: {', '.join(f'{name} = {value}' for name, value in found)}"

    def tidy(self) -> None:
        """Do the work that autovacuum would do within a minute."""
        if self.name == "PostgreSQL":
            engine = self.engine(isolation_level="AUTOCOMMIT")

            with engine.connect() as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")

            engine.dispose()


def make_engine(url: str, **options: Any) -> Engine:
    """Return an engine. SQLite waits for the disk at each commit."""
    engine = create_engine(url, **options)

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _make_durable)

    return engine


def _make_durable(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def database(name: str) -> Iterator[Database | None]:
    """Yield a database while a ``with`` block runs, or ``None`` if its server does not answer."""
    with _file() if name == "SQLite" else _on_server(name) as url:
        yield None if url is None else Database(name, url)


@contextmanager
def _file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="aldis-bench-") as folder:
        yield f"sqlite:///{Path(folder) / 'bench.sqlite'}"


@contextmanager
def _on_server(name: str) -> Iterator[str | None]:
    server = create_engine(SERVERS[name], isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5})
    own = f"aldis_bench_{uuid4().hex}"

    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {own}"))
    except OperationalError as error:
        print(f"{name} does not answer: {type(error.orig).__name__}")
        yield None
        return

    try:
        yield make_url(SERVERS[name]).set(database=own).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {own}{' WITH (FORCE)' if name == 'PostgreSQL' else ''}"))

        server.dispose()
