"""The relay's tables: made once, of one version, with the database's own clock, whatever the server's defaults are."""

from __future__ import annotations

import time
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, select, text
from sqlalchemy.dialects import oracle
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from aldis import NamedSignal, Namespace
from aldis.exceptions import AldisError, RelaySchemaError
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage.tables import metadata, now_ms, properties
from tests.relay.programs.worker_program import SOON_S

if TYPE_CHECKING:
    from tests.relay.conftest import MakeEngine, Server


NAMES = {"aldis_messages", "aldis_dead_letters", "aldis_effects", "aldis_relay"}


def versions(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        return [(row.name, row.value) for row in connection.execute(select(properties))]


def test_the_tables(any_url: str, make_engine: MakeEngine) -> None:
    """create_tables makes the tables of relay.metadata with one version, and a second call makes nothing."""
    engine = make_engine(any_url)
    relay = Relay(engine)
    relay.create_tables()
    relay.create_tables()
    relay.check_tables()

    assert {table.name for table in relay.metadata.sorted_tables} == NAMES
    assert set(inspect(engine).get_table_names()) == NAMES
    assert versions(engine) == [("schema", "1")]


def test_many_make_them_at_once(any_url: str, make_engine: MakeEngine) -> None:
    """Threads that all make the tables at the same time do not disturb each other."""
    engine = make_engine(any_url)
    barrier = Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        barrier.wait(SOON_S)

        try:
            Relay(engine).create_tables()
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work) for _ in range(4)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(SOON_S)

    assert failures == []
    assert versions(engine) == [("schema", "1")]


def test_a_migration_puts_nothing_in_them(any_url: str, make_engine: MakeEngine) -> None:
    """Empty tables that Alembic made get their version when they are first checked."""
    engine = make_engine(any_url)
    metadata.create_all(engine)
    Relay(engine).check_tables()

    assert versions(engine) == [("schema", "1")]


def test_tables_that_cannot_be_made(make_engine: MakeEngine) -> None:
    """An error that keeps the tables from being made is raised as the database raises it."""
    with pytest.raises(OperationalError, match="unable to open"):
        Relay(make_engine("sqlite:////nowhere/at/all.sqlite")).create_tables()


@pytest.mark.parametrize(
    ("version", "what"), [("2", "Update Aldis here"), ("0", "Migrate the tables"), ("one", "Migrate the tables")]
)
def test_another_version(sqlite_url: str, make_engine: MakeEngine, version: str, what: str) -> None:
    """Tables of another version are refused with a message that says what to do; the newer of the two is right."""
    engine = make_engine(sqlite_url)
    relay = Relay(engine)
    relay.create_tables()

    with engine.begin() as connection:
        connection.execute(properties.update().values(value=version))

    for verb in (relay.check_tables, relay.create_tables, relay.drain):
        with pytest.raises(
            RelaySchemaError, match=rf"tables are of version {version}, .* knows 1\. {what}\."
        ) as raised:
            verb()

        assert isinstance(raised.value, AldisError)
        assert isinstance(raised.value, RuntimeError)


# The clock.


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_clock(request: pytest.FixtureRequest, make_engine: MakeEngine, kind: str) -> None:
    """R3: The database's time is in milliseconds of UTC, whatever the connection's time zone, and it moves on."""
    zones = {"postgresql": "SET TIME ZONE 'Asia/Kolkata'", "mariadb": "SET time_zone = '+05:30'"}
    engine = make_engine(request.getfixturevalue(f"{kind}_url"))

    with engine.connect() as connection:
        if kind in zones:
            connection.execute(text(zones[kind]))

        before = connection.execute(select(now_ms())).scalar_one()
        assert abs(before / 1000 - time.time()) < 60
        assert type(before) is int
        deadline = time.monotonic() + SOON_S

        while (now := connection.execute(select(now_ms())).scalar_one()) == before:
            assert time.monotonic() < deadline

        assert before < now < before + 60_000


def test_a_database_whose_clock_nobody_knows() -> None:
    """A statement that needs the clock of an unknown database raises an error that says so."""
    dialect: Any = oracle.dialect()  # type: ignore[no-untyped-call]

    with pytest.raises(NotImplementedError, match="does not know the clock of oracle"):
        select(now_ms()).compile(dialect=dialect)


# Differences between servers.


def order_placed(sender: Any, /, *, note: str) -> object: ...


@pytest.fixture
def odd_mariadb(mariadb: Server, mariadb_url: str, make_engine: MakeEngine) -> Engine:
    """Return a MariaDB with old defaults: Latin letters, and tables without transactions."""
    mariadb.execute(f"ALTER DATABASE {mariadb.name} CHARACTER SET latin1")
    engine = make_engine(mariadb_url)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION default_storage_engine = MyISAM")

    return engine


def test_mariadb_s_defaults_do_not_count(odd_mariadb: Engine) -> None:
    """R1, R2, R4: Every character is kept, a rollback removes messages, and names that differ in case are different."""
    relay = Relay(odd_mariadb)
    relay.create_tables()
    placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
    log: list[Any] = []

    def upper(sender: Any, note: str) -> None:
        with Session(odd_mariadb) as session, session.begin():
            log.append(("upper", sender, note, relay.first_time(session)))

    def lower(sender: Any, note: str) -> None:
        with Session(odd_mariadb) as session, session.begin():
            log.append(("lower", sender, note, relay.first_time(session)))

    placed.connect(upper, via=relay.durable("Billing", key="note"))
    placed.connect(lower, via=relay.durable("billing"))

    with Session(odd_mariadb) as session:
        session.begin()
        placed.send("lost", note="lost")
        session.rollback()

    placed.send("Łódź \U0001f981", note="Łódź \U0001f981")
    assert relay.drain() == DrainCounts(done=2)
    assert sorted(log) == [(name, "Łódź \U0001f981", "Łódź \U0001f981", True) for name in ("lower", "upper")]


def test_mariadb_takes_long_senders(mariadb_url: str, make_engine: MakeEngine) -> None:
    """R5: On MariaDB too, a sender that is a string can have any length."""
    relay = Relay(make_engine(mariadb_url))
    relay.create_tables()
    placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
    log: list[Any] = []
    placed.connect(lambda sender, note: log.append(sender), weak=False, via=relay.durable("billing"))
    placed.send("x" * 100_000, note="")
    relay.drain()

    assert log == ["x" * 100_000]


def test_tables_are_looked_at(sqlite_url: str, make_engine: MakeEngine) -> None:
    """check_tables reports missing tables until they are made."""
    relay = Relay(make_engine(sqlite_url))

    with pytest.raises(RelaySchemaError, match=r"create_tables\(\)"):
        relay.check_tables()

    relay.create_tables()
    relay.check_tables()


def test_tables_for_a_migration(sqlite_url: str, make_engine: MakeEngine) -> None:
    """relay.metadata has the relay's tables and no others, and needs no relay to make them."""
    engine = make_engine(sqlite_url)
    relay = Relay(engine)
    relay.metadata.create_all(engine)
    found = MetaData()
    found.reflect(engine)

    assert set(relay.metadata.tables) == set(found.tables)
    assert all(name.startswith("aldis_") for name in found.tables)
    relay.check_tables()


def test_the_write_ahead_log(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R6: In SQLite, create_tables turns the write-ahead log on, and changes nothing else of the user's engine."""
    engine = make_engine(sqlite_url)

    with engine.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA synchronous").scalar()

    Relay(engine).create_tables()

    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == before
        assert connection.get_isolation_level() == engine.dialect.default_isolation_level
