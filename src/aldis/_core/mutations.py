"""One change at a time, from any thread, without a deadlock.

Changes to who is connected come from three sides: calls of ``connect`` and ``disconnect`` in any thread;
weak references that die, whose callbacks run at any moment, also while this very thread is in the middle
of a change; and destructors that a collection runs at such a moment, which may connect and disconnect as
they like. So a change is a callable in a queue, and whoever holds the lock works the queue off:

- a call that finds the lock taken by another thread waits, so that its change is made when it returns;
- a weakref callback never waits: if the lock is taken, the holder finds the change when it lets go;
- a call from inside a change, in the same thread, is left to the frame below, which is working the queue
  off already. Changes are therefore never nested, and each sees the tables whole.

There is one queue for the process. Changes are short and rare beside sends, which take no lock, and with
one lock there is no order of locks to get wrong. ``fork`` waits for the change under way, so that the
child finds the lock free and the tables whole.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Final, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@final
class ChangeQueue:
    """Runs changes one after the other. See the module's docstring for the rules."""

    __slots__ = ("_changes", "_lock", "_running", "_waste")

    def __init__(self) -> None:
        # Re-entrant, so that this thread's own interruptions get in and see the flag below.
        self._lock = RLock()
        self._running = False
        self._changes: deque[Callable[[], object]] = deque()
        self._waste: deque[object] = deque()

    def apply(self, change: Callable[[], object]) -> None:
        """Make a change, and return when it is made (from inside another change: when it is queued)."""
        self._changes.append(change)

        try:
            # At least once round, even if the queue is empty by now: the change may be under way elsewhere.
            with self._lock:
                self._work_off()
        finally:
            self.settle()

    def defer(self, change: Callable[[], object]) -> None:
        """Have a change made soon. Never waits, so that a weakref callback may call it."""
        self._changes.append(change)
        self.settle()

    def settle(self) -> None:
        """Work the queue off, unless somebody who holds the lock is going to."""
        while self._changes and self._lock.acquire(blocking=False):
            try:
                if self._running:
                    return

                self._work_off()
            finally:
                self._lock.release()

        # By whether this thread holds the lock, not by the flag: an interruption may come between the two.
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._empty()

    def at_once(self, change: Callable[[], object]) -> None:
        """Make a change even from inside another, which must not mind it."""
        with self._lock:
            change()

    def discard(self, *waste: object) -> None:
        """Let go of objects of a user's when the lock is free: their destructors may take other locks."""
        self._waste.append(waste)

    def report(self, report: Callable[[], object]) -> None:
        """Call something of a user's when the lock is free."""
        self._waste.append(Report(report))

    def _empty(self) -> None:
        with suppress(IndexError):  # Another thread was quicker, and took the last.
            while self._waste:
                self._waste.popleft()

    def read(self, look: Callable[[bool], T]) -> T:
        """Call ``look`` while nothing changes; changes that come up in it wait until it is done.

        :param look: is told whether it may keep what it makes of what it sees: not when it is called from
            inside a change, which has not shown its effects yet.
        """
        with self._lock:
            if self._running:
                return look(False)

            self._running = True

            try:
                found = look(True)
            finally:
                self._running = False

        self.settle()
        return found

    def _work_off(self) -> None:
        if self._running:
            return

        self._running = True

        try:
            while self._changes:
                self._changes.popleft()()
        finally:
            self._running = False

    def hold(self) -> None:
        """Take the lock for a fork."""
        self._lock.acquire()

    def let_go(self) -> None:
        """Give the lock back after a fork, in the parent and in the child."""
        self._lock.release()


@final
class Report:
    """Calls when it is let go of. What a destructor raises is nobody's to catch, and Python reports it itself."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


changes: Final = ChangeQueue()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Not on Windows.
    os.register_at_fork(before=changes.hold, after_in_parent=changes.let_go, after_in_child=changes.let_go)
