"""Get tracers and meters, and mark failed spans: for :mod:`aldis.otel` and :mod:`aldis.relay.otel`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._core.callables import kind_name
from .exceptions import InvalidOptionError

try:
    from opentelemetry import metrics, trace
except ImportError as _missing:
    raise ImportError("aldis.otel needs OpenTelemetry's API. Install it with: pip install aldis[otel]") from _missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span, Tracer


def get_tracer_and_meter(name: str, tracer_provider: Any, meter_provider: Any) -> tuple[Tracer, Meter]:
    """Return the tracer and the meter of one part of Aldis.

    :param name: the name of the part.
    :raises InvalidOptionError: when a provider is not a provider of OpenTelemetry.
    """
    for option, provider, method in (
        ("tracer_provider", tracer_provider, "get_tracer"),
        ("meter_provider", meter_provider, "get_meter"),
    ):
        if provider is not None and (isinstance(provider, type) or not callable(getattr(provider, method, None))):
            raise InvalidOptionError(
                f"{option} must be a provider of OpenTelemetry, with a method {method}, not {kind_name(provider)}."
            )

    tracer = trace.get_tracer(name, tracer_provider=tracer_provider)
    return tracer, metrics.get_meter(name, meter_provider=meter_provider)


def make_histogram(meter: Meter, name: str, description: str, buckets_s: Sequence[float]) -> Histogram:
    """Make a histogram of seconds.

    :param buckets_s: the upper bounds of its buckets.
    """
    try:
        return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=buckets_s)
    except TypeError:
        return meter.create_histogram(name, "s", description)  # OpenTelemetry before 1.30 takes no advice on buckets.


def mark_failed(span: Span, exception_type: str, error: BaseException | None) -> None:
    """Mark a span as failed.

    :param exception_type: the class of the exception.
    :param error: the exception itself, to record its message and its traceback, or ``None`` to leave them out.
    """
    span.set_attribute("error.type", exception_type)
    span.set_status(trace.StatusCode.ERROR)

    if error is not None:
        with suppress(Exception):  # Its __str__() may fail.
            span.record_exception(error)
            return

    span.add_event("exception", {"exception.type": exception_type})
