"""OpenTelemetry: a span for each send, with a child span for each call of a receiver, and metrics of both.

Nothing happens until you call :func:`instrument`, and importing ``aldis`` does not import this module. It needs
OpenTelemetry's API, ``pip install aldis[otel]``. Use OpenTelemetry's SDK to choose where spans and metrics go, as for
every other library::

    from aldis.otel import instrument

    watch = instrument()
    ...
    watch.stop()

Spans and metrics contain names and types: of signals, receivers, payloads, senders and exceptions. They never contain
values of payloads or the contents of senders. They contain messages and tracebacks of exceptions only on request,
because an application may write values into them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, ref

from ._core.callables import qualified_name
from ._core.watching import Watcher
from ._telemetry import get_tracer_and_meter, make_histogram, mark_failed
from .observe import BUCKETS_S, describe_delivery, watch

# After the import above, which says what to install if OpenTelemetry is missing.
from opentelemetry import context, trace  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from ._core.records import CallRecord, SendRecord
    from ._core.watching import Watch
    from .observe._selection import AldisSignals

__all__ = ["instrument"]

_RECORD_OF_SPAN: Final = context.create_key("aldis-span")


def instrument(
    *signals: AldisSignals,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    record_exceptions: bool = False,
) -> Watch:
    """Make spans and metrics of sends.

    A send makes a span ``send <signal>``, and below it each receiver a span ``call <receiver>``. A receiver with a
    delivery makes ``deliver <receiver>``, and ``call <receiver>`` when the delivery runs it, also as a child of the
    send's span. While a receiver runs, its span is the current one: spans that the receiver makes, by sends too, are
    below it, in its task, its thread, and in tasks and threads that copy its context. All spans are of the kind
    ``INTERNAL``.

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
    ``aldis.receiver.failures``    counter    ``{call}``    receivers that raised, and deliveries that refused
    ``aldis.receiver.duration``    histogram  ``s``         how long receivers took, without handing over
    =============================  =========  ============  ================================================

    All metrics have ``aldis.signal.name``. Metrics of receivers also have ``code.function.name``, and metrics of
    failures ``error.type``.

    :param signals: as for :func:`aldis.observe.watch`: signals, namespaces and lists of these, or nothing for all
        signals.
    :param tracer_provider: the provider of spans; by default OpenTelemetry's global one.
    :param meter_provider: the provider of metrics; by default OpenTelemetry's global one.
    :param record_exceptions: record the messages and the tracebacks of exceptions, as ``Span.record_exception`` does.
        The application chooses what a message says: "no user ada@example.org" names a person.
    :return: a watch, whose ``stop()`` ends it. Spans that are open then still end.
    :raises InvalidOptionError: when a provider is not a provider of OpenTelemetry, or one of ``signals`` is something
        else.

    .. versionadded:: 0.1
    """
    tracer, meter = get_tracer_and_meter("aldis", tracer_provider, meter_provider)
    return watch(_Telemetry(tracer, meter, record_exceptions), *signals)


@final
class _Telemetry(Watcher):
    """Makes the spans and the metrics.

    If it fails, it is removed like every watcher, but only after it has taken its spans out of all contexts.
    """

    def __init__(self, tracer: trace.Tracer, meter: Meter, record_exceptions: bool) -> None:
        self._tracer = tracer
        self._record_exceptions = record_exceptions
        self._spans: WeakKeyDictionary[SendRecord | CallRecord, Span] = WeakKeyDictionary()
        self._tokens: dict[SendRecord | CallRecord, Token[Context]] = {}
        self._error: Exception | None = None
        self._sends = meter.create_counter("aldis.sends", "{send}", "How many sends there were.")
        self._failures = meter.create_counter("aldis.receiver.failures", "{call}", "How many receivers raised.")
        self._send_duration = make_histogram(meter, "aldis.send.duration", "How long sends took.", BUCKETS_S)
        self._call_duration = make_histogram(meter, "aldis.receiver.duration", "How long receivers took.", BUCKETS_S)

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
                here = context.set_value(_RECORD_OF_SPAN, ref(record), trace.set_span_in_context(span))
                self._tokens[record] = context.attach(here)

        self._raise_if_broken()

    def _end(self, record: Any, finish: Callable[[Any, Span], None]) -> None:
        span = self._spans.get(record)

        try:
            if span is not None and self._error is None:
                finish(record, span)
        except Exception as error:
            self._error = error
        finally:
            token = self._tokens.pop(record, None)

            # A coroutine may be closed in another context than the one in which it began. And if there are several
            # watches, the first one that is told of the end takes the spans of all watches out of the context.
            if token is not None and context.get_value(_RECORD_OF_SPAN) is ref(record):
                context.detach(token)

        self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        error = self._error

        if error is None or self._tokens:
            return

        self._error = None

        try:
            raise error
        finally:
            del error  # Its traceback refers to this frame.

    def _start_send(self, send: SendRecord) -> Span:
        attributes: dict[str, Any] = {
            "aldis.signal.name": send.signal_name,
            "aldis.sender.type": _class_name(send.sender),
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

        # The parent is the span of the send, not the current span: a delivery may run in another thread, much later.
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
        # Watchers are told while the exception is raised, so sys.exception() is this one.
        mark_failed(span, exception_type, sys.exception() if self._record_exceptions else None)


def _class_name(value: object) -> str:
    return qualified_name(type(value))
