"""E7: context managers remove exactly what they added."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, sender: Any, **payload: Any) -> None:
        self.heard.append(sender)


def make() -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


def connected(signal: Signal[Any, ..., Any], receiver: Any) -> list[str]:
    """Return for which of these senders the receiver is called."""
    senders = {"ANY": ANY, "x": "x", "y": "y"}
    return [name for name, sender in senders.items() if receiver in list(signal.receivers_for(sender))]


EVERYWHERE = ["ANY", "x", "y"]


def test_a_block_connects_and_disconnects() -> None:
    """E7: connected_to connects the receiver while its block runs."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        assert connected(signal, receiver) == EVERYWHERE

    assert connected(signal, receiver) == []
    assert not signal.receivers


def test_a_block_for_one_sender() -> None:
    """E7: with a sender, connected_to connects the receiver to that sender only."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver, sender="x"):
        assert connected(signal, receiver) == ["x"]

    assert connected(signal, receiver) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_fails_is_undone(failure: type[BaseException]) -> None:
    """E7: an exception ends the block and goes on, and the connection that the block added is removed."""
    signal, receiver = Signal(), make()

    with pytest.raises(failure), signal.connected_to(receiver):
        raise failure

    assert not signal.receivers


@pytest.mark.parametrize("before", [ANY, "x", "y"])
@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("during", [ANY, "x"])
def test_an_earlier_connection_stays(before: Any, weak: bool, during: Any) -> None:
    """E7: a connection from before the block is still there after it, whichever senders the two are for."""
    signal, receiver = Signal(), make()
    signal.connect(receiver, before, weak)
    expected = connected(signal, receiver)

    with signal.connected_to(receiver, during):
        pass

    assert connected(signal, receiver) == expected


def test_other_receivers_stay() -> None:
    """E7: the end of a block does not touch other receivers, not even other methods of the same object or class."""
    signal, one, two = Signal(), Listener(), Listener()
    signal.connect(one.hear)

    with signal.connected_to(two.hear):
        signal.send("x")

    signal.send("y")

    assert (one.heard, two.heard) == (["x", "y"], ["x"])


def test_a_connection_made_inside_stays() -> None:
    """E7: a connection that the caller makes inside the block stays after it."""
    signal, receiver, other = Signal(), make(), make()

    with signal.connected_to(receiver):
        signal.connect(receiver)
        signal.connect(other)

    assert connected(signal, receiver) == EVERYWHERE
    assert connected(signal, other) == EVERYWHERE


def test_a_receiver_disconnected_inside_stays_disconnected() -> None:
    """E7: after a disconnect inside the block, the end of the block has nothing to remove."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        signal.disconnect(receiver)
        assert not signal.receivers

    assert not signal.receivers


def test_a_receiver_disconnected_and_connected_inside_stays() -> None:
    """E7: a receiver that the caller disconnects and connects again inside the block stays connected after it."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        signal.disconnect(receiver)
        signal.connect(receiver)

    assert connected(signal, receiver) == EVERYWHERE


def test_a_block_in_a_block() -> None:
    """E7: of two nested blocks for one receiver, the end of the inner block leaves the connection of the outer one."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        with signal.connected_to(receiver):
            pass

        assert connected(signal, receiver) == EVERYWHERE

    assert not signal.receivers


def test_blocks_that_overlap() -> None:
    """E7: blocks for one receiver may end in any order; the receiver is connected until the last of them ends."""
    signal, receiver = Signal(), make()
    first, second = signal.connected_to(receiver), signal.connected_to(receiver)

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert connected(signal, receiver) == EVERYWHERE

    second.__exit__(None, None, None)
    assert not signal.receivers


def test_blocks_for_different_senders() -> None:
    """E7: blocks for one receiver and different senders end independently."""
    signal, receiver = Signal(), make()

    with ExitStack() as stack:
        stack.enter_context(signal.connected_to(receiver, "x"))

        with signal.connected_to(receiver, "y"):
            with signal.connected_to(receiver):
                assert connected(signal, receiver) == EVERYWHERE

            assert connected(signal, receiver) == ["x", "y"]

        assert connected(signal, receiver) == ["x"]

    assert not signal.receivers


def test_earlier_options_are_restored() -> None:
    """E7: a block does not change the priority or the order of an earlier connection of its receiver."""
    signal, log = Signal(), list[str]()

    def first(sender: Any) -> None:
        log.append("first")

    def second(sender: Any) -> None:
        log.append("second")

    signal.connect(second)
    signal.connect(first, priority=1)

    with signal.connected_to(first), signal.connected_to(second):
        pass

    signal.send()

    assert log == ["first", "second"]


def test_a_receiver_that_only_the_block_holds_is_freed() -> None:
    """E7: a block keeps nothing after its end: its receiver and its sender are freed."""
    signal, listener = Signal(), Listener()
    heard = listener.heard
    hold = signal.connected_to(listener.hear, heard)

    with hold:
        del listener
        gc.collect()
        signal.send(heard)
        assert heard == [heard]
        heard.clear()

    del hold
    gc.collect()
    signal.send(heard)

    assert heard == []
    assert not signal.receivers


def test_a_sender_that_dies_inside() -> None:
    """E7: if the sender dies inside the block, the end of the block finds no connection and removes nothing."""
    signal, receiver = Signal(), make()

    class App:
        pass

    app = App()
    signal.connect(receiver, "x")
    block = signal.connected_to(receiver, app)

    with block:
        # The block's own frame refers to the sender, so the sender dies with the block at the earliest.
        del app
        gc.collect()

    assert connected(signal, receiver) == ["x"]


def test_a_block_that_cannot_begin_adds_nothing() -> None:
    """E7: when a receiver of receiver_connected raises, the block does not begin, and nothing stays connected."""
    signal, receiver = Signal(), make()

    @signal.receiver_connected.connect
    def refuse(sender: Any, /, **change: Any) -> None:
        raise PermissionError

    with pytest.raises(PermissionError), signal.connected_to(receiver):
        raise AssertionError("entered")

    assert not signal.receivers


@pytest.mark.parametrize("before", ["weak", "strong", "block"])
def test_a_block_that_cannot_begin_leaves_earlier_connections(before: str) -> None:
    """E7: when the block is refused in this way, an earlier connection stays."""
    signal, receiver = Signal(), make()

    with ExitStack() as stack:
        if before == "block":
            stack.enter_context(signal.connected_to(receiver))
        else:
            signal.connect(receiver, weak=before == "weak")

        @signal.receiver_connected.connect
        def refuse(sender: Any, /, **change: Any) -> None:
            raise PermissionError

        with pytest.raises(PermissionError), signal.connected_to(receiver):
            raise AssertionError("entered")

        assert connected(signal, receiver) == EVERYWHERE

    assert bool(connected(signal, receiver)) is (before != "block")


def test_a_failed_connect_is_undone() -> None:
    """E7: a connect that a receiver of receiver_connected refuses is undone, and the earlier options are restored."""
    signal, log = Signal(), list[str]()

    def first(sender: Any) -> None:
        log.append("first")

    def second(sender: Any) -> None:
        log.append("second")

    signal.connect(first)
    signal.connect(second)

    def refuse(sender: Any, /, **change: Any) -> None:
        raise PermissionError

    with signal.receiver_connected.connected_to(refuse), pytest.raises(PermissionError):
        signal.connect(second, priority=5, once=True)

    with signal.receiver_connected.connected_to(refuse), pytest.raises(PermissionError):
        signal.connect(first, "x", weak=False)

    signal.send("x")
    signal.send("x")

    assert log == ["first", "second"] * 2


@pytest.mark.parametrize("sender", [ANY, "x"])
def test_a_failed_connect_restores_nothing_that_was_disconnected(sender: Any) -> None:
    """E7: a connection that is removed before the refused connect is undone stays removed."""
    signal, receiver = Signal(), make()
    signal.connect(receiver, sender)

    def refuse(sender: Any, /, **change: Any) -> None:
        signal.disconnect(receiver)
        raise PermissionError

    def first(sender: Any) -> None:
        with signal.receiver_connected.connected_to(refuse), pytest.raises(PermissionError):
            signal.connect(receiver, sender if filtered else ANY, priority=-1)

    filtered = sender is not ANY
    signal.connect(first, priority=1)

    assert [called for called, _ in signal.send("x")] == [first]
    assert connected(signal, receiver) == []
    assert [called for called, _ in signal.send("x")] == [first]


def test_a_block_is_reported() -> None:
    """E7: receiver_connected and receiver_disconnected report the beginning and the end of a block."""
    signal, receiver, log = Signal(), make(), list[Any]()

    @signal.receiver_connected.connect
    def on_connect(sender: Any, /, **change: Any) -> None:
        log.append(("connected", sender, change["receiver"], change["sender"]))

    @signal.receiver_disconnected.connect
    def on_disconnect(sender: Any, /, **change: Any) -> None:
        log.append(("disconnected", sender, change["receiver"], change["sender"]))

    with signal.connected_to(receiver, "x"):
        pass

    assert log == [("connected", signal, receiver, "x"), ("disconnected", signal, receiver, "x")]


@pytest.mark.parametrize("before", [ANY, "x", "y"])
def test_blocks_of_subclasses_that_override_connect(before: Any) -> None:
    """E7: an earlier connection stays after a block also if a subclass overrides connect."""

    class Counting(Signal):
        connects = 0

        def connect(self, *args: Any, **options: Any) -> Any:
            self.connects += 1
            return super().connect(*args, **options)

    signal, receiver = Counting(), make()
    signal.connect(receiver, before)
    expected = connected(signal, receiver)

    with signal.connected_to(receiver, "x"):
        assert signal.connects == 2

    assert connected(signal, receiver) == expected


def test_a_block_removes_only_its_own_connection() -> None:
    """E7: if a subclass's connect makes further connections, the end of a block does not remove them."""
    companion = make()

    class Accompanied(Signal):
        def connect(self, receiver: Any = None, *args: Any, **options: Any) -> Any:
            super().connect(companion)
            return super().connect(receiver, *args, **options)

    signal, receiver = Accompanied(), make()

    with signal.connected_to(receiver):
        assert [*signal.receivers_for("x")] == [companion, receiver]

    assert [*signal.receivers_for("x")] == [companion]


def test_muted_restores_the_earlier_state() -> None:
    """E7: after a muted block, the signal is as muted as it was before."""
    signal = Signal()

    with signal.muted():
        pass

    assert not signal.is_muted
    signal.is_muted = True

    with signal.muted():
        pass

    assert signal.is_muted
    signal.is_muted = False

    with pytest.raises(ValueError, match="inside"), signal.muted():
        raise ValueError("inside")

    assert not signal.is_muted


@pytest.mark.parametrize("is_connected_first", [True, False])
def test_a_once_connection_does_not_end_the_block(is_connected_first: bool) -> None:
    """E7: ``once`` uses up its own connection only; the block keeps its receiver connected until it ends."""
    signal, log = Signal(), list[str]()

    def receiver(sender: str) -> None:
        log.append(sender)

    if is_connected_first:
        signal.connect(receiver, once=True)

    with signal.connected_to(receiver):
        if not is_connected_first:
            signal.connect(receiver, once=True)

        signal.send("first")
        signal.send("second")

    signal.send("third")

    assert log == ["first", "second"]
    assert not signal.receivers
