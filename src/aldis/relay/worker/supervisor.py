"""Several worker processes below one that looks after them.

Each is started as the first one was, by the same command line, so that nothing of the parent crosses a fork. One that
dies is started again.
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
"""The variable of the environment that makes a process a child: the file by which it says that it is ready."""

_LOOK_S: Final = 0.1
_AGAIN_S: Final = 2.0
_STOPPED_FOR_GOOD: Final = (Exit.STOPPED, Exit.MISCONFIGURED)


@final
class Processes:
    """Runs worker processes until it is told to stop.

    :param count: how many.
    :param beat: called now and then, while all of them are ready.
    :param stale_s: when a process that has not said for so many seconds that it is ready is not taken to be.
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
        self._bell = WakeEvent()
        self._beat_at = 0.0

    def stop(self) -> None:
        """Have all processes stop. A second time: at once. May be called in a signal handler."""
        self._stops += 1
        self._bell.ring()

        for child in self._children.values():
            child.send_signal(signal.SIGTERM)

    def run(self) -> int:
        """Run them. Gives the exit code: the worst of theirs."""
        with TemporaryDirectory(prefix="aldis-worker-") as folder:
            self._folder = Path(folder)
            self._start_at = dict.fromkeys(range(self._count), 0.0)

            while self._children or (self._start_at and not self._stops):
                self._start_due()
                self._bell.wait(_LOOK_S)
                self._reap()
                self._beat_if_ready()

        return max(self._codes, default=0)

    def _start_due(self) -> None:
        now = time.monotonic()

        for number, start_at in list(self._start_at.items()):
            if now >= start_at and not self._stops:
                del self._start_at[number]
                environment = {**os.environ, CHILD: str(self._folder / str(number))}
                environment.pop("NOTIFY_SOCKET", None)  # To systemd, this process speaks for all of them.
                # In a group of its own, or Ctrl-C would reach it twice.
                self._children[number] = subprocess.Popen(  # noqa: S603
                    [sys.executable, *sys.orig_argv[1:]], env=environment, process_group=0
                )

                if self._stops:  # Since it was looked at: the child was not there yet to be told.
                    self._children[number].send_signal(signal.SIGTERM)

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
                self.stop()  # The others cannot do better.

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
    """With what a process counts that has ended since all were to stop."""
    if code == -signal.SIGTERM:
        return Exit.STOPPED  # It was still starting, and did not know yet how to stop.

    return code if code >= 0 else Exit.FAILED
