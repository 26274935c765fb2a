"""How a worker stops: it ends what it has begun, and releases the rest."""

from __future__ import annotations

import threading

import pytest

from aldis.relay import DrainCounts
from aldis.relay.storage.rows import Row
from aldis.relay.storage.tables import messages
from aldis.relay.worker import wake
from aldis.relay.worker.consumer import DONE
from aldis.relay.worker.executor import ReceiverJob, ThreadExecutor
from aldis.relay.worker.worker import Exit
from tests.relay.programs.worker_program import LONG_S, SOON_S, Gate, Program, running, soon

ROW = Row(1, "m1", "number-sent", "work", 1, None, "{}", None, None, 0, 1, 0, "token")


def test_a_stop_lets_receivers_end(program: Program) -> None:
    """A worker that is stopped ends the receivers that it has begun, and its exit says that all is in order."""
    gate = Gate()
    program.connect(work=gate)
    program.send(1)

    with program.working() as found:
        assert gate.is_entered.wait(SOON_S)
        found.worker.stop()
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert (program.rows(), found.worker.counts) == (0, DrainCounts(done=1))


@pytest.mark.usefixtures("unwoken")
def test_a_stop_is_heeded_at_once(program: Program) -> None:
    """A worker that is stopped ends as soon as it can, also if the stop comes when a receiver ends."""
    workers = [program.worker(concurrency=1, lease_s=LONG_S, drains=True) for _ in range(20)]
    program.connect(work=lambda number: workers[number].stop())

    for number, worker in enumerate(workers):
        program.send(number)

        with running(worker) as found:
            assert found.ended() is Exit.STOPPED


@pytest.mark.usefixtures("claims_ahead")
def test_a_stop_gives_back_what_was_not_begun(program: Program) -> None:
    """R3: Claimed messages that were not begun are released at once, and their claim does not count as an attempt."""
    gate = Gate(200)
    program.connect(work=gate)
    program.pile_up("work", 500)

    with program.working(concurrency=1, batch=50) as found:
        assert gate.is_entered.wait(SOON_S)
        soon(lambda: program.rows() == 300 and program.in_flight() > 25)
        found.worker.stop()
        soon(lambda: program.in_flight() == 1)
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert program.numbers() == [*range(201)]
    assert program.attempts() == [0] * 299
    assert found.worker.counts.done == 201
    assert found.worker.counts.released > 0


def test_a_stop_waits_for_so_long_and_no_longer(program: Program) -> None:
    """A receiver that does not end in time is left behind, and the worker's exit says so."""
    gate = Gate()
    program.connect(work=gate)
    program.send(1)

    with program.working(grace_s=0.1) as found:
        assert gate.is_entered.wait(SOON_S)
        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.may_end.set()
    assert (program.rows(), program.in_flight()) == (1, 1)


def test_a_second_stop_ends_at_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stop does not wait for receivers; a stop within a second of the first counts as the first."""
    gate = Gate()
    program.connect(work=gate)
    program.send(1)

    with program.working(grace_s=LONG_S) as found:
        assert gate.is_entered.wait(SOON_S)
        monkeypatch.setattr(wake, "_SAME_STOP_S", LONG_S)
        found.worker.stop()
        found.worker.stop()
        assert not found.worker._is_over()
        monkeypatch.setattr(wake, "_SAME_STOP_S", -1.0)
        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.may_end.set()


def test_what_is_taken_back_is_not_run() -> None:
    """Each job is either run or taken back, whatever threads do meanwhile, and taking back never waits."""
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


def test_the_threads_of_a_worker_end_with_it(program: Program) -> None:
    """No thread is left when a worker has ended or could not begin."""
    others = {*threading.enumerate()}
    program.connect()

    def left() -> set[threading.Thread]:
        return {*threading.enumerate()} - others

    with program.working(concurrency=3):
        assert len(left()) > 3

    soon(lambda: not left())
    program.run(messages.drop)

    with pytest.raises(Exception, match="has no table aldis_messages"), program.working(concurrency=3):
        pass

    soon(lambda: not left())
