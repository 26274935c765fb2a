"""A drain receives what is due, in the thread that drains, and ends."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from aldis.exceptions import RelaySchemaError
from aldis.relay import DrainCounts, Relay
from aldis.relay.worker.worker import Exit, Settings, Worker
from tests.relay.programs.worker_program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.relay.conftest import MakeEngine


def fail(_: int) -> None:
    raise ZeroDivisionError


def test_a_drain_claims_one_at_a_time(program: Program) -> None:
    """R3: Nothing extends leases in a drain, so no message waits with a lease for those before it."""
    claimed: list[int] = []
    program.connect(work=lambda _: claimed.append(program.in_flight()))
    program.send(*range(9))

    assert program.relay.drain() == DrainCounts(done=9)
    assert claimed == [1] * 9


def test_a_drain(program: Program) -> None:
    """What came of the messages is counted, by their ends."""
    program.connect("fine")
    program.connect("failing", fail, backoff=3600)
    program.connect("dying", fail, max_attempts=1)
    program.pile_up("fine", 2)
    program.pile_up("failing", 3)
    program.pile_up("dying", 4)
    program.pile_up("fine", 5, sender='{"name": "nobody"}')

    assert program.relay.drain() == DrainCounts(done=2, failed=3, dead=4, waiting=5)
    assert program.relay.drain() == DrainCounts()


def test_a_drain_is_in_this_thread(program: Program) -> None:
    """Receivers run in the thread that drains, also those that were sent to meanwhile."""
    from threading import get_ident

    threads: set[int] = set()

    def work(number: int) -> None:
        threads.add(get_ident())

        if number:
            program.send(number - 1)

    program.connect("work", work)
    program.send(5)

    assert program.relay.drain() == DrainCounts(done=6)
    assert threads == {get_ident()}


def test_a_drain_without_tables(sqlite_url: str, make_engine: MakeEngine) -> None:
    """Without tables, a drain says so."""
    with pytest.raises(RelaySchemaError, match="no table"):
        Relay(make_engine(sqlite_url)).drain()


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background of a shell, which ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("heeded_ctrl_c")
def test_a_drain_that_is_interrupted(program: Program) -> None:
    """Ctrl-C ends a drain; the attempt that it ended counts, and the message comes again when its lease has run out."""
    program.connect("work", lambda _: signal.raise_signal(signal.SIGINT))
    program.send(1)

    with pytest.raises(KeyboardInterrupt):
        program.relay.drain()

    assert (program.in_flight(), program.attempts()) == (1, [1])


def test_a_drain_receives_what_receivers_send(program: Program) -> None:
    """A worker that drains does not end before what its receivers sent meanwhile is received, whoever that is for."""
    for name in "abc":
        program.connect(name)

    def work(number: int) -> None:
        program.pile_up("abc"[number % 3], 1)

    program.connect("first", work)
    program.pile_up("first", 60)

    with program.working(drains=True, batch=10, concurrency=2) as found:
        assert found.ended() == 0

    assert (program.rows(), len(program.got)) == (0, 120)
    assert program.relay.drain() == DrainCounts()


def test_a_drain_that_is_stopped(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A drain that is stopped by what it receives ends, and leaves the rest."""
    program = Program(make_engine(sqlite_url))
    worker = Worker(program.relay, Settings(concurrency=1, batch=1, drains=True), is_inline=True)
    program.connect(work=lambda _: worker.stop())
    program.send(1, 2, 3)
    assert worker.run() is Exit.STOPPED
    assert program.rows() == 3 - len(program.got) > 0
