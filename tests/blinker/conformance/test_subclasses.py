"""Blinker's contract: subclasses, mocks and patches.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on
purpose, ``differs`` names the promise.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from unittest import mock

import pytest


def receivers_of(signal: Any, sender: Any = None) -> list[Any]:
    return list(signal.receivers_for(sender))


def sync_receiver(sender: Any, **payload: Any) -> Any:
    return "sync", sender, payload


async def async_receiver(sender: Any, **payload: Any) -> Any:
    return "async", sender, payload


class OrderedSet(dict[Any, None]):
    """A ``set_class`` as users of Blinker write it to call receivers in order."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


# Subclasses


def test_a_subclass_with_arguments_of_its_own(library: Any, named: Any, log: list[Any]) -> None:
    """Subclasses of Signal may have their own ``__init__``, attributes set before and after super(), and class
    attributes."""

    class Documented(library.Signal):  # type: ignore[misc]
        kind = "documented"

        def __init__(self, topic: str, *arguments: Any, level: int = 0, **more: Any) -> None:
            self.topic = topic
            super().__init__(*arguments, **more)
            self.level = level

    signal = Documented("mail", "the doc", level=3)
    other = Documented(topic="mail", doc="the doc")
    receiver = named("called")
    signal.connect(receiver)
    signal.send("me", a=1)

    assert (signal.kind, signal.topic, signal.level, signal.__doc__) == ("documented", "mail", 3, "the doc")
    assert other.__doc__ == "the doc"
    assert log == ["called"]
    assert other.send() == []


def test_a_subclass_of_named_signal_with_arguments_of_its_own(library: Any) -> None:
    """Subclasses of NamedSignal may have their own ``__init__``."""

    class Event(library.NamedSignal):  # type: ignore[misc]
        def __init__(self, name: str, providing: tuple[str, ...] = ()) -> None:
            super().__init__(name)
            self.providing = providing

    event = Event("saved", ("instance",))

    assert (event.name, event.providing) == ("saved", ("instance",))
    assert repr(event).endswith("; 'saved'>")


def test_a_subclass_beside_another_base(library: Any, named: Any, log: list[Any]) -> None:
    """Subclasses of Signal may have further bases."""

    class Titled:
        title = "a title"

        def describe(self) -> str:
            return f"{self.title}: {type(self).__name__}"

    class TitledSignal(Titled, library.Signal):  # type: ignore[misc]
        pass

    signal = TitledSignal()
    receiver = named("called")
    signal.connect(receiver)
    signal.send()

    assert signal.describe() == "a title: TitledSignal"
    assert log == ["called"]


def test_a_subclass_overrides_send(library: Any, log: list[Any]) -> None:
    """Subclasses may override send, with any parameters, and call the original method."""

    class Logged(library.NamedSignal):  # type: ignore[misc]
        def send(self, *args: Any, **kwargs: Any) -> Any:
            log.append(("send", args, kwargs))
            return super().send(*args, **kwargs)

    signal = Logged("x")
    signal.connect(sync_receiver)

    assert signal.send("me", a=1) == [(sync_receiver, ("sync", "me", {"a": 1}))]
    assert signal.send() == [(sync_receiver, ("sync", None, {}))]
    assert log == [("send", ("me",), {"a": 1}), ("send", (), {})]


def test_a_subclass_overrides_send_async(library: Any, log: list[Any]) -> None:
    """Subclasses may override send_async and call the original method."""

    class Logged(library.Signal):  # type: ignore[misc]
        async def send_async(self, *args: Any, **kwargs: Any) -> Any:
            log.append(("send_async", args, kwargs))
            return await super().send_async(*args, **kwargs)

    signal = Logged()
    signal.connect(async_receiver)

    assert asyncio.run(signal.send_async("me", a=1)) == [(async_receiver, ("async", "me", {"a": 1}))]
    assert log == [("send_async", ("me",), {"a": 1})]


def make_recorder(library: Any, log: list[Any]) -> Any:
    """Return a signal whose class overrides connect and disconnect with Blinker's parameters."""

    class Recorder(library.Signal):  # type: ignore[misc]
        def connect(self, receiver: Any, sender: Any = library.ANY, weak: bool = True) -> Any:
            log.append(("connect", sender, weak))
            return super().connect(receiver, sender, weak)

        def disconnect(self, receiver: Any, sender: Any = library.ANY) -> None:
            log.append(("disconnect", sender))
            super().disconnect(receiver, sender)

    return Recorder()


def test_connect_via_calls_an_overridden_connect(library: Any, log: list[Any]) -> None:
    """connect and connect_via: call a subclass's connect."""
    signal = make_recorder(library, log)

    signal.connect(sync_receiver)
    signal.connect_via("me")(sync_receiver)
    signal.connect_via("me", weak=True)(sync_receiver)
    signal.disconnect(sync_receiver)

    assert log == [
        ("connect", library.ANY, True),
        ("connect", "me", False),
        ("connect", "me", True),
        ("disconnect", library.ANY),
    ]
    assert not signal.receivers


def test_connected_to_calls_overridden_methods(library: Any, log: list[Any]) -> None:
    """connected_to: calls a subclass's connect and disconnect."""
    signal = make_recorder(library, log)

    with signal.connected_to(sync_receiver, sender="me"):
        assert len(signal.send("me")) == 1

    assert [verb for verb, *_ in log] == ["connect", "disconnect"]
    assert log[0] == ("connect", "me", False)
    assert not signal.receivers


def test_connected_to_calls_an_overridden_connect_alone(library: Any, log: list[Any]) -> None:
    """connected_to: works if a subclass overrides only connect, or wraps the receiver in it."""

    class Wrapping(library.Signal):  # type: ignore[misc]
        def connect(self, receiver: Any, *args: Any, **kwargs: Any) -> Any:
            log.append("connect")
            return super().connect(receiver, *args, **kwargs)

    signal = Wrapping()

    with signal.connected_to(sync_receiver):
        assert len(signal.send()) == 1

    assert log == ["connect"]
    assert not signal.receivers


def test_an_overridden_connect_that_changes_the_receiver(library: Any) -> None:
    """connect: a subclass may connect another callable instead of its argument."""

    class Wrapping(library.Signal):  # type: ignore[misc]
        def connect(self, receiver: Any, sender: Any = library.ANY, weak: bool = True) -> Any:
            def wrapper(sender: Any, **payload: Any) -> Any:
                return "wrapped", receiver(sender, **payload)

            super().connect(wrapper, sender=sender, weak=False)
            return receiver

    signal = Wrapping()

    @signal.connect
    def receiver(sender: Any) -> str:
        return "called"

    assert [value for _, value in signal.send()] == [("wrapped", "called")]


def test_an_override_of_receivers_for_decides_which_receivers_are_called(
    library: Any, named: Any, log: list[Any]
) -> None:
    """receivers_for: send and send_async call the receivers that a subclass returns, connected or not."""

    class Chosen(library.Signal):  # type: ignore[misc]
        chosen: Any = ()

        def receivers_for(self, sender: Any) -> Any:
            log.append(sender)
            return iter(self.chosen)

    signal = Chosen()
    signal.connect(named("connected"), weak=False)
    assert signal.send("me") == []

    signal.chosen = [sync_receiver]
    assert signal.send("me", a=1) == [(sync_receiver, ("sync", "me", {"a": 1}))]

    signal.chosen = [sync_receiver, sync_receiver]
    assert [receiver for receiver, _ in signal.send("me")] == [sync_receiver, sync_receiver]

    signal.chosen = [async_receiver]
    assert asyncio.run(signal.send_async("me", a=1)) == [(async_receiver, ("async", "me", {"a": 1}))]
    assert log == ["me"] * 4


def test_an_override_of_receivers_for_filters(signal: Any, named: Any, log: list[Any]) -> None:
    """receivers_for: a subclass may leave out some of the connected receivers."""

    class Filtering(type(signal)):  # type: ignore[misc]
        def receivers_for(self, sender: Any) -> Any:
            for receiver in super().receivers_for(sender):
                if receiver is not first:
                    yield receiver

    first, second = named("first"), named("second")
    filtering = Filtering()
    filtering.connect(first)
    filtering.connect(second)
    filtering.send()

    assert log == ["second"]


def test_an_override_of_receivers_for_decides_the_order(signal: Any, named: Any, log: list[Any]) -> None:
    """receivers_for: receivers are called in the order in which a subclass returns them."""

    class Reversed(type(signal)):  # type: ignore[misc]
        def receivers_for(self, sender: Any) -> Any:
            return reversed(list(super().receivers_for(sender)))

    backwards = Reversed()
    receivers = [backwards.connect(named(name)) for name in "abc"]
    backwards.send()

    assert receivers_of(backwards) == receivers[::-1]
    assert log == ["c", "b", "a"]


def test_an_override_of_receivers_for_may_return_new_callables(signal: Any, named: Any, log: list[Any]) -> None:
    """receivers_for: a subclass may return wrapped receivers that it makes for this send."""

    class Wrapping(type(signal)):  # type: ignore[misc]
        def receivers_for(self, sender: Any) -> Any:
            for receiver in super().receivers_for(sender):
                yield partial(self.call, receiver)

        def call(self, receiver: Any, sender: Any, **payload: Any) -> Any:
            log.append("before")
            value = receiver(sender, **payload)
            log.append("after")
            return value

    wrapping = Wrapping()
    receivers = [wrapping.connect(named(name)) for name in "ab"]

    assert [value for _, value in wrapping.send("me", a=1)] == ["a", "b"]
    assert len(receivers) == 2
    assert log == ["before", "a", "after", "before", "b", "after"]


def test_has_receivers_for_calls_an_overridden_receivers_for(library: Any, differs: Any) -> None:
    """E10: Blinker ignores a subclass's receivers_for, and returns False for a signal that would call receivers."""

    class Chosen(library.Signal):  # type: ignore[misc]
        def receivers_for(self, sender: Any) -> Any:
            yield sync_receiver

    signal = Chosen()

    assert len(signal.send("me")) == 1
    assert signal.has_receivers_for("me") is differs("E10", blinker=False, aldis=True)


def test_a_subclass_overrides_has_receivers_for(library: Any) -> None:
    """has_receivers_for: a subclass may override it; a send does not call it."""

    class Shy(library.Signal):  # type: ignore[misc]
        def has_receivers_for(self, sender: Any) -> bool:
            return sender == "me" and bool(super().has_receivers_for(sender))

    signal = Shy()
    signal.connect(sync_receiver)

    assert signal.has_receivers_for("me") is True
    assert signal.has_receivers_for("you") is False
    assert len(signal.send("you")) == 1


def test_a_subclass_of_a_subclass(library: Any, named: Any, log: list[Any]) -> None:
    """Subclasses: overrides of a base class and of a mixin are called."""

    class Backwards:
        def receivers_for(self, sender: Any) -> Any:
            return reversed(list(super().receivers_for(sender)))  # type: ignore[misc]

    class Base(library.NamedSignal):  # type: ignore[misc]
        set_class = OrderedSet

    class Mixed(Backwards, Base):
        pass

    class Derived(Mixed):
        pass

    signal = Derived("x")
    receivers = [signal.connect(named(name)) for name in "ab"]
    signal.send()

    assert len(receivers) == 2
    assert log == ["b", "a"]


def test_a_namespace_subclass_makes_its_own_signals(library: Any) -> None:
    """Namespace: a subclass may override signal() to make signals of its own class."""

    class Event(library.NamedSignal):  # type: ignore[misc]
        pass

    class Events(library.Namespace):  # type: ignore[misc]
        def signal(self, name: str, doc: str | None = None) -> Any:
            if name not in self:
                self[name] = Event(name, doc)

            return super().signal(name, doc)

    events = Events()

    assert type(events.signal("saved", "doc")) is Event
    assert events.signal("saved") is events["saved"]


def test_a_namespace_subclass_with_arguments_of_its_own(library: Any) -> None:
    """Namespace: a subclass may have its own ``__init__``, which need not call the original, as for a dict."""

    class Prefixed(library.Namespace):  # type: ignore[misc]
        def __init__(self, prefix: str) -> None:
            self.prefix = prefix

        def signal(self, name: str, doc: str | None = None) -> Any:
            return super().signal(f"{self.prefix}.{name}", doc)

    namespace = Prefixed("shop")

    assert namespace.signal("saved").name == "shop.saved"
    assert list(namespace) == ["shop.saved"]


def test_a_namespace_subclass_with_missing(library: Any) -> None:
    """Namespace: a subclass may define ``__missing__``."""

    class Eager(library.Namespace):  # type: ignore[misc]
        def __missing__(self, name: str) -> Any:
            return self.signal(name)

    namespace = Eager()

    assert namespace["saved"].name == "saved"
    assert namespace["saved"] is namespace.signal("saved")


# Mocks and patches


@pytest.mark.parametrize("verb", ["send", "connect", "disconnect", "has_receivers_for", "send_async"])
def test_a_method_of_one_signal_can_be_patched(library: Any, verb: str) -> None:
    """mock.patch.object(signal, name): replaces a method with a mock, and restores it."""
    signal, other = library.NamedSignal("x"), library.NamedSignal("y")

    with mock.patch.object(signal, verb, mock.Mock()) as patched:
        getattr(signal, verb)("me", a=1)
        assert getattr(other, verb) is not patched

    patched.assert_called_once_with("me", a=1)
    assert not isinstance(getattr(signal, verb), mock.Mock)
    assert verb not in vars(signal)


def test_receivers_for_is_looked_up_when_the_class_is_made(library: Any, named: Any, differs: Any) -> None:
    """E11: Aldis looks for an override when a class is made, not at each send, so a later patch has no effect."""
    signal = library.Signal()
    receiver = named("connected")
    signal.connect(receiver)

    with mock.patch.object(signal, "receivers_for", return_value=[sync_receiver]):
        sent = signal.send("me")

    assert sent == differs("E11", blinker=[(sync_receiver, ("sync", "me", {}))], aldis=[(receiver, "connected")])


def test_connected_to_calls_patched_methods(library: Any) -> None:
    """mock.patch.object(signal, "connect"): connected_to calls the mocks."""
    signal = library.Signal()

    with mock.patch.object(signal, "connect") as connect, mock.patch.object(signal, "disconnect") as disconnect:
        with signal.connected_to(sync_receiver, sender="me"):
            disconnect.assert_not_called()

        connect.assert_called_once_with(sync_receiver, sender="me", weak=False)
        disconnect.assert_called_once()


def test_a_class_can_be_patched(library: Any) -> None:
    """mock.patch.object(Signal, "send"): changes all signals."""
    signal = library.NamedSignal("x")

    with mock.patch.object(library.Signal, "send", autospec=True) as patched:
        signal.send("me", a=1)

    patched.assert_called_once_with(signal, "me", a=1)
    assert signal.send("me", a=1) == []


@pytest.mark.parametrize("kind", ["Signal", "NamedSignal"])
def test_a_mock_can_replace_a_signal(library: Any, kind: str) -> None:
    """Mock(spec=Signal): has the methods of a signal and no other attributes."""
    of_kind = getattr(library, kind)
    signal = mock.Mock(spec=of_kind)
    signal.send("me", a=1)
    signal.connect(sync_receiver, sender="me")
    signal.receivers_for("me")

    assert isinstance(signal, of_kind)
    signal.send.assert_called_once_with("me", a=1)

    with pytest.raises(AttributeError):
        signal.no_such_verb


def test_a_mock_can_have_the_signature_of_a_signal(library: Any) -> None:
    """create_autospec(Signal): checks calls against the methods' parameters, and knows that send_async is async."""
    signal = mock.create_autospec(library.Signal, instance=True)
    signal.send("me", a=1)
    signal.connect(sync_receiver, "me", weak=False)

    with pytest.raises(TypeError):
        signal.send("me", "payload")

    assert isinstance(signal.send_async, mock.AsyncMock)
    assert not isinstance(signal.send, mock.AsyncMock)


def test_a_mock_can_wrap_a_signal(library: Any) -> None:
    """Mock(wraps=signal): records calls of a signal without changing it."""
    signal = library.NamedSignal("x")
    signal.connect(sync_receiver)
    wrapped = mock.Mock(wraps=signal, spec=signal)

    assert wrapped.send("me") == [(sync_receiver, ("sync", "me", {}))]
    wrapped.send.assert_called_once_with("me")
    assert receivers_of(signal) == [sync_receiver]
