"""A receiver that hangs blocks its own thread, and no other part of the worker."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from aldis.relay import DrainCounts, ReceiverTimeoutError
from tests.relay.programs.worker_program import LONG_S, SOON_S, Program, extending, hanging, soon

if TYPE_CHECKING:
    from tests.relay.conftest import MakeEngine


def test_receivers_that_hang_cost_their_threads_and_no_more(program: Program, gate: Event) -> None:
    """R3: Receivers that hang after their time do not block a poison message, which runs alone, or the messages after
    it.
    """
    program.connect("hangs", hanging(gate), timeout_s=0.2, max_attempts=1)
    program.connect("sound")

    with program.working(concurrency=3) as found:
        program.pile_up("hangs", 2)
        soon(lambda: sum(job.is_late for job in [*found.worker.jobs.values()]) == 2, "two that are late")
        program.pile_up("sound", 1, crashes=2)
        soon(lambda: program.numbers("sound") == [0], "the one that runs alone")
        program.pile_up("sound", 20)
        soon(lambda: len(program.numbers("sound")) == 21, "the others")
        gate.set()


def test_a_receiver_that_locks_others_out_is_interrupted(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R3: A worker that waits for another writer of SQLite still ends the time of receivers, whatever the engine's
    timeout.
    """
    program = Program(make_engine(sqlite_url, connect_args={"timeout": 60}))
    is_locked = Event()
    interrupted: list[bool] = []

    def lock(_: int) -> None:
        give_up_at = time.monotonic() + 40  # Before the end of the engine's own timeout.

        try:
            with program.engine.connect() as connection:
                connection.execute(text("BEGIN IMMEDIATE"))
                is_locked.set()

                while time.monotonic() < give_up_at:
                    time.sleep(0.005)
        except ReceiverTimeoutError:
            interrupted.append(True)
        finally:
            is_locked.set()

    program.connect("locks", lock, timeout_s=2, max_attempts=1)
    program.connect("sound", lambda _: is_locked.wait(SOON_S) and None)
    program.pile_up("locks", 1)
    program.pile_up("sound", 1)

    # The worker must write the sound receiver's outcome while the other one locks the file.
    with program.working(concurrency=2):
        soon(lambda: program.rows() == 0)

    assert interrupted


@pytest.mark.usefixtures("claims_ahead")
def test_what_was_claimed_ahead_is_left_when_receivers_hang(program: Program, gate: Event) -> None:
    """R3: Messages that wait for a blocked thread are released, and another worker receives them meanwhile."""
    program.connect(work=lambda number: None if number != 60 else gate.wait(LONG_S) and None)
    program.pile_up("work", 100)

    with program.working(concurrency=1, batch=50, poll_s=0.02) as found:
        soon(lambda: 60 in program.numbers(), "the one that hangs")
        soon(extending(found.worker, lambda: found.worker.counts.released), "the others given back")

        with program.working(poll_s=0.02):
            soon(lambda: program.rows() == 1, "the others")

        gate.set()
        soon(lambda: program.rows() == 0)

    assert sorted(program.numbers()) == [*range(100)]


def test_async_receivers_do_not_wait_for_each_other(program: Program) -> None:
    """An async receiver that drains the relay, and would block its own loop, gets an error that says so."""

    async def work(number: int) -> None:
        if number == 1:
            program.send(2)
            assert program.relay.drain() == DrainCounts(failed=1)

    program.connect_async(work)
    program.send(1)

    assert program.relay.drain() == DrainCounts(done=1)
    (status,) = program.relay.status()
    assert status.failure is not None
    assert status.failure.endswith("raised RuntimeError")
    assert program.numbers() == [1]
