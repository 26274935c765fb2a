"""The supervisor of several worker processes: stops at difficult moments."""

from __future__ import annotations

import subprocess
import sys
import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from aldis.relay.worker.supervisor import CHILD, Supervisor
from aldis.relay.worker.worker import Exit
from tests.relay.programs.worker_program import SOON_S, soon

if TYPE_CHECKING:
    from collections.abc import Callable


SLEEPS = "import time; time.sleep(600)"
"""Code of a worker that is still starting: SIGTERM ends it."""

STOPS = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: {1})
pathlib.Path(os.environ[{0!r}]).touch()
signal.pause()
"""
"""Code of a worker that is ready, and does something when it is stopped."""


def processes(
    monkeypatch: pytest.MonkeyPatch, code: str, count: int = 1, beat: Callable[[], object] = lambda: None
) -> Supervisor:
    """Return processes that run this code."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", code])
    return Supervisor(count, beat, 60.0)


def ended(found: Supervisor, meanwhile: Callable[[], object]) -> int:
    """Run processes, act meanwhile, and return the supervisor's exit code."""
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(found.run()))
    thread.start()
    meanwhile()
    thread.join(SOON_S)
    return codes[0]


def test_processes_that_are_still_starting_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop of processes that are still starting is no failure, because they have begun no receiver."""
    found = processes(monkeypatch, SLEEPS, 2)

    def stop() -> None:
        soon(lambda: len(found._children) == 2)
        found.stop()

    assert ended(found, stop) == Exit.STOPPED


def test_a_stop_that_comes_while_a_process_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is being started when all are stopped is stopped too."""
    found = processes(monkeypatch, SLEEPS)

    class Slow(subprocess.Popen[bytes]):
        """A start during which the stop comes."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            found.stop()

    monkeypatch.setattr("aldis.relay.worker.supervisor.subprocess.Popen", Slow)

    assert ended(found, lambda: None) == Exit.STOPPED


@pytest.mark.parametrize(("last", "expected"), [("os.kill(os.getpid(), 9)", Exit.FAILED), ("sys.exit(75)", 75)])
def test_how_badly_they_ended(monkeypatch: pytest.MonkeyPatch, last: str, expected: int) -> None:
    """The exit code of the supervisor is the worst of its processes."""
    is_ready = Event()
    found = processes(monkeypatch, STOPS.format(CHILD, last), beat=is_ready.set)

    def stop() -> None:
        assert is_ready.wait(SOON_S)
        found.stop()

    assert ended(found, stop) == expected


def test_several_processes_are_waited_for_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    """While processes take their time to end, the supervisor uses no processor time."""
    is_ready = Event()
    found = processes(monkeypatch, STOPS.format(CHILD, "time.sleep(1.5)"), 2, is_ready.set)
    began_s = 0.0

    def stop() -> None:
        nonlocal began_s
        assert is_ready.wait(SOON_S)
        began_s = time.process_time()
        found.stop()

    assert ended(found, stop) == Exit.STOPPED
    assert time.process_time() - began_s < 0.5
