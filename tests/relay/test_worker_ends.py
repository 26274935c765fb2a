"""The worker's stop, the leases of what it claimed, and the limits of receivers' time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from aldis.exceptions import ReceiverTimeoutError
from aldis.relay.storage.rows import DrainCounts, Row
from aldis.relay.storage.tables import messages
from aldis.relay.worker.consumer import DONE
from aldis.relay.worker.executor import ReceiverJob, ThreadExecutor
from aldis.relay.worker.worker import Exit

from .works import Works, run_program, running, soon

if TYPE_CHECKING:
    from .conftest import MakeEngine

ROW = Row(1, "m1", "number-sent", "work", 1, None, "{}", None, None, 0, 1, 0, "token")


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


class Gate:
    """Work that begins, and ends when it may."""

    def __init__(self, number: int | None = None) -> None:
        self.is_entered = Event()
        self.may_end = Event()
        self.number = number

    def __call__(self, number: int) -> None:
        if self.number in (None, number):
            self.is_entered.set()
            self.may_end.wait(30)


# Stops.


def test_a_stop_lets_receivers_end(works: Works) -> None:
    """A worker that is stopped ends what it has begun, and says that all is in order."""
    gate = Gate()
    works.connect(work=gate)
    works.send(1)

    with works.working() as found:
        assert gate.is_entered.wait(10)
        found.worker.stop()
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert (works.rows(), found.worker.counts) == (0, DrainCounts(done=1))


def test_a_stop_is_heeded_at_once(works: Works) -> None:
    """Whenever a worker is stopped, it ends as soon as it can: also at the moment at which a receiver ends."""
    workers = [works.worker(concurrency=1, lease_s=60, drains=True) for _ in range(20)]  # With nothing that wakes them.
    works.connect(work=lambda number: workers[number].stop())

    for number, worker in enumerate(workers):
        works.send(number)

        with running(worker) as found:
            began = time.monotonic()
            assert found.ended() is Exit.STOPPED
            assert time.monotonic() - began < 10


def test_a_stop_gives_back_what_was_not_begun(works: Works) -> None:
    """R3: What was claimed and not begun is given back at once, and the claim is not counted as an attempt."""
    gate = Gate(200)
    works.connect(work=gate)
    works.pile_up("work", 500)

    with works.working(concurrency=1, batch=50) as found:
        assert gate.is_entered.wait(10)
        soon(lambda: works.rows() == 300 and works.in_flight() > 25)
        found.worker.stop()
        soon(lambda: works.in_flight() == 1)
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert works.numbers() == [*range(201)]
    assert works.attempts() == [0] * 299
    assert found.worker.counts.done == 201
    assert found.worker.counts.released > 0


def test_a_stop_gives_back_a_row_that_is_to_run_alone(works: Works) -> None:
    """R3: That goes for a row too which waits until nothing else runs, for it has killed workers."""
    gate = Gate(0)
    works.connect(work=gate)
    works.pile_up("work", 1)

    with works.working(concurrency=4) as found:
        assert gate.is_entered.wait(10)
        works.pile_up("work", 1, crashes=2, attempts=2)
        soon(lambda: works.in_flight() == 2)
        found.worker.stop()
        soon(lambda: works.in_flight() == 1)
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert (works.numbers(), works.attempts()) == ([0], [2])


def test_a_stop_waits_for_so_long_and_no_longer(works: Works) -> None:
    """A receiver that does not end in time is left behind, and the worker says that it was."""
    gate = Gate()
    works.connect(work=gate)
    works.send(1)

    with works.working(grace_s=0.1) as found:
        assert gate.is_entered.wait(10)
        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.may_end.set()
    assert (works.rows(), works.in_flight()) == (1, 1)


def test_a_second_stop_ends_at_once(works: Works) -> None:
    """A second stop does not wait for receivers; one that comes within a second is taken to be the first."""
    gate = Gate()
    works.connect(work=gate)
    works.send(1)

    with works.working(grace_s=60) as found:
        assert gate.is_entered.wait(10)
        found.worker.stop()
        found.worker.stop()
        assert not gate.may_end.wait(1.1)
        assert found.exit is None
        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.may_end.set()


def test_what_is_taken_back_is_not_run() -> None:
    """Each job is run or taken back, whatever threads do meanwhile, and taking back never waits."""
    ran: list[ReceiverJob] = []

    for _ in range(300):
        runners = ThreadExecutor(2, lambda _: DONE, ran.append)
        jobs = [ReceiverJob(ROW, float("inf"), lambda: None) for _ in range(5)]

        for job in jobs:
            runners.put(job)

        back = runners.take_back()
        runners.end()
        soon(lambda: len(ran) + len(back) == 5)  # noqa: B023
        assert {*ran, *back} == {*jobs}
        ran.clear()


def test_the_threads_of_a_worker_end_with_it(works: Works) -> None:
    """No thread is left when a worker has ended, or could not begin."""
    before = threading.active_count()
    works.connect()

    with works.working(concurrency=3):
        assert threading.active_count() > before + 3

    soon(lambda: threading.active_count() == before)

    works.run(messages.drop)

    with pytest.raises(Exception, match="has no table aldis_messages"), works.working(concurrency=3):
        pass

    soon(lambda: threading.active_count() == before)


# Leases.


def test_a_receiver_may_run_for_longer_than_its_lease(works: Works) -> None:
    """R3: The lease of a receiver that runs is extended, so nobody else gets its message."""
    gate = Gate()
    works.connect(work=gate)
    works.send(1)

    with works.working(lease_s=0.5, poll_s=0.05), works.working(lease_s=0.5, poll_s=0.05):
        assert gate.is_entered.wait(10)
        time.sleep(1.3)  # More than two leases. It is what this is about.
        assert works.in_flight() == 1
        gate.may_end.set()
        soon(lambda: works.rows() == 0)

    assert works.got == [("work", 1, 1)]


def test_a_late_word_on_a_lost_lease_does_nothing(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    """R3: What a worker says of a row whose lease it has lost changes nothing; both are logged and counted."""
    gate = Gate()
    works.connect(work=gate)
    works.send(1)

    with works.working(lease_s=0.5) as found:
        assert gate.is_entered.wait(10)
        works.run(lambda connection: connection.execute(update(messages).values(token="another's")))
        soon(lambda: "1 leases were lost to other workers" in caplog.text)
        gate.may_end.set()
        soon(lambda: found.worker.counts.lost)

    assert (works.rows(), found.worker.counts) == (1, DrainCounts(lost=1))
    assert "1 messages ended after their lease had expired" in caplog.text


def test_what_was_lost_is_not_begun(works: Works) -> None:
    """R3: A row that waits in a worker which has lost its lease is not received there: another has it."""
    gate = Gate(200)
    works.connect(work=gate)
    works.pile_up("work", 500)

    with works.working(concurrency=1, batch=50, lease_s=0.5) as found:
        assert gate.is_entered.wait(10)
        soon(lambda: works.rows() == 300 and works.in_flight() > 25)
        claimed = works.in_flight()
        works.run(lambda connection: connection.execute(update(messages).values(token="another's", due_ms=2**50)))
        soon(lambda: all(not job.held_until for job in [*found.worker.jobs.values()]))
        gate.may_end.set()
        soon(lambda: found.worker.counts.lost == claimed)

    assert works.numbers() == [*range(201)]
    assert works.rows() == 300


def test_what_is_not_surely_held_is_not_begun() -> None:
    """R3: Nor is it when the lease may be over by this machine's clock: the database could not be asked for long."""
    ended: list[ReceiverJob] = []
    job = ReceiverJob(ROW, time.monotonic() - 1, lambda: None)
    runners = ThreadExecutor(1, lambda _: pytest.fail("was run"), ended.append)
    runners.put(job)
    soon(lambda: ended)
    runners.end()

    assert ended == [job]
    assert job.outcome is None


# Limits of time.


def busy(number: int) -> None:
    """Runs Python, for ever."""
    while True:
        time.sleep(0.001)


def test_a_receiver_that_takes_too_long_is_interrupted(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    """A sync receiver gets an exception when its time is over, soon, whatever else the worker waits for."""
    caught: list[type] = []

    def work(number: int) -> None:
        try:
            busy(number)
        except TimeoutError as error:
            caught.append(type(error))
            raise

    works.connect(work=work, timeout_s=0.2, max_attempts=1)
    works.send(1)

    with works.working(concurrency=1, lease_s=60, drains=True):  # With nothing else that wakes it.
        took_s = soon(works.relay.dead_letters)

    (letter,) = works.relay.dead_letters()
    assert caught == [ReceiverTimeoutError]
    assert "raised ReceiverTimeoutError, in the last of 1 attempts" in letter.reason
    assert took_s < 5


def test_each_receiver_has_its_own_time(works: Works) -> None:
    """Receivers that run at the same time are interrupted each at its time, and those in time are not."""
    gate = Gate()
    works.connect("short", busy, timeout_s=0.2, max_attempts=1)
    works.connect("long", gate, timeout_s=60)
    works.send(1)

    with works.working(concurrency=2, poll_s=60, lease_s=60) as found:
        assert gate.is_entered.wait(10)
        soon(works.relay.dead_letters)
        gate.may_end.set()
        soon(lambda: found.worker.counts.done)

    assert found.worker.counts == DrainCounts(done=1, dead=1)


def test_a_receiver_may_make_do_with_its_time(works: Works) -> None:
    """A receiver that catches the exception and returns has received its message."""

    def work(number: int) -> None:
        with pytest.raises(ReceiverTimeoutError):
            busy(number)

    works.connect(work=work, timeout_s=0.05)
    works.send(1)

    with works.working():
        soon(lambda: works.rows() == 0)

    assert works.got == [("work", 1, 1)]


def test_time_may_be_over_at_any_line(works: Works) -> None:
    """Whenever the time of receivers is over, each ends in one of two ways, and no thread of the worker is hurt."""

    def work(number: int) -> None:
        until = time.monotonic() + 0.002 + number % 10 * 0.00002

        while time.monotonic() < until:
            pass

    works.connect(work=work, timeout_s=0.002, max_attempts=1)
    works.pile_up("work", 400)

    with works.working(concurrency=2, batch=20) as found:
        soon(lambda: works.rows() == 0)
        works.signal.connect(lambda _, number: None, weak=False)
        soon(lambda: found.worker.counts.done + found.worker.counts.dead == 400)
        assert sum(thread.name.startswith("aldis-worker") for thread in threading.enumerate()) >= 2

    assert found.worker.counts.dead == len(works.relay.dead_letters(limit=1000)) > 0


def test_an_async_receiver_that_takes_too_long_is_cancelled(works: Works) -> None:
    """An async receiver is cancelled when its time is over, and has failed by it."""
    cancelled: list[bool] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)

    works.connect_async(work, timeout_s=0.1, max_attempts=1)
    works.send(1)

    with works.working(concurrency=1, poll_s=60, lease_s=60):
        soon(works.relay.dead_letters)

    (letter,) = works.relay.dead_letters()
    assert cancelled == [True]
    assert "raised ReceiverTimeoutError" in letter.reason


def test_a_timeout_of_the_receivers_own_is_its_failure(works: Works) -> None:
    """An async receiver's own TimeoutError is not taken for the end of its time."""

    async def work(number: int) -> None:
        raise TimeoutError

    works.connect_async(work, timeout_s=30, max_attempts=1)
    works.send(1)

    with works.working():
        soon(works.relay.dead_letters)

    assert "raised TimeoutError" in works.relay.dead_letters()[0].reason


def test_what_cannot_be_interrupted_loses_its_lease(sqlite_url: str) -> None:
    """R3: A receiver that is stuck outside of Python keeps its lease until its time is over. Then another gets the
    message, and what the first one says in the end does nothing.
    """
    said = json.loads(run_program("stuck", sqlite_url))

    assert said == {"attempts": [1, 2], "tally": {"done": 1, "lost": 1}}


def test_a_worker_that_is_stopped_limits_time_still(works: Works) -> None:
    """The time of receivers ends while the worker waits for them to end."""
    gate = Gate()

    def work(number: int) -> None:
        gate.is_entered.set()
        busy(number)

    works.connect(work=work, timeout_s=0.5)
    works.send(1)

    with running(works.worker(concurrency=1, grace_s=60, lease_s=60)) as found:
        assert gate.is_entered.wait(10)
        found.worker.stop()
        assert found.ended() is Exit.STOPPED

    assert found.worker.counts.failed == 1
