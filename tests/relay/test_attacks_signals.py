"""Signals of the system that come at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Timer
from typing import Any

import pytest

from aldis.relay.worker.supervisor import Supervisor

# The main thread's own lines are interrupted here, thousands of times. In a process of its own, which could hang.
RUNG_ALL_THE_TIME = """
import signal, time
from aldis.relay.worker.wake import WakeEvent

bell, rung = WakeEvent(), 0

def ring(*_):
    global rung
    rung += 1
    bell.set()

signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
until = time.monotonic() + 1.5

while time.monotonic() < until:
    bell.wait(0.0001)

signal.setitimer(signal.ITIMER_REAL, 0)
print(rung > 500)
"""


def test_a_bell_is_rung_by_a_signal_at_any_moment() -> None:
    """A signal that comes while a worker is about to wait, or has just waited, does not hold it up for ever."""
    command = [sys.executable, "-c", RUNG_ALL_THE_TIME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout == "True\n"


@pytest.fixture
def slow_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes run: a program that takes its time to end when it is told to."""
    program = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), exit())); time.sleep(20)"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", program])


@pytest.mark.usefixtures("slow_child")
def test_several_processes_are_waited_for_in_peace() -> None:
    """What looks after processes that take their time to end does not compute meanwhile."""
    processes = Supervisor(1, lambda: None, 2.0)
    began: list[float] = []

    def stop() -> None:
        began.append(time.process_time())
        processes.stop()

    Timer(1.0, stop).start()

    assert processes.run() == 0
    assert time.process_time() - began[0] < 0.2


@pytest.mark.usefixtures("slow_child")
def test_a_process_that_is_just_being_started_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that comes while a process is being started reaches it, too."""
    start: Any = subprocess.Popen

    def start_and_be_stopped(*args: Any, **options: Any) -> Any:
        process = start(*args, **options)
        time.sleep(0.5)  # Until it heeds the signal.
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    processes = Supervisor(1, lambda: None, 2.0)
    began = time.monotonic()
    former = signal.signal(signal.SIGTERM, lambda *_: processes.stop())
    monkeypatch.setattr(subprocess, "Popen", start_and_be_stopped)

    try:
        assert processes.run() == 0
    finally:
        signal.signal(signal.SIGTERM, former)

    assert time.monotonic() - began < 15
