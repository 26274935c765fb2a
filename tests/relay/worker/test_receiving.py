"""What receivers may be and do, and what a worker logs of them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.programs.worker_program import Program, run_program, soon

if TYPE_CHECKING:
    from collections.abc import Iterator


# Async receivers.


def test_async_receivers_are_awaited(program: Program) -> None:
    """Async receivers run in one loop, side by side, as many as there are threads."""
    loops: set[asyncio.AbstractEventLoop] = set()
    all_are_there = asyncio.Event()
    there: list[int] = []

    async def work(number: int) -> None:
        loops.add(asyncio.get_running_loop())
        there.append(number)

        if len(there) == 3:
            all_are_there.set()

        await all_are_there.wait()

    program.connect_async(work)
    program.pile_up("work", 3)

    with program.working(concurrency=3):
        soon(lambda: program.rows() == 0)

    assert (len(loops), sorted(program.numbers())) == (1, [0, 1, 2])


def test_an_async_receiver_knows_its_message(program: Program) -> None:
    """The current message of an async receiver is its own, also with several receivers in one loop."""
    ids: list[tuple[int, str]] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        ids.append((number, program.relay.current().id))

    program.connect_async(work)
    program.pile_up("work", 20)

    with program.working():
        soon(lambda: program.rows() == 0)

    assert sorted(ids) == [(number, f"m{number}") for number in range(20)]


# Receivers that exit.


def test_a_receiver_that_exits_has_failed(program: Program) -> None:
    """A receiver that calls sys.exit has failed, and the worker goes on."""

    def work(number: int) -> None:
        if number == 0:
            sys.exit(3)

    program.connect(work=work, max_attempts=1)
    program.pile_up("work", 5)

    with program.working(concurrency=1):
        soon(lambda: program.rows() == 0)

    assert program.numbers() == [0, 1, 2, 3, 4]
    assert "raised SystemExit" in program.relay.dead_letters()[0].reason


def test_an_async_receiver_that_exits_has_failed(program: Program) -> None:
    """An async receiver that calls sys.exit has failed, and other receivers in the loop go on."""
    has_exited = asyncio.Event()

    async def work(number: int) -> None:
        if number == 1:
            has_exited.set()
            sys.exit(3)

        await has_exited.wait()

    program.connect_async(work, max_attempts=1)
    program.pile_up("work", 5)

    with program.working(concurrency=2):
        soon(lambda: program.rows() == 0)

    assert sorted(program.numbers()) == [0, 1, 2, 3, 4]
    assert "raised SystemExit" in program.relay.dead_letters()[0].reason


def test_an_async_receiver_that_stops_the_loop(program: Program) -> None:
    """An async receiver cannot stop the loop."""

    async def work(number: int) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)

    program.connect_async(work)
    program.pile_up("work", 3)

    with program.working(concurrency=1):
        soon(lambda: program.rows() == 0)


# Receivers that send.


def test_a_receiver_that_sends_durably(program: Program) -> None:
    """R1: A message that a receiver sends is received too, and a send outside of a transaction has its own."""

    def work(number: int) -> None:
        if number > 0:
            program.send(number - 1)

    program.connect(work=work)
    program.send(20)

    with program.working():
        soon(lambda: len(program.got) == 21 and program.rows() == 0)

    assert program.numbers() == [*range(20, -1, -1)]


# The log.


def test_a_line_a_message(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """At debug, there is a line for each message, with its outcome and without its payload."""
    caplog.set_level(logging.DEBUG, "aldis.relay")
    program.connect()
    program.connect("fails", lambda number: 1 // 0, backoff=3600)
    program.send(987654321)

    with program.working():
        soon(lambda: program.attempts() == [1] and not program.in_flight())

    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    failed, done = sorted(line.partition(" for ")[2] for line in lines)
    assert done == "work: done"
    assert failed.startswith("fails: failed, ")
    assert failed.endswith(" raised ZeroDivisionError")
    assert "987654321" not in caplog.text


def test_a_line_a_minute(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """At info, there is a summary of each minute."""
    caplog.set_level(logging.INFO, "aldis.relay")
    program.connect()

    def report() -> None:
        before = len(caplog.records)
        found.worker.report.due_at = time.monotonic()
        found.worker.wake_event.set()
        soon(lambda: len(caplog.records) > before)

    with program.working() as found:
        program.pile_up("work", 3)
        soon(lambda: found.worker.counts.done == 3)
        report()
        report()
        program.pile_up("work", 2)
        soon(lambda: found.worker.counts.done == 5)
        report()

    assert [record.getMessage() for record in caplog.records] == [
        "In the last minute: 3 done",
        "In the last minute: no messages",
        "In the last minute: 2 done",
    ]


# Memory.


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc/self/statm")
def test_memory_is_flat(sqlite_url: str) -> None:
    """A worker's memory grows neither with the backlog nor with the messages that it has received."""
    count = 40_000  # Of 1,000 characters each: all of them would be 40 MB.
    said = run_program("backlog", sqlite_url, str(count))
    resident = [int(line) for line in said.split()]

    assert len(resident) == 10
    assert max(resident) - resident[1] < 20_000_000


SAID: ContextVar[int | None] = ContextVar("SAID", default=None)


class Refusing(logging.Filter):
    """Raises for log records about failed attempts."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:
            raise RuntimeError

        return True


@pytest.fixture
def refusing() -> Iterator[None]:
    """Add a log filter that raises."""
    logger, refusing = logging.getLogger("aldis.relay"), Refusing()
    logger.addFilter(refusing)
    yield
    logger.removeFilter(refusing)


def test_a_receivers_context_is_its_own(program: Program) -> None:
    """A context variable that a receiver sets is not set for the next receiver in its thread."""
    found: list[int | None] = []

    def receive(number: int) -> None:
        found.append(SAID.get())
        SAID.set(number)

    program.connect(work=receive)
    program.send(1, 2)

    with program.working(concurrency=1):
        soon(lambda: program.rows() == 0)

    program.send(3)
    program.relay.drain()

    assert found == [None, None, None]
    assert SAID.get() is None


@pytest.mark.usefixtures("refusing")
def test_a_filter_of_logs_that_raises_costs_no_thread(program: Program) -> None:
    """If logging fails, the attempt has failed, and the thread goes on with the next message."""
    program.connect("fails", lambda _: 1 // 0)
    program.connect("works")
    program.send(1)
    program.send(2)

    with program.working(concurrency=1):
        soon(lambda: len(program.got) == 4 and not program.in_flight())
        failures = [status.failure for status in program.relay.status()]

    assert failures == ["the worker raised RuntimeError", None]
