"""OpenTelemetry: a span for each send, with a child for each receiver that is called, and metrics of both.

Nothing happens until :func:`instrument` is called, and importing ``aldis`` does not import this. It needs
OpenTelemetry's API, ``pip install aldis[otel]``; where spans and metrics go is set up with its SDK, as for any
other library::

    from aldis.otel import instrument

    watch = instrument()
    ...
    watch.stop()

Spans and metrics have names and types: of signals, receivers, payloads, senders and exceptions. They have no
values of payloads and nothing of what senders contain, ever; and neither messages nor tracebacks of exceptions
unless that is asked for, because an application may write values into them.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, ref

from ._core.callables import qualified_name
from ._core.watching import Watcher
from .exceptions import InvalidOptionError
from .observe import BUCKETS_S, watch
from .observe._inspect import describe_delivery

try:
    from opentelemetry import context, metrics, trace
except ImportError as _missing:
    raise ImportError("aldis.otel needs OpenTelemetry's API. Install it with: pip install aldis[otel]") from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from ._core.records import CallRecord, SendRecord
    from ._core.signal import Signal
    from ._core.watching import Watch

__all__ = ["instrument"]


def instrument(
    *signals: Signal[Any, ..., Any],
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    record_exceptions: bool = False,
) -> Watch:
    """Make spans and metrics of sends.

    A send gives a span ``send <signal>``, and within it each receiver a span ``call <receiver>``. A receiver with
    a delivery gives ``deliver <receiver>``, and ``call <receiver>`` when the delivery runs it, also as a child of
    the send's. While a receiver runs, its span is the current one: what it does, and sends, is below it, in its
    task, its thread, and in those that copy its context. All are of the kind ``INTERNAL``.

    =========================  ====================================================================
    attribute                  value
    =========================  ====================================================================
    ``aldis.signal.name``      the signal's name
    ``aldis.sender.type``      the class of the sender
    ``aldis.payload.names``    the keywords that were sent
    ``aldis.is_muted``         ``true`` if the signal was muted
    ``code.function.name``     the receiver's qualified name
    ``code.file.path``         the file that it is defined in, if it is known
    ``code.line.number``       the line
    ``aldis.receiver.async``   ``true`` if the receiver is async
    ``aldis.delivery``         its delivery, if it has one
    ``error.type``             the class of the exception, of a send or a call that raised
    =========================  ====================================================================

    A send or a call that raised has the status ``ERROR``, without a description, and an event ``exception``
    that has ``exception.type`` only; with ``record_exceptions``, also ``exception.message`` and
    ``exception.stacktrace``.

    =============================  =========  ============  ================================================
    metric                         kind       unit          what is measured
    =============================  =========  ============  ================================================
    ``aldis.sends``                counter    ``{send}``    sends
    ``aldis.send.duration``        histogram  ``s``         how long they took
    ``aldis.receiver.failures``    counter    ``{call}``    receivers that raised, and refusals of deliveries
    ``aldis.receiver.duration``    histogram  ``s``         how long receivers took, handing over left out
    =============================  =========  ============  ================================================

    All have ``aldis.signal.name``, those of receivers ``code.function.name``, and what raised ``error.type``.

    :param signals: as for :func:`aldis.observe.watch`: these, or without any, all.
    :param tracer_provider: where spans go, if not to OpenTelemetry's global provider.
    :param meter_provider: where metrics go, likewise.
    :param record_exceptions: record what exceptions say and where they were raised, as ``Span.record_exception``
        does. An exception says what the application made it say: "no user ada@example.org" tells who that was.
    :return: what stops it. Spans that are open end as they would have.
    :raises InvalidOptionError: when a provider is none, or when something else than signals is given.

    .. versionadded:: 0.1
    """
    tracer, meter = _tools("aldis", tracer_provider, meter_provider)
    return watch(_Telemetry(tracer, meter, record_exceptions), *signals)


def _tools(name: str, tracer_provider: Any, meter_provider: Any) -> tuple[trace.Tracer, Meter]:
    """What makes the spans and the metrics of one part of Aldis.

    :param name: the part's.
    :raises InvalidOptionError: when a provider is none.
    """
    for option, provider, method in (
        ("tracer_provider", tracer_provider, "get_tracer"),
        ("meter_provider", meter_provider, "get_meter"),
    ):
        if provider is not None and (isinstance(provider, type) or not callable(getattr(provider, method, None))):
            kind = f"the class {provider.__name__}" if isinstance(provider, type) else f"a {type(provider).__name__}"
            raise InvalidOptionError(f"{option} must be one of OpenTelemetry's, with a method {method}, not {kind}.")

    tracer = trace.get_tracer(name, tracer_provider=tracer_provider)
    return tracer, metrics.get_meter(name, meter_provider=meter_provider)


@final
class _Telemetry(Watcher):
    """Makes the spans and the metrics.

    What fails is removed, as any watcher, but not before it has taken its spans out of all contexts.
    """

    def __init__(self, tracer: trace.Tracer, meter: Meter, record_exceptions: bool) -> None:
        self._tracer = tracer
        self._record_exceptions = record_exceptions
        self._spans: WeakKeyDictionary[SendRecord | CallRecord, Span] = WeakKeyDictionary()
        self._tokens: dict[SendRecord | CallRecord, Token[Context]] = {}
        self._error: Exception | None = None
        self._sends = meter.create_counter("aldis.sends", "{send}", "How many sends there were.")
        self._failures = meter.create_counter("aldis.receiver.failures", "{call}", "How many receivers raised.")
        self._send_duration = _histogram(meter, "aldis.send.duration", "How long sends took.")
        self._call_duration = _histogram(meter, "aldis.receiver.duration", "How long receivers took.")

    def send_began(self, send: SendRecord) -> None:
        self._begin(send, self._start_send)

    def call_began(self, call: CallRecord) -> None:
        self._begin(call, self._start_call)

    def call_ended(self, call: CallRecord) -> None:
        self._end(call, self._finish_call)

    def send_ended(self, send: SendRecord) -> None:
        self._end(send, self._finish_send)

    def _begin(self, record: Any, start: Callable[[Any], Span]) -> None:
        if self._error is None:
            try:
                span = start(record)
            except Exception as error:
                self._error = error
            else:
                self._spans[record] = span
                here = context.set_value(_OURS, ref(record), trace.set_span_in_context(span))
                self._tokens[record] = context.attach(here)

        self._give_up_if_broken()

    def _end(self, record: Any, finish: Callable[[Any, Span], None]) -> None:
        span = self._spans.get(record)

        try:
            if span is not None and self._error is None:
                finish(record, span)
        except Exception as error:
            self._error = error
        finally:
            token = self._tokens.pop(record, None)

            # A coroutine may be closed in another context than that in which it began. And of several watches, the
            # first to be told of the end takes the spans of all out of the context.
            if token is not None and context.get_value(_OURS) is ref(record):
                context.detach(token)

        self._give_up_if_broken()

    def _give_up_if_broken(self) -> None:
        error = self._error

        if error is None or self._tokens:
            return

        self._error = None

        try:
            raise error
        finally:
            del error  # Its traceback holds this frame.

    def _start_send(self, send: SendRecord) -> Span:
        attributes: dict[str, Any] = {
            "aldis.signal.name": send.signal_name,
            "aldis.sender.type": _kind(send.sender),
            "aldis.payload.names": send.payload_names,
        }

        if send.is_muted:
            attributes["aldis.is_muted"] = True

        return self._tracer.start_span(f"send {send.signal_name}", attributes=attributes)

    def _start_call(self, call: CallRecord) -> Span:
        name, place = call.receiver_name, call.receiver_place
        attributes: dict[str, Any] = {"aldis.signal.name": call.signal_name, "code.function.name": name}

        if place is not None:
            path, _, line = place.rpartition(":")
            attributes |= {"code.file.path": path, "code.line.number": int(line)}

        if call.is_async:
            attributes["aldis.receiver.async"] = True

        if call.via is not None:
            attributes["aldis.delivery"] = describe_delivery(call.via)

        # Below the send, and not below what is current: that may be another thread's, long after the send.
        parent = trace.set_span_in_context(self._spans[call.send])
        verb = "deliver" if call.is_delivery else "call"
        return self._tracer.start_span(f"{verb} {name}", context=parent, attributes=attributes)

    def _finish_send(self, send: SendRecord, span: Span) -> None:
        attributes = {"aldis.signal.name": send.signal_name}
        self._fail(span, attributes, send.exception_type)
        self._sends.add(1, attributes)
        self._send_duration.record(send.duration_s or 0.0, attributes)
        span.end()

    def _finish_call(self, call: CallRecord, span: Span) -> None:
        attributes = {"aldis.signal.name": call.signal_name, "code.function.name": call.receiver_name}
        self._fail(span, attributes, call.exception_type)

        if call.exception_type is not None:
            self._failures.add(1, attributes)

        if not call.is_delivery:
            self._call_duration.record(call.duration_s or 0.0, attributes)

        span.end()

    def _fail(self, span: Span, attributes: dict[str, str], exception_type: str | None) -> None:
        if exception_type is None:
            return

        attributes["error.type"] = exception_type
        # Watchers are told while it is raised.
        _mark_failed(span, exception_type, sys.exception() if self._record_exceptions else None)


def _mark_failed(span: Span, exception_type: str, error: BaseException | None) -> None:
    """Say in a span that something raised.

    :param error: the exception, where it is to be recorded in full.
    """
    span.set_attribute("error.type", exception_type)
    span.set_status(trace.StatusCode.ERROR)

    if error is not None:
        with suppress(Exception):  # It may not be able to say anything.
            span.record_exception(error)
            return

    span.add_event("exception", {"exception.type": exception_type})


def _kind(value: object) -> str:
    return qualified_name(type(value))


def _histogram(meter: Meter, name: str, description: str, buckets_s: Sequence[float] = BUCKETS_S) -> Histogram:
    try:
        return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=buckets_s)
    except TypeError:
        return meter.create_histogram(name, "s", description)  # OpenTelemetry before 1.30 cannot be advised.


_OURS: Final = context.create_key("aldis-span")
