"""E10: receivers is truthy, and has_receivers_for true, exactly when a live receiver is connected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest

from aldis import ANY, Signal


class Listener:
    def hear(self, sender: Any, **payload: Any) -> None: ...

    def __call__(self, sender: Any, **payload: Any) -> None: ...


def give(value: Any) -> Callable[[], Any]:
    return lambda: value


class App:
    """A sender that matches by identity."""

    def __repr__(self) -> str:
        return "App()"


def make_function() -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


def test_a_new_signal_is_without_receivers() -> None:
    """E10: a new signal has no receivers, for whatever sender it is asked."""
    signal = Signal()

    assert not signal.receivers
    assert len(signal.receivers) == 0
    assert list(signal.receivers) == []
    assert not any(signal.has_receivers_for(sender) for sender in (ANY, "x", 0, None, App()))


@pytest.mark.parametrize("sender", [ANY, "x", 0, b"", None, App()])
@pytest.mark.parametrize(
    "make",
    [
        make_function,
        Listener,
        give(Listener().hear),
        lambda: partial(make_function(), a=1),
        give(print),
        give([].append),
        give(str),
        give(type("Falsy", (Listener,), {"__bool__": lambda self: False})()),
        give(type("Unhashable", (Listener,), {"__hash__": None})()),
        give(type("Owned", (Listener,), {"__self__": 3})()),
    ],
    ids=[
        "function",
        "object",
        "method",
        "partial",
        "built-in",
        "bound built-in",
        "class",
        "falsy",
        "unhashable",
        "owned",
    ],
)
@pytest.mark.parametrize("weak", [True, False])
def test_truth_follows_connecting(make: Callable[[], Any], sender: Any, weak: bool) -> None:
    """E10: the truth is true from connect to disconnect, for each kind of receiver, and all ways to ask agree."""
    signal, receiver = Signal(), make()
    signal.connect(receiver, sender, weak)

    assert signal.receivers
    assert len(signal.receivers) == len(list(signal.receivers)) == 1
    assert signal.has_receivers_for(sender)
    assert list(signal.receivers_for(sender)) == [receiver]
    assert signal.has_receivers_for("somebody else") is (sender is ANY)
    assert signal.has_receivers_for(ANY) is (sender is ANY)
    (value,) = signal.receivers.values()
    assert (value() if isinstance(value, weakref.ref) else value) == receiver

    signal.disconnect(receiver)

    assert not signal.receivers
    assert len(signal.receivers) == 0
    assert not signal.has_receivers_for(sender)


@pytest.mark.parametrize("sender", [ANY, "x", App()])
@pytest.mark.parametrize("weak_reference_first", [True, False])
def test_truth_follows_the_receivers_death(sender: Any, weak_reference_first: bool) -> None:
    """E10: the truth is false as soon as the last receiver is dead, without any send in between."""
    signal, one, two = Signal(), make_function(), Listener()
    signal.connect(one, sender)
    signal.connect(two.hear, sender)

    if weak_reference_first:
        signal.send(sender)

    del one
    assert signal.receivers
    assert signal.has_receivers_for(sender)
    assert len(signal.receivers) == 1

    del two
    assert not signal.receivers
    assert not signal.has_receivers_for(sender)


def test_truth_follows_the_senders_death() -> None:
    """E10: the truth is false as soon as the sender of the last connection is dead."""
    signal, receiver, app = Signal(), make_function(), App()
    signal.connect(receiver, app, weak=False)
    assert signal.receivers

    del app
    assert not signal.receivers
    assert len(signal.receivers) == 0


def test_a_death_is_seen_in_a_weakref_callback() -> None:
    """E10: in the callback of a weak reference to the dead receiver, perhaps before the engine removes the connection,
    the truth is false."""
    signal, found = Signal(), list[bool]()
    receiver = make_function()
    # Python calls them in the reverse order of their creation: this one after the signal's own, the other one before
    # it.
    early = weakref.ref(receiver, lambda _: found.append(bool(signal.receivers)))
    signal.connect(receiver)
    late = weakref.ref(receiver, lambda _: found.append(signal.has_receivers_for("x")))

    del receiver
    gc.collect()

    assert found == [False, False]
    assert early() is late() is None


def test_truth_with_a_sender_and_any() -> None:
    """E10: a receiver for any sender counts for every sender; a receiver for one sender counts only for that sender."""
    signal, one, two = Signal(), make_function(), make_function()
    signal.connect(one, "x")
    assert [signal.has_receivers_for(sender) for sender in ("x", "y", ANY)] == [True, False, False]

    signal.connect(two)
    assert [signal.has_receivers_for(sender) for sender in ("x", "y", ANY)] == [True, True, True]

    signal.disconnect(one)
    assert [signal.has_receivers_for(sender) for sender in ("x", "y", ANY)] == [True, True, True]

    signal.disconnect(two)
    assert [signal.has_receivers_for(sender) for sender in ("x", "y", ANY)] == [False, False, False]


def test_each_receiver_counts_once() -> None:
    """E10: receivers has one entry for each receiver, even if it is connected to several senders."""
    signal, receiver = Signal(), make_function()

    for sender in ("x", "y", ANY):
        signal.connect(receiver, sender)

    assert len(signal.receivers) == 1
    signal.disconnect(receiver, "x")
    assert len(signal.receivers) == 1
    signal.disconnect(receiver)
    assert len(signal.receivers) == 0


@pytest.mark.parametrize("used_up_by", ["send", "nested send", "failing send"])
def test_a_used_up_once_receiver_does_not_count(used_up_by: str) -> None:
    """E10: a once receiver counts until its call begins."""
    signal, found = Signal(), list[bool]()

    def receiver(sender: Any) -> None:
        found.append(bool(signal.receivers))

        if used_up_by == "nested send":
            signal.send()
        elif used_up_by == "failing send":
            raise LookupError

    signal.connect(receiver, once=True)
    assert signal.receivers

    with pytest.raises(LookupError) if used_up_by == "failing send" else nullcontext():
        signal.send()

    assert found == [False]
    assert not signal.receivers


def looks(signal: Signal[Any, ..., Any]) -> list[Any]:
    receivers = signal.receivers
    return [
        bool(receivers),
        len(receivers),
        list(receivers),
        list(receivers.values()),
        list(receivers.items()),
        bool(repr(receivers)),
        [receivers[key] for key in receivers],
        [key in receivers for key in (*receivers, 0, "x", object())],
        [signal.has_receivers_for(sender) for sender in (ANY, "x", 7, None)],
        [list(signal.receivers_for(sender)) for sender in (ANY, "x", 7, None)],
        signal.is_muted,
    ]


def test_asking_changes_nothing() -> None:
    """E10: asking for receivers, however often, does not change what is connected, called or kept alive."""
    signal, log = Signal(), list[str]()

    def first(sender: Any) -> None:
        log.append("first")

    def second(sender: Any) -> None:
        log.append("second")

    signal.connect(first, "x")
    signal.connect(second, once=True)
    looks(signal)
    gc.collect()
    objects = len(gc.get_objects())

    first_look = looks(signal)
    assert all(looks(signal) == first_look for _ in range(100))
    del first_look
    gc.collect()

    # Less than one for each call: another thread of the test runner may have made some, too.
    assert len(gc.get_objects()) - objects < 100
    signal.send("x")
    assert log == ["first", "second"]


def test_asking_about_a_sender_does_not_keep_it() -> None:
    """E10: has_receivers_for and receivers_for do not keep the sender that they were asked about alive."""
    signal, receiver, app = Signal(), make_function(), App()
    signal.connect(receiver, "x")
    signal.connect(receiver)
    signal.has_receivers_for(app)
    list(signal.receivers_for(app))
    ref = weakref.ref(app)

    del app
    gc.collect()

    assert ref() is None


def test_entries_of_receivers_do_not_keep_receivers() -> None:
    """E10: a weakly held receiver may die although the caller keeps its entry of receivers."""
    signal, receiver = Signal(), Listener()
    signal.connect(receiver.hear)
    entries = list(signal.receivers.items())
    ref = weakref.ref(receiver)

    del receiver
    gc.collect()

    assert ref() is None
    assert entries[0][1]() is None


def test_the_view_is_live() -> None:
    """E10: the mapping shows what is connected now, not what was connected when the caller got it."""
    signal, receiver = Signal(), make_function()
    receivers = signal.receivers
    assert isinstance(receivers, Mapping)

    signal.connect(receiver)
    assert receivers

    receivers.clear()
    assert not receivers
    assert not signal.has_receivers_for("x")


def test_membership_in_receivers_for() -> None:
    """E10: "fn in signal.receivers_for(sender)" tells whether a send by that sender would call the receiver."""
    signal, one, two = Signal(), Listener(), Listener()
    signal.connect(one.hear, "x")

    assert one.hear in signal.receivers_for("x")
    assert one.hear not in signal.receivers_for("y")
    assert two.hear not in signal.receivers_for("x")


def test_a_mute_does_not_change_the_truth() -> None:
    """E10: a muted receiver still counts as connected."""
    signal, receiver = Signal(), make_function()
    signal.connect(receiver)
    blocks: list[AbstractContextManager[None]] = [signal.muted(), signal.muted(receiver)]

    for block in blocks:
        with block:
            assert signal.receivers
            assert signal.has_receivers_for("x")
