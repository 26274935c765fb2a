"""Sight, ready made: slow receivers are warned of at a measured rate, and counters and histograms count exactly."""

from __future__ import annotations

import gc
import logging
import os
import signal as unix_signal
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import pytest

from aldis import NamedSignal, Namespace, Signal
from aldis.observe import BUCKETS_S, Counters, Histogram, slow_receivers, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from aldis._core.types import Undeclared

    Lamp: TypeAlias = NamedSignal[Any, ..., Undeclared]


class Clock:
    """All the clocks of the engine. They stand still unless they are moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Inline:
    """A delivery that runs receivers at once, and takes a second to hand them over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> Any:
        self.clock.now_s += 1
        return call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("aldis._core.watching.perf_counter", clock)
    monkeypatch.setattr("aldis.observe._metrics.monotonic", clock)
    return clock


@pytest.fixture
def lamp() -> Lamp:
    return Namespace().signal("lamp")


@pytest.fixture
def works(clock: Clock) -> Callable[[Any, float], None]:
    """A receiver that takes as many seconds as the payload says."""

    def works(sender: Any, s: float) -> None:
        clock.now_s += s

    return works


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged since the last call."""

    def warnings() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return warnings


def in_thread(work: Callable[[], Any]) -> None:
    """Run it in another thread, and wait until that is done; fail if it hangs."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()


def status_of_child(work: Callable[[], bool]) -> int:
    """Run it in a forked process: 0 if it was true."""
    with catch_warnings():
        simplefilter("ignore")  # Python 3.12 warns of a fork in a process with threads. That is what this is about.
        child = os.fork()

    if child == 0:
        status = 1

        with suppress(BaseException):
            unix_signal.alarm(120)  # A child that is deadlocked ends by it.
            status = 0 if work() else 2

        os._exit(status)

    return os.waitpid(child, 0)[1]


# Slow receivers.


def test_a_slow_receiver_is_warned_of(lamp: Lamp, works: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that takes the threshold or longer is logged, with its name, place, time and signal."""
    lamp.connect(works)

    with slow_receivers(0.5, lamp):
        lamp.send(s=0.4)
        assert caplog.records == []
        lamp.send(s=0.5)

    [record] = caplog.records
    assert (record.name, record.levelno) == ("aldis", logging.WARNING)
    assert record.getMessage() == (
        f"{works.__module__}.{works.__qualname__} ({__file__}:{works.__code__.co_firstlineno}) took 0.500 s on the"
        " signal 'lamp', and 0.5 s or more is slow"
    )


def test_a_receiver_without_a_place_is_warned_of(lamp: Lamp, warnings: Any) -> None:
    """A receiver that is not written in Python is named without a place."""
    heard: list[Any] = []
    lamp.connect(heard.append, weak=False)

    with slow_receivers(0, lamp):
        lamp.send()

    assert warnings()[0].startswith("list.append took 0.0")


def test_warnings_are_limited(lamp: Lamp, works: Any, warnings: Any, clock: Clock) -> None:
    """The same receiver of the same signal is warned of once in every_s; the next says how many were left out."""
    lamp.connect(works)

    with slow_receivers(1, lamp, every_s=10):
        for _ in range(4):
            lamp.send(s=2)

        assert len(warnings()) == 1
        clock.now_s += 2
        lamp.send(s=2)  # It ends 10 s after the first has ended.
        assert warnings()[0].endswith("slow (3 more since the last warning)")
        clock.now_s += 8
        lamp.send(s=2)
        assert warnings()[0].endswith("slow")


def test_the_limit_is_for_each_receiver_and_signal(lamp: Lamp, works: Any, warnings: Any, clock: Clock) -> None:
    """A warning of one receiver leaves out none of another, nor of the same receiver on another signal."""
    other = Namespace().signal("other")

    def works_too(sender: Any, s: float) -> None:
        clock.now_s += s

    for signal in (lamp, other):
        signal.connect(works)
        signal.connect(works_too)

    with slow_receivers(1):
        for signal in (lamp, other, lamp):
            signal.send(s=2)

    assert len(warnings()) == 4


def test_no_limit_and_no_end(lamp: Lamp, works: Any, warnings: Any) -> None:
    """every_s=0 warns of each; an infinite one warns once; an infinite threshold never."""
    lamp.connect(works)
    infinite = float("inf")

    for every_s, threshold_s, count in ((0, 1, 3), (infinite, 1, 1), (0, infinite, 0)):
        with slow_receivers(threshold_s, lamp, every_s=every_s):
            for _ in range(3):
                lamp.send(s=2)

        assert len(warnings()) == count


def test_a_warning_of_another_thread_is_left_out_and_counted(
    lamp: Lamp, works: Any, warnings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that is slow while another thread is about to warn of it does not wait; the next warning counts it."""
    lamp.connect(works)
    threads = [lambda: lamp.send(s=1), lambda: lamp.send(s=1)]

    def meanwhile() -> float:
        while threads:
            in_thread(threads.pop())

        return clock.now_s

    with slow_receivers(1, lamp, every_s=10):
        monkeypatch.setattr("aldis.observe._metrics.monotonic", meanwhile)
        lamp.send(s=1)
        assert len(warnings()) == 1
        lamp.send(s=1)
        assert warnings() == []
        clock.now_s += 10
        lamp.send(s=1)
        assert warnings()[0].endswith("(3 more since the last warning)")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_warns_again(
    lamp: Lamp, works: Any, warnings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child warns of each receiver anew, also if another thread was about to when it was forked."""
    lamp.connect(works)
    statuses: list[int] = []

    def warns() -> bool:
        monkeypatch.undo()
        warnings()
        lamp.send(s=1)
        lamp.send(s=1)
        return len(warnings()) == 1

    def fork() -> float:
        in_thread(lambda: statuses.append(status_of_child(warns)))
        return clock.now_s

    with slow_receivers(0, lamp, every_s=1000):
        monkeypatch.setattr("aldis.observe._metrics.monotonic", fork)
        lamp.send(s=1)

    assert statuses == [0]


def test_the_logger_can_be_chosen(lamp: Lamp, works: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Warnings go to the logger of the given name."""
    lamp.connect(works)

    with slow_receivers(1, lamp, logger="shop.slow"):
        lamp.send(s=2)

    assert [record.name for record in caplog.records] == ["shop.slow"]


def test_what_a_receiver_sends_counts_for_it(lamp: Lamp, works: Any, warnings: Any) -> None:
    """A receiver is slow when what it sends is slow; both are warned of."""
    outer = Namespace().signal("outer")
    lamp.connect(works)
    outer.connect(lambda sender: lamp.send(s=2), weak=False)

    with slow_receivers(1):
        outer.send()

    assert ["'lamp'" in text for text in warnings()] == [True, False]


def test_failing_receivers_are_slow_too(lamp: Lamp, warnings: Any, clock: Clock) -> None:
    """A receiver that takes long and then raises is warned of."""

    @lamp.connect
    def works(sender: Any) -> None:
        clock.now_s += 2
        raise LookupError

    with slow_receivers(1, lamp), suppress(LookupError):
        lamp.send()

    assert len(warnings()) == 1


def test_a_warning_that_fails_harms_nobody(lamp: Lamp, works: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the logger raises, the watch stops, and the send goes on."""

    def refuse(record: logging.LogRecord) -> bool:
        raise LookupError

    monkeypatch.setattr(logging.getLogger("aldis"), "filters", [refuse])
    lamp.connect(works)

    with slow_receivers(1, lamp) as token:
        assert len(lamp.send(s=2)) == 1

    assert token.is_stopped


# Counters and histograms.


def test_counters_count_exactly(lamp: Lamp, works: Any) -> None:
    """Counters count sends by signal, and calls, failures and durations by receiver."""

    def fails(sender: Any, s: float) -> None:
        raise LookupError

    lamp.errors = lambda failure: None
    lamp.connect(works)
    lamp.connect(fails)
    counters = Counters()

    with watch(counters):
        for s in (0.0625, 0.5, 8.0):
            lamp.send(s=s)

        Signal().send()

    lamp.send(s=1)

    assert counters.sends() == {"lamp": 3, "Signal": 1}
    counted = counters.receivers()
    assert list(counted) == [("lamp", f"{each.__module__}.{each.__qualname__}") for each in (works, fails)]
    first, second = counted.values()
    assert (first.calls, first.failures, first.total_s, first.longest_s) == (3, 0, 8.5625, 8.0)
    assert first.buckets == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1]
    assert (second.calls, second.failures, second.total_s, second.longest_s) == (3, 3, 0, 0)
    assert second.buckets == [3, *[0] * 10]
    assert repr(first) == "<Histogram of 3 calls, 0 failed, 8.562 s>"


def test_counters_count_muted_and_failed_sends(lamp: Lamp) -> None:
    """Sends that are muted, refused or failed are sends."""

    async def waits(sender: Any) -> None: ...

    lamp.connect(waits)

    with watch(counters := Counters(), lamp):
        with lamp.muted():
            lamp.send()

        with suppress(RuntimeError):
            lamp.send()

    assert counters.sends() == {"lamp": 2}
    assert counters.receivers() == {}


def test_a_delivered_receiver_counts_when_it_runs(lamp: Lamp, works: Any, clock: Clock, warnings: Any) -> None:
    """To be handed over is no call: the run is counted, with its own time. A slow hand-over is warned of, too."""
    lamp.connect(works, via=Inline(clock))

    with watch(counters := Counters(), lamp), slow_receivers(0.75, lamp, every_s=0):
        lamp.send(s=0.5)

    [histogram] = counters.receivers().values()
    assert (histogram.calls, histogram.total_s) == (1, 0.5)
    assert len(warnings()) == 1


def test_what_counters_give_does_not_change(lamp: Lamp, works: Any) -> None:
    """What was given out stays as it was, whatever is counted later, or changed in it."""
    lamp.connect(works)

    with watch(counters := Counters(), lamp):
        lamp.send(s=1)
        sends, receivers = counters.sends(), counters.receivers()
        lamp.send(s=1)

    assert sends == {"lamp": 1}
    [histogram] = receivers.values()
    assert (histogram.calls, sum(histogram.buckets)) == (1, 1)
    histogram.add(1, is_failure=True)
    sends.clear()
    assert counters.sends() == {"lamp": 2}
    assert [each.failures for each in counters.receivers().values()] == [0]


def test_receivers_of_one_name_are_counted_together(lamp: Lamp) -> None:
    """Receivers are told apart by their qualified names, so that what is made again and again does not pile up."""

    def make() -> Any:
        def hear(sender: Any) -> None: ...

        return hear

    with watch(counters := Counters(), lamp):
        for _ in range(3):
            hear = make()
            lamp.connect(hear)
            lamp.send()
            del hear

    assert [histogram.calls for histogram in counters.receivers().values()] == [3]


def test_counting_while_counters_are_read(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor may send while the counters are read: nothing waits and nothing fails."""
    heard = Signal()
    heard.connect(hears := lambda sender: None)
    lamp.connect(hears)
    copy = Histogram.copy

    def copy_and_send(histogram: Histogram) -> Histogram:
        heard.send()
        return copy(histogram)

    with watch(counters := Counters()):
        lamp.send()
        monkeypatch.setattr(Histogram, "copy", copy_and_send)
        assert list(counters.receivers()) == [("lamp", f"{hears.__module__}.{hears.__qualname__}")]
        assert len(counters.receivers()) == 2


class Interrupted:
    """Stands in for ``Histogram.add``: does something else first, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
        add = Histogram.add

        def add_later(histogram: Histogram, *args: Any, **options: Any) -> None:
            monkeypatch.setattr(Histogram, "add", add)
            act()
            add(histogram, *args, **options)

        monkeypatch.setattr(Histogram, "add", add_later)


def test_a_send_does_not_wait_for_who_counts(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread counts, others send on, or a destructor in it could wait for one that waits for it."""
    lamp.connect(hears := lambda sender: None)

    with watch(counters := Counters()):
        Interrupted(monkeypatch, lambda: in_thread(lamp.send))
        lamp.send()

    [histogram] = counters.receivers().values()
    assert (counters.sends(), histogram.calls) == ({"lamp": 2}, 2)
    del hears


def test_counters_may_be_read_while_they_count(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor that reads the counters in the middle of a count gets what was counted before."""
    lamp.connect(hears := lambda sender: None)
    looks: list[Any] = []

    with watch(counters := Counters()):
        lamp.send()
        Interrupted(monkeypatch, lambda: looks.append([each.calls for each in counters.receivers().values()]))
        lamp.send()

    assert looks == [[1]]
    assert [each.calls for each in counters.receivers().values()] == [2]
    del hears


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_goes_on_counting(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked while another thread counts has all that was counted, and goes on."""
    lamp.connect(hears := lambda sender: None)
    statuses: list[int] = []
    has_forked = Event()

    def counts() -> bool:
        lamp.send()
        return [each.calls for each in counters.receivers().values()] == [2]

    def fork() -> None:
        statuses.append(status_of_child(counts))
        has_forked.set()

    with watch(counters := Counters()):
        forking = Thread(target=fork)

        def begin_to_fork() -> None:
            forking.start()
            has_forked.wait(0.05)  # It is not to happen: the fork waits.

        Interrupted(monkeypatch, begin_to_fork)
        lamp.send()
        forking.join()

    assert statuses == [0]
    del hears


@pytest.mark.parametrize("place", range(len(BUCKETS_S)))
def test_a_bucket_holds_its_upper_bound(place: int) -> None:
    """What takes exactly as long as a bound is in that bound's bucket; what takes longer is in the next."""
    histogram = Histogram()
    histogram.add(BUCKETS_S[place], is_failure=False)
    histogram.add(BUCKETS_S[place] * 1.01, is_failure=True)

    assert histogram.buckets == [int(number in (place, place + 1)) for number in range(len(BUCKETS_S) + 1)]
    assert (histogram.calls, histogram.failures) == (2, 1)


def test_buckets_are_in_order() -> None:
    """The bounds of the buckets grow."""
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


def test_meters_keep_only_names(lamp: Lamp) -> None:
    """Counters and slow receivers keep names: not receivers, senders or records."""
    import weakref

    class Thing:
        def __call__(self, sender: Any) -> None: ...

    thing = Thing()
    reference = weakref.ref(thing)
    lamp.connect(thing)

    with watch(Counters(), lamp), slow_receivers(0, lamp, logger="aldis.silent"):
        lamp.send(thing)
        del thing
        gc.collect()
        assert reference() is None
