"""The cost that a declaration adds to each send: checking the keywords and filling in the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aldis import Namespace
from benchmarks.harness.report import Table, duration, ratio
from benchmarks.harness.timing import interleave, statement

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = ()
SENDS = {
    "as declared": "signal.send(sender, order_id=1, total=2, currency=3, note=4)",
    "in another order": "signal.send(sender, note=4, currency=3, total=2, order_id=1)",
    "a default filled in": "signal.send(sender, order_id=1, total=2, currency=3)",
}


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("receivers", "keywords", "not declared", "declared", "ratio", "difference")
    table = Table("Declared signals, with four keywords", head)

    for count in (0, 1, 3, 10):
        for how, code in SENDS.items():
            receivers: list[Any] = [eval("lambda sender, **payload: None") for _ in range(count)]
            signals = Namespace()
            signals.declare(order_placed)
            slices = {
                name: statement(
                    code, signal=_connected(signals.signal(name), receivers), sender=object(), kept=receivers
                )
                for name in ("anything", "order-placed")
            }
            timings = interleave(slices, 0.25 if quick else 2.0)
            before, after = timings["anything"], timings["order-placed"]
            change = after.ratio(before)
            table.rows.append(
                (
                    count,
                    how,
                    duration(before.best),
                    duration(after.best),
                    ratio(change),
                    duration(before.best * (change - 1)),
                )
            )

    yield table


def order_placed(sender: object, /, *, order_id: int, total: int, currency: int, note: int = 4) -> None:
    """A declared signal."""


def _connected(signal: Any, receivers: list[Any]) -> Any:
    for receiver in receivers:
        signal.connect(receiver)

    return signal
