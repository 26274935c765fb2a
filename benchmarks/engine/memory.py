"""The memory that a connection takes, by tracemalloc: exact, and the same in each run."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks.engine.connecting import others, signals
from benchmarks.engine.peers import Sender
from benchmarks.harness.report import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = ("blinker",)

COUNT = 10_000


class Listener:
    """An object with a method that is connected."""

    def heard(self, sender: Any, **payload: Any) -> None:
        """Do nothing."""


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    table = Table(f"Bytes per connection, of {COUNT:,}", ("", "Blinker", "Aldis"))
    functions, listeners = others(COUNT), [Listener() for _ in range(COUNT)]
    senders = [Sender() for _ in range(COUNT)]

    def to_any(signal: Any) -> None:
        for function in functions:
            signal.connect(function)

    def methods(signal: Any) -> None:
        for listener in listeners:
            signal.connect(listener.heard)

    def one_each(signal: Any) -> None:
        for function, sender in zip(functions, senders, strict=True):
            signal.connect(function, sender)

    def one_for_all(signal: Any) -> None:
        for sender in senders:
            signal.connect(functions[0], sender)

    def sent(signal: Any) -> None:
        one_each(signal)

        for sender in senders:
            signal.send(sender)

    cases = {
        "functions, for any sender": to_any,
        "bound methods, for any sender": methods,
        "a function for each sender": one_each,
        "the same, and each sender has sent": sent,
        "one function, for each sender": one_for_all,
    }

    for title, fill in cases.items():
        found = {name: _bytes(signal, fill) for name, signal in signals().items()}
        table.rows.append((title, found.get("Blinker", "-"), found["Aldis"]))

    yield table


def _bytes(signal: Any, fill: Callable[[Any], None]) -> int:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    fill(signal)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return round((after - before) / COUNT)
