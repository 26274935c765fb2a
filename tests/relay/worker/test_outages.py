"""A database goes away and comes back, or refuses a worker's writes, while the worker runs."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import time
from queue import SimpleQueue
from threading import Event, current_thread, get_ident, main_thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import QueuePool, event, text
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from aldis import NamedSignal, Namespace
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage import database as _database
from aldis.relay.worker.worker import Exit, Settings, Worker
from tests.relay.programs.worker_program import LONG_S, SOON_S, Program, extending, number_sent, running, soon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.relay.conftest import MakeEngine, Server


AWAY = "The database does not work as expected. Trying again: "
BACK = "The database is back"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers try again soon."""
    monkeypatch.setattr("aldis.relay.worker.outage._PAUSES_S", (0.02, 0.2))


class Switch:
    """Turns a database of PostgreSQL off and on."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def execute(self, statement: str) -> None:
        """Run a statement on the server, with the database's name in it."""
        with self._server.engine.connect() as connection:
            connection.execute(text(statement.format(self._server.name)))

    def end_connections(self) -> bool:
        """End all connections."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'")
        return True

    def turn_off(self) -> None:
        """Forbid all connections."""
        self.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        self.end_connections()

    def turn_on(self) -> None:
        """Allow all connections."""
        self.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true")


@pytest.fixture
def switch(postgresql_url: str, postgresql: Server) -> Iterator[Switch]:
    """Return the switch of ``postgresql_program``'s database."""
    found = Switch(postgresql)
    yield found
    found.turn_on()


@pytest.fixture
def postgresql_program(postgresql_url: str, make_engine: MakeEngine) -> Program:
    """Return a program in PostgreSQL."""
    return Program(make_engine(postgresql_url))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log lines about the database."""
    return [line for line in caplog.messages if line.startswith("The database")]


def test_connections_that_end(postgresql_program: Program, switch: Switch) -> None:
    """R3: When a server ends connections again and again, no message is lost, and each has its effect once."""
    program = postgresql_program
    program.run(lambda db: db.exec_driver_sql("CREATE TABLE effects (number int)"))
    engine = program.engine.execution_options(pool_pre_ping=True)

    def work(number: int) -> None:
        with engine.begin() as connection:
            if program.relay.first_time(connection):
                connection.execute(text("INSERT INTO effects VALUES (:number)"), {"number": number})

    program.connect(work=work, backoff=0.01, max_attempts=1000)
    program.pile_up("work", 400)

    with program.working(lease_s=0.5, poll_s=0.05, batch=20) as found:
        for part in range(1, 9):
            soon(lambda part=part: len(program.got) >= part * 40)  # type: ignore[misc]
            switch.end_connections()

        soon(lambda: sum(found.worker.counts) and is_empty(program))

    numbers = program.run(lambda db: list(db.scalars(text("SELECT number FROM effects ORDER BY number"))))
    assert numbers == [*range(400)]


def is_empty(program: Program) -> bool:
    try:
        return not program.rows()
    except DBAPIError:  # The test's own connection was ended too.
        return False


def test_a_database_that_is_away_for_a_while(
    postgresql_program: Program, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    """R3: The worker logs once that the database is away and once that it is back, and goes on."""
    program = postgresql_program
    program.connect()

    with program.working(poll_s=0.05) as found:
        program.send(1)
        soon(lambda: program.got)
        switch.turn_off()
        # Until it has tried several times, at longer intervals. A connection that is just being made is ended too.
        soon(lambda: switch.end_connections() and found.worker.outage.pause_s > 0.1)
        assert found.exit is None
        switch.turn_on()
        program.engine.dispose()
        program.send(2)
        soon(lambda: program.numbers() == [1, 2])
        soon(lambda: BACK in caplog.messages)

    first, second = told(caplog)
    assert (first.startswith(AWAY), second) == (True, BACK)


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return the address of a server that does not exist, for asyncpg, which raises network errors unchanged."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"postgresql+asyncpg://aldis@127.0.0.1:{bound.getsockname()[1]}/aldis"


def test_a_server_that_is_not_there(nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    """R3: A worker waits for a server that refuses connections, whatever error the driver raises."""
    worker = Worker(Relay(create_async_engine(nobody)), Settings())

    with running(worker) as found:
        soon(lambda: told(caplog))
        soon(lambda: worker.outage.pause_s > 0.1)
        worker.stop()
        assert found.ended() is Exit.STOPPED

    assert [line.startswith(AWAY) for line in told(caplog)] == [True]


def test_a_send_to_a_server_that_is_not_there(nobody: str) -> None:
    """R1: A send to a missing server raises the send's error for a database that is away, after its waiting time."""
    relay = Relay(create_async_engine(nobody), wait_s=0.3)
    signal: NamedSignal[Any, ..., Any] = Namespace().declare(number_sent)
    signal.connect(lambda sender, *, number: None, weak=False, via=relay.durable("work"))
    began = time.monotonic()

    with pytest.raises(OperationalError, match="onnect"):
        asyncio.run(signal.send_async("sender", number=1))

    assert time.monotonic() - began > 0.3


def test_a_worker_that_has_nothing_to_do_does_not_take_its_database_for_back(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """R3: A worker that neither reads nor writes does not report that its database is back when it is woken."""
    entered, may_end = Event(), Event()

    def work(number: int) -> None:
        entered.set()
        may_end.wait(LONG_S)

    program.connect(work=work)
    program.pile_up("work", 2)
    failing = Failing(program)

    with program.working(concurrency=1, batch=1) as found:
        assert entered.wait(SOON_S)
        failing.begin()
        soon(extending(found.worker, lambda: found.worker.outage.is_away))
        found.worker.leases.renew_at = time.monotonic() + 60  # The worker has no room, and no lease to renew.

        for _ in range(3):
            failing.has_failed.clear()
            found.worker.wake_event.set()
            assert failing.has_failed.wait(SOON_S)

        assert found.worker.outage.is_away
        failing.end()
        may_end.set()
        soon(lambda: program.rows() == 0)

    first, second = told(caplog)
    assert (first.startswith(AWAY), second) == (True, BACK)


def test_a_database_that_takes_no_changes(postgresql_program: Program, switch: Switch) -> None:
    """R3: A worker also waits for a server that has become a read-only replica."""
    program = postgresql_program
    program.connect()
    program.pile_up("work", 3)
    switch.execute("ALTER DATABASE {} SET default_transaction_read_only = on")
    program.engine.dispose()

    with program.working(poll_s=0.05) as found:
        soon(lambda: found.worker.outage.is_away)
        switch.execute("ALTER DATABASE {} RESET default_transaction_read_only")
        soon(lambda: sorted(program.numbers()) == [0, 1, 2])


def test_a_worker_may_begin_before_its_database(
    program: Program, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that finds no database at its start waits for it."""
    program.connect()
    program.pile_up("work", 1)
    program.engine.dispose()
    file, moved = tmp_path / "test.sqlite", tmp_path / "moved.sqlite"
    file.rename(moved)
    file.symlink_to(tmp_path / "nowhere" / "test.sqlite")

    with program.working() as found:
        soon(lambda: told(caplog))
        assert not found.worker.is_ready
        moved.replace(file)  # In one step: SQLite makes an empty file if it finds none.
        soon(lambda: program.numbers() == [0])


def test_a_worker_that_waits_for_its_database_can_be_stopped(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A worker can be stopped while it waits for its database, whatever the sends' waiting time is."""
    program = Program(make_engine(sqlite_url), wait_s=3600)
    program.connect()
    program.pile_up("work", 1)
    failing = Failing(program, "unable to open database file", 14)

    with program.working(poll_s=0.05) as found:
        failing.begin()
        soon(lambda: found.worker.outage.is_away)
        found.worker.stop()
        assert found.ended() is Exit.STOPPED

    failing.end()


class Fault(sqlite3.OperationalError):
    """An error as SQLite raises it."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what)
        self.sqlite_errorcode = code


class Failing:
    """Lets the driver fail in other threads than the test's, while it is on.

    :param reads: whether reads fail too.
    :ivar has_failed: set when a statement has failed.
    """

    def __init__(self, program: Program, what: str = "disk I/O error", code: int = 10, *, reads: bool = True) -> None:
        self.has_failed = Event()
        self._error = what, code
        self._is_on = False
        self._reads = reads
        self._thread = get_ident()
        event.listen(program.engine, "do_execute", self._fail)

    def _fail(self, _: object, statement: str, *__: object) -> None:
        is_hit = self._reads or statement.startswith(("INSERT", "UPDATE", "DELETE"))

        if self._is_on and is_hit and get_ident() != self._thread:
            self.has_failed.set()
            raise Fault(*self._error)

    def begin(self) -> None:
        """Fail from now on."""
        self._is_on = True

    def end(self) -> None:
        """Fail no more."""
        self._is_on = False


@pytest.mark.usefixtures("claims_ahead")
def test_a_stop_without_a_database(program: Program) -> None:
    """A worker that is stopped while the database is away begins no receiver, waits, and logs that rows are left."""
    entered, may_end = Event(), Event()

    def work(number: int) -> None:
        if number == 200:
            entered.set()
            may_end.wait(LONG_S)

    program.connect(work=work)
    program.pile_up("work", 500)
    failing = Failing(program)

    with program.working(concurrency=1, batch=50, grace_s=0.5) as found:
        assert entered.wait(SOON_S)
        soon(lambda: program.rows() == 300 and program.in_flight() > 25)
        failing.begin()
        soon(extending(found.worker, lambda: found.worker.outage.is_away))
        found.worker.stop()
        soon(lambda: found.worker.settler.pending)
        may_end.set()
        assert found.ended() is Exit.UNFINISHED

    failing.end()
    assert program.numbers() == [*range(201)]
    assert program.rows() == 300


def test_a_stop_is_over_when_the_database_is_back(program: Program) -> None:
    """If the database comes back in time, outcomes are written, and messages that were not begun are released."""
    entered, may_end = Event(), Event()

    def work(number: int) -> None:
        entered.set()
        may_end.wait(LONG_S)

    program.connect(work=work)
    program.send(1)
    failing = Failing(program)

    with program.working(concurrency=1) as found:
        assert entered.wait(SOON_S)
        failing.begin()
        soon(extending(found.worker, lambda: found.worker.outage.is_away))
        found.worker.stop()
        may_end.set()
        soon(lambda: found.worker.settler.pending)
        failing.end()
        assert found.ended() is Exit.STOPPED

    assert program.rows() == 0


def test_a_worker_whose_disk_is_full_forgets_nothing(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """R3: A worker on a full disk writes the outcomes when there is space again, and no message is received twice."""
    entered, go_on = Event(), Event()

    def work(number: int) -> None:
        entered.set()
        go_on.wait(LONG_S)

    program.connect(work=work)
    program.send(1, 2, 3)
    failing = Failing(program, "database or disk is full", 13, reads=False)

    with program.working(concurrency=3) as found:
        soon(lambda: program.in_flight() == 3)
        failing.begin()
        go_on.set()
        soon(lambda: found.worker.outage.is_away)

        for _ in range(3):
            failing.has_failed.clear()
            found.worker.wake_event.set()
            assert failing.has_failed.wait(SOON_S)

        failing.end()
        soon(lambda: program.rows() == 0)

    assert sorted(program.numbers()) == [1, 2, 3]
    assert found.worker.counts == DrainCounts(done=3)
    assert told(caplog)[-1] == BACK


def test_the_time_of_receivers_ends_without_a_database(program: Program) -> None:
    """The time of receivers also ends while the database is away."""
    entered, interrupted, pause = Event(), Event(), Event()

    def work(number: int) -> None:
        entered.set()

        try:
            while True:
                pause.wait(0.001)
        except TimeoutError:
            interrupted.set()

    program.connect(work=work, timeout_s=1)
    program.send(1)
    failing = Failing(program)

    with program.working(concurrency=1, lease_s=0.5):
        assert entered.wait(SOON_S)
        failing.begin()
        assert interrupted.wait(SOON_S)
        failing.end()
        soon(lambda: program.rows() == 0)


def test_signs_of_life_need_no_database(program: Program) -> None:
    """A worker gives signs of life while the database is away, even with outcomes to write, so that a supervisor need
    not start another worker.
    """
    beats: SimpleQueue[Worker] = SimpleQueue()
    entered, go_on = Event(), Event()

    def work(number: int) -> None:
        entered.set()
        go_on.wait(LONG_S)

    program.connect(work=work)
    program.send(1)
    failing = Failing(program)

    with running(Worker(program.relay, Settings(lease_s=0.5), beat=beats.put)) as found:
        assert entered.wait(SOON_S)
        failing.begin()
        go_on.set()
        soon(lambda: found.worker.outage.is_away)

        while not beats.empty():
            beats.get()

        beats.get(timeout=SOON_S)
        beats.get(timeout=SOON_S)
        assert found.worker.outage.is_away
        failing.end()
        soon(lambda: program.rows() == 0)


def test_a_drain_is_not_over_when_claims_fail(program: Program) -> None:
    """R3: A worker that drains does not take a read-only database for an empty one."""
    failures = [0]

    def fail(_: object, statement: str, *__: object) -> None:
        if statement.startswith("UPDATE aldis_messages") and failures[0] < 3:
            failures[0] += 1
            raise Fault("disk I/O error", 10)

    program.connect()
    program.pile_up("work", 3)
    event.listen(program.engine, "do_execute", fail)

    with program.working(drains=True) as found:
        found.ended()

    assert (failures, program.rows()) == ([3], 0)


def test_others_that_write_for_long(
    program: Program, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits for other writers for long logs nothing, because nothing is wrong, and goes on waiting."""
    monkeypatch.setattr(_database, "_BUSY_IN_WORKERS_S", 0.1)
    program.connect()
    busy = Failing(program, "database is locked", 5)

    with program.working(poll_s=0.05) as found:
        soon(lambda: found.worker.is_ready)
        busy.begin()
        program.pile_up("work", 1)

        for _ in range(3):
            busy.has_failed.clear()
            assert busy.has_failed.wait(SOON_S)

        assert not found.worker.outage.is_away
        busy.end()
        soon(lambda: program.numbers() == [0])

    assert told(caplog) == []


def test_a_pool_that_has_no_connection_free(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A worker needs no connection of the program's pool; a drain needs one, and says so."""
    program = Program(make_engine(sqlite_url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.1))
    program.connect()
    program.pile_up("work", 1)

    with program.engine.connect():
        with pytest.raises(PoolTimeoutError, match="QueuePool limit"):
            program.relay.drain()

        with running(program.worker()):
            soon(lambda: program.numbers() == [0])


class Stuck(QueuePool):
    """A pool that a worker cannot empty."""

    def dispose(self) -> None:
        """Close the connections, and fail in threads that are not the test's."""
        super().dispose()

        if current_thread() is not main_thread():
            raise OSError("stuck")


def test_connections_that_cannot_be_closed(
    sqlite_url: str, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver that cannot close its broken connections does not end the worker."""
    caplog.set_level(logging.DEBUG, "aldis.relay")
    program = Program(make_engine(sqlite_url, poolclass=Stuck))
    program.connect()
    failing = Failing(program)
    failing.begin()

    with program.working(poll_s=0.05):
        soon(lambda: "The connections could not be closed" in caplog.text)
        failing.end()
        program.send(1)
        soon(lambda: program.rows() == 0)


REFUSAL = """
CREATE TRIGGER refuse BEFORE INSERT ON aldis_dead_letters WHEN NEW.receiver = 'broken'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""


def test_an_outcome_that_is_refused_holds_up_no_other(
    sqlite_url: str, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """An outcome that the database refuses is reported, and the outcomes of other messages are written."""
    program = Program(make_engine(sqlite_url))

    def fail(_: int) -> None:
        raise LookupError

    program.connect("broken", fail, max_attempts=1)
    program.connect("sound")
    program.run(lambda connection: connection.execute(text(REFUSAL)))
    program.send(1, 2)

    with program.working(lease_s=1), caplog.at_level(logging.ERROR, "aldis.relay"):
        soon(lambda: {*program.numbers("sound")} == {1, 2} and program.rows() == 2, "the sound ones' end")
        soon(lambda: "refuses the outcome of message" in caplog.text, "the report")
        program.run(lambda connection: connection.execute(text("DROP TRIGGER refuse")))
        soon(lambda: len(program.relay.dead_letters()) == 2, "the deaths")

    assert '"number"' not in caplog.text


def test_a_lock_that_is_held_for_long_is_no_trouble(
    sqlite_url: str, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another writer may hold a lock for longer than a worker's waiting time; the worker goes on after it."""
    monkeypatch.setattr(_database, "_BUSY_IN_WORKERS_S", 0.05)
    program = Program(make_engine(sqlite_url, connect_args={"timeout": 0.01}))
    program.connect()
    program.send(1)

    with program.engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")

        with program.working(poll_s=0.02):
            began = time.monotonic()
            soon(lambda: time.monotonic() > began + 0.5)  # Several times the waiting time.
            assert program.got == []
            other.rollback()
            soon(lambda: program.rows() == 0)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
