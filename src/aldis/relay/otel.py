"""OpenTelemetry for a relay: a span for each attempt, in the sender's trace; and metrics of the messages that wait.

Wherever a program uses OpenTelemetry, a message carries the trace context by itself. With :func:`instrument` in the
process of a worker, the span of an attempt is below the span in which the message was sent: one trace has the request,
the send and the receiver, although the receiver may run in another process or on another machine, and much later::

    from sqlalchemy import create_engine
    from aldis.relay import Relay
    from aldis.relay.otel import instrument

    relay = Relay(create_engine("sqlite:///shop.sqlite"))
    watch = instrument(relay)
    ...
    watch.stop()

Spans and metrics show names, numbers and types: of signals, receivers, messages and exceptions. They never show
payloads and senders, and they show the messages and tracebacks of exceptions only with ``record_exceptions``.
"""

from __future__ import annotations

import logging
import time
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy.exc import DBAPIError

from aldis._core.callables import qualified_name
from aldis._telemetry import get_tracer_and_meter, make_histogram, mark_failed
from aldis.exceptions import InvalidOptionError
from aldis.observe import BUCKETS_S

from ._relay import Relay
from .worker.attempts import Observer
from .worker.parts import parts_of

# After aldis._telemetry, which says what to install if OpenTelemetry is missing.
from opentelemetry import context, trace  # isort: skip
from opentelemetry.metrics import Observation  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from aldis.observe import Watch

    from ._administration import ReceiverStatus
    from .worker.attempts import Attempt

__all__ = ["instrument"]

logger: Final = logging.getLogger("aldis.relay")

_LATENCIES_S: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
_FRESH_S: Final = 1.0
_NO_TYPE: Final = "_OTHER"  # The value of OpenTelemetry's conventions for a failure without a type.


def instrument(
    relay: Relay,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    record_exceptions: bool = False,
) -> Watch:
    """Make spans and metrics of the attempts of a relay's workers in this process, and of the messages that wait.

    Call it in the processes of workers, before they begin; and in the workers of Celery, if they run the receivers.
    :func:`aldis.otel.instrument` makes the spans and metrics of sends.

    Each attempt is a span ``process <receiver>`` of the kind ``CONSUMER``. Its parent is the span that was current
    where the message was sent. While the receiver runs, the span is the current one.

    ==============================  ===============================================================
    attribute                       value
    ==============================  ===============================================================
    ``aldis.signal.name``           the signal's name
    ``aldis.receiver.name``         the receiver's name in the database
    ``aldis.message.id``            the message's id
    ``aldis.message.attempt``       the number of the attempt, from 1
    ``aldis.message.outcome``       how the attempt ended, see below
    ``code.function.name``          the receiver's qualified name, if it is connected here
    ``code.file.path``              the file in which it is defined, if that is known
    ``code.line.number``            the line
    ``aldis.receiver.async``        ``true`` if the receiver is async
    ``error.type``                  the class of the exception, if the receiver raised
    ``messaging.system``            ``aldis``
    ``messaging.operation.name``    ``process``
    ``messaging.operation.type``    ``process``
    ``messaging.destination.name``  as ``aldis.receiver.name``
    ``messaging.message.id``        as ``aldis.message.id``
    ==============================  ===============================================================

    The attributes of ``messaging``, and the name, the kind and the parent of the span, follow OpenTelemetry's
    conventions for messaging, in which a receiver's name is the destination. An outcome is one of

    - ``done``: received;
    - ``failed``: the receiver raised, and the message gets another attempt;
    - ``dead``: the message became a dead letter. If no receiver raised, for example because the payload cannot be read,
      ``error.type`` is ``_OTHER``;
    - ``waits``: the message cannot be received here now, and was released. This does not count as an attempt.

    The spans of ``failed`` and ``dead`` have the status ``ERROR``, without a description. If the receiver raised, they
    have an event ``exception``, with ``exception.type`` only; with ``record_exceptions``, also with
    ``exception.message`` and ``exception.stacktrace``.

    ================================  ===============  =============  ===============================================
    metric                            kind             unit           what is measured
    ================================  ===============  =============  ===============================================
    ``aldis.relay.backlog``           gauge            ``{message}``  messages that wait, by receiver
    ``aldis.relay.oldest_age``        gauge            ``s``          the age of the oldest of them
    ``aldis.relay.dead_letters``      gauge            ``{message}``  dead letters
    ``aldis.relay.attempts``          counter          ``{attempt}``  attempts
    ``aldis.relay.attempt.duration``  histogram        ``s``          how long they took
    ``aldis.relay.latency``           histogram        ``s``          from when a message was sent to its first attempt
    ================================  ===============  =============  ===============================================

    All metrics have ``aldis.receiver.name``; attempts and their duration also have ``aldis.message.outcome``, and
    ``error.type`` if they failed. The gauges query the database when they are collected, as
    :meth:`aldis.relay.Relay.status` does. They measure the database and not the process: if several processes report,
    use one of the values, not their sum. While the database does not answer they have no values, and one warning is
    logged. The latency is measured from the database's clock to this machine's clock, and is as exact as these two.

    :param relay: the relay.
    :param tracer_provider: the provider of the tracer; by default OpenTelemetry's global one.
    :param meter_provider: the provider of the meter; by default OpenTelemetry's global one.
    :param record_exceptions: as for :func:`aldis.otel.instrument`.
    :return: a watch, whose ``stop()`` ends it. Open spans still end in their usual way.
    :raises InvalidOptionError: when the relay or a provider has a wrong type.

    .. versionadded:: 0.1
    """
    if not isinstance(relay, Relay):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOptionError(f"instrument() takes a Relay, not a {type(relay).__qualname__}.")

    tracer, meter = get_tracer_and_meter("aldis.relay", tracer_provider, meter_provider)
    watch = parts_of(relay).consumer.observers.add(_Telemetry(tracer, meter, record_exceptions))
    _Gauges(relay, watch).make(meter)
    return watch


@final
class _Telemetry(Observer):
    """Makes a span of each attempt, and counts the attempt."""

    def __init__(self, tracer: Tracer, meter: Meter, record_exceptions: bool) -> None:
        self._tracer = tracer
        self._record_exceptions = record_exceptions
        self._open: dict[Attempt, tuple[Span, Token[Context]]] = {}
        self._attempts = meter.create_counter("aldis.relay.attempts", "{attempt}", "How many attempts there were.")
        self._duration = make_histogram(meter, "aldis.relay.attempt.duration", "How long attempts took.", BUCKETS_S)
        self._latency = make_histogram(
            meter, "aldis.relay.latency", "The time from the send of a message to its first attempt.", _LATENCIES_S
        )

    def attempt_began(self, attempt: Attempt) -> None:
        span = self._tracer.start_span(
            f"process {attempt.receiver}", kind=trace.SpanKind.CONSUMER, attributes=_attributes(attempt)
        )
        self._open[attempt] = (span, context.attach(trace.set_span_in_context(span)))

    def attempt_ended(self, attempt: Attempt) -> None:
        span, token = self._open.pop(attempt)

        try:
            self._finish(attempt, span)
        finally:
            context.detach(token)

    def _finish(self, attempt: Attempt, span: Span) -> None:
        of_receiver = {"aldis.receiver.name": attempt.receiver}
        attributes = {**of_receiver, "aldis.message.outcome": str(attempt.outcome)}
        span.set_attribute("aldis.message.outcome", str(attempt.outcome))
        error = attempt.exception

        if error is not None:
            attributes["error.type"] = qualified_name(type(error))
            mark_failed(span, attributes["error.type"], error if self._record_exceptions else None)
        elif attempt.outcome == "dead":
            attributes["error.type"] = _NO_TYPE
            span.set_attribute("error.type", _NO_TYPE)
            span.set_status(trace.StatusCode.ERROR)

        self._attempts.add(1, attributes)
        self._duration.record(attempt.duration_s or 0.0, attributes)

        if attempt.number == 1 and attempt.outcome != "waits":
            self._latency.record(max(attempt.started_s - attempt.sent_s, 0.0), of_receiver)

        span.end()


def _attributes(attempt: Attempt) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "aldis.signal.name": attempt.signal,
        "aldis.receiver.name": attempt.receiver,
        "aldis.message.id": attempt.message_id,
        "aldis.message.attempt": attempt.number,
        "messaging.system": "aldis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": attempt.receiver,
        "messaging.message.id": attempt.message_id,
    }

    if attempt.function is not None:
        attributes["code.function.name"] = attempt.function

    if attempt.place is not None:
        path, _, line = attempt.place.rpartition(":")
        attributes |= {"code.file.path": path, "code.line.number": int(line)}

    if attempt.is_async:
        attributes["aldis.receiver.async"] = True

    return attributes


_GAUGES: Final[dict[str, tuple[str, str, Callable[[ReceiverStatus], float]]]] = {
    "aldis.relay.backlog": ("{message}", "How many messages wait.", lambda status: status.backlog),
    "aldis.relay.oldest_age": ("s", "The age of the oldest message that waits.", lambda s: s.oldest_age_s),
    "aldis.relay.dead_letters": ("{message}", "How many dead letters there are.", lambda status: status.dead),
}


@final
class _Gauges:
    """Queries the database for the messages that wait, when metrics are collected.

    Meters keep this object for ever, so it does not keep the relay alive. One collection reads each gauge in turn; one
    query serves them all.
    """

    def __init__(self, relay: Relay, watch: Watch) -> None:
        self._relay = weakref.ref(relay)
        self._watch = weakref.ref(watch)
        self._lock = Lock()
        self._answer: list[ReceiverStatus] = []
        self._answered = 0.0
        self._unused: set[str] = set()
        self._is_failing = False

    def make(self, meter: Meter) -> None:
        """Create the gauges of the meter."""
        for name, (unit, description, _) in _GAUGES.items():
            meter.create_observable_gauge(name, [self._asker(name)], unit, description)

    def _asker(self, name: str) -> Callable[[object], Iterable[Observation]]:
        value = _GAUGES[name][2]

        def ask(_: object) -> list[Observation]:
            return [Observation(value(s), {"aldis.receiver.name": s.receiver}) for s in self._ask(name)]

        return ask

    def _ask(self, name: str) -> list[ReceiverStatus]:
        watch = self._watch()

        if watch is None or watch.is_stopped:
            return []

        with self._lock:
            if name not in self._unused or time.monotonic() - self._answered > _FRESH_S:
                self._answer = self._status()
                self._answered = time.monotonic()
                self._unused = set(_GAUGES)

            self._unused.discard(name)
            return self._answer

    def _status(self) -> list[ReceiverStatus]:
        relay = self._relay()

        try:
            found = [] if relay is None else relay.status()
        except Exception as error:
            self._complain(error)
            return []

        self._is_failing = False
        return found

    def _complain(self, error: Exception) -> None:
        if self._is_failing:
            return

        self._is_failing = True

        if isinstance(error, DBAPIError):
            error.hide_parameters = True

        logger.warning("The backlog cannot be measured, because the database does not answer: %s", error)
