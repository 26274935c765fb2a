"""E2: a send calls the receivers that were connected when it began and are still connected at their turn."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, Namespace, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


def inline(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Call the receiver in the same thread, as a sync_wrapper."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


class Stage:
    """A signal, and one of the ways to send it that the engine handles by different code."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.log: list[str] = []
        self.signal = self._make_signal()
        self.sender: Any = {"to a name": "x", "to a number": 3, "to an object": Stage}.get(way, ANY)
        self.payload: dict[str, Any] = {"a": 1} if way in ("with a payload", "declared") else {}

        if way == "with a once receiver":
            self.signal.connect(self.named("(once)"), weak=False, once=True, priority=-100)

    def _make_signal(self) -> Signal[Any, ..., Any]:
        if self.way == "collecting failures":
            return Signal(errors="collect")

        if self.way == "declared":

            def happened(sender: Any, /, *, a: int) -> None: ...

            declared: Signal[Any, ..., Any] = Namespace().declare(happened)
            return declared

        return Signal(sync_wrapper=inline)

    def named(self, name: str, act: Callable[[], object] = lambda: None) -> Callable[..., Any]:
        def receiver(sender: Any, **payload: Any) -> None:
            self.log.append(name)
            act()

        return receiver

    def connect(self, receiver: Callable[..., Any], **options: Any) -> None:
        self.signal.connect(receiver, self.sender, options.pop("weak", False), **options)

    def send(self) -> list[str]:
        """Send once; return the names of the receivers that ran, except those that the stage itself connected."""
        before = len(self.log)
        sender = None if self.sender is ANY else self.sender

        if self.way == "async":
            asyncio.run(self.signal.send_async(sender, **self.payload))
        elif self.way == "while another thing is muted":
            with self.signal.muted(self.send):
                self.signal.send(sender, **self.payload)
        else:
            self.signal.send(sender, **self.payload)

        return [name for name in self.log[before:] if name != "(once)"]


WAYS = [
    "plain",
    "with a payload",
    "to a name",
    "to a number",
    "to an object",
    "with a once receiver",
    "collecting failures",
    "declared",
    "while another thing is muted",
    "async",
]


@pytest.fixture(params=WAYS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


sync_ways = pytest.mark.parametrize("stage", [way for way in WAYS if way != "async"], indirect=True)


@pytest.mark.parametrize("priority", [-1, 0, 1])
def test_a_receiver_connected_during_the_send_waits(stage: Stage, priority: float) -> None:
    """E2: a receiver that is connected during a send is called from the next send on, whatever its priority."""
    new = stage.named("new")
    stage.connect(stage.named("old", lambda: stage.connect(new, priority=priority)))

    assert stage.send() == ["old"]
    assert sorted(stage.send()) == ["new", "old"]


def test_the_first_receiver_of_a_sender_connected_during_the_send_waits() -> None:
    """E2: this is also true for the first receiver of a sender, when a receiver for any sender connects it."""
    stage = Stage("plain")
    stage.connect(stage.named("any", lambda: stage.signal.connect(new, "x")))
    new = stage.named("new")

    stage.signal.send("x")
    assert stage.log == ["any"]

    stage.signal.send("x")
    assert stage.log == ["any", "any", "new"]


def test_a_receiver_disconnected_before_its_turn_is_not_called(stage: Stage) -> None:
    """E2: a receiver that is disconnected before its turn is not called by the running send."""
    last = stage.named("last")
    stage.connect(stage.named("first", lambda: stage.signal.disconnect(last)))
    stage.connect(last)

    assert stage.send() == ["first"]
    assert stage.send() == ["first"]


def test_receivers_after_a_disconnected_one_are_called(stage: Stage) -> None:
    """E2: a receiver that disconnects itself does not make another receiver miss its turn."""

    def leave() -> None:
        stage.signal.disconnect(first)
        stage.signal.disconnect(second)

    first, second, third = stage.named("first", leave), stage.named("second"), stage.named("third")

    for receiver in (first, second, third):
        stage.connect(receiver)

    assert stage.send() == ["first", "third"]
    assert stage.send() == ["third"]


def test_a_receiver_collected_before_its_turn_is_not_called(stage: Stage) -> None:
    """E2: a function that is collected before its turn is not called by the running send."""
    kept = [stage.named("last")]

    def drop() -> None:
        kept.clear()
        gc.collect()

    stage.connect(stage.named("first", drop))
    stage.connect(kept[0], weak=True)

    assert stage.send() == ["first"]
    assert stage.send() == ["first"]


def test_a_method_whose_object_is_collected_before_its_turn_is_not_called(stage: Stage) -> None:
    """E2: a bound method whose object dies before its turn is not called by the running send."""

    class Listener:
        def hear(self, sender: Any, **payload: Any) -> None:
            stage.log.append("last")

    kept = [Listener()]

    def drop() -> None:
        kept.clear()
        gc.collect()

    stage.connect(stage.named("first", drop))
    stage.connect(kept[0].hear, weak=True)

    assert stage.send() == ["first"]


def test_a_receiver_disconnected_and_connected_again_waits(stage: Stage) -> None:
    """E2: a receiver that is disconnected and connected again during a send is a new connection, and waits for the next
    send."""

    def swap() -> None:
        stage.signal.disconnect(last)
        stage.connect(last)

    last = stage.named("last")
    stage.connect(stage.named("first", swap))
    stage.connect(last)

    assert stage.send() == ["first"]


def test_a_receiver_connected_again_is_called_once(stage: Stage) -> None:
    """E2: a receiver that is connected again while it is still connected is called once by the running send."""
    last = stage.named("last")
    stage.connect(stage.named("first", lambda: stage.connect(last, priority=5)))
    stage.connect(last)

    assert stage.send() == ["first", "last"]
    assert stage.send() == ["last", "first"]


def test_a_once_receiver_connected_again_before_its_turn_has_two_calls(stage: Stage) -> None:
    """E2: a receiver that is connected again with once before its call in this send is called by the next send too."""
    last = stage.named("last")
    first = stage.named("first", lambda: stage.connect(last, once=True))
    stage.connect(first)
    stage.connect(last, once=True)

    assert stage.send() == ["first", "last"]
    stage.signal.disconnect(first)
    assert stage.send() == ["last"]
    assert stage.send() == []


def test_clearing_ends_the_send(stage: Stage) -> None:
    """E2: when all receivers are disconnected during a send, the send calls no further receiver."""
    stage.connect(stage.named("first", stage.signal.receivers.clear))
    stage.connect(stage.named("last"))

    assert stage.send() == ["first"]
    assert stage.send() == []


def test_a_receiver_lives_through_its_own_call(stage: Stage) -> None:
    """E2: a receiver that drops the last reference to itself runs to its end, and is not called again."""
    kept: list[Any] = []

    def leave() -> None:
        kept.clear()
        gc.collect()
        stage.log.append("end")

    kept.append(stage.named("self", leave))
    stage.connect(kept[0], weak=True)

    assert stage.send() == ["self", "end"]
    assert stage.send() == []


def test_a_nested_send_has_its_own_snapshot() -> None:
    """E2: a nested send has its own snapshot; the outer send continues with its own."""
    stage = Stage("plain")
    depth: list[int] = []

    def nest() -> None:
        if not depth:
            depth.append(1)
            stage.connect(new)
            stage.signal.send()

    new = stage.named("new")
    stage.connect(stage.named("first", nest))
    stage.connect(stage.named("last"))

    stage.signal.send()

    assert stage.log == ["first", "first", "last", "new", "last"]


@sync_ways
def test_a_once_receiver_that_a_nested_send_called_is_not_called_again(stage: Stage) -> None:
    """E2: when a send is nested in another send, only one of the two calls a once receiver."""
    depth: list[int] = []

    def nest() -> None:
        if not depth:
            depth.append(1)
            stage.signal.send(None if stage.sender is ANY else stage.sender, **stage.payload)

    stage.connect(stage.named("first", nest))
    stage.connect(stage.named("only once"), once=True)

    assert stage.send() == ["first", "first", "only once"]
    assert stage.send() == ["first"]


@sync_ways
def test_a_once_receiver_may_send_the_same_signal(stage: Stage) -> None:
    """E2: a once receiver is disconnected before it is called, so that a send from inside it does not call it."""

    def again() -> None:
        stage.signal.send(None if stage.sender is ANY else stage.sender, **stage.payload)

    stage.connect(stage.named("once", again), once=True)

    assert stage.send() == ["once"]
    assert not stage.signal.receivers


@pytest.mark.parametrize("loses", ["sender", "any"])
@pytest.mark.parametrize("first_filter", ["sender", "any"])
def test_a_receiver_that_loses_one_of_two_connections_is_still_called(loses: str, first_filter: str) -> None:
    """E2: a receiver that is connected to a sender and to ANY is still called when one of the two connections goes
    during the send."""
    signal, log = Signal(), list[str]()

    def last(sender: Any) -> None:
        log.append("last")

    blocks: dict[str, Any] = {}

    @signal.connect
    def first(sender: Any) -> None:
        log.append("first")
        blocks[loses].__exit__(None, None, None)

    for name in (first_filter, "any" if first_filter == "sender" else "sender"):
        blocks[name] = signal.connected_to(last, "x" if name == "sender" else ANY)
        blocks[name].__enter__()

    signal.send("x")

    assert log == ["first", "last"]


def test_a_once_connection_used_up_by_a_nested_send_leaves_the_other() -> None:
    """E2: a receiver with a once connection and a lasting one is called through the lasting one when the once
    connection is used up."""
    signal, log = Signal(), list[str]()

    @signal.connect
    def first(sender: Any) -> None:
        if not log:
            log.append("nested")
            signal.send("x")
            log.append("outer")

    def last(sender: Any) -> None:
        log.append("last")

    signal.connect(last, "x", once=True)
    signal.connect(last)

    signal.send("x")

    assert log == ["nested", "last", "outer", "last"]


def test_receivers_for_is_a_snapshot_too() -> None:
    """E2: receivers_for yields what was connected when the walk began, without receivers that died or were disconnected
    since."""
    signal, log = Signal(), list[str]()

    def first(sender: Any) -> None: ...

    def second(sender: Any) -> None: ...

    def third(sender: Any) -> None: ...

    signal.connect(first)
    signal.connect(second)

    for receiver in signal.receivers_for("x"):
        log.append(receiver.__name__)
        signal.disconnect(second)
        signal.connect(third)

    assert log == ["first"]
