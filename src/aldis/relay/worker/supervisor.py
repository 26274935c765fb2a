"""Run several worker processes, and start a process again that dies.

The supervisor starts each process by its own command line, and does not fork: so no lock, connection or thread of the
supervisor is copied into a worker.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, final

from .wake import WakeEvent
from .worker import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

logger: Final = logging.getLogger("aldis.relay")

CHILD: Final = "ALDIS_WORKER_READY_FILE"
"""The environment variable that makes a process a worker of a supervisor. It names the file that reports readiness."""

_LOOK_S: Final = 0.1
_AGAIN_S: Final = 2.0
_STOPPED_FOR_GOOD: Final = (Exit.STOPPED, Exit.MISCONFIGURED)


@final
class Supervisor:
    """Runs worker processes until it is stopped.

    :param count: how many processes.
    :param beat: called now and then, while all of them are ready.
    :param stale_s: after how many seconds without a heartbeat a process no longer counts as ready.
    """

    def __init__(self, count: int, beat: Callable[[], object], stale_s: float) -> None:
        self._count = count
        self._beat = beat
        self._stale_s = stale_s
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._start_at: dict[int, float] = {}
        self._codes: list[int] = []
        self._folder = Path()
        self._stops = 0
        self._wake_event = WakeEvent()
        self._beat_at = 0.0

    def stop(self) -> None:
        """Stop all processes; at the second call, at once. A signal handler may call this."""
        self._stops += 1
        self._wake_event.set()

        for child in self._children.values():
            child.send_signal(signal.SIGTERM)

    def run(self) -> int:
        """Run the processes. Return the worst of their exit codes."""
        with TemporaryDirectory(prefix="aldis-worker-") as folder:
            self._folder = Path(folder)
            self._start_at = dict.fromkeys(range(self._count), 0.0)

            while self._children or (self._start_at and not self._stops):
                self._start_due()
                self._wake_event.wait(_LOOK_S)
                self._reap()
                self._beat_if_ready()

        return max(self._codes, default=0)

    def _start_due(self) -> None:
        now = time.monotonic()

        for number, start_at in list(self._start_at.items()):
            if now >= start_at and not self._stops:
                del self._start_at[number]
                self._start(number)

    def _start(self, number: int) -> None:
        environment = {**os.environ, CHILD: str(self._folder / str(number))}
        environment.pop("NOTIFY_SOCKET", None)  # Only the supervisor reports to systemd.
        # In a process group of its own: otherwise Ctrl-C would reach it twice.
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, *sys.orig_argv[1:]], env=environment, process_group=0
        )
        self._children[number] = child

        if self._stops:  # The stop came while the process was being started.
            child.send_signal(signal.SIGTERM)

    def _reap(self) -> None:
        for number, child in list(self._children.items()):
            code = child.poll()

            if code is None:
                continue

            del self._children[number]
            (self._folder / str(number)).unlink(missing_ok=True)

            if self._stops or code in _STOPPED_FOR_GOOD:
                self._codes.append(_exit_of(code))
            else:
                logger.error("A worker process ended with %d. Another starts in %g seconds", code, _AGAIN_S)
                self._start_at[number] = time.monotonic() + _AGAIN_S

            if code == Exit.MISCONFIGURED and not self._stops:
                self.stop()  # The other processes have the same problem.

    def _beat_if_ready(self) -> None:
        now = time.monotonic()

        if now >= self._beat_at and not self._stops and self._are_ready():
            self._beat()
            self._beat_at = now + self._stale_s / 4

    def _are_ready(self) -> bool:
        try:
            ages = [time.time() - (self._folder / str(number)).stat().st_mtime for number in range(self._count)]
        except OSError:
            return False

        return max(ages) < self._stale_s


def _exit_of(code: int) -> int:
    """Return the exit code of a process that ended after the stop, as a worker's exit code."""
    if code == -signal.SIGTERM:
        return Exit.STOPPED  # It was still starting, and did not handle signals yet.

    return code if code >= 0 else Exit.FAILED
