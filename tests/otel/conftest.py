"""Fixtures of OpenTelemetry's tests: its SDK, with all spans and metrics in memory."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aldis.observe import Watch
from aldis.otel import instrument


class Telemetry:
    """Providers of spans and metrics, and the spans and metrics that they exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.tracer_provider.get_tracer("tests")

    def instrument(self, *signals: Any, **options: Any) -> Watch:
        return instrument(*signals, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Return the ended spans, in the order of their ends."""
        return list(self.exporter.get_finished_spans())

    @property
    def trees(self) -> list[Any]:
        """Return all spans as nested tuples of names, in the order of their beginnings."""
        spans = sorted(self.spans, key=lambda span: span.start_time or 0)
        return [self._tree(span, spans) for span in spans if span.parent is None]

    def _tree(self, span: ReadableSpan, spans: list[ReadableSpan]) -> Any:
        below = [self._tree(other, spans) for other in spans if self._is_child(other, span)]
        verb, _, name = span.name.rpartition(" ")
        return f"{verb} {name.rpartition('.')[2]}".strip(), below

    @staticmethod
    def _is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
        return span.parent is not None and parent.context is not None and span.parent.span_id == parent.context.span_id

    @property
    def points(self) -> dict[str, list[Any]]:
        """Return the data points of each metric."""
        data = self.reader.get_metrics_data()

        if data is None:
            return {}

        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()
