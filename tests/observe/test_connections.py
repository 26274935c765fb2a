"""aldis.observe.connections() lists receivers of every kind, in the order of calling, without personal data."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum, StrEnum
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from aldis import Namespace, Signal
from aldis.delivery import threads
from aldis.observe import ConnectionRecord, connections, describe_delivery, describe_sender

SECRET = "ada@example.org"


class Desk:
    """A sender and receiver, with a method that is another receiver."""

    def __init__(self, owner: str = SECRET) -> None:
        self.owner = owner

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def hear(self, sender: Any, **payload: Any) -> None: ...

    @classmethod
    def hear_all(cls, sender: Any, **payload: Any) -> None: ...

    @staticmethod
    def hear_some(sender: Any, **payload: Any) -> None: ...

    def __repr__(self) -> str:
        return f"Desk of {self.owner}"


class AsyncDesk:
    async def __call__(self, sender: Any, **payload: Any) -> None: ...


class Slotted:
    """An object that cannot be referenced weakly."""

    __slots__ = ()


class Colour(StrEnum):
    RED = "red"

    def __repr__(self) -> str:
        return SECRET


class Level(IntEnum):
    HIGH = 3

    def __repr__(self) -> str:
        return SECRET


class Title(bytes):
    def __repr__(self) -> str:
        return SECRET


class Proxy:
    """A proxy as werkzeug makes them: it points to another object, or to nothing."""

    def __init__(self, target: Any = None) -> None:
        self.target = target

    @property
    def __class__(self) -> Any:
        if self.target is None:
            raise RuntimeError("working outside of context")

        return type(self.target)

    @__class__.setter
    def __class__(self, kind: Any) -> None: ...


def hear(sender: Any, **payload: Any) -> None: ...


async def hear_async(sender: Any, **payload: Any) -> None: ...


desk = Desk()
async_desk = AsyncDesk()
part = partial(hear, colour="red")
short = lambda sender, **payload: None  # noqa: E731


def place(function: Any) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno}"


RECEIVERS: list[tuple[Any, str, str | None, bool]] = [
    (hear, f"{__name__}.hear", place(hear), False),
    (hear_async, f"{__name__}.hear_async", place(hear_async), True),
    (desk, f"{__name__}.Desk", place(Desk.__call__), False),
    (async_desk, f"{__name__}.AsyncDesk", place(AsyncDesk.__call__), True),
    (desk.hear, f"{__name__}.Desk.hear", place(Desk.hear), False),
    (Desk.hear_all, f"{__name__}.Desk.hear_all", place(Desk.hear_all), False),
    (Desk.hear_some, f"{__name__}.Desk.hear_some", place(Desk.hear_some), False),
    (part, f"{__name__}.hear", place(hear), False),
    (short, f"{__name__}.<lambda>", place(short), False),
    (print, "builtins.print", None, False),
]


@pytest.mark.parametrize("case", RECEIVERS)
def test_every_kind_of_receiver_is_named(case: tuple[Any, str, str | None, bool]) -> None:
    """A record has the receiver's qualified name, its place if it has one, and whether the receiver is async."""
    receiver, name, where, is_async = case
    signal = Signal()
    signal.connect(receiver)
    [record] = connections(signal)

    assert (record.receiver, record.place, record.is_async) == (name, where, is_async)


SENDERS: list[tuple[Any, str]] = [
    (Signal.ANY, "ANY"),
    (None, "None"),
    ("desk", "'desk'"),
    ("", "''"),
    ("x" * 60, repr("x" * 60)),
    ("x" * 61, repr("x" * 60) + "..."),
    (7, "7"),
    (0, "0"),
    (2**255, str(2**255)),
    (-(2**256), "an int of 257 bits"),
    (10**5000, f"an int of {(10**5000).bit_length()} bits"),
    (b"desk", "b'desk'"),
    (b"x" * 61, repr(b"x" * 60) + "..."),
    (1.5, "a builtins.float"),
    ((SECRET,), "a builtins.tuple"),
    ({SECRET: SECRET}, "a builtins.dict"),
    (desk, f"a {__name__}.Desk"),
    (Slotted(), f"a {__name__}.Slotted"),
    (desk.hear, f"{__name__}.Desk.hear"),
    (Desk, f"{__name__}.Desk"),
    (hear, f"{__name__}.hear"),
    (sys, "sys"),
    (ModuleType("made"), "made"),
]


@pytest.mark.parametrize(("sender", "words"), SENDERS, ids=[words for _, words in SENDERS])
def test_every_kind_of_sender_is_described(sender: Any, words: str) -> None:
    """A sender is shown as a value, by its name, or by its kind; the contents and the repr of an object are not
    shown."""
    signal = Signal()
    signal.connect(hear, sender)
    [record] = connections(signal)

    assert record.sender == describe_sender(sender) == words
    assert SECRET not in repr(record)


@pytest.mark.parametrize(
    ("sender", "words"),
    [
        (True, "True"),
        (Colour.RED, "'red'"),
        (Level.HIGH, "3"),
        (Title(b"sir"), "b'sir'"),
        (Proxy(), f"a {__name__}.Proxy"),
        (Proxy("text"), f"a {__name__}.Proxy"),
        (Proxy(sys), f"a {__name__}.Proxy"),
    ],
)
def test_describing_a_sender_runs_none_of_its_code(sender: Any, words: str) -> None:
    """A subclass of a built-in type is shown as the built-in value, and a proxy by its own class."""
    assert describe_sender(sender) == words


def test_a_proxy_as_receiver_is_shown_outside_its_context() -> None:
    """A proxy that points to nothing is shown by its class, and does not hide other receivers."""
    signal = Signal()

    class Bound:
        """A receiver that raises at every attribute access, as a proxy does outside its context."""

        def __getattribute__(self, name: str) -> Any:
            if is_unbound:
                raise RuntimeError("working outside of context")

            return object.__getattribute__(self, name)

        def __call__(self, sender: Any) -> None: ...

    is_unbound = False
    signal.connect(bound := Bound())
    signal.connect(hear)
    is_unbound = True

    name = f"{__name__}.{test_a_proxy_as_receiver_is_shown_outside_its_context.__name__}.<locals>.Bound"
    assert [record.receiver for record in connections(signal)] == [name, f"{__name__}.hear"]
    del bound


def test_a_module_without_a_name_is_a_module() -> None:
    """A module that has lost its name is still shown as a module."""
    module = ModuleType("made")
    del module.__name__

    assert describe_sender(module) == "a module"


def test_connections_are_in_the_order_of_calling() -> None:
    """Records are ordered by priority, then by the order of connecting, whatever their senders."""
    signal = Signal()
    signal.connect(hear, "desk")
    signal.connect(hear_async)
    signal.connect(desk, "desk", priority=5)
    signal.connect(desk.hear, priority=-1.5)

    assert [(record.receiver.rpartition(".")[2], record.sender, record.priority) for record in connections(signal)] == [
        ("Desk", "'desk'", 5),
        ("hear", "'desk'", 0),
        ("hear_async", "ANY", 0),
        ("hear", "ANY", -1.5),
    ]


def test_options_are_shown() -> None:
    """The record of a connection has all its options."""
    signal = Namespace().signal("lamp")

    with ThreadPoolExecutor(1) as pool:
        signal.connect(hear, "desk", False, priority=2, once=True, via=threads(pool))
        signal.connect(desk.hear)

    assert connections(signal) == [
        ConnectionRecord(
            signal="lamp",
            receiver=f"{__name__}.hear",
            place=place(hear),
            sender="'desk'",
            is_weak=False,
            is_async=False,
            priority=2,
            is_once=True,
            via="threads(ThreadPoolExecutor)",
            library="aldis",
        ),
        ConnectionRecord(
            "lamp", f"{__name__}.Desk.hear", place(Desk.hear), "ANY", True, False, 0, False, None, "aldis"
        ),
    ]


def test_a_block_holds_its_receiver_strongly() -> None:
    """A receiver in a connected_to block is shown as strong while the block runs."""
    signal = Signal()
    signal.connect(hear)

    with signal.connected_to(hear):
        assert [record.is_weak for record in connections(signal)] == [False]

    assert [record.is_weak for record in connections(signal)] == [True]


def test_dead_receivers_and_senders_are_not_shown(no_gc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose receiver or sender has died is not shown, even before it is removed from the tables."""
    signal = Signal()
    receiver, sender = Desk(), Desk()
    signal.connect(receiver)
    signal.connect(hear, sender)
    signal.connect(hear, "desk")
    monkeypatch.setattr(signal._registry, "_weak_self", lambda: None)
    assert len(connections(signal)) == 3

    # All connections may end between listing them and describing each of them.
    table = type(signal._registry)
    before = table.connections

    def all_die(self: Any) -> Any:
        nonlocal receiver, sender
        found = before(self)
        del receiver, sender
        signal.disconnect(hear, "desk")
        return found

    monkeypatch.setattr(table, "connections", all_die)
    assert connections(signal) == []


def test_a_dead_sender_that_was_not_removed_is_not_shown(no_gc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter whose sender has died and was not removed is not mistaken for a filter of the sender None."""
    signal, sender = Signal(), Desk()
    signal.connect(hear, sender)
    [filter] = signal._registry.filters.values()
    monkeypatch.setattr(filter, "ref", lambda: None)

    assert connections(signal) == []


def test_signals_of_a_namespace_are_listed_in_its_order() -> None:
    """For a namespace, or any mapping of names to signals, connections() lists the connections of each signal in
    turn."""
    signals = Namespace()

    for name in ("one", "two", "three"):
        signals.signal(name).connect(hear)
        signals.signal(name).connect(desk, priority=1)

    signals.signal("nobody")
    names = ["one", "one", "two", "two", "three", "three"]
    assert [record.signal for record in connections(signals)] == names
    assert connections(dict(signals)) == connections(signals)
    assert connections({}) == []


def test_a_signal_without_a_name_has_the_name_of_its_class() -> None:
    """The signal name of a signal without a name is the name of its class."""

    class Lamp(Signal[Any, ..., Any]): ...

    lamp: Signal[Any, ..., Any] = Lamp()
    lamp.connect(hear)

    assert connections(lamp)[0].signal == "Lamp"


def test_listing_connections_changes_nothing() -> None:
    """connections() keeps no reference, calls no receiver, and leaves the next send as fast as before."""
    signal = Signal()
    receiver, sender = Desk(), Desk()
    signal.connect(hear)
    signal.connect(receiver, sender)
    signal.send()
    records = connections(signal)
    count = sys.getrefcount(receiver), sys.getrefcount(sender)
    gc.collect()
    records += connections(signal)

    assert (sys.getrefcount(receiver), sys.getrefcount(sender)) == count
    assert len(records) == 4


class Silent:
    """A delivery without a repr of its own."""

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> None: ...


class Broken(Silent):
    def __repr__(self) -> str:
        raise LookupError


class Shown(Silent):
    def __repr__(self) -> str:
        return "later()"


@pytest.mark.parametrize(("kind", "words"), [(Silent, "Silent"), (Broken, "Broken"), (Shown, "later()")])
def test_a_delivery_is_described(kind: Any, words: str) -> None:
    """A delivery is shown by its repr, or by its class if it has no repr of its own or its repr fails."""
    signal, via = Signal(), kind()
    signal.connect(hear, via=via)

    assert connections(signal)[0].via == describe_delivery(via) == words
