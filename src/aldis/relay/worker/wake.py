"""Wake and stop a thread, also from a signal handler.

A handler runs in the main thread, between any two lines of its code. ``threading.Event`` takes a lock in Python code: a
handler that sets an event for which the main thread is about to wait would wait for itself.
"""

from __future__ import annotations

import time
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock
from typing import Final, final

_SAME_STOP_S: Final = 1.0


@final
class WakeEvent:
    """Wakes the one thread that waits for it. If it is set several times before that, it wakes the thread once."""

    __slots__ = ("_unset",)

    def __init__(self) -> None:
        self._unset = Lock()  # Locked while the event is not set.
        self._unset.acquire()

    def set(self) -> None:
        """Wake the thread: now, or when it waits next. Any thread may call this, and a signal handler too."""
        with suppress(RuntimeError):  # The event is set already.
            self._unset.release()

    def is_set(self) -> bool:
        """Return whether it was set since the last wait."""
        return not self._unset.locked()

    def wait(self, seconds: float) -> None:
        """Wait until it is set, but no longer than this."""
        self._unset.acquire(timeout=min(seconds, TIMEOUT_MAX))


@final
class StopRequest:
    """Tells a worker to stop: at the first request, when its receivers have ended; at the second, at once.

    :ivar requested_at: when the first request came, by the monotonic clock; ``None`` before.
    :ivar is_urgent: whether a second request came.
    """

    __slots__ = ("is_urgent", "requested_at")

    requested_at: float | None

    def __init__(self) -> None:
        self.requested_at = None
        self.is_urgent = False

    def request(self) -> None:
        """Request a stop. A signal handler may call this.

        A second request within a second counts as the same request, because an init system and the parent process may
        both signal a process.
        """
        now = time.monotonic()

        if self.requested_at is None:
            self.requested_at = now
        elif now - self.requested_at > _SAME_STOP_S:
            self.is_urgent = True
