"""The forms of connect, and what it means to connect the same receiver more than once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Stage:
    """A signal and a log of who ran."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.log: list[str] = []

    def named(self, name: str) -> Callable[..., Any]:
        def receiver(sender: Any, **payload: Any) -> str:
            self.log.append(name)
            return name

        return receiver

    def send(self, sender: Any = None) -> str:
        self.log.clear()
        self.signal.send(sender)
        return "".join(self.log)


@pytest.fixture
def stage() -> Stage:
    return Stage()


class App:
    """A sender that matches by identity."""


def test_a_plain_call(stage: Stage) -> None:
    """connect(receiver) connects for any sender, and returns the receiver."""
    a = stage.named("a")

    assert stage.signal.connect(a) is a
    assert (stage.send(), stage.send("x")) == ("a", "a")


def test_a_plain_call_with_positional_options(stage: Stage) -> None:
    """connect(receiver, sender, weak) takes Blinker's parameters by position."""
    stage.signal.connect(stage.named("a"), "x", False)
    gc.collect()

    assert (stage.send(), stage.send("x")) == ("", "a")


def test_a_plain_call_by_keyword(stage: Stage) -> None:
    """All parameters of connect may be given by keyword, the receiver too."""
    a = stage.named("a")

    assert stage.signal.connect(receiver=a, sender="x", weak=True, priority=1, once=False, via=None) is a
    assert (stage.send(), stage.send("x")) == ("", "a")


def test_a_bare_decorator(stage: Stage) -> None:
    """@signal.connect connects, and leaves the function what it is."""

    def original(sender: Any) -> None:
        stage.log.append("a")

    decorated = stage.signal.connect(original)

    assert decorated is original
    assert stage.send() == "a"


@pytest.mark.parametrize("form", ["empty", "sender", "all"])
def test_a_decorator_with_options(stage: Stage, form: str) -> None:
    """@signal.connect(...) with options connects with these, and leaves the function what it is."""
    a = stage.named("a")
    forms: dict[str, dict[str, Any]] = {
        "empty": {},
        "sender": {"sender": "x"},
        "all": {"sender": "x", "weak": False, "priority": 3, "once": True, "via": None},
    }
    options = forms[form]

    assert stage.signal.connect(**options)(a) is a
    assert stage.send() == ("a" if form == "empty" else "")
    assert stage.send("x") == "a"
    assert stage.send("x") == ("" if form == "all" else "a")


def test_a_decorator_with_options_connects_when_it_decorates(stage: Stage) -> None:
    """@signal.connect(...) by itself connects nothing, and may decorate several functions."""
    connector = stage.signal.connect(sender="x")
    assert not stage.signal.receivers

    a, b = connector(stage.named("a")), connector(stage.named("b"))

    assert stage.send("x") == "ab"
    assert a is not b


def test_a_decorator_with_options_holds_weakly_by_default(stage: Stage) -> None:
    """@signal.connect(...) holds weakly, as connect does."""
    stage.signal.connect(priority=1)(stage.named("a"))
    gc.collect()

    assert not stage.signal.receivers


def test_none_is_not_a_missing_receiver(stage: Stage) -> None:
    """connect(None), as of an import that failed, is an error and no decorator."""
    with pytest.raises(TypeError, match="must be callable; a NoneType is not"):
        stage.signal.connect(None)  # type: ignore[call-overload]


def test_connect_via(stage: Stage) -> None:
    """@signal.connect_via(sender) connects to one sender, strongly unless told otherwise, and returns the function."""
    a = stage.named("a")

    assert stage.signal.connect_via("x")(a) is a
    stage.signal.connect_via("x", weak=True)(stage.named("b"))
    del a
    gc.collect()

    assert (stage.send(), stage.send("x")) == ("", "a")


def test_connect_via_any(stage: Stage) -> None:
    """connect_via(ANY) connects for any sender."""
    stage.signal.connect_via(ANY)(stage.named("a"))

    assert stage.send("x") == "a"


def test_disconnect(stage: Stage) -> None:
    """disconnect takes a receiver away from all senders, or from the given one."""
    a = stage.named("a")

    for sender in (ANY, "x", "y"):
        stage.signal.connect(a, sender)

    stage.signal.disconnect(a, "x")
    assert (stage.send("x"), stage.send("y"), stage.send("z")) == ("a", "a", "a")

    stage.signal.connect(a, "x")
    stage.signal.disconnect(a)
    assert (stage.send("x"), stage.send("y"), stage.send("z")) == ("", "", "")


def test_disconnecting_from_a_sender_leaves_the_connection_to_any(stage: Stage) -> None:
    """A receiver of any sender is not disconnected from a single one: that was never connected."""
    a = stage.named("a")
    stage.signal.connect(a)
    stage.signal.disconnect(a, "x")

    assert stage.send("x") == "a"


def test_disconnecting_what_is_not_connected(stage: Stage) -> None:
    """disconnect of what is not connected does nothing, whatever it is."""
    a = stage.named("a")
    stage.signal.connect(a)

    strangers: list[Any] = [stage.named("b"), None, 3, [], Stage().send]

    for receiver in strangers:
        stage.signal.disconnect(receiver)
        stage.signal.disconnect(receiver, "x")

    assert stage.send() == "a"


# Once.


@pytest.mark.parametrize("sender", [ANY, "x", App], ids=["ANY", "x", "App"])
def test_once(stage: Stage, sender: Any) -> None:
    """once=True: called by one send, and disconnected."""
    stage.signal.connect(stage.named("a"), sender, weak=False, once=True)
    stage.signal.connect(stage.named("b"), weak=False)

    assert stage.send("nobody else") == ("ab" if sender is ANY else "b")
    assert stage.send("x" if sender is ANY else sender) == ("b" if sender is ANY else "ab")
    assert stage.send("x" if sender is ANY else sender) == "b"
    assert len(stage.signal.receivers) == 1


def test_a_once_receiver_may_be_connected_again(stage: Stage) -> None:
    """A once receiver that was called can be connected anew, for one more call."""
    a = stage.named("a")

    for _ in range(3):
        stage.signal.connect(a, once=True)
        assert (stage.send(), stage.send()) == ("a", "")


def test_a_once_receiver_may_connect_itself_again(stage: Stage) -> None:
    """A once receiver that connects itself in its call waits for the next send."""

    def a(sender: Any) -> None:
        stage.log.append("a")
        stage.signal.connect(a, once=True)

    stage.signal.connect(a, once=True)

    assert (stage.send(), stage.send()) == ("a", "a")


def test_once_for_each_sender(stage: Stage) -> None:
    """once is of each connection: the same receiver hears two senders once each."""
    a = stage.named("a")
    stage.signal.connect(a, "x", once=True)
    stage.signal.connect(a, "y", once=True)

    assert [stage.send(sender) for sender in "xxyy"] == ["a", "", "a", ""]


def test_once_for_a_sender_and_always_for_any(stage: Stage) -> None:
    """A once connection that is used up leaves the receiver's other connection."""
    a = stage.named("a")
    stage.signal.connect(a, "x", once=True)
    stage.signal.connect(a)

    assert [stage.send("x") for _ in range(3)] == ["a", "a", "a"]


def test_a_once_receiver_can_be_disconnected(stage: Stage) -> None:
    """A once receiver can be disconnected before its call."""
    a = stage.named("a")
    stage.signal.connect(a, once=True)
    stage.signal.disconnect(a)

    assert stage.send() == ""


# The same receiver again.


@pytest.mark.parametrize("sender", [ANY, "x", App, 5])
def test_the_same_receiver_and_sender_twice_is_one_connection(stage: Stage, sender: Any) -> None:
    """Connected twice, a receiver is called once, and one disconnect ends it."""
    a = stage.named("a")
    stage.signal.connect(a, sender)
    stage.signal.connect(a, sender)

    assert stage.send("x" if sender is ANY else sender) == "a"
    stage.signal.disconnect(a, sender)
    assert not stage.signal.receivers


def test_the_same_method_twice_is_one_connection() -> None:
    """A bound method, though made anew by each access, is one receiver."""
    signal, log = Signal(), list[Any]()

    class Listener:
        def hear(self, sender: Any) -> None:
            log.append(sender)

    listener = Listener()
    signal.connect(listener.hear)
    signal.connect(listener.hear)
    signal.send("x")

    assert log == ["x"]
    assert len(signal.receivers) == 1


def test_the_options_of_the_second_connect_win(stage: Stage) -> None:
    """Connecting again changes the options of the one connection: priority and once, to and fro."""
    a, b = stage.named("a"), stage.named("b")
    stage.signal.connect(a)
    stage.signal.connect(b)
    assert stage.send() == "ab"

    stage.signal.connect(b, priority=1)
    assert stage.send() == "ba"

    stage.signal.connect(b, once=True)
    assert stage.send() == "ab"
    assert stage.send() == "a"

    stage.signal.connect(a, once=True)
    stage.signal.connect(a, once=False)
    assert (stage.send(), stage.send()) == ("a", "a")


def test_the_options_of_other_senders_stay(stage: Stage) -> None:
    """Connecting again for another sender is another connection, with options of its own."""
    a, b = stage.named("a"), stage.named("b")
    stage.signal.connect(a, "x")
    stage.signal.connect(b)
    stage.signal.connect(a, "y", priority=-1)

    assert (stage.send("x"), stage.send("y")) == ("ab", "ba")


@pytest.mark.parametrize("first", [ANY, "x", App], ids=["ANY", "x", "App"])
def test_a_receiver_of_any_and_of_the_sender_is_called_once(stage: Stage, first: Any) -> None:
    """Connected to ANY and to the sender, a receiver is called once by each send."""
    a = stage.named("a")
    sender = "x" if first is ANY else first
    stage.signal.connect(a, first)
    stage.signal.connect(a, sender if first is ANY else ANY)

    assert (stage.send(sender), stage.send("somebody else")) == ("a", "a")
    assert list(stage.signal.receivers_for(sender)) == [a]


@pytest.mark.parametrize(
    ("any_priority", "sender_priority", "expected"), [(0, 0, "ab"), (-1, 0, "ab"), (0, -1, "ab"), (-1, -1, "ba")]
)
def test_it_is_called_in_the_first_of_its_places(
    stage: Stage, any_priority: float, sender_priority: float, expected: str
) -> None:
    """Of its two places in the order, such a receiver has the first."""
    a, b = stage.named("a"), stage.named("b")
    stage.signal.connect(a, priority=any_priority)
    stage.signal.connect(a, "x", priority=sender_priority)
    stage.signal.connect(b)

    assert stage.send("x") == expected


def test_the_connection_to_the_sender_survives_that_to_any(stage: Stage) -> None:
    """Of the two connections, each goes by itself but for disconnect(receiver), which takes both."""
    a = stage.named("a")

    with stage.signal.connected_to(a):
        stage.signal.connect(a, "x")

    assert (stage.send("x"), stage.send("y")) == ("a", "")
    stage.signal.connect(a)
    stage.signal.disconnect(a, "x")
    assert (stage.send("x"), stage.send("y")) == ("a", "a")


# Those who watch.


class Watch:
    """What the signals about a signal told."""

    def __init__(self, signal: Signal[Any, ..., Any]) -> None:
        self.told: list[Any] = []
        signal.receiver_connected.connect(self.on_connect)
        signal.receiver_disconnected.connect(self.on_disconnect)

    def on_connect(self, signal: Any, /, *, receiver: Any, sender: Any, weak: bool) -> None:
        self.told.append(("+", receiver, sender, weak))

    def on_disconnect(self, signal: Any, /, *, receiver: Any, sender: Any) -> None:
        self.told.append(("-", receiver, sender))


def test_each_form_of_connect_is_told(stage: Stage) -> None:
    """Whatever form connects or disconnects, the signals about the signal tell of it, as it was given."""
    watch, a = Watch(stage.signal), stage.named("a")
    stage.signal.connect(a)
    stage.signal.connect(sender="x", weak=False)(a)
    stage.signal.connect_via("y")(a)
    stage.signal.disconnect(a, "x")
    stage.signal.disconnect(a)

    assert watch.told == [
        ("+", a, ANY, True),
        ("+", a, "x", False),
        ("+", a, "y", False),
        ("-", a, "x"),
        ("-", a, ANY),
    ]


def test_signals_about_a_signal_are_its_own(stage: Stage) -> None:
    """receiver_connected is the same object each time, of one signal, and empty until somebody connects to it."""
    other = Signal()

    assert stage.signal.receiver_connected is stage.signal.receiver_connected
    assert stage.signal.receiver_connected is not stage.signal.receiver_disconnected
    assert stage.signal.receiver_connected is not other.receiver_connected
    assert not stage.signal.receiver_connected.receivers
