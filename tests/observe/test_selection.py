"""watch, connections, record, fake and isolate accept signals, namespaces, lists of these, or nothing for all
signals."""

from __future__ import annotations

import copy
import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import blinker
import pytest

from aldis import InvalidOptionError, Namespace, Signal
from aldis._core.registry import all_signals
from aldis.observe import SendRecord, connections, watch
from aldis.testing import fake, isolate, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

signals = Namespace()
first, second = signals.signal("first"), signals.signal("second")
third = Signal()


def receiver(sender: Any, **payload: Any) -> None: ...


class Connected:
    """The function under test, and three signals: tells which of them the function uses."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def of(self, *wanted: Any) -> list[Any]:
        """Return which of the three signals the function uses, by its behavior."""
        found: list[Any] = getattr(self, self.function.__name__)(*wanted)
        return found

    def watch(self, *wanted: Any) -> list[Any]:
        sent: list[SendRecord] = []

        with watch(sent.append, *wanted):
            send_all()

        return [each.signal for each in sent if is_ours(each.signal)]

    def connections(self, *wanted: Any) -> list[Any]:
        with connected() as names:
            return [names[each.sender] for each in connections(*wanted) if each.sender in names]

    def record(self, *wanted: Any) -> list[Any]:
        with record(*wanted) as sent:
            send_all()

        return [each.signal for each in sent if is_ours(each.signal)]

    def fake(self, *wanted: Any) -> list[Any]:
        with connected(), fake(*wanted) as sent:
            send_all()

        return [each.signal for each in sent if each.stopped and is_ours(each.signal)]

    def isolate(self, *wanted: Any) -> list[Any]:
        with isolate(*wanted):
            for signal in (first, second, third):
                signal.connect(receiver)

        left = [signal for signal in (first, second, third) if not signal.receivers]

        for signal in (first, second, third):
            signal.disconnect(receiver)

        return left


def is_ours(signal: Any) -> bool:
    """Return whether the signal is one of the three, and not a signal of another test, whose threads may still send."""
    return any(signal is each for each in (first, second, third))


def send_all() -> None:
    for signal in (first, second, third):
        signal.send("ada")


@contextmanager
def connected() -> Iterator[dict[str, Any]]:
    """Connect the receiver to each signal, for a sender that names the signal."""
    with (
        first.connected_to(receiver),
        second.connected_to(receiver),
        third.connected_to(receiver),
        first.connected_to(receiver, "1st"),
        second.connected_to(receiver, "2nd"),
        third.connected_to(receiver, "3rd"),
    ):
        yield {"'1st'": first, "'2nd'": second, "'3rd'": third}


FUNCTIONS = [watch, connections, record, fake, isolate]

WANTED: dict[str, tuple[tuple[Any, ...], list[Any]]] = {
    "a signal": ((first,), [first]),
    "signals": ((first, third), [first, third]),
    "a namespace": ((signals,), [first, second]),
    "a dict": (({"any": third, "name": first},), [third, first]),
    "a list": (([first, third],), [first, third]),
    "a tuple": (((first,), third), [first, third]),
    "a set": (({first}, frozenset({third})), [first, third]),
    "groups of groups": (([signals, (third,)], {"all": signals}), [first, second, third]),
    "the same twice": ((first, [first], signals), [first, second]),
    "nothing": ((), [first, second, third]),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("what", WANTED)
def test_all_accept_the_same(function: Any, what: str) -> None:
    """Each function accepts signals, namespaces and groups of these, each signal once; without arguments, all
    signals."""
    wanted, expected = WANTED[what]
    found = Connected(function).of(*wanted)
    assert len(found) == len(expected)
    assert all(any(each is signal for signal in expected) for each in found)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("wrong", [None, "first", 7, receiver, Signal, Namespace, iter([first]), [first, "first"]])
def test_all_refuse_the_same(function: Any, wrong: Any) -> None:
    """Each function refuses any other argument with the same message, which says what to pass."""
    message = (
        rf"^{function.__name__}\(\) takes signals.*, namespaces, and lists of these, not .*nothing for all signals"
    )

    with pytest.raises(InvalidOptionError, match=message):
        Connected(function).of(wrong)


@pytest.mark.parametrize("function", [watch, record, fake])
def test_an_empty_namespace_is_refused_where_signals_would_be_missed(function: Any) -> None:
    """watch, record and fake refuse an empty namespace, because they would miss its later signals without any
    notice."""
    with pytest.raises(InvalidOptionError, match=rf"^{function.__name__}\(\) found no signals"):
        Connected(function).of(Namespace(), [])


@pytest.mark.parametrize("function", [connections, isolate])
def test_an_empty_namespace_is_accepted_where_nothing_is_missed(function: Any) -> None:
    """connections and isolate accept an empty namespace, and do nothing for it."""
    assert Connected(function).of(Namespace(), []) == []


def test_all_signals_are_the_living_ones_in_the_order_of_creation() -> None:
    """all_signals() keeps no signal alive, and lists named signals and signals of subclasses."""

    class Lamp(Signal[Any, ..., Any]):
        pass

    made: list[Any] = [Signal(), Namespace().signal("lamp"), Lamp()]
    assert list(map(id, all_signals()[-3:])) == list(map(id, made))

    dead = [weakref.ref(signal) for signal in made]
    made.clear()
    gc.collect()
    assert [ref() for ref in dead] == [None, None, None]
    assert not any(isinstance(signal, Lamp) for signal in all_signals())


def test_a_copy_is_one_of_all_signals() -> None:
    """A copy of a signal is listed beside the signal, under its own connections."""
    signal = Namespace().signal("lamp")
    twin = copy.copy(signal)
    twin.connect(receiver)

    assert [each for each in all_signals() if each is signal or each is twin] == [signal, twin]
    assert connections([signal]) == []
    assert len(connections(twin)) == 1


def test_signals_that_are_made_later() -> None:
    """A watch of all signals includes signals that are made later; a recording and a fake do not; isolate clears
    them."""
    sent: list[SendRecord] = []

    with isolate(), watch(sent.append), record() as recorded, fake() as faked:
        later = Signal()
        later.connect(receiver)
        later.send("ada")

    assert [each.signal for each in sent if each.signal is later] == [later]
    assert [each for each in (*recorded, *faked) if each.signal is later] == []
    assert not later.receivers


def test_a_recording_of_all_does_not_record_itself() -> None:
    """If receiver_connected is recorded too, the recording leaves out the placeholders that record() connects."""
    signal = Signal()
    told = signal.receiver_connected

    with record() as sent:
        signal.connect(receiver)

    assert [each.payload["receiver"] for each in sent.of(told)] == [receiver]
    signal.disconnect(receiver)


@pytest.mark.parametrize("function", [watch, isolate])
@pytest.mark.parametrize("wanted", [blinker.Signal(), blinker.NamedSignal("first"), [blinker.Signal()]])
def test_signals_of_blinker_are_refused(function: Any, wanted: Any) -> None:
    """watch and isolate accept signals of Aldis only, and say so."""
    with pytest.raises(InvalidOptionError, match=r"takes signals of Aldis, .*, not a signal of Blinker"):
        Connected(function).of(wanted)


@pytest.mark.parametrize("function", [connections, record, fake])
def test_signals_of_blinker_are_accepted(function: Any) -> None:
    """connections, record and fake accept signals of Blinker, also in Blinker's namespaces and beside signals of
    Aldis."""
    theirs = blinker.Namespace()
    theirs.signal("theirs")
    assert Connected(function).of(theirs, [first]) == [first]
