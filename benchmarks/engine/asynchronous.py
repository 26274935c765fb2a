"""The cost of ``send_async``, beside a loop that awaits and beside Blinker. No event loop runs, because nothing
waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.engine.connecting import signals
from benchmarks.harness.report import Table, duration, ratio
from benchmarks.harness.timing import interleave

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from benchmarks.harness.timing import Slice

PEERS = ("blinker",)


class Loop:
    """The loop that one would write by hand."""

    def __init__(self, receivers: list[Any]) -> None:
        self.receivers = receivers

    async def send_async(self, sender: Any, **payload: Any) -> list[tuple[Any, Any]]:
        results = []

        for receiver in self.receivers:
            results.append((receiver, await receiver(sender, **payload)))  # noqa: PERF401  # As it would be written.

        return results


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("receivers", "keywords", "by hand", "Aldis", "Blinker")
    table = Table("Awaiting async receivers, one after the other, for any sender", head)

    for count in (0, 1, 3, 10):
        for keywords in (0, 1):
            timings = interleave(_slices(count, {"a": 1} if keywords else {}), 0.25 if quick else 2.0)
            base = timings["by hand"]
            ratios = [ratio(timings[name].ratio(base) if name in timings else None) for name in ("Aldis", "Blinker")]
            table.rows.append((count, keywords, duration(base.best), *ratios))

    yield table


def _slices(count: int, payload: dict[str, int]) -> dict[str, Slice]:
    receivers = [_receiver() for _ in range(count)]
    slices = {"by hand": _slice(Loop(receivers), receivers, payload)}

    for name, signal in signals().items():
        for receiver in receivers:
            signal.connect(receiver)

        slices[name] = _slice(signal, receivers, payload)

    return slices


def _receiver() -> Callable[..., Coroutine[Any, Any, None]]:
    names: dict[str, Any] = {}
    exec("async def receiver(sender, **payload): pass", names)
    receiver: Callable[..., Coroutine[Any, Any, None]] = names["receiver"]
    return receiver


def _slice(signal: Any, receivers: list[Any], payload: dict[str, int]) -> Slice:
    async def without(sender: object, number: int) -> float:
        start = time.perf_counter()

        for _ in range(number):
            await signal.send_async(sender)

        return time.perf_counter() - start

    async def one(sender: object, number: int) -> float:
        start = time.perf_counter()

        for _ in range(number):
            await signal.send_async(sender, a=1)

        return time.perf_counter() - start

    def run(number: int) -> float:
        coroutine = (one if payload else without)(receivers, number)  # The list is also the sender.

        try:
            coroutine.send(None)
        except StopIteration as done:
            return float(done.value)

        raise AssertionError("something waited")

    return run
