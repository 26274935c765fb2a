"""Watchers that are ready made: slow receivers, counters and histograms."""

from __future__ import annotations

from bisect import bisect_left
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from ._watching import Watcher

if TYPE_CHECKING:
    from logging import Logger

    from ._records import CallRecord, SendRecord


@final
class SlowReceivers(Watcher):
    """Logs a warning when a receiver takes long. See :func:`aldis.observe.slow_receivers`."""

    def __init__(self, threshold_s: float, every_s: float, logger: Logger) -> None:
        self._threshold_s = threshold_s
        self._every_s = every_s
        self._logger = logger
        self._warned: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = RLock()  # Re-entrant: a destructor may send at any moment.

    def call_ended(self, call: CallRecord) -> None:
        """Look at how long it took."""
        if call.duration_s is None or call.duration_s < self._threshold_s:
            return

        left_out = self._left_out((call.signal_name, call.receiver_name))

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

    def _left_out(self, key: tuple[str, str]) -> int | None:
        """How many warnings were left out since the last, or ``None`` if this one is to be left out, too."""
        now_s = monotonic()

        with self._lock:
            warned_s, left_out = self._warned.get(key, (None, 0))

            if warned_s is not None and now_s - warned_s < self._every_s:
                self._warned[key] = (warned_s, left_out + 1)
                return None

            self._warned[key] = (now_s, 0)
            return left_out


BUCKETS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""The upper bounds of a :class:`Histogram`'s buckets, in seconds. There is one more bucket, for all above."""


@final
class Histogram:
    """How long the calls of one receiver took.

    :ivar calls: how many there were.
    :ivar failures: how many of them raised.
    :ivar total_s: how long they took together, in seconds.
    :ivar longest_s: how long the longest took, in seconds.
    :ivar buckets: how many took at most as long as each of :data:`BUCKETS_S`, and longer than the one before; at
        the end, how many took longer than all.

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
        """Count one call. Threads that add to the same histogram need a lock; :class:`Counters` has one.

        :param duration_s: how long it took, in seconds.
        :param is_failure: whether it raised.
        """
        self.calls += 1
        self.failures += is_failure
        self.total_s += duration_s
        self.longest_s = max(self.longest_s, duration_s)
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def copy(self) -> Histogram:
        """One that does not change any more."""
        other = Histogram()
        other.calls, other.failures = self.calls, self.failures
        other.total_s, other.longest_s = self.total_s, self.longest_s
        other.buckets = list(self.buckets)
        return other

    def __repr__(self) -> str:
        return f"<Histogram of {self.calls} calls, {self.failures} failed, {self.total_s:.3f} s>"


@final
class Counters(Watcher):
    """Counts sends by signal, and calls, failures and durations by receiver: ``watch(counters)``.

    Signals and receivers of the same names are counted together.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        self._sends: dict[str, int] = {}
        self._receivers: dict[tuple[str, str], Histogram] = {}
        self._lock = RLock()  # Re-entrant: a destructor may send at any moment.

    def send_ended(self, send: SendRecord) -> None:
        """Count it."""
        with self._lock:
            self._sends[send.signal_name] = self._sends.get(send.signal_name, 0) + 1

    def call_ended(self, call: CallRecord) -> None:
        """Count it, unless it was only handed over: its delivery runs it, and that is told of too."""
        if call.is_delivery or call.duration_s is None:
            return

        with self._lock:
            histogram = self._receivers.setdefault((call.signal_name, call.receiver_name), Histogram())
            histogram.add(call.duration_s, is_failure=call.outcome == "raised")

    def sends(self) -> dict[str, int]:
        """How many sends there were, by the signal's name: failed ones and muted ones, too."""
        with self._lock:
            return dict(self._sends)

    def receivers(self) -> dict[tuple[str, str], Histogram]:
        """What receivers took, by the signal's name and the receiver's qualified name."""
        with self._lock:
            # A list, because a destructor may send meanwhile, and so add another.
            return {key: histogram.copy() for key, histogram in list(self._receivers.items())}
