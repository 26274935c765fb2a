"""What wakes a thread that waits, also from a signal handler.

A handler runs in the main thread, between any two lines of what that is doing. ``threading.Event`` has a lock that it
takes in Python: a handler that sets an event which the main thread is about to wait for waits for itself.
"""

from __future__ import annotations

from contextlib import suppress
from threading import TIMEOUT_MAX, Lock
from typing import final


@final
class WakeEvent:
    """Wakes the one thread that waits for it. Rung several times meanwhile, it wakes that once."""

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = Lock()  # Held as long as nobody has rung.
        self._silence.acquire()

    def ring(self) -> None:
        """Wake it: now, or when it will wait. May be called in any thread, and in a signal handler."""
        with suppress(RuntimeError):  # Somebody has rung already.
            self._silence.release()

    def has_rung(self) -> bool:
        """Whether it has been rung since the last wait."""
        return not self._silence.locked()

    def wait(self, seconds: float) -> None:
        """Wait until it is rung, or for so long."""
        self._silence.acquire(timeout=min(seconds, TIMEOUT_MAX))
