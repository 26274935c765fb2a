"""The ready-made watchers: slow receivers are logged at a limited rate, and counters and histograms count exactly."""

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
    """A replacement for all clocks of the engine, which moves only when the test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Inline:
    """A delivery that calls receivers at once, and whose deliver takes a second."""

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
    """Take as many seconds as the payload says, as a receiver."""

    def works(sender: Any, s: float) -> None:
        clock.now_s += s

    return works


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the messages that were logged since the last call."""

    def warnings() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return warnings


def in_thread(work: Callable[[], Any]) -> None:
    """Run the function in another thread and wait for its end; fail if it hangs."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()


def status_of_child(work: Callable[[], bool]) -> int:
    """Run the check in a forked process; return 0 if the check was true."""
    with catch_warnings():
        simplefilter("ignore")  # Python 3.12 warns about a fork in a process with threads; this test needs such a fork.
        child = os.fork()

    if child == 0:
        status = 1

        with suppress(BaseException):
            unix_signal.alarm(120)  # It ends a child that is deadlocked.
            status = 0 if work() else 2

        os._exit(status)

    return os.waitpid(child, 0)[1]


# Slow receivers.


def test_a_slow_receiver_is_logged(lamp: Lamp, works: Any, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_receiver_without_a_place_is_logged(lamp: Lamp, warnings: Any) -> None:
    """A receiver that is not written in Python is logged without a place."""
    heard: list[Any] = []
    lamp.connect(heard.append, weak=False)

    with slow_receivers(0, lamp):
        lamp.send()

    assert warnings()[0].startswith("list.append took 0.0")


def test_warnings_are_limited(lamp: Lamp, works: Any, warnings: Any, clock: Clock) -> None:
    """A receiver of a signal is logged once in every_s; the next warning says how many warnings were left out."""
    lamp.connect(works)

    with slow_receivers(1, lamp, every_s=10):
        for _ in range(4):
            lamp.send(s=2)

        assert len(warnings()) == 1
        clock.now_s += 2
        lamp.send(s=2)  # It ends 10 s after the first one has ended.
        assert warnings()[0].endswith("slow (3 more since the last warning)")
        clock.now_s += 8
        lamp.send(s=2)
        assert warnings()[0].endswith("slow")


def test_the_limit_is_for_each_receiver_and_signal(lamp: Lamp, works: Any, warnings: Any, clock: Clock) -> None:
    """The limit counts each receiver of each signal separately."""
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


def test_no_limit_and_infinite_limits(lamp: Lamp, works: Any, warnings: Any) -> None:
    """every_s=0 logs each slow call; an infinite every_s logs one; an infinite threshold logs none."""
    lamp.connect(works)
    infinite = float("inf")

    for every_s, threshold_s, count in ((0, 1, 3), (infinite, 1, 1), (0, infinite, 0)):
        with slow_receivers(threshold_s, lamp, every_s=every_s):
            for _ in range(3):
                lamp.send(s=2)

        assert len(warnings()) == count


def test_a_warning_does_not_wait_for_another_thread(
    lamp: Lamp, works: Any, warnings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow call does not wait while another thread logs a warning about the same receiver; the next warning counts
    it as left out."""
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
def test_a_forked_child_logs_again(
    lamp: Lamp, works: Any, warnings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child logs each receiver anew, even if another thread was about to log it at the fork."""
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


def test_nested_sends_count_for_the_outer_receiver(lamp: Lamp, works: Any, warnings: Any) -> None:
    """If a nested send is slow, both its receiver and the receiver that sent it are logged."""
    outer = Namespace().signal("outer")
    lamp.connect(works)
    outer.connect(lambda sender: lamp.send(s=2), weak=False)

    with slow_receivers(1):
        outer.send()

    assert ["'lamp'" in text for text in warnings()] == [True, False]


def test_failing_receivers_are_slow_too(lamp: Lamp, warnings: Any, clock: Clock) -> None:
    """A receiver that takes long and then raises is logged."""

    @lamp.connect
    def works(sender: Any) -> None:
        clock.now_s += 2
        raise LookupError

    with slow_receivers(1, lamp), suppress(LookupError):
        lamp.send()

    assert len(warnings()) == 1


def test_a_warning_that_fails_does_no_harm(lamp: Lamp, works: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the logger raises, the watch stops and the send goes on."""

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
    """Counters count sends that are muted, refused or failed."""

    async def waits(sender: Any) -> None: ...

    lamp.connect(waits)

    with watch(counters := Counters(), lamp):
        with lamp.muted():
            lamp.send()

        with suppress(RuntimeError):
            lamp.send()

    assert counters.sends() == {"lamp": 2}
    assert counters.receivers() == {}


def test_a_delivered_receiver_is_counted_when_it_runs(lamp: Lamp, works: Any, clock: Clock, warnings: Any) -> None:
    """Passing a call to a delivery is not counted as a call: the run is counted, with its own time; a slow deliver
    is logged."""
    lamp.connect(works, via=Inline(clock))

    with watch(counters := Counters(), lamp), slow_receivers(0.75, lamp, every_s=0):
        lamp.send(s=0.5)

    [histogram] = counters.receivers().values()
    assert (histogram.calls, histogram.total_s) == (1, 0.5)
    assert len(warnings()) == 1


def test_a_reading_of_counters_does_not_change(lamp: Lamp, works: Any) -> None:
    """A reading of the counters does not change when more is counted, and changing the reading does not change the
    counters."""
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
    """Receivers are counted by their qualified names, so that counters do not grow when receivers are made again and
    again."""

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


def test_a_destructor_may_send_while_counters_are_read(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor may send while the counters are read, without a deadlock or an error."""
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
    """Replacement for ``Histogram.add`` that calls a function first, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
        add = Histogram.add

        def add_later(histogram: Histogram, *args: Any, **options: Any) -> None:
            monkeypatch.setattr(Histogram, "add", add)
            act()
            add(histogram, *args, **options)

        monkeypatch.setattr(Histogram, "add", add_later)


def test_a_send_does_not_wait_for_a_thread_that_counts(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread counts, sends in other threads do not wait, because a destructor in the first thread could
    wait for them."""
    lamp.connect(hears := lambda sender: None)

    with watch(counters := Counters()):
        Interrupted(monkeypatch, lambda: in_thread(lamp.send))
        lamp.send()

    [histogram] = counters.receivers().values()
    assert (counters.sends(), histogram.calls) == ({"lamp": 2}, 2)
    del hears


def test_counters_may_be_read_while_they_count(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor that reads the counters in the middle of a count gets the values from before it."""
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
    """A child that is forked while another thread counts has all earlier counts, and counts on."""
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
            has_forked.wait(0.05)  # This must not happen: the fork waits.

        Interrupted(monkeypatch, begin_to_fork)
        lamp.send()
        forking.join()

    assert statuses == [0]
    del hears


@pytest.mark.parametrize("place", range(len(BUCKETS_S)))
def test_a_bucket_holds_its_upper_bound(place: int) -> None:
    """A duration equal to a bound is in the bound's bucket; a longer duration is in the next one."""
    histogram = Histogram()
    histogram.add(BUCKETS_S[place], is_failure=False)
    histogram.add(BUCKETS_S[place] * 1.01, is_failure=True)

    assert histogram.buckets == [int(number in (place, place + 1)) for number in range(len(BUCKETS_S) + 1)]
    assert (histogram.calls, histogram.failures) == (2, 1)


def test_buckets_are_in_order() -> None:
    """The bounds of the buckets increase."""
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


def test_meters_store_names_only(lamp: Lamp) -> None:
    """Counters and slow receivers store names, and no receivers, senders or records."""
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
