"""OpenTelemetry: sends are spans with receivers as children, in the live context, without values."""

# The end of this file has wrong calls.
# mypy: disable-error-code="arg-type"
# pyright: reportArgumentType=false

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

from aldis import InvalidOptionError, Namespace, Signal
from aldis.aio import Concurrent, sync_to_async
from aldis.delivery import threads
from aldis.observe import BUCKETS_S
from aldis.otel import instrument

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "ada@example.org"


class Stumbled(Exception):
    """The exception that receivers raise here."""


class Desk:
    """A sender."""

    def __repr__(self) -> str:
        return SECRET


class Later:
    """A delivery that keeps calls, without a context."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> None:
        self.calls.append(call)


def hear(sender: Any, **payload: Any) -> None: ...


def stumble(sender: Any, **payload: Any) -> None:
    raise Stumbled(SECRET)


class Silent(Exception):
    def __str__(self) -> str:
        raise LookupError


class FailsSilently:
    def __call__(self, sender: Any, **payload: Any) -> None:
        raise Silent


async def hear_async(sender: Any, **payload: Any) -> None: ...


@pytest.fixture
def signals() -> Namespace:
    return Namespace()


# Spans.


def test_a_send_is_a_span_with_a_child_for_each_receiver(telemetry: Any, signals: Namespace) -> None:
    """A send makes a span with the signal's name, and each called receiver makes a child of it, in order."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    lamp.connect(hear_async, via=Later())

    with telemetry.instrument():
        lamp.send("desk")

    assert telemetry.trees == [("send lamp", [("call hear", []), ("deliver hear_async", [])])]


def test_spans_have_names_and_types_and_no_values(telemetry: Any, signals: Namespace) -> None:
    """The attributes of spans are names and types, and no value of a payload, a sender or an exception."""
    lamp = signals.signal("lamp")
    lamp.connect(hear, priority=1)
    lamp.connect(stumble)

    with telemetry.instrument(), suppress(Stumbled):
        lamp.send(Desk(), colour=SECRET, seconds=3)

    called, stumbled, sent = telemetry.spans
    code = hear.__code__
    assert dict(sent.attributes) == {
        "aldis.signal.name": "lamp",
        "aldis.sender.type": f"{__name__}.Desk",
        "aldis.payload.names": ("colour", "seconds"),
        "error.type": f"{__name__}.Stumbled",
    }
    assert dict(called.attributes) == {
        "aldis.signal.name": "lamp",
        "code.function.name": f"{__name__}.hear",
        "code.file.path": code.co_filename,
        "code.line.number": code.co_firstlineno,
    }
    assert [span.kind for span in telemetry.spans] == [SpanKind.INTERNAL] * 3
    assert [span.instrumentation_scope.name for span in telemetry.spans] == ["aldis"] * 3
    assert all(SECRET not in span.to_json() for span in telemetry.spans)
    assert stumbled.name == f"call {__name__}.stumble"


def test_exceptions_are_recorded_by_type(telemetry: Any, signals: Namespace) -> None:
    """A raised exception sets the status ERROR without a description, and adds an event with the exception's type."""
    lamp = signals.signal("lamp")
    lamp.connect(stumble)

    with telemetry.instrument(), suppress(Stumbled):
        lamp.send()

    for span in telemetry.spans:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        [event] = span.events
        assert (event.name, dict(event.attributes)) == ("exception", {"exception.type": f"{__name__}.Stumbled"})
        assert span.attributes["error.type"] == f"{__name__}.Stumbled"


def test_exceptions_are_recorded_in_full_when_that_is_asked_for(signals: Namespace, telemetry: Any) -> None:
    """With record_exceptions, the event also has the exception's text and the place where it was raised."""
    lamp, outer = signals.signal("lamp"), signals.signal("outer")
    lamp.errors = "collect"
    lamp.connect(stumble)
    lamp.connect(fail_silently := FailsSilently())

    @outer.connect
    def pass_on(sender: Any) -> None:
        lamp.send()

    with telemetry.instrument(record_exceptions=True):
        try:
            raise LookupError("not of these sends")
        except LookupError:
            with suppress(ExceptionGroup):
                outer.send()

    stumbled, silent, *others = telemetry.spans
    [event] = stumbled.events
    assert event.attributes["exception.type"] == stumbled.attributes["error.type"] == f"{__name__}.Stumbled"
    assert event.attributes["exception.message"] == SECRET
    assert "in stumble" in event.attributes["exception.stacktrace"]
    [event] = silent.events
    assert dict(event.attributes) == {"exception.type": f"{__name__}.Silent"}
    assert [span.attributes["error.type"] for span in others] == ["ExceptionGroup"] * 3
    assert ["2 receivers of" in span.events[0].attributes["exception.message"] for span in others] == [True] * 3
    del fail_silently


def test_what_did_not_fail_has_no_status(telemetry: Any, signals: Namespace) -> None:
    """A send without failures has neither a status nor events."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)

    with telemetry.instrument():
        lamp.send()

    assert [(span.status.status_code, span.events) for span in telemetry.spans] == [(StatusCode.UNSET, ())] * 2


def test_further_attributes(telemetry: Any, signals: Namespace) -> None:
    """Muted sends, async receivers and deliveries are marked; a receiver without a place has no place in its span."""
    lamp = signals.signal("lamp")
    lamp.connect(hear_async, via=Later())
    lamp.connect([].append, weak=False)

    with telemetry.instrument():
        lamp.send()

        with lamp.muted():
            lamp.send()

    delivered, plain, _, muted = [dict(span.attributes) for span in telemetry.spans]
    assert delivered["aldis.receiver.async"] is True
    assert delivered["aldis.delivery"] == "Later"
    assert plain == {"aldis.signal.name": "lamp", "code.function.name": "list.append"}
    assert muted["aldis.is_muted"] is True


# The live context.


def test_spans_made_in_a_receiver_are_below_it(telemetry: Any, signals: Namespace) -> None:
    """A span that is made inside a receiver is a child of the receiver's span, and the send's span is a child of the
    span that was current before.
    """
    lamp = signals.signal("lamp")

    @lamp.connect
    def work(sender: Any) -> None:
        with telemetry.tracer.start_as_current_span("query"):
            pass

    with telemetry.instrument(), telemetry.tracer.start_as_current_span("request") as request:
        lamp.send()
        assert trace.get_current_span() is request

    assert telemetry.trees == [("request", [("send lamp", [("call work", [("query", [])])])])]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_nested_sends_are_below_their_receivers(telemetry: Any, signals: Namespace) -> None:
    """A receiver's send makes a child of the receiver's span, also after a receiver that failed."""
    outer, inner = signals.signal("outer"), signals.signal("inner")
    inner.connect(stumble)

    @outer.connect
    def first(sender: Any) -> None:
        with suppress(Stumbled):
            inner.send()

    @outer.connect
    def second(sender: Any) -> None:
        inner.send()

    with telemetry.instrument(), suppress(Stumbled):
        outer.send()

    branch: Any = [("send inner", [("call stumble", [])])]
    assert telemetry.trees == [("send outer", [("call first", branch), ("call second", branch)])]


def test_failure_policies_are_below_the_send(telemetry: Any) -> None:
    """During a send, while no receiver runs, the send's span is the current one."""

    def note(failure: Any) -> None:
        with telemetry.tracer.start_as_current_span("note"):
            pass

    lamp = Namespace(errors=note).signal("lamp")
    lamp.connect(stumble)

    with telemetry.instrument():
        lamp.send()

    assert telemetry.trees == [("send lamp", [("call stumble", []), ("note", [])])]


def test_async_receivers_are_spans(telemetry: Any, signals: Namespace) -> None:
    """Async receivers, tasks that they await, and sync receivers in threads of send_async keep the tree."""
    outer, inner = signals.signal("outer"), signals.signal("inner")
    inner.sync_wrapper = sync_to_async
    inner.connect(hear)

    @outer.connect
    async def in_tasks(sender: Any) -> None:
        await asyncio.gather(inner.send_async(), inner.send_async())

    with telemetry.instrument():
        asyncio.run(outer.send_async())

    branch: Any = ("send inner", [("call hear", [])])
    assert telemetry.trees == [("send outer", [("call in_tasks", [branch, branch])])]


def test_concurrent_receivers_are_spans(telemetry: Any, signals: Namespace) -> None:
    """Each of several concurrent receivers has its own span as the current one."""
    lamp = signals.signal("lamp")

    async def main() -> None:
        turns = asyncio.Barrier(2)

        async def work(name: str) -> None:
            await turns.wait()

            with telemetry.tracer.start_as_current_span(name):
                await turns.wait()

        @lamp.connect
        async def first(sender: Any) -> None:
            await work("in first")

        @lamp.connect
        async def second(sender: Any) -> None:
            await work("in second")

        lamp.async_policy = Concurrent()
        await lamp.send_async()

    with telemetry.instrument():
        asyncio.run(main())

    assert telemetry.trees == [
        ("send lamp", [("call first", [("in first", [])]), ("call second", [("in second", [])])])
    ]


def test_cancelled_receivers_end_their_spans(telemetry: Any, signals: Namespace) -> None:
    """A cancelled send ends its spans, with CancelledError as their type."""
    lamp = signals.signal("lamp")

    async def main() -> None:
        begun = asyncio.Event()

        @lamp.connect
        async def wait(sender: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(lamp.send_async())
        await begun.wait()
        task.cancel()

        with suppress(asyncio.CancelledError):
            await task

    with telemetry.instrument():
        asyncio.run(main())

    assert [span.attributes["error.type"] for span in telemetry.spans] == ["asyncio.exceptions.CancelledError"] * 2


def test_receivers_in_threads_are_below_their_send(telemetry: Any, signals: Namespace) -> None:
    """A receiver via threads has a span for its delivery and one for its run, both children of the send's span."""
    lamp = signals.signal("lamp")

    with telemetry.instrument(), ThreadPoolExecutor(1) as pool:

        @lamp.connect(via=threads(pool))
        def work(sender: Any) -> None:
            with telemetry.tracer.start_as_current_span("query"):
                pass

        lamp.send()[0][1].result()

    assert telemetry.trees == [("send lamp", [("deliver work", []), ("call work", [("query", [])])])]


def test_a_delivery_without_a_context_is_below_its_send(telemetry: Any, signals: Namespace) -> None:
    """A receiver that runs long after its send, in another context, is still a child of the send, and so are its own
    sends.
    """
    lamp, inner, later = signals.signal("lamp"), signals.signal("inner"), Later()

    @lamp.connect(via=later)
    def work(sender: Any) -> None:
        inner.send()

    with telemetry.instrument():
        lamp.send()

        with telemetry.tracer.start_as_current_span("job"):
            Context().run(later.calls[0])

    tree: Any = ("send lamp", [("deliver work", []), ("call work", [("send inner", [])])])
    assert telemetry.trees == [tree, ("job", [])]


def test_a_coroutine_that_is_closed_elsewhere_ends_its_spans(
    telemetry: Any, signals: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A send_async that is closed in another context than it began in ends its spans, without complaint."""
    lamp = signals.signal("lamp")

    class Pause:
        def __await__(self) -> Any:
            yield

    @lamp.connect
    async def wait(sender: Any) -> None:
        await Pause()

    with telemetry.instrument():
        coroutine = lamp.send_async()
        Context().run(coroutine.send, None)
        coroutine.close()

    assert telemetry.trees == [("send lamp", [("call wait", [])])]
    assert caplog.records == []


def test_a_receiver_that_leaves_a_context_behind_does_not_mix_the_tree(telemetry: Any, signals: Namespace) -> None:
    """A context that a receiver attaches and never detaches is gone when the receiver returns."""
    lamp = signals.signal("lamp")

    @lamp.connect
    def careless(sender: Any) -> None:
        context.attach(trace.set_span_in_context(telemetry.tracer.start_span("forgotten")))

    lamp.connect(hear)

    with telemetry.instrument():
        lamp.send()

    assert telemetry.trees == [("send lamp", [("call careless", []), ("call hear", [])])]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_two_watches_leave_no_span_current(telemetry: Any, signals: Namespace) -> None:
    """When a program is instrumented twice, no span of either watch is current after the send."""
    lamp = signals.signal("lamp")
    currents: list[Any] = []
    lamp.connect(hear)

    with telemetry.instrument(), telemetry.instrument(), telemetry.tracer.start_as_current_span("request") as request:
        lamp.send()
        currents.append(trace.get_current_span() is request)

    assert currents == [True]
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert [span.name.partition(" ")[0] for span in telemetry.spans] == ["call", "call", "send", "send", "request"]


# Metrics.


def test_sends_and_receivers_are_measured(telemetry: Any, signals: Namespace) -> None:
    """Counters and histograms have a point for each signal and receiver, and for each type of failure."""
    lamp, other = signals.signal("lamp"), signals.signal("other")
    lamp.errors = lambda failure: None
    lamp.connect(hear)
    lamp.connect(stumble)
    other.connect(stumble)

    with telemetry.instrument():
        for _ in range(3):
            lamp.send()

        with suppress(Stumbled):
            other.send()

    points = telemetry.points
    error = {"error.type": f"{__name__}.Stumbled"}
    of_lamp, of_other = {"aldis.signal.name": "lamp"}, {"aldis.signal.name": "other"}
    heard, stumbled = ({"code.function.name": f"{__name__}.{name}"} for name in ("hear", "stumble"))

    def values(name: str) -> list[tuple[dict[str, Any], int]]:
        return [(dict(point.attributes), getattr(point, "value", None) or point.count) for point in points[name]]

    assert values("aldis.sends") == values("aldis.send.duration") == [(of_lamp, 3), (of_other | error, 1)]
    assert values("aldis.receiver.failures") == [(of_lamp | stumbled | error, 3), (of_other | stumbled | error, 1)]
    assert values("aldis.receiver.duration") == [
        (of_lamp | heard, 3),
        (of_lamp | stumbled | error, 3),
        (of_other | stumbled | error, 1),
    ]
    assert points["aldis.send.duration"][0].explicit_bounds == BUCKETS_S


def test_handing_over_is_not_measured_as_a_receiver(telemetry: Any, signals: Namespace) -> None:
    """The time of a delivered receiver is the time of its run, and a delivery that refuses is a failure."""
    lamp, later = signals.signal("lamp"), Later()

    class Refusing(Later):
        def deliver(self, call: Any, /) -> None:
            raise Stumbled

    lamp.connect(hear, via=later)
    lamp.connect(hear_async, via=Refusing())

    with telemetry.instrument(), suppress(Stumbled):
        lamp.send()

    points = telemetry.points
    assert "aldis.receiver.duration" not in points
    assert [point.value for point in points["aldis.receiver.failures"]] == [1]

    with telemetry.instrument(), suppress(Stumbled):
        lamp.send()
        later.calls[1]()

    later.calls[0]()  # Of the send that is no longer watched: the new watch has not seen its beginning.
    assert "aldis.receiver.duration" not in telemetry.points


def test_an_older_api_gives_no_advice_on_buckets(telemetry: Any, signals: Namespace) -> None:
    """With an older API, whose histograms take no advice on buckets, everything else works."""
    meter = telemetry.meter_provider.get_meter("aldis")

    class OldMeter:
        create_counter = meter.create_counter

        def create_histogram(self, name: str, unit: str = "", description: str = "") -> Any:
            return meter.create_histogram(name, unit, description)

    class OldProvider(metrics.MeterProvider):
        def get_meter(self, *args: Any, **options: Any) -> Any:
            return OldMeter()

    lamp = signals.signal("lamp")
    lamp.connect(hear)

    with instrument(lamp, meter_provider=OldProvider()):
        lamp.send()

    assert [point.count for point in telemetry.points["aldis.receiver.duration"]] == [1]


# On, off, and failures of OpenTelemetry itself.


def test_one_signal_is_instrumented_alone(telemetry: Any, signals: Namespace) -> None:
    """With given signals, only these signals have spans."""
    lamp, other = signals.signal("lamp"), signals.signal("other")

    with telemetry.instrument(lamp):
        lamp.send()
        other.send()

    assert telemetry.trees == [("send lamp", [])]


def test_when_it_stops_nothing_is_left(telemetry: Any, signals: Namespace) -> None:
    """After stop(), a send makes no span and takes the fast way."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    watch = telemetry.instrument()
    watch.stop()
    lamp.send()

    assert telemetry.spans == []
    assert lamp._registry.plain is not None


def test_what_is_open_ends_when_it_stops(telemetry: Any, signals: Namespace) -> None:
    """A watch that a receiver stops ends the open spans, and leaves no span current."""
    lamp = signals.signal("lamp")
    watch = telemetry.instrument()

    @lamp.connect
    def stop(sender: Any) -> None:
        watch.stop()

    lamp.connect(hear)
    lamp.send()

    assert telemetry.trees == [("send lamp", [("call stop", [])])]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_without_an_sdk_it_does_nothing(signals: Namespace) -> None:
    """With the API alone, whose providers do nothing, sends work as always."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)

    with instrument() as watch:
        assert lamp.send() == [(hear, None)]
        assert not watch.is_stopped


@pytest.mark.parametrize("moment", ["on_start", "on_end"])
@pytest.mark.parametrize("place", ["send inner", "call stumble", "send outer", "call pass_on"])
def test_a_telemetry_that_fails_leaves_no_span_current(
    moment: str, place: str, telemetry: Any, signals: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    """If a span cannot be made or ended, the watch is removed and reported once, and no context keeps a span of it."""
    outer, inner = signals.signal("outer"), signals.signal("inner")
    currents: list[Any] = []

    class Failing:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            self.fail("on_start", span)

        def on_end(self, span: Any) -> None:
            self.fail("on_end", span)

        def fail(self, here: str, span: Any) -> None:
            if here == moment and span.name.replace(f"{__name__}.", "").rpartition(".<locals>.")[-1] in place:
                raise LookupError

        def _on_ending(self, span: Any) -> None: ...

        def shutdown(self) -> None: ...

    telemetry.tracer_provider.add_span_processor(Failing())
    inner.connect(stumble)
    inner.errors = lambda failure: None

    @outer.connect
    def pass_on(sender: Any) -> None:
        inner.send()

    with telemetry.instrument() as watch:
        assert outer.send() == [(pass_on, None)]
        currents.append(trace.get_current_span())
        assert watch.is_stopped
        assert outer.send() == [(pass_on, None)]

    assert currents == [trace.INVALID_SPAN]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert outer._registry.watches == ()


def test_a_telemetry_that_is_interrupted_goes_on(telemetry: Any, signals: Namespace) -> None:
    """KeyboardInterrupt while a span is made is raised by the send, and the next send has its spans again."""
    lamp = signals.signal("lamp")
    interrupts = [True]

    class Interrupting:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if interrupts:
                interrupts.clear()
                raise KeyboardInterrupt

        def on_end(self, span: Any) -> None: ...

        def _on_ending(self, span: Any) -> None: ...

        def shutdown(self) -> None: ...

    telemetry.tracer_provider.add_span_processor(Interrupting())

    with telemetry.instrument():
        with pytest.raises(KeyboardInterrupt):
            lamp.send()

        lamp.send()

    assert telemetry.trees == [("send lamp", [])]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_nothing_is_kept(telemetry: Any, signals: Namespace) -> None:
    """A running watch keeps no sender, receiver, record or ended span alive."""
    lamp, later = signals.signal("lamp"), Later()
    sender = Desk()

    class Receiver:
        def __call__(self, sender: Any) -> None: ...

    receiver = Receiver()
    lamp.connect(receiver)
    lamp.connect(hear, via=later)

    with telemetry.instrument() as watch:
        lamp.send(sender)
        Context().run(later.calls.pop())
        telemetry.exporter.clear()
        references: list[Any] = [weakref.ref(sender), weakref.ref(receiver)]
        del sender, receiver
        gc.collect()
        assert [reference() for reference in references] == [None, None]
        watcher: Any = watch.watcher
        assert len(watcher._spans) == len(watcher._tokens) == 0


# The package.


def run(program: str) -> str:
    """Run a program in a new interpreter, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_aldis_does_not_import_opentelemetry() -> None:
    """Neither aldis nor aldis.observe imports OpenTelemetry."""
    assert run("import sys, aldis, aldis.observe; print('opentelemetry' in sys.modules)") == "False"


def test_a_missing_package_is_named() -> None:
    """Without OpenTelemetry, the import of aldis.otel says what to install."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import aldis.otel\n"
        "except ImportError as error: print(error)"
    )

    assert run(program) == "aldis.otel needs OpenTelemetry's API. Install it with: pip install aldis[otel]"


def test_the_global_providers_are_used() -> None:
    """Without providers as arguments, spans and metrics go to the program's global providers."""
    program = """if True:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from aldis import signal
        from aldis.otel import instrument
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
        metrics.set_meter_provider(MeterProvider([reader]))
        with instrument():
            signal("lamp").send()
        [metric, other] = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        print([span.name for span in exporter.get_finished_spans()], metric.name, other.name)
    """

    assert run(program) == "['send lamp'] aldis.sends aldis.send.duration"


class NoProvider:
    get_tracer = "a tracer"
    get_meter = None


BAD: list[tuple[str, Callable[[], Any], str]] = [
    ("a name as signal", lambda: instrument("lamp"), "takes signals of Aldis, .*, not a str"),
    ("a provider as signal", lambda: instrument(trace.NoOpTracerProvider()), "not a NoOpTracerProvider"),
    ("a tracer", lambda: instrument(tracer_provider=trace.NoOpTracer()), "tracer_provider must be .*not a NoOpTracer"),
    ("no tracers", lambda: instrument(tracer_provider=NoProvider()), "get_tracer, not a NoProvider"),
    ("a class", lambda: instrument(tracer_provider=trace.NoOpTracerProvider), "the class NoOpTracerProvider"),
    ("no meters", lambda: instrument(meter_provider=NoProvider()), "meter_provider must be .*get_meter"),
    ("the other kind", lambda: instrument(meter_provider=trace.NoOpTracerProvider()), "meter_provider must be"),
]


@pytest.mark.parametrize(("act", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_refused(act: Callable[[], Any], message: str) -> None:
    """Bad arguments are refused at once, and no watcher is added."""
    with pytest.raises(InvalidOptionError, match=message):
        act()

    assert Signal()._registry.watches == ()
