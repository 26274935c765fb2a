"""``GET /metrics``: the number of sends and the time that receivers took, in the format of Prometheus.

In a real shop, the outer server hides this page from customers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

from aldis.observe import Counters, slow_receivers, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

# Signals belong to the process, so these counters do too. A counter for each app would count the sends of all apps.
counters = Counters()
watch(counters)
slow_receivers(0.5)  # Logs a warning.


def init_app(app: Flask) -> None:
    app.add_url_rule("/metrics", view_func=metrics)


def metrics() -> Response:
    return Response("".join(f"{line}\n" for line in lines()), mimetype="text/plain")


def lines() -> Iterator[str]:
    """Return the numbers in the text format of Prometheus."""
    receivers = {
        f'{{signal="{signal}",receiver="{receiver}"}}': histogram
        for (signal, receiver), histogram in sorted(counters.receivers().items())
    }

    yield "# TYPE signal_sends_total counter"
    yield from (f'signal_sends_total{{signal="{name}"}} {sends}' for name, sends in sorted(counters.sends().items()))

    yield "# TYPE receiver_failures_total counter"
    yield from (f"receiver_failures_total{labels} {histogram.failures}" for labels, histogram in receivers.items())

    yield "# TYPE receiver_seconds summary"

    for labels, histogram in receivers.items():
        yield f"receiver_seconds_sum{labels} {histogram.total_s:.6f}"
        yield f"receiver_seconds_count{labels} {histogram.calls}"
