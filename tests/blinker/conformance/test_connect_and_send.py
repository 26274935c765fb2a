"""Blinker's contract: connecting, sending, disconnecting.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on
purpose, ``differs`` names the promise.
"""

from __future__ import annotations

import inspect
from typing import Any

import blinker
import pytest

import aldis


class Sender:
    """A sender that can be referenced weakly."""


def receivers_of(signal: Any, sender: Any = None) -> list[Any]:
    return list(signal.receivers_for(sender))


# connect and send


def test_a_sent_signal_calls_its_receivers_and_returns_their_results(library: Any) -> None:
    """connect and send: the receiver gets the sender and the payload, and send returns pairs of receiver and result."""
    signal = library.Signal()

    def receiver(sender: Any, **payload: Any) -> tuple[Any, dict[str, Any]]:
        return sender, payload

    signal.connect(receiver)

    assert signal.send("me", a=1, b=2) == [(receiver, ("me", {"a": 1, "b": 2}))]
    assert signal.send("me") == [(receiver, ("me", {}))]
    assert signal.send() == [(receiver, (None, {}))]


def test_a_send_without_receivers_is_an_empty_list(library: Any) -> None:
    """send: without receivers it returns an empty list, a new one each time."""
    signal = library.Signal()

    assert signal.send() == []
    assert signal.send("me", a=1) == []
    assert signal.send() is not signal.send()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda signal, receiver: signal.connect(receiver), id="plain"),
        pytest.param(lambda signal, receiver: signal.connect(receiver=receiver), id="keyword"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, "me"), id="sender"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, sender="me"), id="keyword sender"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, "me", False), id="weak"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, "me", weak=True), id="keyword weak"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, weak=False), id="no sender"),
        pytest.param(lambda signal, receiver: signal.connect(receiver, signal.ANY, True), id="ANY"),
        pytest.param(lambda signal, receiver: signal.connect_via("me")(receiver), id="via"),
        pytest.param(lambda signal, receiver: signal.connect_via(sender="me", weak=True)(receiver), id="via keywords"),
        pytest.param(lambda signal, receiver: signal.connect_via("me", True)(receiver), id="via positional"),
        pytest.param(lambda signal, receiver: signal.connect_via(signal.ANY)(receiver), id="via ANY"),
    ],
)
def test_each_form_of_connecting_connects_and_returns_the_receiver(
    library: Any, named: Any, log: list[Any], how: Any
) -> None:
    """connect and connect_via: in positional and keyword forms, they connect the receiver and return it unchanged."""
    signal = library.Signal()
    receiver = named("called")

    assert how(signal, receiver) is receiver
    assert signal.send("me") == [(receiver, "called")]
    assert log == ["called"]


def test_connect_is_a_decorator(library: Any) -> None:
    """connect: as a bare decorator it returns the function."""
    signal = library.Signal()

    @signal.connect  # type: ignore[untyped-decorator]
    def receiver(sender: Any) -> str:
        return "called"

    assert signal.send() == [(receiver, "called")]


@pytest.mark.parametrize("name", ["sender", "self", "receiver", "signal", "payload", "kwargs"])
def test_payload_keywords_may_have_the_names_of_send_s_parameters(library: Any, name: str) -> None:
    """send: its own parameters are positional, so that payload keywords may have the same names."""
    signal = library.Signal()
    seen: list[Any] = []

    def receiver(*arguments: Any, **payload: Any) -> None:
        seen.append((arguments, payload))

    signal.connect(receiver)
    signal.send("me", **{name: 1})

    assert seen == [(("me",), {name: 1})]


@pytest.mark.parametrize("name", ["send", "send_async"])
def test_a_send_takes_one_positional_argument(library: Any, name: str) -> None:
    """send and send_async: the payload is passed by keyword."""
    with pytest.raises(TypeError, match="positional"):
        getattr(library.Signal(), name)("me", "payload")


@pytest.mark.parametrize(
    "verb",
    [
        "connect",
        "connect_via",
        "connected_to",
        "disconnect",
        "has_receivers_for",
        "muted",
        "receivers_for",
        "send",
        "send_async",
        "_clear_state",
        "_cleanup_bookkeeping",
    ],
)
def test_aldis_has_the_parameters_of_blinker(named: Any, verb: str) -> None:
    """Each method of Aldis has the parameters of Blinker's: the same names in the same order, with the same
    defaults."""
    theirs = inspect.signature(getattr(blinker.Signal, verb)).parameters
    ours = inspect.signature(getattr(aldis.Signal, verb)).parameters
    named = [p for p in theirs.values() if p.kind is not p.VAR_KEYWORD]
    known = [ours[p.name] for p in named]

    assert [(p.name, p.kind) for p in known] == [(p.name, p.kind) for p in named]
    assert [repr(p.default) for p in known if p.name != "receiver"] == [
        repr(p.default) for p in named if p.name != "receiver"
    ]
    positional = [p.name for p in ours.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    assert positional == [p.name for p in named if p.kind is not p.KEYWORD_ONLY]


def test_a_receiver_that_is_connected_twice_is_called_once(library: Any, named: Any, log: list[Any]) -> None:
    """connect: the same receiver and sender again is the same connection; a receiver for ANY and for a sender is
    called once."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.connect(receiver)
    signal.connect(receiver, "me")

    assert len(signal.send("me")) == 1
    assert log == ["called"]


def test_all_receivers_are_called_in_order(library: Any, named: Any, log: list[Any]) -> None:
    """send: all receivers are called; their order is undefined in Blinker, and the order of connecting by E1."""
    signal = library.Signal()
    names = [str(number) for number in range(20)]
    receivers = [signal.connect(named(name)) for name in names]
    results = signal.send()

    assert sorted(log) == sorted(names)
    assert sorted(value for _, value in results) == sorted(names)

    if library is aldis:
        assert log == names
        assert [receiver for receiver, _ in results] == receivers


def test_set_class_orders_receivers(signal: Any, named: Any, log: list[Any]) -> None:
    """set_class: with an ordered set, receivers are called in the order of connecting."""
    names = [str(number) for number in range(20)]
    receivers = [signal.connect(named(name)) for name in names]

    signal.send()

    assert log == names
    assert receivers_of(signal) == receivers


def test_set_class_is_the_set_by_default(library: Any) -> None:
    """set_class: is an attribute of the class, ``set`` by default."""
    assert library.Signal.set_class is set
    assert library.NamedSignal("x").set_class is set


def test_sender_filters_do_not_change_the_order(signal: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E1: Blinker's ordered sets call receivers for ANY first; Aldis keeps one order."""
    receivers = [named(name) for name in "abc"]
    signal.connect(receivers[0], "me")
    signal.connect(receivers[1])
    signal.connect(receivers[2], "me")

    signal.send("me")

    assert log == differs("E1", blinker=["b", "a", "c"], aldis=["a", "b", "c"])


def test_an_exception_stops_the_send(signal: Any, named: Any, log: list[Any]) -> None:
    """send: raises a receiver's exception unchanged, and calls no later receiver."""

    def fails(sender: Any) -> None:
        raise LookupError("lost")

    receivers = [signal.connect(named("before")), signal.connect(fails), signal.connect(named("after"))]

    with pytest.raises(LookupError, match="lost"):
        signal.send()

    assert log == ["before"]
    assert receivers_of(signal) == receivers


def test_a_receiver_that_cannot_take_the_payload_fails_the_send(library: Any) -> None:
    """send: an undeclared signal accepts any payload, and a receiver that cannot take it raises its own TypeError."""
    signal = library.Signal()

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver)

    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):
        signal.send(a=1)


@pytest.mark.parametrize(
    "options", [{"priorities": 1}, {"sender": None, "weakly": True}], ids=["unknown", "known and unknown"]
)
def test_connect_refuses_unknown_options(library: Any, options: dict[str, Any]) -> None:
    """connect: an unknown option is a TypeError, and nothing is connected."""
    signal = library.Signal()

    with pytest.raises(TypeError, match="unexpected keyword"):
        signal.connect(print, **options)

    assert not signal.receivers


# disconnect


def test_disconnect_from_all_senders(library: Any, named: Any) -> None:
    """disconnect: without a sender, or with ANY, all connections of the receiver are removed; other receivers stay."""
    for more in ((), (library.ANY,)):
        signal = library.Signal()
        receiver, other = named("called"), named("other")
        signal.connect(receiver)
        signal.connect(receiver, "me")
        signal.connect(receiver, sender=Sender)
        signal.connect(other, "me")

        assert signal.disconnect(receiver, *more) is None
        assert receivers_of(signal, "me") == [other]
        assert receivers_of(signal, Sender) == []


@pytest.mark.parametrize("keyword", [True, False])
def test_disconnect_from_one_sender(library: Any, named: Any, keyword: bool) -> None:
    """disconnect: with a sender, only the connection to this sender is removed."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver, "me")
    signal.connect(receiver, "you")

    if keyword:
        signal.disconnect(receiver=receiver, sender="me")
    else:
        signal.disconnect(receiver, "me")

    assert receivers_of(signal, "me") == []
    assert receivers_of(signal, "you") == [receiver]


def test_disconnecting_from_a_sender_does_not_touch_any(library: Any, named: Any) -> None:
    """disconnect: a receiver for ANY is still called for a sender that it was disconnected from."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.disconnect(receiver, "me")

    assert receivers_of(signal, "me") == [receiver]


def test_disconnecting_a_receiver_that_is_not_connected_does_nothing(library: Any, named: Any) -> None:
    """disconnect: unknown receivers and unknown senders are ignored, also several times."""
    signal = library.Signal()
    receiver, stranger = named("called"), named("stranger")
    signal.connect(receiver, "me")

    for _ in range(2):
        signal.disconnect(stranger)
        signal.disconnect(stranger, "me")
        signal.disconnect(receiver, "you")

    assert receivers_of(signal, "me") == [receiver]


def test_a_receiver_may_be_connected_again(library: Any, named: Any) -> None:
    """disconnect: does not prevent a later connect."""
    signal = library.Signal()
    receiver = named("called")

    for _ in range(3):
        signal.connect(receiver, "me")
        signal.disconnect(receiver, "me")
        assert signal.send("me") == []

    signal.connect(receiver, "me")
    assert signal.send("you") == []
    assert len(signal.send("me")) == 1


# Changes during a send


def test_a_receiver_may_disconnect_itself(signal: Any, named: Any, log: list[Any]) -> None:
    """send: a receiver that disconnects itself is called once, and does not prevent the calls of other receivers."""

    def once(sender: Any) -> None:
        log.append("once")
        signal.disconnect(once)

    after = named("after")
    signal.connect(once)
    signal.connect(after)
    signal.send()
    signal.send()

    assert log == ["once", "after", "after"]


def test_a_receiver_connected_during_a_send_waits_for_the_next(signal: Any, named: Any, log: list[Any]) -> None:
    """send: calls the receivers that were connected when it began."""
    late = named("late")

    def connects(sender: Any) -> None:
        log.append("connects")
        signal.connect(late)

    signal.connect(connects)
    signal.send()
    assert log == ["connects"]

    signal.send()
    assert log == ["connects", "connects", "late"]


def test_a_receiver_disconnected_before_its_turn_is_not_called(signal: Any, named: Any, log: list[Any]) -> None:
    """send: a receiver that another receiver disconnects before its turn is not called."""
    second = named("second")

    def first(sender: Any) -> None:
        log.append("first")
        signal.disconnect(second)

    signal.connect(first)
    signal.connect(second)
    signal.send()

    assert log == ["first"]


def test_a_receiver_disconnected_from_the_sender_before_its_turn(
    signal: Any, named: Any, log: list[Any], differs: Any
) -> None:
    """E2: Blinker still calls a receiver that was disconnected from only this sender before its turn."""
    second = named("second")

    def first(sender: Any) -> None:
        log.append("first")
        signal.disconnect(second, "me")

    signal.connect(first)
    signal.connect(second, "me")
    signal.connect(second, "you")
    signal.send("me")

    # Blinker's ordered sets call receivers for ANY first, so `first` is first in both libraries.
    assert log == differs("E2", blinker=["first", "second"], aldis=["first"])


def test_sends_nest(signal: Any, named: Any, log: list[Any]) -> None:
    """send: a receiver may send the same signal again."""

    def resends(sender: Any) -> None:
        log.append(sender)

        if sender > 0:
            signal.send(sender - 1)

    last = signal.connect(named("last"))
    signal.disconnect(last)
    signal.connect(resends)
    signal.connect(last)
    signal.send(2)

    assert log == [2, 1, 0, "last", "last", "last"]
