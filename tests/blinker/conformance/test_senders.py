"""Blinker's contract: when two senders are the same sender.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on purpose,
``differs`` names the promise.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from enum import IntEnum
from typing import Any

import pytest
from flask import Flask, current_app


class Sender:
    """A sender that can be referenced weakly."""


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


class Color(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("connected", "sent"),
    [
        pytest.param("me", str(b"me", "ascii"), id="str"),
        pytest.param("", "", id="empty str"),
        pytest.param(123456789, int("123456789"), id="int"),
        pytest.param(-1, -1, id="negative int"),
        pytest.param(True, True, id="bool"),
        pytest.param(1, Color.RED, id="enum"),
        pytest.param(None, None, id="None"),
        pytest.param(Sender, Sender, id="class"),
        pytest.param(copy.deepcopy, copy.deepcopy, id="function"),
        pytest.param(pytest, pytest, id="module"),
    ],
)
def test_senders_that_match(library: Any, connected: Any, sent: Any) -> None:
    """send: ``str`` and ``int`` match by value, other senders by identity; receivers get the object that was sent."""
    signal = library.Signal()
    seen: list[Any] = []
    signal.connect(seen.append, connected, weak=False)

    signal.send(sent)
    signal.send("somebody else")
    signal.send(object())

    assert seen == [sent]


@pytest.mark.parametrize(
    "sender", [[], {}, (1, "a"), 1.5, frozenset({1}), 1 + 2j], ids=lambda sender: type(sender).__name__
)
def test_other_senders_match_by_identity(library: Any, named: Any, log: list[Any], sender: Any) -> None:
    """send: an equal object is a different sender; a sender may be unhashable."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, sender)
    equal = copy.deepcopy(sender) if isinstance(sender, (list, dict)) else pickle.loads(pickle.dumps(sender))

    signal.send(sender)
    assert equal is not sender
    assert signal.send(equal) == []

    signal.disconnect(receiver, sender)
    assert signal.send(sender) == []
    assert log == ["called"]


def test_a_bound_method_is_a_sender(library: Any, named: Any, log: list[Any]) -> None:
    """send: a bound method is the same sender at each access."""
    signal = library.Signal()
    callable_ = Callable()
    receiver = named("called")
    signal.connect(receiver, callable_.method)
    signal.send(callable_.method)
    signal.send(Callable().method)

    assert log == ["called"]


def test_a_signal_is_a_sender(library: Any, named: Any, log: list[Any]) -> None:
    """send: signals are ordinary objects: they can be senders and dict keys, and have attributes."""
    signal, sender = library.Signal(), library.Signal()
    receiver = named("called")
    signal.connect(receiver, sender=sender)
    signal.send(sender)
    signal.send(signal)
    sender.my_own = "attribute"

    assert log == ["called"]
    assert {signal: 1, sender: 2}[sender] == 2
    assert sender.my_own == "attribute"
    assert weakref.ref(sender)() is sender


@pytest.mark.parametrize("zero", [0, False])
def test_zero_is_an_ordinary_sender(library: Any, named: Any, log: list[Any], differs: Any, zero: Any) -> None:
    """E6: Blinker mistakes 0 and False for ANY, and connects before its own assertion fails."""
    signal = library.Signal()
    receiver = named("called")

    with contextlib.suppress(AssertionError):
        signal.connect(receiver, zero)

    signal.send("somebody else")
    assert log == differs("E6", blinker=["called"], aldis=[])

    log.clear()
    signal.send(zero)
    assert log == ["called"]


def test_bytes_match_by_value(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E6: in Blinker, equal bytes match only if they are the same object by chance."""
    signal = library.Signal()
    receiver = named("called")
    connected, sent = bytes(bytearray(b"me")), bytes(bytearray(b"me"))
    signal.connect(receiver, connected)
    signal.send(sent)

    assert log == differs("E6", blinker=[], aldis=["called"])


def test_an_id_is_not_mistaken_for_its_object(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E6: in Blinker, the number that is an object's id matches that object."""
    signal = library.Signal()
    sender = Sender()
    receiver = named("called")
    signal.connect(receiver, sender)
    signal.send(id(sender))

    assert log == differs("E6", blinker=["called"], aldis=[])


def test_an_unreferable_sender_is_kept_alive(library: Any, named: Any, differs: Any) -> None:
    """E6: Blinker lets such a sender die, so that another object may get its id."""
    dead: list[str] = []

    class Slotted:
        __slots__ = ()

        def __del__(self) -> None:
            dead.append("sender")

    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, Slotted())
    gc.collect()

    assert dead == differs("E6", blinker=["sender"], aldis=[])

    signal.disconnect(receiver)
    gc.collect()
    assert dead == ["sender"]


def test_a_proxy_counts_as_the_object_it_points_to(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E6: Blinker treats ``current_app`` as a separate sender, which never sends."""
    signal = library.Signal()
    app = Flask("shop")
    receiver = named("called")

    with app.app_context():
        signal.connect(receiver, current_app)

    signal.send(app)

    assert log == differs("E6", blinker=[], aldis=["called"])
