"""A poison message, which may have killed its workers, runs alone."""

from __future__ import annotations

from threading import Barrier, Event, Lock

import pytest

from aldis.relay.worker import scheduler
from aldis.relay.worker.worker import Exit
from tests.relay.programs.worker_program import LONG_S, SOON_S, Gate, Program, hanging, soon


def test_a_row_that_runs_alone_and_hangs(program: Program, gate: Event) -> None:
    """R3: When the time of a poison message that hangs is over, other messages run beside it."""
    program.connect("hangs", hanging(gate), timeout_s=0.2, max_attempts=1)
    program.connect("sound")
    program.pile_up("hangs", 1, crashes=2)

    with program.working(concurrency=2):
        soon(lambda: program.numbers("hangs"))
        program.pile_up("sound", 3)
        soon(lambda: len(program.numbers("sound")) == 3, "the others")
        gate.set()


def test_a_row_that_is_to_run_alone_does_not_wait_for_ever(
    program: Program, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: If another receiver takes long, the poison message is left to another worker, and this worker goes on."""
    monkeypatch.setattr(scheduler, "_ALONE_S", 0.2)
    program.connect("long", lambda _: gate.wait(LONG_S) and None)
    program.connect("poison")
    program.connect("sound")

    with program.working(concurrency=2, lease_s=3) as found:
        program.pile_up("long", 1)
        soon(lambda: program.numbers("long"))
        program.pile_up("poison", 1, crashes=2)
        soon(lambda: found.worker.counts.waiting, "the end of its patience")
        program.pile_up("sound", 5)
        soon(lambda: len(program.numbers("sound")) == 5, "the others")
        assert program.numbers("poison") == []
        gate.set()
        soon(lambda: program.numbers("poison") == [0], "its turn")


def test_a_row_that_killed_two_workers_runs_alone(program: Program) -> None:
    """A poison message runs while no other message runs, so that it cannot kill their receivers."""
    lock, meeting = Lock(), Barrier(2)
    to_meet = {0, 1}
    running: set[int] = set()
    together: list[set[int]] = []

    def work(number: int) -> None:
        with lock:
            running.add(number)
            together.append(set(running))
            meets = number in to_meet
            to_meet.discard(number)

        if meets:
            meeting.wait(SOON_S)  # Other messages run side by side.

        with lock:
            running.discard(number)

    program.connect(work=work, max_attempts=1)
    program.pile_up("work", 20)
    program.pile_up("work", 3, crashes=2, payload='{"number": 100}')
    program.pile_up("work", 20)

    with program.working(concurrency=4, batch=10, poll_s=LONG_S, lease_s=LONG_S):
        soon(lambda: program.rows() == 0)

    assert [found for found in together if 100 in found] == [{100}] * 3
    assert program.relay.dead_letters() == []


def test_a_row_that_is_to_run_alone_waits_for_others(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: A poison message begins when the receivers that ran before it have ended."""
    monkeypatch.setattr(scheduler, "_ALONE_S", LONG_S)
    gate = Gate(0)
    program.connect(work=gate)
    program.pile_up("work", 1)

    with program.working(concurrency=4):
        assert gate.is_entered.wait(SOON_S)
        program.pile_up("work", 1, crashes=2, payload='{"number": 7}')
        soon(lambda: program.in_flight() == 2)
        assert program.numbers() == [0]
        gate.may_end.set()
        soon(lambda: program.numbers() == [0, 7])


@pytest.mark.usefixtures("unwoken")
def test_a_row_that_is_alone_begins_at_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poison message begins at once if no other message runs."""
    monkeypatch.setattr(scheduler, "_ALONE_S", LONG_S)
    program.connect()
    program.pile_up("work", 3, crashes=2)

    with program.working(lease_s=LONG_S, drains=True) as found:
        found.ended()

    assert (program.rows(), program.numbers()) == (0, [0, 1, 2])


def test_a_stop_gives_back_a_row_that_is_to_run_alone(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: A worker that stops releases a poison message that waits for the others' end."""
    monkeypatch.setattr(scheduler, "_ALONE_S", LONG_S)
    gate = Gate(0)
    program.connect(work=gate)
    program.pile_up("work", 1)

    with program.working(concurrency=4) as found:
        assert gate.is_entered.wait(SOON_S)
        program.pile_up("work", 1, crashes=2, attempts=2)
        soon(lambda: program.in_flight() == 2)
        found.worker.stop()
        soon(lambda: program.in_flight() == 1)
        gate.may_end.set()
        assert found.ended() is Exit.STOPPED

    assert (program.numbers(), program.attempts()) == ([0], [2])
