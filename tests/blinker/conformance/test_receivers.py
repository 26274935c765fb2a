"""Blinker's contract: which objects can be receivers, and how long they live.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on purpose,
``differs`` names the promise.
"""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any
from unittest import mock

import pytest


class Sender:
    """A sender that can be referenced weakly."""


def receivers_of(signal: Any, sender: Any = None) -> list[Any]:
    return list(signal.receivers_for(sender))


class Callable:
    """An object that can be called, and a method that can be connected."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, sender: Any, **payload: Any) -> str:
        self.calls.append((sender, payload))
        return "object"

    def method(self, sender: Any, **payload: Any) -> str:
        self.calls.append((sender, payload))
        return "method"

    @classmethod
    def of_class(cls, sender: Any, **payload: Any) -> str:
        return "class method"

    @staticmethod
    def static(sender: Any, **payload: Any) -> str:
        return "static method"


# Kinds of receivers


def test_bound_methods_are_receivers(library: Any) -> None:
    """connect: a bound method stays connected as long as its object lives, though Python makes it anew at each
    access."""
    signal = library.Signal()
    callable_ = Callable()
    signal.connect(callable_.method)
    gc.collect()

    assert signal.send("me", a=1) == [(callable_.method, "method")]
    assert callable_.calls == [("me", {"a": 1})]

    signal.disconnect(callable_.method)
    assert signal.send() == []


def test_methods_of_two_objects_are_two_receivers(library: Any) -> None:
    """connect: the object is part of a bound method's identity."""
    signal = library.Signal()
    first, second = Callable(), Callable()
    signal.connect(first.method)
    signal.connect(second.method)
    signal.disconnect(first.method)

    assert signal.send() == [(second.method, "method")]
    assert first.calls == []


@pytest.mark.parametrize(
    "receiver",
    [
        pytest.param(Callable(), id="object"),
        pytest.param(Callable.of_class, id="class method"),
        pytest.param(Callable.static, id="static method"),
        pytest.param(lambda sender, **payload: "lambda", id="lambda"),
        pytest.param(partial(lambda kind, sender, **payload: kind, "partial"), id="partial"),
        pytest.param(type, id="class"),
        pytest.param(repr, id="built-in"),
        pytest.param([].append, id="built-in method"),
        pytest.param(mock.Mock(return_value="mock"), id="Mock"),
        pytest.param(mock.MagicMock(return_value="mock"), id="MagicMock"),
    ],
)
@pytest.mark.parametrize("weak", [True, False])
def test_any_callable_is_a_receiver(library: Any, receiver: Any, weak: bool) -> None:
    """connect: accepts functions, methods, classes, partials, objects and mocks, weakly and strongly."""
    signal = library.Signal()
    signal.connect(receiver, weak=weak)

    assert [found for found, _ in signal.send("me")] == [receiver]

    signal.disconnect(receiver)
    assert signal.send("me") == []


def test_a_mock_records_how_it_was_called(library: Any) -> None:
    """send: calls a mock with the sender and the payload, and with nothing else."""
    signal = library.Signal()
    receiver = mock.Mock()
    signal.connect(receiver)
    signal.send("me", a=1)

    receiver.assert_called_once_with("me", a=1)


def test_an_unreferable_receiver_is_refused(library: Any) -> None:
    """connect: a receiver that cannot be referenced weakly is a TypeError, except with weak=False."""

    class Slotted:
        __slots__ = ()

        def __call__(self, sender: Any) -> str:
            return "called"

    signal = library.Signal()
    receiver = Slotted()

    with pytest.raises(TypeError):
        signal.connect(receiver)

    assert receivers_of(signal) == []
    signal.connect(receiver, weak=False)
    assert signal.send() == [(receiver, "called")]


def test_an_object_that_cannot_be_called_is_no_receiver(library: Any, differs: Any) -> None:
    """E12: Blinker fails at send, Aldis at connect."""
    signal = library.Signal()
    refused_at = []

    not_callable = Sender()

    try:
        signal.connect(not_callable)
    except TypeError:
        refused_at.append("connect")

    try:
        signal.send()
    except TypeError:
        refused_at.append("send")

    assert not callable(not_callable)
    assert refused_at == differs("E12", blinker=["send"], aldis=["connect"])


# References


def test_receivers_are_held_weakly(library: Any, named: Any, log: list[Any]) -> None:
    """connect: a receiver that no other object refers to is gone, for send and for every query."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.connect(receiver, "me")
    del receiver
    gc.collect()

    assert signal.send("me") == []
    assert receivers_of(signal, "me") == []
    assert not signal.receivers
    assert not signal.has_receivers_for("me")
    assert log == []


def test_an_object_whose_method_is_connected_may_die(library: Any) -> None:
    """connect: a bound method does not keep its object alive."""
    signal = library.Signal()
    callable_ = Callable()
    gone = weakref.ref(callable_)
    signal.connect(callable_.method)
    del callable_
    gc.collect()

    assert gone() is None
    assert signal.send() == []


@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(lambda signal, receiver: signal.connect(receiver, weak=False), id="connect"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, "me", False), id="connect to sender"),
        pytest.param(lambda signal, receiver: signal.connect_via("me")(receiver), id="connect_via"),
    ],
)
def test_strong_receivers_live_on(library: Any, named: Any, log: list[Any], connect: Any) -> None:
    """connect(weak=False) and connect_via: the signal keeps the receiver alive."""
    signal = library.Signal()
    connect(signal, named("called"))
    gc.collect()
    signal.send("me")

    assert log == ["called"]


def test_connect_via_can_be_weak(library: Any, named: Any) -> None:
    """connect_via(weak=True): holds the receiver weakly."""
    signal = library.Signal()
    signal.connect_via("me", weak=True)(named("called"))
    gc.collect()

    assert signal.send("me") == []


def test_disconnected_receivers_are_freed(library: Any, named: Any) -> None:
    """disconnect: a strong receiver may die afterwards."""
    signal = library.Signal()
    receiver = named("called")
    gone = weakref.ref(receiver)
    signal.connect(receiver, weak=False)
    signal.disconnect(receiver)
    del receiver
    gc.collect()

    assert gone() is None


def test_a_strong_connection_stays_strong(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E5: in Blinker a later weak connection makes all of the receiver's connections weak."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, "strongly", weak=False)
    signal.connect(receiver, "weakly")
    del receiver
    gc.collect()

    signal.send("strongly")

    assert log == differs("E5", blinker=[], aldis=["called"])


def test_the_connections_of_a_dead_sender_end(library: Any, named: Any, log: list[Any]) -> None:
    """connect: when a sender dies, its strong receivers are never called again; receivers of other senders are."""
    signal = library.Signal()
    sender = Sender()
    signal.connect(named("dead"), sender, weak=False)
    signal.connect(named("alive"), "me", weak=False)
    signal.send(sender)
    del sender
    gc.collect()

    signal.send("me")
    signal.send(Sender())

    assert log == ["dead", "alive"]


def test_the_receivers_of_a_dead_sender_are_freed(library: Any, named: Any, differs: Any) -> None:
    """E5, E6: Blinker never frees the strong receivers of a dead sender."""
    signal = library.Signal()
    sender = Sender()
    receiver = named("called")
    gone = weakref.ref(receiver)
    signal.connect(receiver, sender, weak=False)
    del sender, receiver
    gc.collect()

    assert (gone() is None) is differs("E5", blinker=False, aldis=True)
