"""Blinker's contract: what is connected, and the signals about connections.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on purpose,
``differs`` names the promise.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import blinker
import pytest


class Sender:
    """A sender that can be referenced weakly."""


def receivers_of(signal: Any, sender: Any = None) -> list[Any]:
    return list(signal.receivers_for(sender))


def sync_receiver(sender: Any, **payload: Any) -> Any:
    return "sync", sender, payload


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


# Queries


def test_receivers_for_a_sender(signal: Any, named: Any) -> None:
    """receivers_for: yields the receivers for the sender and those for ANY."""
    for_any, for_me, for_you = (named(name) for name in ("any", "me", "you"))
    signal.connect(for_any)
    signal.connect(for_me, "me")
    signal.connect(for_you, "you")
    found = signal.receivers_for("me")

    assert iter(found) is found
    assert list(found) == [for_any, for_me]
    assert receivers_of(signal, "somebody") == [for_any]
    assert receivers_of(signal, signal.ANY) == [for_any]
    assert list(signal.receivers_for(sender="you")) == [for_any, for_you]


def test_a_receiver_is_found_in_receivers_for(library: Any, named: Any) -> None:
    """receivers_for: ``fn in signal.receivers_for(x)`` tells whether a send by x would call fn."""
    signal = library.Signal()
    receiver, callable_ = named("called"), Callable()
    signal.connect(receiver, "me")
    signal.connect(callable_.method)

    assert receiver in signal.receivers_for("me")
    assert receiver not in signal.receivers_for("you")
    assert callable_.method in signal.receivers_for("you")
    assert next(library.Signal().receivers_for("me"), None) is None


def test_has_receivers_for_a_sender(library: Any, named: Any) -> None:
    """has_receivers_for: is true for a sender with receivers; for ANY, if a receiver is connected to ANY."""
    signal = library.Signal()
    receiver, other = named("called"), named("other")
    assert signal.has_receivers_for("me") is False
    assert signal.has_receivers_for(library.ANY) is False

    signal.connect(receiver, "me")
    assert signal.has_receivers_for("me") is True
    assert signal.has_receivers_for(sender="you") is False
    assert signal.has_receivers_for(None) is False
    assert signal.has_receivers_for(library.ANY) is False

    signal.connect(other)
    assert signal.has_receivers_for("you") is True
    assert signal.has_receivers_for(None) is True
    assert signal.has_receivers_for(library.ANY) is True


def test_has_receivers_for_after_disconnect(library: Any, named: Any, differs: Any) -> None:
    """E10: Blinker still returns True for a sender whose receivers have gone."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, "me")
    signal.connect(receiver, "you")
    signal.disconnect(receiver, "me")

    assert receivers_of(signal, "me") == []
    assert signal.has_receivers_for("me") is differs("E10", blinker=True, aldis=False)
    assert signal.has_receivers_for("you") is True


def test_receivers_is_true_while_a_receiver_is_connected(library: Any, named: Any) -> None:
    """receivers: its truth is the quick way to check whether a receiver is connected."""
    signal = library.Signal()
    receiver = named("called")
    assert not signal.receivers

    signal.connect(receiver, "me")
    assert signal.receivers

    signal.disconnect(receiver)
    assert not signal.receivers


@pytest.mark.parametrize("how", ["disconnect", "sender dies"])
def test_receivers_is_true_only_while_a_receiver_can_be_called(
    library: Any, named: Any, differs: Any, how: str
) -> None:
    """E10: in Blinker a receiver stays listed when the last sender that it was connected to dies."""
    signal = library.Signal()
    sender = Sender()
    receiver = named("called")
    signal.connect(receiver, sender)

    if how == "disconnect":
        signal.disconnect(receiver, sender)
    else:
        del sender
        gc.collect()

    assert bool(signal.receivers) is differs("E10", blinker=True, aldis=False)
    assert len(signal.receivers) == differs("E10", blinker=1, aldis=0)


def test_receivers_is_a_mapping(library: Any, named: Any) -> None:
    """receivers: has a length, keys, items and values; the values are receivers or weak references to them."""
    signal = library.Signal()
    weak, strong, callable_ = named("weak"), named("strong"), Callable()
    signal.connect(weak)
    signal.connect(weak, "me")
    signal.connect(strong, weak=False)
    signal.connect(callable_.method)
    receivers = signal.receivers
    values = list(receivers.values())

    assert len(receivers) == len(values) == 3
    assert strong in values
    found = [value() if isinstance(value, weakref.ref) else value for value in values]
    assert sorted(map(id, found[:-1])) == sorted(map(id, [weak, strong]))
    assert found[-1] == callable_.method
    assert list(receivers) == list(receivers.keys()) == [key for key, _ in receivers.items()]
    assert all(key in receivers and receivers.get(key) is not None for key in receivers)
    assert "no such key" not in receivers
    assert receivers.get("no such key") is None

    with pytest.raises(KeyError):
        receivers["no such key"]


def test_receivers_of_an_unconnected_signal_is_an_empty_mapping(library: Any) -> None:
    """receivers: equals an empty dict when no receiver is connected."""
    assert library.Signal().receivers == {}
    assert list(library.Signal().receivers) == []


def test_receivers_can_be_cleared(library: Any, named: Any) -> None:
    """receivers.clear(): no receiver is called afterwards."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.connect(receiver, "me")
    signal.receivers.clear()

    assert not signal.receivers
    assert signal.send("me") == []
    assert receivers_of(signal, "me") == []
    assert not signal.has_receivers_for("me")


def test_cleared_receivers_leave_no_sender_behind(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E5: in Blinker a receiver that is connected again after ``clear()`` is also called for its earlier senders."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.receivers.clear()
    signal.connect(receiver, "me")
    signal.send("you")

    assert log == differs("E5", blinker=["called"], aldis=[])


def test_receivers_can_be_replaced_by_an_empty_dict(library: Any, named: Any) -> None:
    """receivers: ``signal.receivers = {}`` disconnects all receivers, as test suites use it."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.receivers = {}

    assert not signal.receivers
    assert signal.send() == []


def test_clear_state_disconnects_all(library: Any, named: Any) -> None:
    """_clear_state: disconnects all receivers from all senders, and the signal still works."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.connect(receiver, Sender, weak=False)

    assert signal._clear_state() is None
    assert not signal.receivers
    assert signal.send(Sender) == []

    signal.connect(receiver, "me")
    assert signal.send("you") == []
    assert len(signal.send("me")) == 1


def test_cleanup_bookkeeping_keeps_connections(library: Any, named: Any) -> None:
    """_cleanup_bookkeeping: keeps all connections."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, "me")
    signal.connect(receiver, "you")
    signal.disconnect(receiver, "you")

    assert signal._cleanup_bookkeeping() is None
    assert receivers_of(signal, "me") == [receiver]
    assert not signal.has_receivers_for("you")


# receiver_connected and receiver_disconnected


def watch(signal: Any, log: list[Any]) -> Any:
    """Record the signals about a signal's connections. Return the object that keeps the receivers alive."""

    def connected(sender: Any, /, **change: Any) -> None:
        log.append(("connected", sender, change))

    def disconnected(sender: Any, /, **change: Any) -> None:
        log.append(("disconnected", sender, change))

    signal.receiver_connected.connect(connected)
    signal.receiver_disconnected.connect(disconnected)
    return connected, disconnected


def test_connecting_is_signalled(library: Any, log: list[Any]) -> None:
    """receiver_connected: is sent after a connect, with its arguments."""
    signal = library.Signal()
    watching = watch(signal, log)

    signal.connect(sync_receiver)
    signal.connect(sync_receiver, "me", weak=False)
    signal.connect_via(Sender)(sync_receiver)

    assert watching
    assert log == [
        ("connected", signal, {"receiver": sync_receiver, "sender": library.ANY, "weak": True}),
        ("connected", signal, {"receiver": sync_receiver, "sender": "me", "weak": False}),
        ("connected", signal, {"receiver": sync_receiver, "sender": Sender, "weak": False}),
    ]


def test_disconnecting_is_signalled(library: Any, log: list[Any]) -> None:
    """receiver_disconnected: is sent after a disconnect, with its arguments, whatever was connected."""
    signal = library.Signal()
    signal.connect(sync_receiver, "me")
    watching = watch(signal, log)

    signal.disconnect(sync_receiver, "me")
    signal.disconnect(sync_receiver)

    assert watching
    assert log == [
        ("disconnected", signal, {"receiver": sync_receiver, "sender": "me"}),
        ("disconnected", signal, {"receiver": sync_receiver, "sender": library.ANY}),
    ]


def test_a_change_is_made_when_it_is_signalled(library: Any) -> None:
    """receiver_connected and receiver_disconnected: their receivers already see the change."""
    signal = library.Signal()
    seen: list[Any] = []

    def look(signal: Any, **change: Any) -> None:
        seen.append(receivers_of(signal))

    signal.receiver_connected.connect(look)
    signal.receiver_disconnected.connect(look)
    signal.connect(sync_receiver)
    signal.disconnect(sync_receiver)

    assert seen == [[sync_receiver], []]


def test_connected_to_is_signalled(library: Any, log: list[Any]) -> None:
    """receiver_connected and receiver_disconnected: are sent for connected_to as well."""
    signal = library.Signal()
    watching = watch(signal, log)

    with signal.connected_to(sync_receiver):
        pass

    assert watching
    assert log == [
        ("connected", signal, {"receiver": sync_receiver, "sender": library.ANY, "weak": False}),
        ("disconnected", signal, {"receiver": sync_receiver, "sender": library.ANY}),
    ]


def test_the_end_of_connected_to_reports_its_sender(library: Any, log: list[Any], differs: Any) -> None:
    """E7: Aldis removes and reports the connection to the sender; Blinker removes and reports all connections of the
    receiver."""
    signal = library.Signal()
    watching = watch(signal, log)

    with signal.connected_to(sync_receiver, sender="me"):
        pass

    assert watching
    assert log[0] == ("connected", signal, {"receiver": sync_receiver, "sender": "me", "weak": False})
    told = differs("E7", blinker=blinker.ANY, aldis="me")
    assert log[1:] == [("disconnected", signal, {"receiver": sync_receiver, "sender": told})]


def test_a_death_is_not_signalled(library: Any, named: Any, log: list[Any]) -> None:
    """receiver_disconnected: is not sent when a receiver or a sender is collected."""
    signal = library.Signal()
    signal.connect(named("called"))
    signal.connect(sync_receiver, Sender())
    watching = watch(signal, log)
    gc.collect()

    assert watching
    assert log == []


def test_the_signals_about_connections_are_signals(library: Any) -> None:
    """receiver_connected and receiver_disconnected: are one signal each, without receivers at first."""
    signal, other = library.Signal(), library.Signal()

    for name in ("receiver_connected", "receiver_disconnected"):
        about = getattr(signal, name)
        assert isinstance(about, library.Signal)
        assert about is getattr(signal, name)
        assert about is not getattr(other, name)
        assert not about.receivers
        assert about.__doc__


def test_a_type_error_in_receiver_connected_undoes_the_connect(library: Any) -> None:
    """receiver_connected: if one of its receivers raises a TypeError, the new receiver is not connected."""
    signal = library.Signal()

    def unfit(signal: Any) -> None: ...

    signal.receiver_connected.connect(unfit)

    with pytest.raises(TypeError, match="unexpected keyword"):
        signal.connect(sync_receiver)

    assert receivers_of(signal) == []


def test_a_failure_in_receiver_connected_undoes_the_connect(library: Any, differs: Any) -> None:
    """E12: a connect that raises any exception has connected nothing; in Blinker this is true for a TypeError only."""
    signal = library.Signal()

    def fails(signal: Any, **change: Any) -> None:
        raise LookupError("mine")

    signal.receiver_connected.connect(fails)

    with pytest.raises(LookupError, match="mine"):
        signal.connect(sync_receiver)

    assert receivers_of(signal) == differs("E12", blinker=[sync_receiver], aldis=[])
