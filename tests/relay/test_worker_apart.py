"""What receivers, and single messages, cannot do to a worker."""

from __future__ import annotations

import logging
import time
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import create_async_engine

from aldis.relay import DrainCounts, ReceiverTimeoutError
from aldis.relay.storage.tables import messages
from aldis.relay.worker import scheduler
from aldis.relay.worker.worker import Exit

from .works import Works, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import MakeEngine

REFUSAL = """
CREATE TRIGGER refuse BEFORE INSERT ON aldis_dead_letters WHEN NEW.receiver = 'broken'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""


def test_receivers_that_use_up_the_pool_keep_their_leases(any_url: str, make_engine: MakeEngine) -> None:
    """A worker has connections of its own: it extends leases while receivers hold all of the program's."""
    engine = make_engine(any_url, pool_size=1, max_overflow=0)
    looker = Works(make_engine(any_url))
    works = Works(engine)
    is_held, may_end = Event(), Event()

    def hold(_: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
            is_held.set()
            may_end.wait(30)

    works.connect(work=hold)
    works.send(1)

    with works.working(lease_s=0.5) as found:
        assert is_held.wait(10)
        deadline = time.monotonic() + 1.5

        while time.monotonic() < deadline:
            assert looker.in_flight() == 1
            time.sleep(0.05)

        may_end.set()
        soon(lambda: looker.rows() == 0)

    assert found.worker.counts.done == 1
    assert works.numbers() == [1]


def test_an_outcome_that_is_refused_holds_up_no_other(
    sqlite_url: str, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database does not take of one message is reported, and what came of the others is written."""
    works = Works(make_engine(sqlite_url))

    def fail(_: int) -> None:
        raise LookupError

    works.connect("broken", fail, max_attempts=1)
    works.connect("sound")
    works.run(lambda connection: connection.execute(text(REFUSAL)))
    works.send(1, 2)

    with works.working(lease_s=0.5), caplog.at_level(logging.ERROR, "aldis.relay"):
        soon(lambda: sorted(works.numbers("sound")) == [1, 2] and works.rows() == 2, "the sound ones' end")
        soon(lambda: "refuses the outcome of message" in caplog.text, "the report")
        works.run(lambda connection: connection.execute(text("DROP TRIGGER refuse")))
        soon(lambda: len(works.relay.dead_letters()) == 2, "the deaths")

    assert '"number"' not in caplog.text


# Receivers that hang.


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


@pytest.fixture
def gate() -> Iterator[Event]:
    """What receivers that hang wait for."""
    found = Event()
    yield found
    found.set()


def suspect(works: Works, receiver: str) -> None:
    """Have the rows of a receiver be those that two workers died with."""
    works.run(lambda db: db.execute(update(messages).where(messages.c.receiver == receiver).values(crashes=2)))


def hanging(gate: Event) -> Callable[[int], object]:
    """A receiver that hears of the end of its time, and goes on."""

    def hang(_: int) -> None:
        while not gate.is_set():
            try:
                while not gate.wait(0.005):  # What waits in C for long makes a traced Python 3.11 stand still.
                    pass
            except ReceiverTimeoutError:
                continue

    return hang


def test_receivers_that_hang_cost_their_threads_and_no_more(works: Works, gate: Event) -> None:
    """R3: Those whose time is over, and that cannot be interrupted, do not keep a row from running that runs alone, nor
    what comes after it.
    """
    works.connect("hangs", hanging(gate), timeout_s=0.2, max_attempts=1)
    works.connect("sound")

    with works.working(concurrency=3, lease_s=0.5) as found:
        works.pile_up("hangs", 2)
        soon(lambda: sum(job.is_late for job in [*found.worker.jobs.values()]) == 2, "two that are late")
        works.pile_up("sound", 1)
        suspect(works, "sound")
        soon(lambda: works.numbers("sound") == [0], "the one that runs alone")
        works.pile_up("sound", 20)
        soon(lambda: len(works.numbers("sound")) == 21, "the others")
        gate.set()


def test_a_receiver_that_locks_others_out_is_interrupted(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R3: A worker that waits for who writes to SQLite ends the time of receivers, however patient the program is."""
    works = Works(make_engine(sqlite_url, connect_args={"timeout": 60}))
    interrupted_s: list[float] = []

    def lock(_: int) -> None:
        began = time.monotonic()

        with works.engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))

            try:
                while time.monotonic() < began + 40:
                    time.sleep(0.005)
            except ReceiverTimeoutError:
                interrupted_s.append(time.monotonic() - began)
                connection.rollback()

    works.connect("locks", lock, timeout_s=3, max_attempts=1)
    works.connect("sound", lambda _: time.sleep(1.5))
    works.pile_up("locks", 1)
    works.pile_up("sound", 1)

    with works.working(concurrency=2):  # It has to write that the sound one has ended, while the other locks it out.
        soon(lambda: works.rows() == 0)

    assert interrupted_s
    assert interrupted_s[0] < 20


def test_a_row_that_runs_alone_and_hangs(works: Works, gate: Event) -> None:
    """R3: When its time is over, others run beside it."""
    works.connect("hangs", hanging(gate), timeout_s=0.2, max_attempts=1)
    works.connect("sound")
    works.pile_up("hangs", 1)
    suspect(works, "hangs")

    with works.working(concurrency=2, lease_s=0.5):
        soon(lambda: works.numbers("hangs"))
        works.pile_up("sound", 3)
        soon(lambda: len(works.numbers("sound")) == 3, "the others")
        gate.set()


def test_a_row_that_is_to_run_alone_does_not_wait_for_ever(
    works: Works, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: Where another receiver takes long, it is left to another worker, and this one goes on."""
    monkeypatch.setattr(scheduler, "_ALONE_S", 0.2)
    works.connect("long", lambda _: gate.wait(60) and None)
    works.connect("poison")
    works.connect("sound")

    with works.working(concurrency=2, lease_s=5) as found:
        works.pile_up("long", 1)
        soon(lambda: works.numbers("long"))
        works.pile_up("poison", 1, crashes=2)
        soon(lambda: found.worker.counts.waiting == 1, "the end of its patience")
        works.pile_up("sound", 5)
        soon(lambda: len(works.numbers("sound")) == 5, "the others")
        assert works.numbers("poison") == []
        gate.set()
        soon(lambda: works.numbers("poison") == [0], "its turn")


def test_what_was_claimed_ahead_is_left_when_receivers_hang(works: Works, gate: Event) -> None:
    """R3: What waits for a thread that does not come is given back, and another worker receives it meanwhile."""
    works.connect(work=lambda number: None if number != 60 else gate.wait(60) and None)
    works.pile_up("work", 100)

    with works.working(concurrency=1, batch=50, lease_s=0.5, poll_s=0.02) as found:
        soon(lambda: 60 in works.numbers(), "the one that hangs")
        assert found.worker.jobs.keys()
        soon(lambda: found.worker.counts.released > 0, "the others given back")

        with works.working(poll_s=0.02):
            soon(lambda: works.rows() == 1, "the others")

        gate.set()
        soon(lambda: works.rows() == 0)

    assert sorted(works.numbers()) == [*range(100)]


def test_an_async_receiver_that_keeps_its_loop_to_itself(sqlite_url: str, make_engine: MakeEngine, gate: Event) -> None:
    """R3: With an async database too, its lease is extended, and the worker can be stopped."""
    engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    works = Works(engine)  # type: ignore[arg-type]
    looker = Works(make_engine(sqlite_url))
    entered = Event()

    async def work(_: int) -> None:
        entered.set()
        gate.wait(60)

    works.connect_async(work)
    works.pile_up("work", 1)

    with works.working(lease_s=0.5, grace_s=0.2) as found:
        assert entered.wait(10)
        until = time.monotonic() + 1.5

        while time.monotonic() < until:
            assert looker.in_flight() == 1
            time.sleep(0.05)

        found.worker.stop()
        assert found.ended() is Exit.UNFINISHED

    gate.set()
    works.relay._parts.database.close_portal()


def test_async_receivers_do_not_wait_for_each_other(works: Works) -> None:
    """One that drains the relay, which would run another in the loop that it keeps waiting, is told so."""

    async def work(number: int) -> None:
        if number == 1:
            works.send(2)
            assert works.relay.drain() == DrainCounts(failed=1)

    works.connect_async(work)
    works.send(1)

    assert works.relay.drain() == DrainCounts(done=1)
    (status,) = works.relay.status()
    assert status.failure is not None
    assert status.failure.endswith("raised RuntimeError")
    assert works.numbers() == [1]
