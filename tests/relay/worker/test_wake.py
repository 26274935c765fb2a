"""What wakes a worker: polls, PostgreSQL's notifications, the version of an SQLite file, a signal."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import StaticPool, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from aldis.relay._registry import ReceiverRegistry
from aldis.relay.worker import listener
from aldis.relay.worker.listener import Listener
from aldis.relay.worker.scheduler import FairScheduler
from tests.relay.programs.worker_program import LONG_S, SOON_S, Program, soon

if TYPE_CHECKING:
    from aldis.relay.storage.database import Database
    from tests.relay.conftest import MakeEngine, Server
    from tests.relay.programs.worker_program import Running


END_LISTENING = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND query ~ 'LISTEN'"


def drowsy(found: Running) -> None:
    """Wait until the worker's next poll is far away."""
    turns = found.worker.scheduler

    def is_so() -> bool:
        turns._idle_s = LONG_S  # Again and again, because the worker may be changing it.
        return turns._poll_at > time.monotonic() + LONG_S / 2

    soon(is_so, "a long pause")


def assert_woken(program: Program) -> None:
    """A worker that would poll again in ten minutes receives a committed message at once."""
    with program.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        program.send(0)
        soon(lambda: program.got)
        drowsy(found)

        for number in range(1, 6):
            program.send(number)
            soon(lambda number=number: program.numbers() == [*range(number + 1)])  # type: ignore[misc]


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg", "postgresql+psycopg2"])
def test_what_is_committed_wakes_workers(driver: str, request: pytest.FixtureRequest, make_engine: MakeEngine) -> None:
    """A worker that would poll again in ten minutes receives a committed message at once."""
    url = make_url(request.getfixturevalue(f"{driver.partition('+')[0]}_url")).set(drivername=driver)
    program = Program(make_engine(url.render_as_string(hide_password=False)))
    program.connect()

    assert_woken(program)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has had autocommit= since Python 3.12")
def test_connections_that_are_always_in_a_transaction(sqlite_url: str, make_engine: MakeEngine) -> None:
    """With autocommit=False, a file has its write-ahead log, and a commit wakes workers too."""
    program = Program(make_engine(sqlite_url, connect_args={"autocommit": False}))
    program.connect()

    with program.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.connection.driver_connection.autocommit is False  # type: ignore[union-attr]

    assert_woken(program)


def test_what_could_not_be_claimed_is_looked_for_again(program: Program) -> None:
    """A worker that was woken for a row, and could not claim it, does not wait for its next poll."""
    failures = [0]

    def fail(_: object, statement: str, *__: object) -> None:
        if statement.startswith("UPDATE aldis_messages") and failures[0] == 0:
            failures[0] = 1
            raise sqlite3.OperationalError("disk I/O error")

    program.connect()

    with program.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        program.send(0)
        soon(lambda: program.got)
        drowsy(found)
        event.listen(program.engine, "do_execute", fail)
        program.send(1)
        soon(lambda: program.numbers() == [0, 1])

    assert failures == [1]


def test_a_rollback_wakes_nobody(postgresql_url: str, make_engine: MakeEngine) -> None:
    """A commit wakes workers, and a message that was rolled back is not received."""
    program = Program(make_engine(postgresql_url))
    program.connect()

    with program.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        program.send(0)
        soon(lambda: program.got)
        drowsy(found)

        with program.engine.connect() as connection, program.relay.using(connection):
            program.send(1)
            connection.rollback()
            program.send(2)
            connection.commit()

        soon(lambda: program.numbers() == [0, 2])


@pytest.mark.parametrize("notify", [True, False])
def test_whether_others_are_told_of_the_next_of_a_key(
    postgresql_url: str, make_engine: MakeEngine, notify: bool
) -> None:
    """A received row can free another row of its key: other workers are woken, unless notifications are off."""
    program = Program(make_engine(postgresql_url), notify=notify)
    program.connect(key="number")
    program.send(1)
    statements: list[str] = []
    event.listen(program.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    program.relay.drain()

    assert any("pg_notify" in statement for statement in statements) is notify


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_polling_alone(kind: str, request: pytest.FixtureRequest, make_engine: MakeEngine) -> None:
    """Without notifications, a worker polls at intervals."""
    program = Program(make_engine(request.getfixturevalue(f"{kind}_url")), notify=False)
    program.connect()

    with program.working(poll_s=0.2):
        for number in range(3):
            program.send(number)
            soon(lambda number=number: program.numbers() == [*range(number + 1)])  # type: ignore[misc]


class Nothing:
    """A database in which no row is due."""

    def look(self, work: object) -> dict[str, int]:
        return {}


def test_looks_become_rarer() -> None:
    """A worker that finds nothing polls at longer and longer intervals, up to its longest."""
    turns, nothing = FairScheduler(ReceiverRegistry(), 0.1), cast("Database", Nothing())
    pauses: list[float] = []

    for _ in range(6):
        turns.poll(nothing)
        pauses.append(round(turns._poll_at - turns._polled_at, 3))

    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]


def test_turns_that_have_heard_something() -> None:
    """A wake-up makes the scheduler poll at once, and after a claim the next poll comes soon."""
    turns = FairScheduler(ReceiverRegistry(), LONG_S)
    turns._poll_at = now = time.monotonic() + LONG_S
    assert (turns.should_poll(), turns.next_at(0.0)) == (False, now)

    turns.note_claimed()
    assert turns.next_at(0.0) < time.monotonic() + 1
    turns._poll_at = now
    turns.wake()
    assert (turns.should_poll(), turns.next_at(0.0)) == (True, 0.0)


def test_what_is_tried_again_is_looked_for_in_time(program: Program) -> None:
    """A worker sleeps no longer than until the next row is due."""

    def work(number: int) -> None:
        if program.relay.current().attempt == 1:
            raise ValueError

    program.connect(work=work, backoff=0.3)

    with program.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        drowsy(found)
        program.send(0)
        soon(lambda: len(program.got) == 2)


def test_listening_begins_again(
    postgresql_url: str,
    postgresql: Server,
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lost connection that listens is made again silently, and then wakes the worker for missed messages."""
    monkeypatch.setattr(listener, "_AGAIN_S", 0.05)
    caplog.set_level(logging.DEBUG, "aldis.relay")
    program = Program(make_engine(postgresql_url))
    program.connect()

    with program.working(poll_s=LONG_S, lease_s=LONG_S) as found:
        program.send(0)
        soon(lambda: program.got)
        drowsy(found)

        def is_lost() -> bool:
            postgresql.execute(END_LISTENING)  # Again and again, because it may not listen yet.
            return "The listener pauses for 0.05 s: " in caplog.text

        soon(is_lost)
        program.send(1)
        soon(lambda: program.numbers() == [0, 1])

    assert [record.name for record in caplog.records if record.levelno > logging.DEBUG] == []


def watchers() -> set[threading.Thread]:
    """Return the threads that listen to a database, including those of earlier tests that are just ending."""
    return {thread for thread in threading.enumerate() if thread.name == "aldis-listener"}


def test_a_watch_ends_with_its_worker(program: Program) -> None:
    """A worker that has ended has no thread that listens."""
    others = watchers()
    program.connect()

    with program.working():
        soon(lambda: watchers() - others)

    soon(lambda: not watchers() - others)


def test_what_cannot_be_watched_is_not(
    make_engine: MakeEngine, mariadb_url: str, postgresql_url: str, sqlite_url: str
) -> None:
    """A database in memory, an async engine and other databases have no thread that listens, and PostgreSQL has none if
    notifications are off.
    """
    others = watchers()
    awaited = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:")).sync_engine
    memory: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}

    for engine in (make_engine("sqlite://", **memory), awaited, make_engine(mariadb_url)):
        Listener(engine, listens=True, wake=lambda: None)

    Listener(make_engine(postgresql_url), listens=False, wake=lambda: None)

    assert watchers() <= others


# The main thread's own lines are interrupted here, thousands of times. This runs in a new process, because it could
# hang.
RUNG_ALL_THE_TIME = """
import signal
from aldis.relay.worker.wake import WakeEvent

bell, rung = WakeEvent(), 0

def ring(*_):
    global rung
    rung += 1
    bell.set()

signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)

while rung < 2000:
    bell.wait(0.0001)

signal.setitimer(signal.ITIMER_REAL, 0)
print("rung")
"""


def test_a_bell_is_rung_by_a_signal_at_any_moment() -> None:
    """A signal that comes just before, during or after a wait wakes the worker."""
    command = [sys.executable, "-c", RUNG_ALL_THE_TIME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=True)

    assert done.stdout == "rung\n"
