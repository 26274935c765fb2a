"""The limit of a receiver's time, and what it leaves in its thread."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from aldis.exceptions import ReceiverTimeoutError
from aldis.relay.storage.rows import Row
from aldis.relay.worker import executor
from aldis.relay.worker.executor import ReceiverJob

ROW = Row(1, "id", "saved", "mail", 1, None, "{}", None, None, 0, 1, 0, "token")

# With an own interpreter, for the trace function of this one may be that of coverage.
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
    """What runs below a debugger goes on after a receiver whose time was limited."""
    done = subprocess.run([sys.executable, "-c", TRACED, how], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout == said


def test_nothing_is_raised_when_the_limit_is_over() -> None:
    """An interruption that comes with the receiver's last line does not hit what the thread does next."""
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
    """Wherever it arrives then, it is forgotten."""
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
    """A limit is known as long as it holds."""
    job = new_job()
    before = time.monotonic()

    with job.guard(10):
        assert before + 10 <= job.interrupt(before) <= time.monotonic() + 10

    assert job.interrupt(float("inf")) == float("inf")
    assert not job.is_late
