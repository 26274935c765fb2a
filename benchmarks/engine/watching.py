"""The cost of a send with watchers: a function, counters, slow receivers, OpenTelemetry; and without watchers.

OpenTelemetry runs with its SDK and without an exporter, so the figures contain the creation of spans and metrics only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aldis import Signal
from aldis.observe import Counters, SendRecord, slow_receivers, watch
from benchmarks.harness.report import Table, duration, ratio
from benchmarks.harness.timing import interleave, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.timing import Slice, Timing

PEERS = ("blinker", "opentelemetry-sdk")
COUNTS = (0, 1, 3, 10)


def measure(quick: bool) -> Iterator[Table]:
    """Measure the same sends as ratios and as times."""
    head = ("receivers", "Blinker", *WATCHES)
    ratios = Table("Watched sends with one keyword, as ratios to Blinker's", head)
    times = Table("The same sends, how long they take", head)

    for count in COUNTS:
        timings = interleave(_slices(count), 0.5 if quick else 4.0)
        base = timings.get("Blinker")
        ratios.rows.append((count, duration(base.best if base else None), *_ratios(timings, base)))
        times.rows.append((count, *(duration(timings[name].best if name in timings else None) for name in head[1:])))

    yield ratios
    yield times


def _ratios(timings: dict[str, Timing], base: Timing | None) -> Iterator[str]:
    for name in WATCHES:
        yield ratio(timings[name].ratio(base) if base and name in timings else None)


def _slices(count: int) -> dict[str, Slice]:
    signals: dict[str, Any] = {}

    for name, begin in (("Blinker", _blinker), *WATCHES.items()):
        try:
            signals[name] = begin()
        except ModuleNotFoundError:
            continue

    return {name: _slice(signal, count) for name, signal in signals.items()}


def _slice(signal: Any, count: int) -> Slice:
    # Each receiver has its own code object, as real receivers have. Signals hold them weakly.
    receivers: list[Any] = [eval("lambda sender, **payload: None") for _ in range(count)]

    for receiver in receivers:
        signal.connect(receiver)

    return statement("signal.send(sender, a=1)", signal=signal, sender=_slice, kept=receivers)


def _blinker() -> Any:
    from blinker import Signal

    return Signal()


def _nobody() -> Any:
    signal: Any = Signal()
    watch(_look, signal).stop()
    return signal


def _watched(watcher: Any) -> Any:
    signal: Any = Signal()
    watch(watcher, signal)
    return signal


def _look(send: SendRecord) -> None: ...


def _slow_receivers() -> Any:
    signal: Any = Signal()
    slow_receivers(1, signal)
    return signal


def _opentelemetry() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from aldis.otel import instrument

    signal: Any = Signal()
    instrument(signal, tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    return signal


class Loop:
    """The loop that one would write by hand, with the same number of spans and metrics."""

    def __init__(self) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider

        meter = MeterProvider().get_meter("loop")
        self.tracer = TracerProvider().get_tracer("loop")
        self.sends = meter.create_counter("sends")
        self.send_duration = meter.create_histogram("send.duration")
        self.call_duration = meter.create_histogram("receiver.duration")
        self.receivers: list[Any] = []

    def connect(self, receiver: Any) -> None:
        self.receivers.append(receiver)

    def send(self, sender: Any, **payload: Any) -> list[tuple[Any, Any]]:
        begin = time.perf_counter()
        attributes = {"signal": "Loop", "sender": type(sender).__qualname__, "names": tuple(payload)}

        with self.tracer.start_as_current_span("send", attributes=attributes):
            results = [(receiver, self.call(receiver, sender, payload)) for receiver in self.receivers]

        self.sends.add(1, {"signal": "Loop"})
        self.send_duration.record(time.perf_counter() - begin, {"signal": "Loop"})
        return results

    def call(self, receiver: Any, sender: Any, payload: dict[str, Any]) -> Any:
        begin, code = time.perf_counter(), receiver.__code__
        names = {"signal": "Loop", "function": receiver.__qualname__}
        attributes = {**names, "file": code.co_filename, "line": code.co_firstlineno}

        with self.tracer.start_as_current_span("call", attributes=attributes):
            value = receiver(sender, **payload)

        self.call_duration.record(time.perf_counter() - begin, names)
        return value


# No watcher is left, but there was one: it must leave nothing behind.
WATCHES: dict[str, Callable[[], Any]] = {
    "nobody watches": _nobody,
    "a function": lambda: _watched(_look),
    "counters": lambda: _watched(Counters()),
    "slow receivers": _slow_receivers,
    "OpenTelemetry": _opentelemetry,
    "the same by hand": Loop,
}
