"""E5: receivers are held weakly unless asked otherwise, and what goes leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, InvalidReceiverError, NamedSignal, Namespace, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Has a method to connect, and can be called itself."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, sender: Any, **payload: Any) -> None:
        self.heard.append(sender)

    def __call__(self, sender: Any, **payload: Any) -> None:
        self.heard.append(sender)


class Slotted:
    """Cannot be referenced weakly."""

    __slots__ = ()

    def hear(self, sender: Any, **payload: Any) -> str:
        return "heard"

    def __call__(self, sender: Any, **payload: Any) -> str:
        return "heard"


class Sender:
    """A sender that matches by identity."""


def make_function() -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


def make_lambda() -> Callable[..., Any]:
    return lambda sender, **payload: None


def make_partial() -> Callable[..., Any]:
    return partial(make_function(), extra=1)


def make_method() -> Callable[..., Any]:
    return Listener().hear


def make_class_method() -> Callable[..., Any]:
    class Local:
        @classmethod
        def hear(cls, sender: Any, **payload: Any) -> None: ...

    return Local.hear


def make_object() -> Callable[..., Any]:
    return Listener()


def make_class() -> Callable[..., Any]:
    class Local:
        def __init__(self, sender: Any, **payload: Any) -> None: ...

    return Local


def make_coroutine_function() -> Callable[..., Any]:
    async def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


MAKERS = [
    make_function,
    make_lambda,
    make_partial,
    make_method,
    make_class_method,
    make_object,
    make_class,
    make_coroutine_function,
]
each_kind = pytest.mark.parametrize("make", MAKERS)
each_filter = pytest.mark.parametrize("sender", [ANY, "x", 5, b"x", Sender, None])


@each_kind
@each_filter
def test_receivers_are_held_weakly_by_default(make: Callable[[], Callable[..., Any]], sender: Any) -> None:
    """E5: every kind of receiver may die while it is connected, and then is not connected any more."""
    signal = Signal()
    receiver = make()
    target = weakref.ref(getattr(receiver, "__self__", receiver))
    signal.connect(receiver, sender)
    assert len(signal.receivers) == 1

    del receiver
    gc.collect()

    assert target() is None
    assert not signal.receivers
    assert list(signal.receivers_for(sender)) == []
    assert signal.send(None if sender is ANY else sender) == []


@each_kind
@each_filter
def test_strong_connections_keep_the_receiver(make: Callable[[], Callable[..., Any]], sender: Any) -> None:
    """E5: with weak=False every kind of receiver lives as long as it is connected, and no longer."""
    signal = Signal()
    receiver = make()
    target = weakref.ref(getattr(receiver, "__self__", receiver))
    signal.connect(receiver, sender, weak=False)

    del receiver
    gc.collect()

    (kept,) = signal.receivers_for(sender)
    signal.disconnect(kept, sender)
    del kept
    gc.collect()

    assert target() is None


def test_a_bound_method_lives_as_long_as_its_object() -> None:
    """E5: a weakly held bound method is called as long as its object lives, though it is made anew each time."""
    signal, listener = Signal(), Listener()
    signal.connect(listener.hear)
    gc.collect()

    signal.send("x")
    heard = listener.heard
    del listener
    signal.send("y")

    assert heard == ["x"]


def test_methods_of_equal_objects_are_two_receivers() -> None:
    """E5: receivers are told apart by identity, equal ones too."""

    class Equal(Listener):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    signal, one, two = Signal(), Equal(), Equal()
    signal.connect(one.hear)
    signal.connect(two.hear)
    signal.disconnect(one.hear)
    signal.send("x")

    assert (one.heard, two.heard) == ([], ["x"])


@pytest.mark.parametrize("make", [Slotted, lambda: Slotted().hear], ids=["object", "method"])
def test_what_cannot_be_referenced_weakly_has_to_be_held_strongly(make: Callable[[], Any]) -> None:
    """E5: a receiver that cannot be referenced weakly is refused, and taken with weak=False."""
    signal, receiver = Signal(), make()

    with pytest.raises(InvalidReceiverError, match=r"cannot be referenced weakly\. Connect it with weak=False"):
        signal.connect(receiver)

    assert not signal.receivers
    signal.connect(receiver, weak=False)
    del receiver
    gc.collect()
    assert [value for _, value in signal.send()] == ["heard"]


@pytest.mark.parametrize("make", [make_function, make_method])
@pytest.mark.parametrize("second", ["connect", "connect once", "block", "failing block"])
def test_a_strong_connection_is_never_turned_weak(make: Callable[[], Any], second: str) -> None:
    """E5: a strong connection stays strong when its receiver is connected again weakly, or in a block that ends."""
    signal = Signal()
    receiver = make()
    signal.connect(receiver, "x", weak=False)

    if second == "connect":
        signal.connect(receiver, "x")
    elif second == "connect once":
        signal.connect(receiver, "x", weak=True, priority=4)
    else:
        try:
            with signal.connected_to(receiver, "x"):
                if second == "failing block":
                    raise LookupError
        except LookupError:
            pass

    del receiver
    gc.collect()

    assert len(list(signal.receivers_for("x"))) == 1


@pytest.mark.parametrize("first", [True, False])
def test_strength_belongs_to_each_connection(first: bool) -> None:
    """E5: a receiver that is held by one of its connections stays in all; without that one it may die."""
    signal = Signal()
    receiver = make_function()
    signal.connect(receiver, "x", weak=first)
    signal.connect(receiver, "y", weak=not first)
    del receiver
    gc.collect()

    (kept,) = signal.receivers_for("x")
    signal.disconnect(kept, "y" if first else "x")
    assert len(signal.receivers) == 1

    del kept
    gc.collect()
    assert not signal.receivers


def test_a_weak_connection_may_be_made_strong() -> None:
    """E5: connecting again with weak=False makes a connection strong."""
    signal = Signal()
    receiver = make_function()
    signal.connect(receiver)
    signal.connect(receiver, weak=False)
    del receiver
    gc.collect()

    assert len(signal.receivers) == 1


def test_a_block_holds_strongly_and_a_weak_connection_is_weak_again_after_it() -> None:
    """E5: connected_to keeps its receiver alive, and at its end leaves a weak connection weak."""
    signal = Signal()
    receiver = make_function()
    signal.connect(receiver)
    block = signal.connected_to(receiver)

    with block:
        del receiver
        gc.collect()
        assert len(signal.receivers) == 1

    del block
    gc.collect()
    assert not signal.receivers


def test_weakly_connected_inside_a_block_it_lives_to_the_end_of_the_block() -> None:
    """E5: the block's own hold is not turned weak by a weak connect inside it."""
    signal = Signal()
    receiver = make_function()
    block = signal.connected_to(receiver)

    with block:
        signal.connect(receiver, weak=True)
        del receiver
        gc.collect()
        assert len(signal.receivers) == 1

    del block
    gc.collect()
    assert not signal.receivers


def test_a_signal_does_not_outlive_its_owner() -> None:
    """E5: a signal goes when its owner drops it, whatever is connected; receivers held by it go along."""
    signal = NamedSignal("lamp")
    strong, weak = make_function(), make_function()
    signal.connect(strong, weak=False)
    signal.connect(weak)
    signal.send()
    refs = weakref.ref(signal), weakref.ref(strong)

    del signal, strong
    gc.collect()

    assert [ref() for ref in refs] == [None, None]
    assert weak is not None


def test_results_do_not_keep_receivers() -> None:
    """E5: after a send the engine keeps neither sender, payload nor receiver."""
    signal = Signal()

    class Value:
        pass

    value, sender, receiver = Value(), Sender(), make_function()
    signal.connect(receiver, sender)
    signal.send(sender, value=value)
    signal.send(sender, value=value)
    refs: list[weakref.ref[Any]] = [weakref.ref(value), weakref.ref(sender), weakref.ref(receiver)]

    gc.collect()
    gc.disable()

    try:
        del value, sender, receiver
        assert [ref() for ref in refs] == [None, None, None]
    finally:
        gc.enable()


def rounds_of_disconnect(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    receiver = make()
    signal.connect(receiver, sender, weak=False, priority=1, once=True)
    signal.connect(receiver, sender, weak=True)
    list(signal.receivers_for(sender))
    signal.disconnect(receiver, sender)


def rounds_of_collect(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    receiver = make()
    signal.connect(receiver, sender)
    list(signal.receivers_for(sender))
    del receiver


def rounds_of_senders(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    receiver, dying = make(), Sender()
    signal.connect(receiver, dying, weak=False)
    list(signal.receivers_for(dying))
    del dying


def rounds_of_new_names(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    receiver = make()
    name = f"sender {id(receiver)}"
    signal.connect(receiver, name)
    list(signal.receivers_for(name))
    signal.disconnect(receiver)


def rounds_of_blocks(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    receiver = make()

    with signal.connected_to(receiver, sender), signal.muted(), signal.muted(receiver):
        list(signal.receivers_for(sender))


def rounds_of_refusals(signal: Signal[Any, ..., Any], sender: Any, make: Callable[[], Any]) -> None:
    refused: list[Any] = [3, Slotted()]

    for wrong in refused:
        with pytest.raises(InvalidReceiverError):
            signal.connect(wrong, sender)


ROUNDS: list[Callable[..., None]] = [
    rounds_of_disconnect,
    rounds_of_collect,
    rounds_of_senders,
    rounds_of_new_names,
    rounds_of_blocks,
    rounds_of_refusals,
]


@pytest.mark.parametrize("play", ROUNDS)
@pytest.mark.parametrize(
    ("make", "sender", "crowd"),
    [(make_function, ANY, 0), (make_method, "x", 3), (make_object, Sender, 0), (make_method, ANY, 3)],
)
def test_rounds_leave_nothing_behind(
    play: Callable[..., None], make: Callable[[], Any], sender: Any, crowd: int, no_gc: None
) -> None:
    """E5: after 200 rounds the interpreter has as many objects as after 2, with and without others connected."""
    signal = Signal()
    others = [make() for _ in range(crowd)]

    for other in others:
        signal.connect(other, sender)
        signal.connect(other, "another")

    def count(rounds: int) -> int:
        for _ in range(rounds):
            play(signal, sender, make)

        gc.collect()
        return len(gc.get_objects())

    count(2)
    before = count(2)

    # Room for what the interpreter and the test runner make meanwhile; one object a round would be 200.
    assert count(200) - before < 100


def test_signals_in_a_namespace_are_kept_by_it_alone() -> None:
    """E5: a signal goes with its namespace."""
    signals = Namespace()
    ref = weakref.ref(signals.signal("x"))
    assert ref() is signals["x"]

    del signals["x"]
    gc.collect()

    assert ref() is None


@pytest.mark.parametrize("again", [False, True])
def test_a_new_receiver_at_the_address_of_a_dead_one_is_a_receiver_of_its_own(again: bool) -> None:
    """E5: an id that comes back in another object is not mistaken for the one that died."""
    signal, log = Signal(), list[int]()

    def make(number: int) -> Callable[..., Any]:
        return lambda sender: log.append(number)

    for number in range(200):
        receiver = make(number)
        signal.connect(receiver, priority=number % 3)

        if again:
            signal.connect(receiver, "x")

        signal.send("x")
        del receiver

    assert log == list(range(200))
    assert not signal.receivers
