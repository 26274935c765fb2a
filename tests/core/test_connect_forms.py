"""The forms of connect, and the result when the same receiver is connected more than once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Stage:
    """A signal and a log of the receivers that ran."""

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
    """connect(receiver, sender, weak) accepts Blinker's parameters by position."""
    stage.signal.connect(stage.named("a"), "x", False)
    gc.collect()

    assert (stage.send(), stage.send("x")) == ("", "a")


def test_a_plain_call_by_keyword(stage: Stage) -> None:
    """All parameters of connect may be passed by keyword, even the receiver."""
    a = stage.named("a")

    assert stage.signal.connect(receiver=a, sender="x", weak=True, priority=1, once=False, via=None) is a
    assert (stage.send(), stage.send("x")) == ("", "a")


def test_a_bare_decorator(stage: Stage) -> None:
    """@signal.connect connects the function and returns it unchanged."""

    def original(sender: Any) -> None:
        stage.log.append("a")

    decorated = stage.signal.connect(original)

    assert decorated is original
    assert stage.send() == "a"


@pytest.mark.parametrize("form", ["empty", "sender", "all"])
def test_a_decorator_with_options(stage: Stage, form: str) -> None:
    """@signal.connect(...) connects the function with the options and returns it unchanged."""
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
    """@signal.connect(...) connects nothing until it decorates a function, and may decorate several functions."""
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


def test_none_is_no_receiver(stage: Stage) -> None:
    """connect(None), as after a failed import, is an error, and does not return a decorator."""
    with pytest.raises(TypeError, match="must be callable; a NoneType is not"):
        stage.signal.connect(None)  # type: ignore[call-overload]


def test_connect_via(stage: Stage) -> None:
    """@signal.connect_via(sender) connects the function to one sender, strongly by default, and returns it."""
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
    """disconnect removes a receiver from all senders, or from the given one."""
    a = stage.named("a")

    for sender in (ANY, "x", "y"):
        stage.signal.connect(a, sender)

    stage.signal.disconnect(a, "x")
    assert (stage.send("x"), stage.send("y"), stage.send("z")) == ("a", "a", "a")

    stage.signal.connect(a, "x")
    stage.signal.disconnect(a)
    assert (stage.send("x"), stage.send("y"), stage.send("z")) == ("", "", "")


def test_disconnecting_from_a_sender_leaves_the_connection_to_any(stage: Stage) -> None:
    """disconnect with a sender does not remove a connection for any sender."""
    a = stage.named("a")
    stage.signal.connect(a)
    stage.signal.disconnect(a, "x")

    assert stage.send("x") == "a"


def test_disconnecting_a_receiver_that_is_not_connected(stage: Stage) -> None:
    """disconnect does nothing for an object that is not connected, whatever it is."""
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
    """With once=True, one send calls the receiver, and disconnects it."""
    stage.signal.connect(stage.named("a"), sender, weak=False, once=True)
    stage.signal.connect(stage.named("b"), weak=False)

    assert stage.send("nobody else") == ("ab" if sender is ANY else "b")
    assert stage.send("x" if sender is ANY else sender) == ("b" if sender is ANY else "ab")
    assert stage.send("x" if sender is ANY else sender) == "b"
    assert len(stage.signal.receivers) == 1


def test_a_once_receiver_may_be_connected_again(stage: Stage) -> None:
    """A once receiver that was called can be connected again, for one more call."""
    a = stage.named("a")

    for _ in range(3):
        stage.signal.connect(a, once=True)
        assert (stage.send(), stage.send()) == ("a", "")


def test_a_once_receiver_may_connect_itself_again(stage: Stage) -> None:
    """A once receiver that connects itself during its call is called again by the next send only."""

    def a(sender: Any) -> None:
        stage.log.append("a")
        stage.signal.connect(a, once=True)

    stage.signal.connect(a, once=True)

    assert (stage.send(), stage.send()) == ("a", "a")


def test_once_for_each_sender(stage: Stage) -> None:
    """Each connection has its own once: a receiver that is connected to two senders is called once for each."""
    a = stage.named("a")
    stage.signal.connect(a, "x", once=True)
    stage.signal.connect(a, "y", once=True)

    assert [stage.send(sender) for sender in "xxyy"] == ["a", "", "a", ""]


def test_once_for_a_sender_and_always_for_any(stage: Stage) -> None:
    """When a once connection is used up, the receiver's other connection stays."""
    a = stage.named("a")
    stage.signal.connect(a, "x", once=True)
    stage.signal.connect(a)

    assert [stage.send("x") for _ in range(3)] == ["a", "a", "a"]


def test_a_once_receiver_can_be_disconnected(stage: Stage) -> None:
    """A once receiver can be disconnected before it is called."""
    a = stage.named("a")
    stage.signal.connect(a, once=True)
    stage.signal.disconnect(a)

    assert stage.send() == ""


# The same receiver again.


@pytest.mark.parametrize("sender", [ANY, "x", App, 5])
def test_the_same_receiver_and_sender_twice_is_one_connection(stage: Stage, sender: Any) -> None:
    """A receiver that is connected twice is called once, and one disconnect removes it."""
    a = stage.named("a")
    stage.signal.connect(a, sender)
    stage.signal.connect(a, sender)

    assert stage.send("x" if sender is ANY else sender) == "a"
    stage.signal.disconnect(a, sender)
    assert not stage.signal.receivers


def test_the_same_method_twice_is_one_connection() -> None:
    """A bound method is one receiver, though Python makes it anew at each access."""
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
    """Connecting again replaces the options of the connection: priority and once, in both directions."""
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
    """Connecting again for another sender makes another connection, with its own options."""
    a, b = stage.named("a"), stage.named("b")
    stage.signal.connect(a, "x")
    stage.signal.connect(b)
    stage.signal.connect(a, "y", priority=-1)

    assert (stage.send("x"), stage.send("y")) == ("ab", "ba")


@pytest.mark.parametrize("first", [ANY, "x", App], ids=["ANY", "x", "App"])
def test_a_receiver_of_any_and_of_the_sender_is_called_once(stage: Stage, first: Any) -> None:
    """A receiver that is connected to ANY and to the sender is called once by each send."""
    a = stage.named("a")
    sender = "x" if first is ANY else first
    stage.signal.connect(a, first)
    stage.signal.connect(a, sender if first is ANY else ANY)

    assert (stage.send(sender), stage.send("somebody else")) == ("a", "a")
    assert list(stage.signal.receivers_for(sender)) == [a]


@pytest.mark.parametrize(
    ("any_priority", "sender_priority", "expected"), [(0, 0, "ab"), (-1, 0, "ab"), (0, -1, "ab"), (-1, -1, "ba")]
)
def test_it_is_called_at_the_first_of_its_positions(
    stage: Stage, any_priority: float, sender_priority: float, expected: str
) -> None:
    """Such a receiver is called at the earlier one of its two positions."""
    a, b = stage.named("a"), stage.named("b")
    stage.signal.connect(a, priority=any_priority)
    stage.signal.connect(a, "x", priority=sender_priority)
    stage.signal.connect(b)

    assert stage.send("x") == expected


def test_the_connection_to_the_sender_survives_that_to_any(stage: Stage) -> None:
    """Each of the two connections is removed by its own disconnect, and disconnect(receiver) removes both."""
    a = stage.named("a")

    with stage.signal.connected_to(a):
        stage.signal.connect(a, "x")

    assert (stage.send("x"), stage.send("y")) == ("a", "")
    stage.signal.connect(a)
    stage.signal.disconnect(a, "x")
    assert (stage.send("x"), stage.send("y")) == ("a", "a")


# The signals about connections.


class Watch:
    """A record of everything that the signals about a signal's connections report."""

    def __init__(self, signal: Signal[Any, ..., Any]) -> None:
        self.told: list[Any] = []
        signal.receiver_connected.connect(self.on_connect)
        signal.receiver_disconnected.connect(self.on_disconnect)

    def on_connect(self, signal: Any, /, *, receiver: Any, sender: Any, weak: bool) -> None:
        self.told.append(("+", receiver, sender, weak))

    def on_disconnect(self, signal: Any, /, *, receiver: Any, sender: Any) -> None:
        self.told.append(("-", receiver, sender))


def test_each_form_of_connect_is_reported(stage: Stage) -> None:
    """receiver_connected and receiver_disconnected report every form of connect and disconnect, with its arguments."""
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


def test_each_signal_has_its_own_signals_about_connections(stage: Stage) -> None:
    """receiver_connected is the same object at each access, belongs to one signal, and has no receivers at first."""
    other = Signal()

    assert stage.signal.receiver_connected is stage.signal.receiver_connected
    assert stage.signal.receiver_connected is not stage.signal.receiver_disconnected
    assert stage.signal.receiver_connected is not other.receiver_connected
    assert not stage.signal.receiver_connected.receivers
