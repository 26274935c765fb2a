"""What the worker's receivers may be and do, and what rows may be."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aldis.relay import DrainCounts

from .works import Works, run_program, soon

if TYPE_CHECKING:
    from .conftest import MakeEngine


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


# Async receivers.


def test_async_receivers_are_awaited(works: Works) -> None:
    """Async receivers run in one loop, next to each other, as many as there are threads."""
    loops: set[asyncio.AbstractEventLoop] = set()
    all_are_there = asyncio.Event()
    there: list[int] = []

    async def work(number: int) -> None:
        loops.add(asyncio.get_running_loop())
        there.append(number)

        if len(there) == 3:
            all_are_there.set()

        await all_are_there.wait()

    works.connect_async(work)
    works.pile_up("work", 3)

    with works.working(concurrency=3):
        soon(lambda: works.rows() == 0)

    assert (len(loops), sorted(works.numbers())) == (1, [0, 1, 2])


def test_an_async_receiver_knows_its_message(works: Works) -> None:
    """The current message is that of the receiver, also where several run in the same loop."""
    ids: list[tuple[int, str]] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        ids.append((number, works.relay.current().id))

    works.connect_async(work)
    works.pile_up("work", 20)

    with works.working():
        soon(lambda: works.rows() == 0)

    assert sorted(ids) == [(number, f"m{number}") for number in range(20)]


# Receivers that exit.


def test_a_receiver_that_exits_has_failed(works: Works) -> None:
    """A receiver that calls sys.exit fails, and the worker works on."""

    def work(number: int) -> None:
        if number == 0:
            sys.exit(3)

    works.connect(work=work, max_attempts=1)
    works.pile_up("work", 5)

    with works.working(concurrency=1):
        soon(lambda: works.rows() == 0)

    assert works.numbers() == [0, 1, 2, 3, 4]
    assert "raised SystemExit" in works.relay.dead_letters()[0].reason


def test_an_async_receiver_that_exits_has_failed(works: Works) -> None:
    """So does an async one, and what else runs in the loop goes on."""
    has_exited = asyncio.Event()

    async def work(number: int) -> None:
        if number == 1:
            has_exited.set()
            sys.exit(3)

        await has_exited.wait()

    works.connect_async(work, max_attempts=1)
    works.pile_up("work", 5)

    with works.working(concurrency=2):
        soon(lambda: works.rows() == 0)

    assert sorted(works.numbers()) == [0, 1, 2, 3, 4]
    assert "raised SystemExit" in works.relay.dead_letters()[0].reason


def test_an_async_receiver_that_stops_the_loop(works: Works) -> None:
    """The loop cannot be stopped."""

    async def work(number: int) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)

    works.connect_async(work)
    works.pile_up("work", 3)

    with works.working(concurrency=1):
        soon(lambda: works.rows() == 0)


# Receivers that send.


def test_a_receiver_that_sends_durably(works: Works) -> None:
    """R1: What a receiver sends to others is received too; a send in no transaction has one of its own."""

    def work(number: int) -> None:
        if number > 0:
            works.send(number - 1)

    works.connect(work=work)
    works.send(20)

    with works.working():
        soon(lambda: len(works.got) == 21 and works.rows() == 0)

    assert works.numbers() == [*range(20, -1, -1)]


def test_a_drain_receives_what_receivers_send(works: Works) -> None:
    """A worker that drains does not end before what its receivers sent meanwhile is received, whoever that is for."""
    for name in "abc":
        works.connect(name)

    def work(number: int) -> None:
        works.pile_up("abc"[number % 3], 1)

    works.connect("first", work)
    works.pile_up("first", 60)

    with works.working(drains=True, batch=10, concurrency=2) as found:
        assert found.ended() == 0

    assert (works.rows(), len(works.got)) == (0, 120)
    assert works.relay.drain() == DrainCounts()


# Rows that were not written by a send.

RUINED: dict[str, dict[str, Any]] = {
    "no JSON": {"payload": "{"},
    "no object": {"payload": "[]"},
    "wrong type": {"payload": '{"number": "seven"}'},
    "missing": {"payload": "{}"},
    "huge": {"payload": json.dumps({"number": 1, "more": "x" * 5_000_000})},
    "deep": {"payload": '{"number": ' + "[" * 100_000 + "]" * 100_000 + "}"},
    "old": {"version": -1},
    "sender no JSON": {"sender": "{"},
    "sender of no kind": {"sender": '{"class": "os.system"}'},
    "sender too deep": {"sender": "[" * 50_000},
    "trace": {"trace": "{"},
}

UNKNOWN: dict[str, dict[str, Any]] = {
    "newer": {"version": 2},
    "much newer": {"version": 2**31 - 1},
    "receiver": {"receiver": "nobody"},
    "signal": {"signal": "nothing"},
    "sender": {"sender": '{"name": "nobody"}'},
}


def test_the_worker_lives_with_any_row(any_url: str, make_engine: MakeEngine) -> None:
    """R4: Rows that nobody could have sent become dead letters with a reason, rows for others wait, what comes later
    is received.
    """
    works = Works(make_engine(any_url))
    works.connect()

    for values in [*RUINED.values(), *UNKNOWN.values()]:
        works.pile_up("work", 1, **values)

    works.pile_up("work", 3)

    with works.working(poll_s=0.05) as found:
        soon(lambda: len(works.got) == 4 and works.rows() == len(UNKNOWN))
        assert found.exit is None

    assert sorted(works.numbers()) == [0, 0, 1, 2]  # One with a trace that cannot be read, which is ignored.
    reasons = [letter.reason for letter in works.relay.dead_letters()]
    assert len(reasons) == len(RUINED) - 1
    assert all(len(reason) < 200 and "xxx" not in reason and "seven" not in reason for reason in reasons)


MISTYPED: dict[str, list[object]] = {
    "payload": [b"\xff\x00", 7, 1.5],
    "message_id": [b"\xff\x00", 7],
    "version": ["one", b"1", 1.5],
    "sender": [b"\xff\x00", 7],
    "trace": [b"\xff\x00", 7],
    "ordering_key": [b"\xff\x00", 7],
    "sent_ms": ["now", b"now"],
    "due_ms": ["now", b"now"],
    "attempts": ["one", b"one", 2**62],
    "crashes": ["one", b"one"],
    "failure": [b"\xff\x00", 7],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, of in MISTYPED.items() for value in of])
def test_columns_of_any_type(works: Works, column: str, value: object) -> None:
    """R4: SQLite lets a column have values of any type. None of them ends the worker, or holds others up."""
    works.connect()
    works.pile_up("work", 1)
    works.run(lambda db: db.exec_driver_sql(f"UPDATE aldis_messages SET {column} = ?", (value,)))
    works.pile_up("work", 3, payload='{"number": 7}')

    with works.working(poll_s=0.05) as found:
        soon(lambda: works.numbers().count(7) == 3 and works.rows() <= 1)
        assert not found.worker.outage.is_away
        assert found.exit is None

    works.relay.status()
    works.relay.dead_letters()


@pytest.mark.parametrize("column", ["payload", "message_id", "sender", "trace", "ordering_key", "failure"])
def test_texts_that_are_none(works: Works, column: str) -> None:
    """R4: SQLite lets a text be no UTF-8, too."""
    works.connect()
    works.pile_up("work", 1)
    works.run(lambda db: db.exec_driver_sql(f"UPDATE aldis_messages SET {column} = CAST(x'ff00fe' AS TEXT)"))
    works.pile_up("work", 3, payload='{"number": 7}')

    with works.working(poll_s=0.05) as found:
        soon(lambda: works.numbers().count(7) == 3 and works.rows() <= 1)
        assert not found.worker.outage.is_away

    works.relay.status()
    works.relay.dead_letters()


def test_a_dead_letter_says_how_often_it_was_tried(works: Works) -> None:
    """R3: What is claimed only to be given up was not tried once more by that."""
    works.connect(max_attempts=3)
    works.pile_up("work", 1, attempts=3, crashes=1)
    works.pile_up("work", 1, payload="{")

    with works.working():
        soon(lambda: works.rows() == 0)

    malformed, lost = sorted(works.relay.dead_letters(), key=lambda letter: letter.attempts)
    assert (lost.attempts, malformed.attempts, works.got) == (3, 0, [])
    assert lost.reason == "its worker died, or lost its lease, in the last of 3 attempts"


# What is logged.


def test_a_line_a_message(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    """At debug, there is a line for each message, which shows how it went, and nothing of what was sent."""
    caplog.set_level(logging.DEBUG, "aldis.relay")
    works.connect()
    works.connect("fails", lambda number: 1 // 0)
    works.send(987654321)

    with works.working():
        soon(lambda: works.attempts() == [1] and not works.in_flight())

    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    failed, done = sorted(line.partition(" for ")[2] for line in lines)
    assert done == "work: done"
    assert failed.startswith("fails: failed, ")
    assert failed.endswith(" raised ZeroDivisionError")
    assert "987654321" not in caplog.text


def test_a_line_a_minute(works: Works, caplog: pytest.LogCaptureFixture) -> None:
    """At info, there is a summary each minute, of that minute."""
    caplog.set_level(logging.INFO, "aldis.relay")
    works.connect()

    def report() -> None:
        found.worker.report.due_at = time.monotonic()
        found.worker.wake_event.set()
        before = len(caplog.records)
        soon(lambda: len(caplog.records) > before)

    with works.working() as found:
        works.pile_up("work", 3)
        soon(lambda: found.worker.counts.done == 3)
        report()
        report()
        works.pile_up("work", 2)
        soon(lambda: found.worker.counts.done == 5)
        report()

    assert [record.getMessage() for record in caplog.records] == [
        "In the last minute: 3 done",
        "In the last minute: no messages",
        "In the last minute: 2 done",
    ]


# Memory.


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell of memory so")
def test_memory_is_flat(sqlite_url: str) -> None:
    """A worker's memory does not grow with the backlog, and not with what it has received."""
    count = 100_000  # Of 1,000 characters each: all of it would be 100 MB.
    said = run_program("backlog", sqlite_url, str(count))
    resident = [int(line) for line in said.split()]

    assert len(resident) == 10
    assert max(resident) - resident[1] < 20_000_000
