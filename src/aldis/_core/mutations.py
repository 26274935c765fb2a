"""The change queue: one change at a time, from any thread, without a deadlock.

Changes to the connections come from three sides:

- calls of ``connect`` and ``disconnect`` in any thread;
- weak references that die. Their callbacks run at any moment, even while this thread is in the middle of a change;
- destructors that a garbage collection runs at such a moment. They may connect and disconnect.

So a change is a callable in a queue, and the thread that holds the lock drains the queue:

- a call that finds the lock taken by another thread waits, so its change is made when the call returns;
- a weakref callback never waits: if the lock is taken, the thread that holds it finds the change before releasing it;
- a call from inside a change, in the same thread, only queues its change. A caller of that change is draining the queue
  already. So changes are never nested, and each change sees whole registries.

The process has one queue. Changes are short, and rare beside sends, which take no lock. With one lock, there is no
order of locks to get wrong. ``fork`` waits for the current change, so the child finds the lock free and the registries
whole.

The queue stays one class: the queue, the lock and the garbage are one protocol. Each method relies on the order of the
steps in the others, so it cannot be understood in parts.
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

    __slots__ = ("_changes", "_garbage", "_lock", "_running")

    def __init__(self) -> None:
        # Re-entrant: a callback or a destructor in this thread gets in, and sees the flag below.
        self._lock = RLock()
        self._running = False
        self._changes: deque[Callable[[], object]] = deque()
        self._garbage: deque[object] = deque()

    def apply(self, change: Callable[[], object]) -> None:
        """Make a change, and return when it is made. From inside another change: return when it is queued."""
        self._changes.append(change)

        try:
            # Take the lock even if the queue is empty by now: another thread may be making the change.
            with self._lock:
                self._drain()
        finally:
            self.try_drain()

    def defer(self, change: Callable[[], object]) -> None:
        """Make a change soon. This never waits, so a weakref callback may call it."""
        self._changes.append(change)
        self.try_drain()

    def try_drain(self) -> None:
        """Drain the queue. If another thread or a caller in this thread holds the lock, the holder drains the queue
        instead.
        """
        while self._changes and self._lock.acquire(blocking=False):
            try:
                if self._running:
                    return

                self._drain()
            finally:
                self._lock.release()

        # Ask for the lock, not for the flag: a callback may come between the two.
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._collect_garbage()

    def at_once(self, change: Callable[[], object]) -> None:
        """Make a change even from inside another change. The other change must tolerate it."""
        with self._lock:
            change()

    def add_garbage(self, *garbage: object) -> None:
        """Release objects of the user when the lock is free: their destructors may take other locks."""
        self._garbage.append(garbage)

    def report(self, report: Callable[[], object]) -> None:
        """Call a function of the user when the lock is free."""
        self._garbage.append(Report(report))

    def read(self, look: Callable[[bool], T]) -> T:
        """Call ``look`` while nothing changes. Changes that are queued meanwhile wait until it returns.

        :param look: called with whether it may keep what it computes. Inside a change it may not, because the effects
            of the change are not complete yet.
        """
        with self._lock:
            if self._running:
                return look(False)

            self._running = True

            try:
                found = look(True)
            finally:
                self._running = False

        self.try_drain()
        return found

    def _drain(self) -> None:
        if self._running:
            return

        self._running = True

        try:
            while self._changes:
                self._changes.popleft()()
        finally:
            self._running = False

    def _collect_garbage(self) -> None:
        with suppress(IndexError):  # Another thread may take the last object.
            while self._garbage:
                self._garbage.popleft()

    def lock_for_fork(self) -> None:
        """Take the lock before a fork."""
        self._lock.acquire()

    def unlock_after_fork(self) -> None:
        """Release the lock after a fork, in the parent and in the child."""
        self._lock.release()


@final
class Report:
    """Calls a function when it is released. Python itself reports the exceptions of a destructor."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


changes: Final = ChangeQueue()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Not on Windows.
    os.register_at_fork(
        before=changes.lock_for_fork,
        after_in_parent=changes.unlock_after_fork,
        after_in_child=changes.unlock_after_fork,
    )
