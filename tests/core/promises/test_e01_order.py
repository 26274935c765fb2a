"""E1: receivers are called by priority, then in the order in which they were connected."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

import aldis
from aldis import ANY, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


def named(log: list[Any], name: Any) -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> Any:
        log.append(name)
        return name

    return receiver


class Thing:
    """A sender that matches by identity."""


def test_receivers_are_called_in_the_order_of_connecting() -> None:
    """E1: without priorities, receivers are called in the order in which they were connected."""
    signal, log = Signal(), list[int]()

    for number in range(50):
        signal.connect(named(log, number), weak=False)

    signal.send("x")

    assert log == list(range(50))


@pytest.mark.parametrize("sender", ["x", 7, b"x", Thing(), None, (), Thing])
def test_sender_filters_do_not_change_the_order(sender: Any) -> None:
    """E1: receivers for any sender and receivers for one sender are called in one order, the order of connecting."""
    signal, log = Signal(), list[int]()

    for number in range(12):
        signal.connect(named(log, number), sender if number % 3 == 0 else ANY, weak=False)

    signal.send(sender)

    assert log == list(range(12))


def test_higher_priority_is_called_earlier() -> None:
    """E1: a receiver with a higher priority is called earlier; the default is 0; fractions and infinities are
    allowed."""
    signal, log = Signal(), list[Any]()

    for priority in (-1, 5, 0, -inf, 0.5, inf, 10**400, -0.25):
        signal.connect(named(log, priority), weak=False, priority=priority)

    signal.connect(named(log, "default"), weak=False)
    signal.send()

    assert log == [inf, 10**400, 5, 0.5, 0, "default", -0.25, -1, -inf]


def test_priorities_apply_across_sender_filters() -> None:
    """E1: a receiver for one sender runs before one for any sender if its priority is higher, and after it if lower."""
    signal, log = Signal(), list[str]()
    signal.connect(named(log, "any"), weak=False)
    signal.connect(named(log, "late"), "x", weak=False, priority=-1)
    signal.connect(named(log, "early"), "x", weak=False, priority=1)

    signal.send("x")

    assert log == ["early", "any", "late"]


FILTERS: list[Any] = [ANY, "x", "y"]


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 0, 0.5, 1]), st.sampled_from(FILTERS)), max_size=25))
def test_order_is_a_stable_sort(connections: list[tuple[float, Any]]) -> None:
    """E1: a send calls the receivers that match the sender, stably sorted by priority."""
    signal, log = Signal(), list[int]()

    for number, (priority, sender) in enumerate(connections):
        signal.connect(named(log, number), sender, weak=False, priority=priority)

    signal.send("x")

    fitting = [number for number, (_, sender) in enumerate(connections) if sender in (ANY, "x")]
    assert log == sorted(fitting, key=lambda number: -connections[number][0])


def test_every_view_shows_the_same_order() -> None:
    """E1: send, its results, send_async, receivers_for and receivers all show the same order."""
    signal = Signal()
    log: list[str] = []

    async def middle(sender: Any) -> str:
        log.append("middle")
        return "middle"

    async def last(sender: Any) -> str:
        log.append("last")
        return "last"

    async def first(sender: Any) -> str:
        log.append("first")
        return "first"

    signal.connect(middle, weak=False)
    signal.connect(last, "x", weak=False, priority=-1)
    signal.connect(first, "x", weak=False, priority=1)
    expected = [first, middle, last]

    results = asyncio.run(signal.send_async("x"))

    assert log == ["first", "middle", "last"]
    assert results == [(first, "first"), (middle, "middle"), (last, "last")]
    assert list(signal.receivers_for("x")) == expected
    assert list(signal.receivers.values()) == expected


def test_results_are_in_the_order_of_calls() -> None:
    """E1: send returns (receiver, result) pairs in the order of the calls."""
    signal, log = Signal(), list[int]()
    receivers = [named(log, number) for number in range(3)]

    for priority, receiver in enumerate(receivers):
        signal.connect(receiver, priority=priority)

    assert signal.send() == [(receivers[2], 2), (receivers[1], 1), (receivers[0], 0)]


def test_connecting_again_keeps_the_position() -> None:
    """E1: a receiver that is connected again while it is still connected keeps its position."""
    signal, log = Signal(), list[str]()
    first, second = named(log, "first"), named(log, "second")
    signal.connect(first)
    signal.connect(second)

    signal.connect(first)
    signal.send()

    assert log == ["first", "second"]


def test_a_new_priority_moves_the_receiver() -> None:
    """E1: connecting again with another priority moves the receiver to its new position at once."""
    signal, log = Signal(), list[str]()
    first, second, third = named(log, "first"), named(log, "second"), named(log, "third")

    for receiver in (first, second, third):
        signal.connect(receiver)

    signal.send()
    signal.connect(third, priority=1)
    signal.send()
    signal.connect(third, priority=-1)
    signal.send()

    assert log == ["first", "second", "third", "third", "first", "second", "first", "second", "third"]


def test_a_reconnected_receiver_goes_to_the_end() -> None:
    """E1: a receiver that is disconnected and then connected again comes after the receivers that stayed connected."""
    signal, log = Signal(), list[str]()
    first, second = named(log, "first"), named(log, "second")
    signal.connect(first)
    signal.connect(second)

    signal.disconnect(first)
    signal.connect(first)
    signal.send()

    assert log == ["second", "first"]


def test_disconnecting_one_keeps_the_order_of_the_others() -> None:
    """E1: the other receivers keep their order when one of them is disconnected."""
    signal, log = Signal(), list[int]()
    receivers = [named(log, number) for number in range(10)]

    for number, receiver in enumerate(receivers):
        signal.connect(receiver, ANY if number % 2 else "x")

    signal.disconnect(receivers[4])
    signal.disconnect(receivers[7])
    signal.send("x")

    assert log == [0, 1, 2, 3, 5, 6, 8, 9]


def test_set_class_does_not_change_the_order() -> None:
    """E1: Blinker's set_class is accepted, and receivers are still called in the order of connecting."""

    class Backwards(set[Any]):
        def __iter__(self) -> Any:
            return iter(sorted(super().__iter__(), key=id, reverse=True))

    class Custom(Signal):
        set_class = Backwards

    signal, log = Custom(), list[int]()

    for number in range(20):
        signal.connect(named(log, number), weak=False)

    signal.send()

    assert log == list(range(20))


def test_a_subclass_may_choose_its_own_order() -> None:
    """E1: if a subclass overrides receivers_for, send calls the receivers that it returns, in the order in which it
    returns them."""

    class Backwards(Signal):
        def receivers_for(self, sender: Any) -> Any:
            return reversed(list(super().receivers_for(sender)))

    signal, log = Backwards(), list[str]()

    for name in "abc":
        signal.connect(named(log, name), weak=False)

    signal.send()

    assert log == ["c", "b", "a"]


def test_order_does_not_depend_on_hashes() -> None:
    """E1: processes with different hash seeds call receivers in the same order, for senders and receivers of every
    kind."""
    program = (
        "import aldis\n"
        "signal, log = aldis.Signal(), []\n"
        "for n in range(40):\n"
        "    signal.connect(lambda s, n=n: log.append(n), aldis.ANY if n % 2 else 's', weak=False, priority=n % 3)\n"
        "signal.send('s')\n"
        "print(log)\n"
    )
    root = str(Path(aldis.__file__).parent.parent)

    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert outputs == {f"{sorted(range(40), key=lambda n: -(n % 3))}\n"}
