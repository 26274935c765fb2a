"""R3: a lease is renewed while its receiver runs, and a worker whose lease ended can no longer change the message."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from aldis.relay import DrainCounts
from aldis.relay.storage.rows import Row
from aldis.relay.storage.tables import messages
from aldis.relay.worker.executor import ReceiverJob, ThreadExecutor
from aldis.relay.worker.worker import Exit
from tests.relay.programs.worker_program import LONG_S, SOON_S, Gate, Program, extending, soon

if TYPE_CHECKING:
    from tests.relay.conftest import MakeEngine


LEASE_S = 3.0
"""Short enough to wait for its end, and long enough that a worker on a busy machine renews it in time."""

ROW = Row(1, "m1", "number-sent", "work", 1, None, "{}", None, None, 0, 1, 0, "token")


def outlast_lease(program: Program, lease_s: float) -> None:
    """Wait until the lease of the one row was renewed after the time at which it would have ended."""

    def ends_ms() -> int:
        return int(program.run(lambda connection: connection.scalar(select(messages.c.due_ms))) or 0)

    ended_ms = ends_ms() + int(lease_s * 1000)
    soon(lambda: ends_ms() >= ended_ms, "the end of the first lease")


def test_a_receiver_may_run_for_longer_than_its_lease(program: Program) -> None:
    """R3: The lease of a running receiver is renewed, so that no other worker gets its message."""
    gate = Gate()
    program.connect(work=gate)
    program.send(1)

    with program.working(lease_s=LEASE_S, poll_s=0.05), program.working(lease_s=LEASE_S, poll_s=0.05):
        assert gate.is_entered.wait(SOON_S)
        outlast_lease(program, LEASE_S)
        assert program.in_flight() == 1
        gate.may_end.set()
        soon(lambda: program.rows() == 0)

    assert program.got == [("work", 1, 1)]


def test_a_late_word_on_a_lost_lease_does_nothing(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """R3: An outcome after the lease was lost changes nothing, and is logged and counted."""
    gate = Gate()
    program.connect(work=gate)
    program.send(1)

    with program.working() as found:
        assert gate.is_entered.wait(SOON_S)
        program.run(lambda db: db.execute(update(messages).values(token="another's", due_ms=2**50)))
        soon(extending(found.worker, lambda: "1 leases were lost to other workers" in caplog.text))
        gate.may_end.set()
        soon(lambda: found.worker.counts.lost)

    assert (program.rows(), found.worker.counts) == (1, DrainCounts(lost=1))
    assert "1 messages ended after their lease had expired" in caplog.text


def test_what_was_lost_is_not_begun(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: A message whose lease was lost while it waited in the worker is not received there: another has it."""
    monkeypatch.setattr("aldis.relay.worker.scheduler._AHEAD_S", LONG_S)
    gate = Gate(200)
    program.connect(work=gate)
    program.pile_up("work", 500)

    with program.working(concurrency=1, batch=50) as found:
        assert gate.is_entered.wait(SOON_S)
        soon(lambda: program.rows() == 300 and program.in_flight() > 25)
        claimed = program.in_flight()
        program.run(lambda connection: connection.execute(update(messages).values(token="another's", due_ms=2**50)))
        soon(extending(found.worker, lambda: not any(job.held_until for job in [*found.worker.jobs.values()])))
        gate.may_end.set()
        soon(lambda: found.worker.counts.lost == claimed)

    assert program.numbers() == [*range(201)]
    assert program.rows() == 300


def test_what_is_not_surely_held_is_not_begun() -> None:
    """R3: A message is not begun if its lease may have ended by this machine's clock."""
    ended: list[ReceiverJob] = []
    job = ReceiverJob(ROW, time.monotonic() - 1, lambda: None)
    runners = ThreadExecutor(1, lambda _: pytest.fail("was run"), ended.append)
    runners.put(job)
    soon(lambda: ended)
    runners.end()

    assert ended == [job]
    assert job.outcome is None


def test_receivers_that_use_up_the_pool_keep_their_leases(ready_url: str, make_engine: MakeEngine) -> None:
    """A worker has its own connections: it renews leases while receivers hold all of the program's connections."""
    engine = make_engine(ready_url, pool_size=1, max_overflow=0)
    looker = Program(make_engine(ready_url))
    program = Program(engine)
    is_held, may_end = Event(), Event()

    def hold(_: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
            is_held.set()
            may_end.wait(LONG_S)

    program.connect(work=hold)
    program.send(1)

    with program.working(lease_s=LEASE_S) as found:
        assert is_held.wait(SOON_S)
        outlast_lease(looker, LEASE_S)
        may_end.set()
        soon(lambda: looker.rows() == 0)

    assert found.worker.counts.done == 1
    assert program.numbers() == [1]


def test_an_async_receiver_that_keeps_its_loop_to_itself(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R3: With an async database too, the lease is renewed while a receiver blocks its loop, and the worker can be
    stopped.
    """
    engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    program = Program(engine)  # type: ignore[arg-type]
    looker = Program(make_engine(sqlite_url))
    entered, gate = Event(), Event()

    async def work(_: int) -> None:
        entered.set()
        gate.wait(LONG_S)

    program.connect_async(work)
    program.pile_up("work", 1)

    with program.working(lease_s=LEASE_S, grace_s=0.2) as found:
        assert entered.wait(SOON_S)
        outlast_lease(looker, LEASE_S)
        assert looker.attempts() == [1]
        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.set()
    program.relay._parts.database.close_portal()
