"""E6: when two senders are the same sender: values, identities, proxies, and dead senders."""

from __future__ import annotations

import enum
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import ANY, Signal, UnboundProxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Proxy:
    """A proxy as werkzeug's LocalProxy: it points to the object that a callable returns, and claims the class of that
    object."""

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        found = object.__getattribute__(self, "_find")()

        if found is None:
            raise RuntimeError("working outside of context")

        return found

    @property
    def __class__(self) -> Any:
        try:
            return self._get_current_object().__class__
        except RuntimeError:
            return Proxy

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __repr__(self) -> str:
        return "<Proxy>"

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)


class App:
    """A sender that matches by identity."""

    def run(self) -> None: ...


class Equal(App):
    """An object that is equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class Slotted:
    """An object that cannot be referenced weakly, and notes when it dies."""

    __slots__ = ("gone",)

    def __init__(self, gone: list[str]) -> None:
        self.gone = gone

    def __del__(self) -> None:
        self.gone.append("gone")


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    """A string that is equal to nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 3


def hears(connected: Any, sent: Any) -> bool:
    """Return whether a receiver connected to one sender is called for another. All ways to ask must agree."""
    signal, log = Signal(), list[Any]()

    def receiver(sender: Any, **payload: Any) -> None:
        log.append(sender)

    signal.connect(receiver, connected)
    found = [
        signal.has_receivers_for(sent),
        list(signal.receivers_for(sent)) == [receiver],
        signal.send(sent) == [(receiver, None)],
        signal.send(sent, a=1) == [(receiver, None)],
        len(log) == 2,
    ]
    assert len(set(found)) == 1

    if sent is not ANY:  # That would disconnect the receiver from all senders.
        signal.disconnect(receiver, sent)
        assert bool(signal.receivers) != found[0]

    return found[0]


@pytest.mark.parametrize(
    ("connected", "sent"),
    [
        ("x" * 5000, "x" * 5000),
        ("", ""),
        (10**30, 10**30),
        (0, 0),
        (0, False),
        (False, 0),
        (True, 1),
        (-5, -5),
        (b"", b""),
        (b"x" * 5000, bytes(bytearray(b"x" * 5000))),
        (Colour.RED, 1),
        (1, Colour.RED),
        (Name("a"), "a"),
        ("a", Name("a")),
        (Name("a"), Name("a")),
    ],
)
def test_strings_numbers_and_bytes_match_by_value(connected: Any, sent: Any) -> None:
    """E6: str, int and bytes senders match by value, and so do their subclasses, even if those override equality."""
    assert hears(connected, sent)


@pytest.mark.parametrize(
    ("connected", "sent"),
    [
        (0, ""),
        (0, b""),
        (0, None),
        (False, None),
        ("", b""),
        ("", None),
        ("a", b"a"),
        ("1", 1),
        ("a", "A"),
        (1, 2),
        (1.0, 1),
        (1, 1.0),
        ((), ""),
        (None, ""),
        ("ANY", ANY),
        (0, ANY),
    ],
)
def test_other_values_do_not_match(connected: Any, sent: Any) -> None:
    """E6: values of other kinds, false ones too, are different senders, and none of these values is ANY."""
    assert not hears(connected, sent)


@pytest.mark.parametrize("sender", [0, False, "", b"", None, (), 0.0])
def test_false_values_are_ordinary_senders(sender: Any) -> None:
    """E6: a receiver that is connected to a false value is called for that value and for no other sender."""
    assert hears(sender, sender)
    assert not hears(sender, "somebody else")
    assert not hears("somebody else", sender)


@pytest.mark.parametrize(
    "make",
    [
        App,
        Equal,
        list,
        dict,
        set,
        bytearray,
        object,
        lambda: [0.5][0] + 1,
        lambda: (object(),),
        lambda: type("T", (), {}),
    ],
    ids=["App", "Equal", "list", "dict", "set", "bytearray", "object", "float", "tuple", "class"],
)
def test_other_senders_match_by_identity(make: Callable[[], Any]) -> None:
    """E6: other senders match by identity, even if they are equal, unhashable or cannot be referenced weakly."""
    one, two = make(), make()

    assert hears(one, one)
    assert one is two or not hears(one, two)


def test_identity_is_not_an_integer() -> None:
    """E6: an int that is equal to the id of a connected object is a different sender."""
    app = App()

    assert not hears(app, id(app))
    assert not hears(id(app), app)
    assert not hears(None, id(None))


def test_an_object_and_its_id_are_two_senders() -> None:
    """E6: an object and the number that is its id stay two senders when both have receivers."""
    signal, app, log = Signal(), App(), list[str]()

    def to_app(sender: Any) -> None:
        log.append("app")

    def to_number(sender: Any) -> None:
        log.append("number")

    signal.connect(to_app, app)
    signal.connect(to_number, id(app))

    for _ in range(2):
        signal.send(app)
        signal.send(id(app))

    assert log == ["app", "number"] * 2


def test_a_bound_method_is_a_sender() -> None:
    """E6: a bound method is the same sender at each access, as long as its object lives."""
    app, other = App(), App()

    assert hears(app.run, app.run)
    assert not hears(app.run, other.run)
    assert not hears(app.run, app)


def test_no_code_of_a_sender_runs() -> None:
    """E6: matching by identity does not call __eq__, __hash__ or __bool__ of a sender."""

    class Touchy:
        def refuse(self, *_: object) -> Any:
            raise AssertionError("asked")

        __eq__ = __hash__ = __bool__ = __len__ = __iter__ = refuse

    touchy = Touchy()
    signal, log = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        log.append(1)

    signal.connect(receiver, touchy)
    signal.send(touchy)
    signal.send(touchy)
    signal.disconnect(receiver, touchy)
    signal.send(touchy)

    assert log == [1, 1]


def test_no_warning_about_bytes_and_strings() -> None:
    """E6: under python -bb, bytes and str senders with the same hash work side by side."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from aldis import Signal\n"
        "signal, log = Signal(), []\n"
        "names = [n for b in (b'', b'a', b'some bytes') for n in (b, b.decode())]\n"
        "for name in names: signal.connect(lambda s, name=name: log.append(name), name, weak=False)\n"
        "for name in names: signal.send(name)\n"
        "assert [*map(repr, log)] == [*map(repr, names)], log\n"
    )
    root = str(Path(aldis.__file__).parent.parent)

    done = subprocess.run([sys.executable, "-bb", "-c", program, root], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# Proxies.


@pytest.mark.parametrize(
    "target", [App(), "x", 7, b"x", App, Slotted([])], ids=["object", "str", "int", "bytes", "class", "slotted"]
)
def test_a_proxy_counts_as_the_object_it_points_to(target: Any) -> None:
    """E6: a proxy is resolved by connect, send, disconnect and every method that takes a sender."""
    proxy = Proxy(lambda: target)

    assert hears(proxy, target)
    assert hears(target, proxy)
    assert hears(proxy, proxy)
    assert not hears(proxy, "nobody")


def test_receivers_get_the_object_behind_the_proxy() -> None:
    """E6: receivers get the object behind the proxy as the sender, in every kind of send, also receivers for any
    sender."""
    app = App()
    proxy = Proxy(lambda: app)
    got: list[Any] = []

    def receiver(sender: Any, **payload: Any) -> None:
        got.append(sender)

    for signal in (Signal(), Signal(errors="collect")):
        signal.connect(receiver)
        signal.send(proxy)
        signal.send(proxy)
        signal.send(proxy, a=1)
        signal.connect(receiver, app, priority=1)
        signal.send(proxy)
        signal.send(proxy)

    assert len(got) == 10
    assert all(type(sender) is App for sender in got)


def test_a_proxy_is_resolved_at_the_call() -> None:
    """E6: connect uses the object that the proxy points to at that moment, and send the one that it points to then."""
    one, two = App(), App()
    current = [one]
    proxy = Proxy(lambda: current[0])
    signal, log = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        log.append(sender)

    signal.connect(receiver, proxy)
    signal.send(proxy)
    signal.send(proxy)
    current[0] = two
    signal.send(proxy)
    signal.send(one)

    assert log == [one, one, one]


def test_a_connection_does_not_depend_on_the_proxy() -> None:
    """E6: the connection ends when the object dies, not when the proxy does; the proxy itself is not kept alive."""
    app = App()
    proxy = Proxy(lambda: app)
    signal = Signal()

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, proxy)
    ref = weakref.ref(proxy)
    del proxy
    gc.collect()

    assert ref() is None
    assert signal.has_receivers_for(app)


@pytest.mark.parametrize("verb", ["connect", "decorate", "connect_via", "connected_to", "disconnect"])
def test_an_unbound_proxy_is_refused(verb: str) -> None:
    """E6: connecting to a proxy that points to nothing is refused, and so is disconnecting from it."""
    proxy = Proxy(lambda: None)
    signal = Signal()

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, "x")

    with pytest.raises(UnboundProxyError, match="points to no object") as raised:
        match verb:
            case "connect":
                signal.connect(receiver, proxy)
            case "decorate":
                signal.connect(sender=proxy)(receiver)
            case "connect_via":
                signal.connect_via(proxy)(receiver)
            case "connected_to":
                with signal.connected_to(receiver, proxy):
                    pass
            case "disconnect":
                signal.disconnect(receiver, proxy)

    assert isinstance(raised.value, RuntimeError)
    assert signal.has_receivers_for("x")
    assert not signal.has_receivers_for(ANY)


def test_a_send_by_an_unbound_proxy_reaches_receivers_for_any() -> None:
    """E6: a send by a proxy that points to nothing does not fail: receivers for any sender get the proxy itself."""
    proxy = Proxy(lambda: None)
    signal, got = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        got.append(sender)

    def other(sender: Any) -> None:
        raise AssertionError

    signal.connect(receiver)
    signal.connect(other, "x")
    signal.send(proxy)

    assert len(got) == 1
    assert got[0] is proxy
    assert list(signal.receivers_for(proxy)) == [receiver]


def test_a_proxy_for_a_proxy_is_resolved_to_the_end() -> None:
    """E6: a proxy that points to another proxy, as LocalProxy(lambda: current_app) does, is resolved to the final
    object."""
    app = App()
    proxy = Proxy(lambda: Proxy(lambda: app))

    assert hears(app, proxy)
    assert hears(proxy, app)


def test_an_object_that_claims_another_class_is_itself() -> None:
    """E6: an object that only claims another class, as a mock with a spec does, matches by its own identity."""

    class Lying:
        @property
        def __class__(self) -> Any:
            return str

        @__class__.setter
        def __class__(self, value: Any) -> None: ...

    lying = Lying()

    assert hears(lying, lying)
    assert not hears(lying, Lying())


# Dead senders, and senders that cannot be referenced weakly.


def test_connections_end_with_their_sender() -> None:
    """E6: when a sender dies, its connections end, also the strong ones, and their receivers are freed."""
    signal, app, log = Signal(), App(), list[Any]()

    def make(name: str) -> Callable[..., Any]:
        return lambda sender: log.append(name)

    strong, everywhere = make("strong"), make("everywhere")
    signal.connect(strong, app, weak=False)
    signal.connect(everywhere, app)
    signal.connect(everywhere, "x")
    signal.send(app)
    ref = weakref.ref(strong)
    del strong, app
    gc.collect()

    assert ref() is None
    assert list(signal.receivers_for(ANY)) == []
    assert len(signal.receivers) == 1
    signal.send("x")
    assert log == ["strong", "everywhere", "everywhere"]


def test_a_strong_receiver_that_refers_to_its_sender_keeps_it() -> None:
    """E6: a sender lives as long as anything refers to it, even a strong receiver of its own; its connections stay
    until then."""
    signal, log = Signal(), list[Any]()

    def connect() -> weakref.ref[App]:
        app = App()
        signal.connect(lambda sender: log.append(app), app, weak=False)
        return weakref.ref(app)

    ref = connect()
    gc.collect()
    app = ref()

    assert app is not None
    signal.send(app)
    assert log == [app]


def test_a_sender_may_die_during_a_send_by_another() -> None:
    """E6: when a sender dies during a send by another sender, only its own connections end."""
    signal, apps, log = Signal(), [App()], list[str]()

    @signal.connect
    def first(sender: Any) -> None:
        apps.clear()
        gc.collect()
        log.append("first")

    def second(sender: Any) -> None:
        log.append("second")

    signal.connect(second, apps[0])
    signal.connect(second, "x")
    signal.send("x")

    assert log == ["first", "second"]
    assert len(signal.receivers) == 2


def test_a_new_sender_at_the_address_of_a_dead_one_has_no_receivers() -> None:
    """E6: a new sender at the address of a dead one never gets the receivers of the dead one."""
    signal, wrong = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        wrong.append(sender)

    addresses = set[int]()
    reused = 0

    for number in range(300):
        app = App()
        reused += id(app) in addresses
        addresses.add(id(app))

        if number % 2 == 0:
            signal.connect(receiver, app, weak=False)
            signal.send(app)
            assert wrong.pop() is app
        else:
            signal.send(app)
            assert not signal.has_receivers_for(app)

        del app

    assert reused, "no new object got an old address, so nothing was tested"
    assert wrong == []


@pytest.mark.parametrize("way", ["disconnect", "disconnect all", "collect", "clear", "block"])
def test_an_unreferable_sender_is_kept_while_connected(way: str) -> None:
    """E6: a sender that cannot be referenced weakly is kept alive while a receiver is connected to it, and no
    longer."""
    gone: list[str] = []
    signal = Signal()
    receivers: list[Callable[..., Any]] = [lambda sender: None]
    sender = Slotted(gone)

    if way == "block":
        with signal.connected_to(receivers[0], sender):
            signal.send(sender)
            del sender
            gc.collect()
            assert gone == []
    else:
        signal.connect(receivers[0], sender)
        signal.send(sender)
        del sender
        gc.collect()
        assert gone == []

        match way:
            case "disconnect":
                found = [o for o in gc.get_objects() if type(o) is Slotted and o.gone is gone]
                signal.disconnect(receivers[0], found.pop())
            case "disconnect all":
                signal.disconnect(receivers[0])
            case "clear":
                signal.receivers.clear()
            case "collect":
                receivers.clear()

    gc.collect()
    assert gone == ["gone"]
    assert not signal.receivers


def test_the_address_of_an_unreferable_sender_is_not_reused() -> None:
    """E6: while a receiver is connected to such a sender, no other object can get its address."""
    signal, log = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        log.append(sender)

    signal.connect(receiver, object())

    for _ in range(200):
        signal.send(object())
        signal.send([])

    assert log == []


def test_senders_that_match_by_value_are_not_kept() -> None:
    """E6: a connection to a sender that matches by value does not keep the object alive, not even one of a subclass of
    str."""

    class Text(str):
        __slots__ = ("__weakref__",)

    signal = Signal()

    def receiver(sender: Any) -> None: ...

    text = Text("some text")
    ref = weakref.ref(text)
    signal.connect(receiver, text)
    del text
    gc.collect()

    assert ref() is None
    assert signal.has_receivers_for("some text")


def test_a_receiver_gets_the_sender_as_it_was_sent() -> None:
    """E6: matching by value does not replace the sender: receivers get the very object that was sent."""
    signal, got = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        got.append(sender)

    signal.connect(receiver, 1)

    for sender in (True, Colour.RED, 1):
        signal.send(sender)

    assert [type(sender) for sender in got] == [bool, Colour, int]


def senders() -> Iterator[Any]:
    yield from ("x", 1, b"x", None, App, App(), [], 1.5)


def test_many_kinds_of_senders_at_once() -> None:
    """E6: receivers of senders of many kinds on one signal are each called for their own sender, and a receiver for any
    sender is called for all."""
    signal, log = Signal(), list[Any]()
    kinds = list(senders())

    def connect(sender: Any) -> None:
        signal.connect(lambda _: log.append(sender), sender, weak=False)

    for sender in kinds:
        connect(sender)

    for _ in range(2):
        for sender in kinds:
            signal.send(sender)

    assert len(log) == 2 * len(kinds)
    assert all(got is sent for got, sent in zip(log, kinds * 2, strict=True))
    signal.connect(lambda _: log.append(ANY), weak=False, priority=1)
    log.clear()

    for sender in kinds:
        signal.send(sender)

    assert log[0::2] == [ANY] * len(kinds)
    assert all(got is sent for got, sent in zip(log[1::2], kinds, strict=True))
