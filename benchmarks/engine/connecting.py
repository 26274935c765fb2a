"""The cost of connecting and disconnecting, and whether it grows with the number of connections."""

from __future__ import annotations

import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.engine.peers import Sender
from benchmarks.harness.report import Goal, Table, duration
from benchmarks.harness.timing import interleave, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness.timing import Slice

PEERS = ("blinker", "psygnal", "django", "pyee")


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table each for connect, for disconnect, for disconnect among many connections, and for growth."""
    yield _pairs(quick)
    yield _disconnecting(quick)
    yield _growth(quick)


def receiver(sender: Any, **payload: Any) -> None:
    """A receiver that is connected and disconnected again."""


def others(count: int) -> list[Any]:
    """Make receivers that stay connected."""
    return [lambda sender, **payload: None for _ in range(count)]  # noqa: ARG005


# connect, then disconnect


def aldis(kept: list[Any], sender: Any) -> Slice:
    from aldis import Signal

    return _pair(Signal(), kept, sender)


def blinker(kept: list[Any], sender: Any) -> Slice:
    from blinker import Signal

    return _pair(Signal(), kept, sender)


def _pair(signal: Any, kept: list[Any], sender: Any) -> Slice:
    for other in kept:
        signal.connect(other)

    code = "signal.connect(receiver, sender); signal.disconnect(receiver, sender)"
    sender = signal.ANY if sender is None else sender
    return statement(code, signal=signal, receiver=receiver, sender=sender, kept=kept)


def psygnal(kept: list[Any], sender: Any) -> Slice | None:
    from psygnal import SignalInstance

    signal = SignalInstance((object,))

    for other in kept:
        signal.connect(other)

    code = "signal.connect(receiver); signal.disconnect(receiver)"
    return None if sender else statement(code, signal=signal, receiver=receiver, kept=kept)


def django(kept: list[Any], sender: Any) -> Slice:
    from django.dispatch import Signal  # type: ignore[import-untyped]

    signal = Signal()

    for other in kept:
        signal.connect(other)

    code = "signal.connect(receiver, sender); signal.disconnect(receiver, sender)"
    return statement(code, signal=signal, receiver=receiver, sender=sender, kept=kept)


def pyee(kept: list[Any], sender: Any) -> Slice | None:
    from pyee import EventEmitter

    emitter = EventEmitter()

    for other in kept:
        emitter.on("saved", other)

    code = "emitter.on('saved', receiver); emitter.remove_listener('saved', receiver)"
    return None if sender else statement(code, emitter=emitter, receiver=receiver, kept=kept)


CONTESTANTS: dict[str, Callable[[list[Any], Any], Slice | None]] = {
    "Blinker": blinker,
    "Aldis": aldis,
    "psygnal": psygnal,
    "Django": django,
    "pyee": pyee,
}


def _pairs(quick: bool) -> Table:
    head = ("for", "others there", "Blinker", "Aldis", "psygnal", "Django", "pyee")
    table = Table("Connect a function and disconnect it", head)

    for title, sender in (("any sender", None), ("one sender", Sender())):
        for count in (0, 100):
            slices = {}

            for name, contestant in CONTESTANTS.items():
                try:
                    run = contestant(others(count), sender)
                except ModuleNotFoundError:
                    continue

                if run is not None:
                    slices[name] = run

            timings = interleave(slices, 0.3 if quick else 2.0)
            cells = [duration(timings[name].best) if name in timings else "-" for name in CONTESTANTS]
            table.rows.append((title, count, *cells))

    return table


# disconnect among many connections

ANY, ONE = object(), Sender()
DISCONNECTS = {
    "`disconnect(receiver)`, connected to any sender": (ANY, ANY),
    "`disconnect(receiver)`, connected to one sender": (ONE, ANY),
    "`disconnect(receiver, sender)`": (ONE, ONE),
}


def makers() -> dict[str, Callable[[], Any]]:
    """Return the functions that make a signal, in Blinker if it is installed, and in Aldis."""
    modules = {"Blinker": "blinker", "Aldis": "aldis"}
    return {name: import_module(module).Signal for name, module in modules.items() if find_spec(module)}


def signals() -> dict[str, Any]:
    """Return a new signal of each library."""
    return {name: make() for name, make in makers().items()}


def _disconnecting(quick: bool) -> Table:
    counts = (1_000, 10_000) if quick else (1_000, 10_000, 100_000)
    head = ("", *(f"{name}, {count:,}" for name in makers() for count in counts))
    table = Table("Disconnect, when so many other senders have a receiver", head)
    filled = {(name, count): _filled(make(), count) for name, make in makers().items() for count in counts}

    for what, (connected, disconnected) in DISCONNECTS.items():
        slices = {key: _disconnect(signal, connected, disconnected) for key, (signal, _) in filled.items()}
        timings = interleave(slices, 0.3 if quick else 4.0)
        table.rows.append((what, *(duration(timing.best) for timing in timings.values())))

        for count in counts[1:]:
            growth = timings["Aldis", count].ratio(timings["Aldis", counts[0]])
            text = f"{what}, among {count:,} senders: {growth:.2f} of what it takes among 1,000, at most 2"
            table.goals.append(Goal(text, growth <= 2))

    return table


def _filled(signal: Any, count: int) -> tuple[Any, list[Sender]]:
    senders = [Sender() for _ in range(count)]

    for sender in senders:
        signal.connect(stays, sender)

    return signal, senders


def stays(sender: Any, **payload: Any) -> None:
    """The receiver that is connected to all senders."""


def _disconnect(signal: Any, connected: object, disconnected: object) -> Slice:
    wanted, given = (signal.ANY if sender is ANY else sender for sender in (connected, disconnected))

    def run(number: int) -> float:
        taken = 0.0

        for _ in range(number):
            signal.connect(receiver, wanted)
            start = time.perf_counter()
            signal.disconnect(receiver, given)
            taken += time.perf_counter() - start

        return taken

    return run


# n receivers, n senders


def _growth(quick: bool) -> Table:
    counts = (1_000, 3_000) if quick else (1_000, 10_000)
    head = ("", *(f"{count:,}" for count in counts), "growth")
    table = Table("Connect so many receivers to as many senders, with a send after each connect", head)
    slices = {}

    for count in counts:
        pairs = list(zip(others(count), [Sender() for _ in range(count)], strict=True))

        for name, make in makers().items():
            slices[name, count] = _connect_all(make, pairs)

    timings = interleave(slices, 0.5 if quick else 8.0)
    fewer, more = counts

    for name in makers():
        growth = timings[name, more].ratio(timings[name, fewer])
        table.rows.append((name, *(duration(timings[name, count].best) for count in counts), f"{growth:.1f}"))

        if name == "Aldis":
            text = f"Connect and send {more:,} times: {growth:.1f} of {fewer:,} times, at most {2 * more // fewer}"
            table.goals.append(Goal(text, growth <= 2 * more / fewer))

    return table


def _connect_all(make: Callable[[], Any], pairs: list[tuple[Any, Any]]) -> Slice:
    def run(number: int) -> float:
        taken = 0.0

        for _ in range(number):
            signal = make()
            start = time.perf_counter()

            for each, sender in pairs:
                signal.connect(each, sender)
                signal.send(sender)

            taken += time.perf_counter() - start

        return taken

    return run
