"""isolate() restores the connections of signals."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

import aldis
from aldis import ANY, LostReceiverWarning
from aldis.observe import connections
from aldis.testing import SignalTester, fake, isolate, record


@pytest.fixture
def library() -> Any:
    """Return Aldis: isolate refuses signals of Blinker."""
    return aldis


class Sender:
    """A sender that can be referenced weakly."""


class Slotted:
    """A sender, or a receiver, that cannot be referenced weakly."""

    __slots__ = ()

    def __call__(self, sender: Any, **payload: Any) -> str:
        return "slotted"


class Listener:
    """An object with a bound method to connect."""

    def hear(self, sender: Any, **payload: Any) -> None: ...


def one(sender: Any, **payload: Any) -> str:
    return "one"


def two(sender: Any, **payload: Any) -> str:
    return "two"


def three(sender: Any, **payload: Any) -> str:
    return "three"


def state(signal: Any) -> Any:
    """Return everything that a test can see of a signal's connections, in order where there is an order."""
    records = connections(signal)
    order = [record.receiver for record in records]
    return order, sorted(map(repr, records))


def receivers(signal: Any, sender: Any) -> set[Any]:
    return set(signal.receivers_for(sender))


def test_receivers_connected_inside_are_disconnected(saved: Any, thing: object) -> None:
    """Receivers that are connected in the block are disconnected after it."""
    with isolate(saved):
        saved.connect(one)
        saved.connect(two, thing, weak=False)
        saved.connect(three, "ada")

    assert not saved.receivers
    assert not receivers(saved, thing)
    assert not receivers(saved, "ada")


def test_receivers_disconnected_inside_are_restored(saved: Any, thing: object) -> None:
    """Receivers that are disconnected in the block are connected after it: with their senders, weak or strong, and
    in their order."""
    saved.connect(one, "ada")
    saved.connect(two, thing, weak=False)
    saved.connect(three)
    saved.connect(one, thing)
    before = state(saved)

    with isolate(saved):
        saved.disconnect(two)
        saved.disconnect(one, "ada")
        assert state(saved) != before

    assert state(saved) == before
    assert receivers(saved, thing) == {one, two, three}
    assert receivers(saved, "ada") == {one, three}

    with isolate(saved):
        saved.receivers.clear()

    assert state(saved) == before


def test_a_block_that_raises_is_undone(saved: Any) -> None:
    """A block that raises is undone, and the exception goes on."""
    saved.connect(one)

    with pytest.raises(KeyError), isolate(saved):
        saved.disconnect(one)
        raise KeyError

    assert receivers(saved, "ada") == {one}


def test_options_are_restored() -> None:
    """The priority, once, strength, delivery and order of a connection that was changed in the block are restored."""
    signal = aldis.Signal()
    signal.connect(one, priority=1)
    signal.connect(two)
    signal.connect(three, once=True)
    before = state(signal)

    with isolate(signal):
        signal.connect(one, priority=-1, weak=False)
        signal.connect(two, once=True)
        signal.disconnect(three)
        signal.connect(three, priority=5)
        assert [record.receiver.rpartition(".")[2] for record in connections(signal)] == ["three", "two", "one"]

    assert state(signal) == before
    assert [result for _, result in signal.send()] == ["one", "two", "three"]
    assert [result for _, result in signal.send()] == ["one", "two"]


def test_the_original_order_is_restored() -> None:
    """Receivers of the same priority keep the order of connecting, and later receivers come after them."""
    signal = aldis.Signal()
    signal.connect(one)
    signal.connect(two)

    with isolate(signal):
        signal.disconnect(one)
        signal.connect(three)
        signal.connect(one)

    signal.connect(three)
    assert [result for _, result in signal.send()] == ["one", "two", "three"]


def test_a_used_up_once_receiver_is_restored() -> None:
    """A once receiver that was called in the block can be called once more after it."""
    signal = aldis.Signal()
    signal.connect(one, once=True)

    with isolate(signal):
        assert signal.send() == [(one, "one")]
        assert signal.send() == []

    assert signal.send() == [(one, "one")]
    assert signal.send() == []


def test_a_receiver_reconnected_inside_is_one_connection(saved: Any) -> None:
    """A receiver that was disconnected and connected again inside is connected as before, and only once."""
    saved.connect(one)
    before = state(saved)

    with isolate(saved):
        saved.disconnect(one)
        saved.connect(one, weak=False)

    assert state(saved) == before
    assert len(saved.send()) == 1


def test_weak_receivers_may_die_inside(saved: Any) -> None:
    """The block keeps no weak receiver alive; a receiver that has died stays away, and leaves nothing behind."""
    listener, alive = Listener(), Listener()
    function = lambda sender, **payload: None  # noqa: E731
    saved.connect(listener.hear)
    saved.connect(alive.hear, "ada")
    saved.connect(function, "ada")
    dead: list[Any] = [weakref.ref(listener), weakref.ref(function)]

    with isolate(saved):
        saved.disconnect(alive.hear)
        del listener, function
        assert [ref() for ref in dead] == [None, None]

    assert receivers(saved, "ada") == {alive.hear}
    saved.disconnect(alive.hear)
    assert not saved.receivers


def test_weak_receivers_may_die_after_they_were_disconnected(saved: Any) -> None:
    """A weak receiver that is disconnected inside and then dies is not restored."""
    listener = Listener()
    saved.connect(listener.hear)
    dead = weakref.ref(listener)

    with isolate(saved):
        saved.disconnect(listener.hear)
        del listener
        assert dead() is None

    assert not saved.receivers


def test_weak_receivers_may_die_after_the_block(saved: Any) -> None:
    """A weak receiver that was restored is still held weakly."""
    listener = Listener()
    saved.connect(listener.hear)

    with isolate(saved):
        saved.connect(listener.hear, weak=False)
        saved.disconnect(listener.hear)

    dead = weakref.ref(listener)
    del listener
    gc.collect()
    assert dead() is None
    assert not saved.receivers


def test_strong_receivers_survive(saved: Any) -> None:
    """A strong receiver that nothing else refers to survives its disconnect inside, except one that was connected
    inside."""
    saved.connect(lambda sender, **payload: "strong_ref", weak=False)
    inner = Listener()
    dead = weakref.ref(inner)

    with isolate(saved):
        saved.disconnect(*saved.receivers_for("ada"))
        gc.collect()
        saved.connect(inner.hear, weak=False)
        del inner

    gc.collect()
    assert [result for _, result in saved.send()] == ["strong_ref"]
    assert dead() is None


def test_senders_may_die_inside(saved: Any) -> None:
    """The block keeps no sender alive; connections to a dead sender are not restored, even those of strong
    receivers."""
    sender, other = Sender(), Sender()
    saved.connect(one, sender)
    saved.connect(lambda sender, **payload: None, sender, weak=False)
    saved.connect(two, other)
    dead = weakref.ref(sender)

    with isolate(saved):
        saved.disconnect(two)
        del sender
        assert dead() is None

    assert receivers(saved, other) == {two}
    assert [record for record in connections(saved) if "two" not in record.receiver] == []


def test_a_sender_that_dies_after_its_receivers_were_disconnected() -> None:
    """The block does not keep a sender alive whose receivers were disconnected inside."""
    signal, sender = aldis.Signal(), Sender()
    signal.connect(one, sender)

    with isolate(signal):
        signal.disconnect(one)
        del sender

    assert not signal.receivers
    assert signal._registry.filters == {}


def test_a_new_sender_at_the_address_of_a_dead_one_has_no_receivers() -> None:
    """A new object with the id of a sender that died inside gets none of its receivers."""
    signal, sender = aldis.Signal(), Sender()
    signal.connect(one, sender)
    place = id(sender)

    with isolate(signal):
        del sender
        others = [Sender() for _ in range(1000)]
        same = next((other for other in others if id(other) == place), others[0])
        signal.connect(two, same)

    assert receivers(signal, same) == set()
    assert not signal.receivers


@pytest.mark.parametrize("sender", [None, (), Slotted(), 0, "", b"ada", 7, "ada", one])
def test_senders_of_all_kinds_are_restored(sender: Any) -> None:
    """Connections to senders that match by value, or cannot be referenced weakly, are restored."""
    signal = aldis.Signal()
    signal.connect(one, sender)

    with isolate(signal):
        signal.disconnect(one)
        assert signal.send(sender) == []

    assert signal.send(sender) == [(one, "one")]
    assert signal.send(Sender()) == []


def test_unreferable_receivers_are_restored(saved: Any) -> None:
    """A strong receiver that cannot be referenced weakly is restored."""
    receiver = Slotted()
    saved.connect(receiver, weak=False)

    with isolate(saved):
        saved.disconnect(receiver)

    assert saved.send() == [(receiver, "slotted")]


def test_a_sender_with_another_receiver_inside() -> None:
    """A connection is restored beside a connection of the same sender that was made inside and is removed."""
    signal, sender = aldis.Signal(), Sender()
    signal.connect(one, sender)
    signal.connect(three, sender)

    with isolate(signal):
        signal.disconnect(one)
        signal.disconnect(three)
        signal.connect(two, sender)

    assert [result for _, result in signal.send(sender)] == ["one", "three"]


# With blocks of connected_to().


def test_outer_blocks_end_as_usual() -> None:
    """A connected_to() block around isolate() removes its receiver at its end, even if the receiver was disconnected
    inside."""
    signal = aldis.Signal()

    with signal.connected_to(one, "ada"):
        with isolate(signal):
            signal.receivers.clear()
            assert not signal.receivers

        assert signal.send("ada") == [(one, "one")]

    assert not signal.receivers


def test_blocks_that_end_inside_stay_ended() -> None:
    """A connected_to() block that began before and ended inside leaves no connection, unless connect() was called
    too."""
    signal = aldis.Signal()
    block, other = signal.connected_to(one), signal.connected_to(two)
    signal.connect(two)
    block.__enter__()
    other.__enter__()

    with isolate(signal):
        block.__exit__(None, None, None)
        other.__exit__(None, None, None)
        signal.disconnect(two)

    assert signal.send() == [(two, "two")]
    assert [record.is_weak for record in connections(signal)] == [True]


def test_blocks_that_began_inside_lose_their_receiver() -> None:
    """A connected_to() block that began inside and is still open has lost its receiver, and can end without an
    error."""
    signal = aldis.Signal()
    block = signal.connected_to(one)

    with isolate(signal):
        block.__enter__()

    assert not signal.receivers
    block.__exit__(None, None, None)
    assert not signal.receivers


def test_connections_of_ended_blocks_are_not_restored() -> None:
    """A receiver that a block connected before, and connect() inside, is gone when both of them have ended."""
    signal = aldis.Signal()
    block = signal.connected_to(one)
    block.__enter__()

    with isolate(signal):
        signal.connect(one, weak=False)
        block.__exit__(None, None, None)
        assert signal.send() == [(one, "one")]

    assert not signal.receivers


def test_connections_of_open_blocks_stay_strong() -> None:
    """If an open block and, inside, connect() connected a receiver, the block's strong connection is left."""
    signal = aldis.Signal()

    with signal.connected_to(lambda sender, **payload: "held"):
        with isolate(signal):
            signal.connect(next(signal.receivers_for(ANY)), priority=3)

        gc.collect()
        assert [result for _, result in signal.send()] == ["held"]
        assert connections(signal)[0].priority == 0

    assert not signal.receivers


# Namespaces.


def test_a_namespace_is_restored_as_a_whole(namespace: Any, saved: Any, deleted: Any) -> None:
    """All signals of a namespace are restored, even those that were removed from it inside."""
    saved.connect(one)
    deleted.connect(two)

    with isolate(namespace):
        saved.disconnect(one)
        deleted.connect(one)
        del namespace["saved"]

    assert receivers(saved, ANY) == {one}
    assert receivers(deleted, ANY) == {two}


def test_new_signals_lose_their_receivers(namespace: Any) -> None:
    """Signals that were made inside stay in their namespace, without receivers."""
    with isolate(namespace):
        new = namespace.signal("new")
        new.connect(one)
        new.connect(two, "ada", weak=False)

    assert namespace["new"] is new
    assert not new.receivers
    assert not receivers(new, "ada")


def test_an_empty_namespace_can_be_isolated() -> None:
    """Isolating a namespace that has no signals yet is allowed."""
    signals = aldis.Namespace()

    with isolate(signals):
        signals.signal("saved").connect(one)

    assert not signals["saved"].receivers


def test_several_arguments_are_restored() -> None:
    """Arguments and lists may mix signals and namespaces, and a signal that is passed twice is restored once."""
    ours, more = aldis.Signal(), aldis.Namespace()
    plain = more.signal("plain")
    ours.connect(one)
    plain.connect(one)

    with isolate(ours, [more, ours]):
        ours.disconnect(one)
        plain.disconnect(one)

    assert receivers(ours, ANY) == {one}
    assert receivers(plain, "ada") == {one}


# Together with other functions.


def test_it_is_a_decorator_too(saved: Any) -> None:
    """isolate() decorates functions, and each call is its own block."""

    @isolate(saved)
    def connect() -> Any:
        saved.connect(one)
        return saved.send()

    assert connect() == [(one, "one")]
    assert connect() == [(one, "one")]
    assert not saved.receivers


def test_isolation_nests(saved: Any) -> None:
    """An inner block and an outer block each restore the state in which they began."""
    with isolate(saved):
        saved.connect(one)

        with isolate(saved):
            saved.disconnect(one)
            saved.connect(two)

        assert receivers(saved, "ada") == {one}

    assert not saved.receivers


def test_recordings_and_isolation_are_independent(saved: Any) -> None:
    """A recording around the block goes on after it, and a recording that ended inside does not come back."""
    early = SignalTester()
    early.record(saved)

    with record(saved) as sent:
        with isolate(saved):
            early.close()
            saved.send(1)

        saved.send(2)
        assert saved.receivers

    assert [each.sender for each in sent] == [1, 2]
    assert not saved.receivers


def test_a_fake_may_begin_inside(saved: Any) -> None:
    """A fake that is still open when isolation ends can end afterwards."""
    saved.connect(one)
    block = fake(saved)

    with isolate(saved):
        block.__enter__()

    assert saved.send() == []
    block.__exit__(None, None, None)
    assert saved.send() == [(one, "one")]


def test_lost_receivers_are_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """In development mode, a restored receiver that is lost later is reported with the place of its first connect."""
    monkeypatch.setattr("aldis._core.devmode.enabled", True)
    signal = aldis.Signal()
    function = lambda sender, **payload: None  # noqa: E731
    signal.connect(function)

    with isolate(signal):
        signal.connect(function)

    kept = [function]
    del function

    with pytest.warns(LostReceiverWarning, match="garbage collected"):
        kept.clear()


def test_destructors_run_without_the_lock(uncaught_destructor: Any) -> None:
    """Destructors that run at the end of the block may connect and send, because no lock of the tables is held then."""
    signal, log = aldis.Signal(), []

    class Last:
        def __call__(self, sender: Any, **payload: Any) -> None: ...

        def __del__(self) -> None:
            thread = threading.Thread(target=signal.connect, args=(one, "thread"))
            thread.start()
            thread.join(120)
            log.append(thread.is_alive())

    with isolate(signal):
        signal.connect(Last(), weak=False)

    gc.collect()
    assert log == [False]
    assert receivers(signal, "thread") == {one}


@pytest.fixture
def uncaught_destructor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fail the test if a destructor raised."""
    caught: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: caught.append(repr(args.exc_value)))
    yield caught
    assert caught == []


def test_sends_in_other_threads_see_all_or_nothing(hurry: None) -> None:
    """While connections are restored, a send in another thread calls either the receivers from before, or those of
    the block."""
    signal, seen, stop = aldis.Signal(), set(), threading.Event()
    signal.connect(one)
    signal.connect(two)

    def send() -> None:
        while not stop.is_set():
            seen.add(tuple(result for _, result in signal.send()))

    thread = threading.Thread(target=send)
    thread.start()

    for _ in range(300):
        with isolate(signal):
            signal.disconnect(one)

    stop.set()
    thread.join()
    assert seen <= {("one", "two"), ("two",)}
    assert [result for _, result in signal.send()] == ["one", "two"]


@pytest.fixture
def hurry() -> Any:
    """Let the interpreter switch threads as often as it can."""
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
