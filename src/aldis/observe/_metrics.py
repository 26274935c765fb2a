"""Watchers for metrics: slow receivers, counters and histograms.

Watchers run in the middle of sends, and a send must not wait for them: a destructor may send at any moment, also while
this thread holds a lock that another thread waits for. So no watcher here waits for a lock when it counts.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, final

from aldis._core.mutations import ChangeQueue
from aldis._core.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from aldis._core.records import CallRecord, SendRecord

T = TypeVar("T")


@final
class SlowReceivers(Watcher):
    """Logs a warning when a receiver takes long. See :func:`aldis.observe.slow_receivers`."""

    def __init__(self, threshold_s: float, every_s: float, logger: Logger) -> None:
        self._threshold_s = threshold_s
        self._every_s = every_s
        self._logger = logger
        self._rates: dict[tuple[int, str, str], _Rate] = {}

    def call_ended(self, call: CallRecord) -> None:
        """Log a warning if the call took long and a warning is due."""
        if call.duration_s is None or call.duration_s < self._threshold_s:
            return

        # The key has the process too: in a forked child, an entry that a thread of the parent had taken out is never
        # put back.
        key = os.getpid(), call.signal_name, call.receiver_name
        left_out = self._rates.setdefault(key, _Rate()).left_out(self._every_s)

        if left_out is None:
            return

        self._logger.warning(
            "%s%s took %.3f s on the signal %r, and %g s or more is slow%s",
            call.receiver_name,
            f" ({call.receiver_place})" if call.receiver_place else "",
            call.duration_s,
            call.signal_name,
            self._threshold_s,
            f" ({left_out} more since the last warning)" if left_out else "",
        )


@final
class _Rate:
    """Limits how often a warning of one receiver is logged."""

    __slots__ = ("_last", "_meanwhile")

    def __init__(self) -> None:
        # The time of the last warning, and how many were left out since. A thread takes the entry out while it decides,
        # so that no other thread decides at the same time.
        self._last: list[tuple[float, int]] = [(-inf, 0)]
        self._meanwhile: list[None] = []

    def left_out(self, every_s: float) -> int | None:
        """Return how many warnings were left out since the last one, or ``None`` to leave this warning out, too."""
        try:
            warned_s, left_out = self._last.pop()
        except IndexError:
            self._meanwhile.append(None)  # Another thread is deciding now.
            return None

        more = len(self._meanwhile)
        del self._meanwhile[:more]
        now_s = monotonic()
        is_due = now_s - warned_s >= every_s
        self._last.append((now_s, 0) if is_due else (warned_s, left_out + more + 1))
        return left_out + more if is_due else None


BUCKETS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""The upper bounds of the buckets of a :class:`Histogram`, in seconds. One more bucket counts all longer calls."""


@final
class Histogram:
    """Counts how long the calls of one receiver took.

    :ivar calls: the number of calls.
    :ivar failures: the number of calls that raised.
    :ivar total_s: the time of all calls together, in seconds.
    :ivar longest_s: the time of the longest call, in seconds.
    :ivar buckets: for each of :data:`BUCKETS_S`, the number of calls that took at most as long, and longer than the
        bound before; at the end, the number of calls that took longer than all bounds.

    .. versionadded:: 0.1
    """

    __slots__ = ("buckets", "calls", "failures", "longest_s", "total_s")

    buckets: list[int]
    calls: int
    failures: int
    longest_s: float
    total_s: float

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)

    def add(self, duration_s: float, *, is_failure: bool) -> None:
        """Count one call. Threads that add to the same histogram need a lock; :class:`Counters` needs none.

        :param duration_s: how long the call took, in seconds.
        :param is_failure: whether the call raised.
        """
        self.calls += 1
        self.failures += is_failure
        self.total_s += duration_s
        self.longest_s = max(self.longest_s, duration_s)
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def copy(self) -> Histogram:
        """Return a copy that does not change any more."""
        other = Histogram()
        other.calls, other.failures = self.calls, self.failures
        other.total_s, other.longest_s = self.total_s, self.longest_s
        other.buckets = list(self.buckets)
        return other

    def __repr__(self) -> str:
        return f"<Histogram of {self.calls} calls, {self.failures} failed, {self.total_s:.3f} s>"


@final
class Counters(Watcher):
    """Counts sends by signal; and calls, failures and durations by receiver. Use it as ``watch(counters)``.

    Signals and receivers of the same names are counted together. Every read, in any thread, includes all sends that
    have ended; no send waits for a reader. A forked child starts with the numbers of its parent.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._sends: dict[str, int] = {}
        self._receivers: dict[tuple[str, str], Histogram] = {}

    def send_ended(self, send: SendRecord) -> None:
        """Count the send."""
        _counts.defer(partial(self._count_send, send.signal_name))

    def call_ended(self, call: CallRecord) -> None:
        """Count the call, unless it only hands the receiver to its delivery, which makes a call of its own later."""
        if call.is_delivery or call.duration_s is None:
            return

        key = call.signal_name, call.receiver_name
        _counts.defer(partial(self._count_call, key, call.duration_s, is_failure=call.outcome == "raised"))

    def _count_send(self, name: str) -> None:
        self._sends[name] = self._sends.get(name, 0) + 1

    def _count_call(self, key: tuple[str, str], duration_s: float, *, is_failure: bool) -> None:
        self._receivers.setdefault(key, Histogram()).add(duration_s, is_failure=is_failure)

    def sends(self) -> dict[str, int]:
        """Return the number of sends by the signal's name. Failed and muted sends count, too."""
        return _read(self._sends.copy)

    def receivers(self) -> dict[tuple[str, str], Histogram]:
        """Return a histogram for each receiver, by the signal's name and the receiver's qualified name."""
        # A list, because a destructor may send meanwhile and so add a receiver.
        return _read(lambda: {key: histogram.copy() for key, histogram in list(self._receivers.items())})


def _read(copy: Callable[[], T]) -> T:
    """Copy when all sends that have ended are counted, and no count is running."""
    found: list[T] = []
    _counts.apply(lambda: found.append(copy()))
    return found[0] if found else copy()  # A destructor may ask in the middle of a count.


# This is not the engine's own queue, because a connect must not wait for a count.
_counts: Final = ChangeQueue()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Not on Windows.
    os.register_at_fork(
        before=_counts.lock_for_fork,
        after_in_parent=_counts.unlock_after_fork,
        after_in_child=_counts.unlock_after_fork,
    )
