"""The time limit of receivers, and its effects on their threads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from aldis.exceptions import ReceiverTimeoutError
from aldis.relay import DrainCounts
from aldis.relay.storage.rows import Row
from aldis.relay.worker import executor
from aldis.relay.worker.executor import ReceiverJob
from aldis.relay.worker.worker import Exit
from tests.relay.programs.worker_program import LONG_S, SOON_S, Gate, Program, run_program, running, soon

ROW = Row(1, "id", "saved", "mail", 1, None, "{}", None, None, 0, 1, 0, "token")

# In a new interpreter, because the trace function of this one may be coverage's.
TRACED = """
import sys
from aldis.relay.worker.executor import ReceiverJob

job = ReceiverJob(None, float("inf"), lambda: None)

def limited():
    with job.guard(10):
        if sys.argv[1] == "late":
            job.interrupt(float("inf"))

sys.settrace(lambda *_: None)

try:
    limited()
except TimeoutError:
    print("late", end=" ")

print("over")
"""


def new_job() -> ReceiverJob:
    return ReceiverJob(ROW, float("inf"), lambda: None)


@pytest.mark.parametrize(("how", "said"), [("in time", "over\n"), ("late", "late over\n")])
def test_a_limit_leaves_a_traced_thread_as_it_was(how: str, said: str) -> None:
    """A thread below a debugger is traced as before after a receiver with a time limit."""
    done = subprocess.run(
        [sys.executable, "-c", TRACED, how], capture_output=True, text=True, timeout=SOON_S, check=True
    )

    assert done.stdout == said


def test_nothing_is_raised_when_the_limit_is_over() -> None:
    """An interruption that comes with the receiver's last line does not reach the thread's next work."""
    for _ in range(200):
        job = new_job()

        try:
            with job.guard(10):
                job.interrupt(float("inf"))
        except ReceiverTimeoutError:
            pass

        for _ in range(10):
            time.sleep(0)


class Late:
    """A lock, or a function of C, in which an interruption arrives the first time."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.times = 0

    def arrive(self) -> None:
        self.times += 1

        if self.times == 1:
            raise ReceiverTimeoutError

    def __enter__(self) -> None:
        self.arrive()
        self.original.__enter__()

    def __exit__(self, *_: object) -> None:
        self.original.__exit__(None, None, None)

    def __call__(self, *arguments: Any) -> Any:
        self.arrive()
        return self.original(*arguments)


def test_an_interruption_may_come_when_the_receiver_has_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption that arrives after the receiver has returned is dropped."""
    job = new_job()
    raise_in = Late(executor._raise_in)

    with job.guard(10):
        job.is_late = True
        lock = Late(job._lock)
        monkeypatch.setattr(job, "_lock", lock)
        monkeypatch.setattr(executor, "_raise_in", raise_in)

    assert lock.times > 0
    assert raise_in.times > 0


def test_who_is_in_time_is_not_interrupted() -> None:
    """The limit's end is known while the receiver runs, and not afterwards."""
    job = new_job()
    before = time.monotonic()

    with job.guard(10):
        assert before + 10 <= job.interrupt(before) <= time.monotonic() + 10

    assert job.interrupt(float("inf")) == float("inf")
    assert not job.is_late


def busy(number: int) -> None:
    """Run Python code without an end."""
    while True:
        time.sleep(0.001)


@pytest.mark.usefixtures("unwoken")
def test_a_receiver_that_takes_too_long_is_interrupted(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """A sync receiver gets an exception soon after its time is over, whatever else the worker waits for."""
    caught: list[type] = []

    def work(number: int) -> None:
        try:
            busy(number)
        except TimeoutError as error:
            caught.append(type(error))
            raise

    program.connect(work=work, timeout_s=0.2, max_attempts=1)
    program.send(1)

    with program.working(concurrency=1, lease_s=LONG_S, drains=True):  # With no other event that wakes it.
        soon(program.relay.dead_letters)

    (letter,) = program.relay.dead_letters()
    assert caught == [ReceiverTimeoutError]
    assert "raised ReceiverTimeoutError, in the last of 1 attempts" in letter.reason


def test_each_receiver_has_its_own_time(program: Program) -> None:
    """Each of several concurrent receivers is interrupted at its own time, and those in time are not."""
    gate = Gate()
    program.connect("short", busy, timeout_s=0.2, max_attempts=1)
    program.connect("long", gate, timeout_s=60)
    program.send(1)

    with program.working(concurrency=2, poll_s=LONG_S, lease_s=LONG_S) as found:
        assert gate.is_entered.wait(SOON_S)
        soon(program.relay.dead_letters)
        gate.may_end.set()
        soon(lambda: found.worker.counts.done)

    assert found.worker.counts == DrainCounts(done=1, dead=1)


def test_a_receiver_may_make_do_with_its_time(program: Program) -> None:
    """A receiver that catches the exception and returns has received its message."""

    def work(number: int) -> None:
        with pytest.raises(ReceiverTimeoutError):
            busy(number)

    program.connect(work=work, timeout_s=1)
    program.send(1)

    with program.working():
        soon(lambda: program.rows() == 0)

    assert program.got == [("work", 1, 1)]


def test_time_may_be_over_at_any_line(program: Program) -> None:
    """At whatever line its time ends, a receiver has one of two outcomes, and the worker's threads go on."""

    def work(number: int) -> None:
        until = time.monotonic() + 0.002 + number % 10 * 0.00002

        while time.monotonic() < until:
            pass

    program.connect(work=work, timeout_s=0.002, max_attempts=1)
    program.pile_up("work", 400)

    with program.working(concurrency=2, batch=20) as found:
        soon(lambda: program.rows() == 0)
        program.signal.connect(lambda _, number: None, weak=False)
        soon(lambda: found.worker.counts.done + found.worker.counts.dead == 400)
        assert sum(thread.name.startswith("aldis-worker") for thread in threading.enumerate()) >= 2

    assert found.worker.counts.dead == len(program.relay.dead_letters(limit=1000)) > 0


def test_an_async_receiver_that_takes_too_long_is_cancelled(program: Program) -> None:
    """An async receiver is cancelled when its time is over, and has failed."""
    cancelled: list[bool] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)

    program.connect_async(work, timeout_s=0.1, max_attempts=1)
    program.send(1)

    with program.working(concurrency=1, poll_s=LONG_S, lease_s=LONG_S):
        soon(program.relay.dead_letters)

    (letter,) = program.relay.dead_letters()
    assert cancelled == [True]
    assert "raised ReceiverTimeoutError" in letter.reason


def test_a_timeout_of_the_receivers_own_is_its_failure(program: Program) -> None:
    """An async receiver's own TimeoutError is not taken for the end of its time."""

    async def work(number: int) -> None:
        raise TimeoutError

    program.connect_async(work, timeout_s=30, max_attempts=1)
    program.send(1)

    with program.working():
        soon(program.relay.dead_letters)

    assert "raised TimeoutError" in program.relay.dead_letters()[0].reason


def test_what_cannot_be_interrupted_loses_its_lease(sqlite_url: str) -> None:
    """R3: A receiver that is stuck outside of Python keeps its lease until its time is over. Then another worker gets
    the message, and the outcome of the stuck one is ignored.
    """
    said = json.loads(run_program("stuck", sqlite_url))

    assert said == {"attempts": [1, 2], "tally": {"done": 1, "lost": 1}}


def test_a_worker_that_is_stopped_limits_time_still(program: Program) -> None:
    """The time of receivers also ends while the worker waits for their end."""
    gate = Gate()

    def work(number: int) -> None:
        gate.is_entered.set()
        busy(number)

    program.connect(work=work, timeout_s=0.5, max_attempts=1)
    program.send(1)

    with running(program.worker(concurrency=1, grace_s=LONG_S, lease_s=LONG_S)) as found:
        assert gate.is_entered.wait(SOON_S)
        found.worker.stop()
        assert found.ended() is Exit.STOPPED

    assert found.worker.counts.dead == 1
