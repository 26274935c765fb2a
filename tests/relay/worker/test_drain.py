"""A drain receives all due messages in the thread that calls it, and then ends."""

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
    """R3: A drain claims one message at a time, because it renews no leases."""
    claimed: list[int] = []
    program.connect(work=lambda _: claimed.append(program.in_flight()))
    program.send(*range(9))

    assert program.relay.drain() == DrainCounts(done=9)
    assert claimed == [1] * 9


def test_a_drain(program: Program) -> None:
    """A drain counts its messages by outcome."""
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
    """Receivers run in the thread of the drain, also for messages that are sent meanwhile."""
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
    """A drain without tables raises an error that says so."""
    with pytest.raises(RelaySchemaError, match="no table"):
        Relay(make_engine(sqlite_url)).drain()


@pytest.fixture
def heeded_ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, even if the tests run in the background of a shell, which ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("heeded_ctrl_c")
def test_a_drain_that_is_interrupted(program: Program) -> None:
    """Ctrl-C ends a drain; the interrupted attempt counts, and the message comes again after the lease's end."""
    program.connect("work", lambda _: signal.raise_signal(signal.SIGINT))
    program.send(1)

    with pytest.raises(KeyboardInterrupt):
        program.relay.drain()

    assert (program.in_flight(), program.attempts()) == (1, [1])


def test_a_drain_receives_what_receivers_send(program: Program) -> None:
    """A worker that drains also receives the messages that its receivers send, for any receiver."""
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
    """A drain that a receiver stops ends, and leaves the other messages."""
    program = Program(make_engine(sqlite_url))
    worker = Worker(program.relay, Settings(concurrency=1, batch=1, drains=True), is_inline=True)
    program.connect(work=lambda _: worker.stop())
    program.send(1, 2, 3)
    assert worker.run() is Exit.STOPPED
    assert program.rows() == 3 - len(program.got) > 0
