"""aldis.observe in many threads at once: beginnings and ends come in pairs, nothing is lost, and no watch is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aldis import Signal
from aldis.delivery import threads
from aldis.observe import CallRecord, Counters, SendRecord, Watcher, connections, watch

from ..threads import THREADS, together

pytestmark = [pytest.mark.stress, pytest.mark.usefixtures("hasty", "uncaught", "watchdog")]


class Pairing(Watcher):
    """A watcher that counts beginnings and ends."""

    def __init__(self) -> None:
        self.told: list[str] = []  # list.append is atomic; ``+= 1`` is not.

    def send_began(self, send: SendRecord) -> None:
        self.told.append("send began")

    def call_began(self, call: CallRecord) -> None:
        self.told.append("call began")

    def call_ended(self, call: CallRecord) -> None:
        self.told.append("call ended")

    def send_ended(self, send: SendRecord) -> None:
        self.told.append("send ended")

    def counts(self) -> Counter[str]:
        return Counter(self.told)


def hear(sender: Any, **payload: Any) -> None: ...


def test_counters_are_exact_in_threads(effort: int) -> None:
    """Counters count every send from many threads, and every call."""
    lamp, rounds = Signal(), 100 * effort
    lamp.connect(hear)
    lamp.connect(other := lambda sender: None)

    def send() -> None:
        for _ in range(rounds):
            lamp.send()

    with watch(counters := Counters(), lamp):
        together(*[send] * THREADS)

    assert other in [connection() for connection in lamp.receivers.values()]
    assert counters.sends() == {"Signal": THREADS * rounds}
    assert [histogram.calls for histogram in counters.receivers().values()] == [THREADS * rounds] * 2
    assert [sum(histogram.buckets) for histogram in counters.receivers().values()] == [THREADS * rounds] * 2


def test_watches_come_and_go_while_other_threads_send(effort: int) -> None:
    """While watches of one signal and of all signals begin and stop, sends go on, and every watcher gets pairs."""
    lamp, rounds = Signal(), 100 * effort
    lamp.connect(hear)
    pairings: list[Pairing] = []
    steady = Pairing()

    def send() -> None:
        for _ in range(rounds):
            assert len(lamp.send()) == 1

    def come_and_go(*signals: Any) -> None:
        for _ in range(rounds):
            pairing = Pairing()
            pairings.append(pairing)
            token = watch(pairing, *signals)
            lamp.send()
            token.stop()
            Signal().send()

    with watch(steady, lamp):
        together(send, send, send, lambda: come_and_go(lamp), come_and_go, lambda: come_and_go(lamp))

    for pairing in [steady, *pairings]:
        counts = pairing.counts()
        assert counts["send began"] == counts["send ended"] >= 1
        assert counts["call began"] == counts["call ended"] >= 1

    assert steady.counts()["send began"] == 6 * rounds
    lamp.send()
    assert lamp._registry.watches == ()
    assert lamp._registry.plain is not None
    late = Signal()
    assert late._registry.watches == ()


def test_signals_are_made_and_freed_while_all_are_watched(effort: int) -> None:
    """While watches of all signals begin and stop, a new signal is watched by every watch that existed before it."""
    rounds = 50 * effort
    missed: list[int] = []

    def make_and_send() -> None:
        for number in range(rounds):
            counters = Counters()

            with watch(counters):
                signals = [Signal() for _ in range(3)]

                for signal in signals:
                    signal.send()

            if counters.sends().get("Signal", 0) < 3:
                missed.append(number)

            assert all(token is not None for token in signals)

    together(*[make_and_send] * THREADS)

    assert missed == []
    assert Signal()._registry.watches == ()


def test_trees_of_threads_are_separate(effort: int) -> None:
    """The sends of a receiver are in the tree of its own thread's send, and in no other tree."""
    outer, inner, rounds = Signal(), Signal(), 50 * effort
    outer.connect(inner.send)
    outer.connect(lambda sender: asyncio.run(inner.send_async(sender)), weak=False)
    trees: list[SendRecord] = []

    def keep(send: SendRecord) -> None:
        if send.parent is None:
            trees.append(send)

    with watch(keep), ThreadPoolExecutor(2) as pool:

        @outer.connect(via=threads(pool))
        def in_thread(sender: Any) -> None:
            inner.send(sender)

        def send(name: str) -> None:
            for _ in range(rounds):
                [*_, future] = [value for _, value in outer.send(name)]
                future.result()

        together(*[lambda number=number: send(str(number)) for number in range(THREADS)])

    assert len(trees) == THREADS * rounds

    for tree in trees:
        senders = [[send.sender for send in call.sends] for call in tree.calls]
        assert senders == [[tree.sender], [tree.sender], [], [tree.sender]]


def test_listing_connections_while_other_threads_connect(effort: int) -> None:
    """connections() returns complete records while other threads connect and drop receivers and senders."""
    lamp, rounds = Signal(), 50 * effort
    lamp.connect(hear, "steady")

    class Sender: ...

    def come_and_go() -> None:
        for _ in range(rounds):
            sender = Sender()
            lamp.connect(lambda sender: None, sender, weak=False)
            lamp.connect(lambda sender: None)

    def look() -> None:
        for _ in range(rounds):
            found = connections(lamp)
            assert [record.receiver for record in found if record.sender == "'steady'"] == [f"{__name__}.hear"]

    together(come_and_go, look, come_and_go, look)
