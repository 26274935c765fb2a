"""What wakes a worker: looks at intervals, PostgreSQL's notifications, the version of a file of SQLite."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import StaticPool, event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from aldis.relay._registry import ReceiverRegistry
from aldis.relay.storage import claims
from aldis.relay.worker import listener
from aldis.relay.worker.listener import Listener
from aldis.relay.worker.scheduler import FairScheduler

from .works import Works, running, soon

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from .conftest import MakeEngine, Server
    from .works import Running

LONG_S = 600.0


def drowsy(found: Running) -> None:
    """Wait until a worker will not look again by itself for long."""
    found.worker.scheduler._idle_s = LONG_S
    soon(lambda: found.worker.scheduler._poll_at > time.monotonic() + LONG_S / 2, "a long pause")


def assert_woken(works: Works) -> None:
    """A worker that would look again in ten minutes receives what is committed at once."""
    with works.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        works.send(0)
        soon(lambda: works.got)
        drowsy(found)

        for number in range(1, 6):
            works.send(number)
            soon(lambda number=number: works.numbers() == [*range(number + 1)], within_s=30)  # type: ignore[misc]


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg", "postgresql+psycopg2"])
def test_what_is_committed_wakes_workers(driver: str, request: pytest.FixtureRequest, make_engine: MakeEngine) -> None:
    """A worker that would look again in ten minutes receives what is committed at once."""
    url = make_url(request.getfixturevalue(f"{driver.partition('+')[0]}_url")).set(drivername=driver)
    works = Works(make_engine(url.render_as_string(hide_password=False)))
    works.connect()

    assert_woken(works)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has had autocommit= since Python 3.12")
def test_connections_that_are_always_in_a_transaction(sqlite_url: str, make_engine: MakeEngine) -> None:
    """With autocommit=False, a file gets its write-ahead log, and what is committed wakes workers, too."""
    works = Works(make_engine(sqlite_url, connect_args={"autocommit": False}))
    works.connect()

    with works.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.connection.driver_connection.autocommit is False  # type: ignore[union-attr]

    assert_woken(works)


def test_what_could_not_be_claimed_is_looked_for_again(works: Works) -> None:
    """A worker that hears of a row, and cannot claim it, does not wait for its next look."""
    failures = [0]

    def fail(_: object, statement: str, *__: object) -> None:
        if statement.startswith("UPDATE aldis_messages") and failures[0] == 0:
            failures[0] = 1
            raise sqlite3.OperationalError("disk I/O error")

    works.connect()

    with works.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        works.send(0)
        soon(lambda: works.got)
        drowsy(found)
        event.listen(works.engine, "do_execute", fail)
        works.send(1)
        soon(lambda: works.numbers() == [0, 1], within_s=30)

    assert failures == [1]


def test_a_rollback_wakes_nobody(postgresql_url: str, make_engine: MakeEngine) -> None:
    """What is rolled back is not told of, and what is in a transaction is told of when that is committed."""
    works = Works(make_engine(postgresql_url))
    works.connect()

    with works.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        works.send(0)
        soon(lambda: works.got)
        drowsy(found)

        with works.engine.connect() as connection, works.relay.using(connection):
            works.send(1)
            connection.rollback()
            works.send(2)
            assert not found.worker.scheduler._is_woken
            connection.commit()

        soon(lambda: works.numbers() == [0, 2], within_s=30)


@pytest.mark.parametrize("notify", [True, False])
def test_whether_others_are_told_of_the_next_of_a_key(
    postgresql_url: str, make_engine: MakeEngine, notify: bool
) -> None:
    """A row that was received may make way for another of its key: other workers are told, unless nobody is."""
    works = Works(make_engine(postgresql_url), notify=notify)
    works.connect(key="number")
    works.send(1)
    statements: list[str] = []
    event.listen(works.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    works.relay.drain()

    assert any("pg_notify" in statement for statement in statements) is notify


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_polling_alone(kind: str, request: pytest.FixtureRequest, make_engine: MakeEngine) -> None:
    """Where nobody tells of messages, a worker looks at intervals."""
    works = Works(make_engine(request.getfixturevalue(f"{kind}_url")), notify=False)
    works.connect()

    with works.working(poll_s=0.2):
        for number in range(3):
            works.send(number)
            soon(lambda number=number: works.numbers() == [*range(number + 1)])  # type: ignore[misc]


def test_looks_become_rarer(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds nothing looks at longer and longer intervals, up to its longest."""
    works.connect()
    looks: list[float] = []
    worker = works.worker(poll_s=0.1, drains=True)  # Without anything that wakes it.
    worker.settings.drains = False
    due = claims.due

    def noted(connection: Connection, names: Iterable[str]) -> dict[str, int]:
        looks.append(time.monotonic())
        return due(connection, names)

    monkeypatch.setattr(claims, "due", noted)

    with running(worker):
        soon(lambda: len(looks) > 8)

    pauses = [after - before for before, after in pairwise(looks)]
    assert sum(pauses[-3:]) >= 0.3 > 0.1 > pauses[0]


def test_turns_that_have_heard_something() -> None:
    """What is heard is looked for at once, and when there was something, the next look is soon."""
    turns = FairScheduler(ReceiverRegistry(), LONG_S)
    turns._poll_at = now = time.monotonic() + LONG_S
    assert (turns.should_poll(), turns.next_at(0.0)) == (False, now)

    turns.note_claimed()
    assert turns.next_at(0.0) < time.monotonic() + 1
    turns._poll_at = now
    turns.wake()
    assert (turns.should_poll(), turns.next_at(0.0)) == (True, 0.0)


def test_what_is_tried_again_is_looked_for_in_time(works: Works) -> None:
    """A worker sleeps no longer than until the next row is due."""

    def work(number: int) -> None:
        if works.relay.current().attempt == 1:
            raise ValueError

    works.connect(work=work, backoff=0.3)

    with works.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        drowsy(found)
        works.send(0)
        soon(lambda: len(works.got) == 2, within_s=30)


def test_listening_begins_again(
    postgresql_url: str,
    postgresql: Server,
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection that listens and is lost is made again, quietly, and tells then of what it has missed."""
    monkeypatch.setattr(listener, "_AGAIN_S", 0.05)
    caplog.set_level(logging.DEBUG, "aldis.relay")
    works = Works(make_engine(postgresql_url))
    works.connect()

    with works.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        works.send(0)
        soon(lambda: works.got)
        drowsy(found)

        with postgresql.engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND query ~ 'LISTEN'"
                ),
                {"name": postgresql.name},
            )

        soon(lambda: "The listener pauses for 0.05 s: " in caplog.text)
        works.send(1)
        soon(lambda: works.numbers() == [0, 1], within_s=30)

    assert [record.name for record in caplog.records if record.levelno > logging.DEBUG] == []


def watchers() -> int:
    """How many threads watch a database."""
    return sum(thread.name == "aldis-listener" for thread in threading.enumerate())


def test_a_watch_ends_with_its_worker(works: Works) -> None:
    """A worker that has ended watches nothing."""
    works.connect()

    with works.working():
        soon(lambda: watchers() == 1)

    soon(lambda: watchers() == 0)


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


def test_what_cannot_be_watched_is_not(
    make_engine: MakeEngine, mariadb_url: str, postgresql_url: str, sqlite_url: str
) -> None:
    """A database in memory, an async engine and other databases have no thread that watches them, and PostgreSQL has
    none where it is not to notify.
    """
    awaited = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:")).sync_engine
    memory: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}

    for engine in (make_engine("sqlite://", **memory), awaited, make_engine(mariadb_url)):
        Listener(engine, listens=True, wake=lambda: None)

    Listener(make_engine(postgresql_url), listens=False, wake=lambda: None)

    assert watchers() == 0
