"""E7: context managers take away exactly what they added."""

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
    """For which of these senders the receiver is called."""
    senders = {"ANY": ANY, "x": "x", "y": "y"}
    return [name for name, sender in senders.items() if receiver in list(signal.receivers_for(sender))]


EVERYWHERE = ["ANY", "x", "y"]


def test_a_block_connects_and_disconnects() -> None:
    """E7: connected_to connects for the time of its block."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        assert connected(signal, receiver) == EVERYWHERE

    assert connected(signal, receiver) == []
    assert not signal.receivers


def test_a_block_for_a_sender() -> None:
    """E7: with a sender, connected_to connects to that one."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver, sender="x"):
        assert connected(signal, receiver) == ["x"]

    assert connected(signal, receiver) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_fails_is_undone(failure: type[BaseException]) -> None:
    """E7: an exception ends the block, comes out, and what the block added is gone."""
    signal, receiver = Signal(), make()

    with pytest.raises(failure), signal.connected_to(receiver):
        raise failure

    assert not signal.receivers


@pytest.mark.parametrize("before", [ANY, "x", "y"])
@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize("during", [ANY, "x"])
def test_what_was_connected_before_stays(before: Any, weak: bool, during: Any) -> None:
    """E7: a connection from before the block is there after it, for whichever sender each is."""
    signal, receiver = Signal(), make()
    signal.connect(receiver, before, weak)
    expected = connected(signal, receiver)

    with signal.connected_to(receiver, during):
        pass

    assert connected(signal, receiver) == expected


def test_other_receivers_stay() -> None:
    """E7: the end of a block concerns its own receiver alone, not other methods of the same object or class."""
    signal, one, two = Signal(), Listener(), Listener()
    signal.connect(one.hear)

    with signal.connected_to(two.hear):
        signal.send("x")

    signal.send("y")

    assert (one.heard, two.heard) == (["x", "y"], ["x"])


def test_what_is_connected_inside_stays() -> None:
    """E7: a connect inside the block is the caller's own, and stays."""
    signal, receiver, other = Signal(), make(), make()

    with signal.connected_to(receiver):
        signal.connect(receiver)
        signal.connect(other)

    assert connected(signal, receiver) == EVERYWHERE
    assert connected(signal, other) == EVERYWHERE


def test_disconnected_inside_it_is_gone() -> None:
    """E7: a disconnect inside the block holds; its end then has nothing to take away."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        signal.disconnect(receiver)
        assert not signal.receivers

    assert not signal.receivers


def test_disconnected_and_connected_inside_it_stays() -> None:
    """E7: what is connected after a disconnect inside the block is not the block's, and stays."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        signal.disconnect(receiver)
        signal.connect(receiver)

    assert connected(signal, receiver) == EVERYWHERE


def test_a_block_in_a_block() -> None:
    """E7: the inner of two blocks of one receiver leaves the outer's connection."""
    signal, receiver = Signal(), make()

    with signal.connected_to(receiver):
        with signal.connected_to(receiver):
            pass

        assert connected(signal, receiver) == EVERYWHERE

    assert not signal.receivers


def test_blocks_that_overlap() -> None:
    """E7: blocks of one receiver may end in any order; it is connected until the last of them ends."""
    signal, receiver = Signal(), make()
    first, second = signal.connected_to(receiver), signal.connected_to(receiver)

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert connected(signal, receiver) == EVERYWHERE

    second.__exit__(None, None, None)
    assert not signal.receivers


def test_blocks_for_different_senders() -> None:
    """E7: blocks of one receiver for different senders end one by one."""
    signal, receiver = Signal(), make()

    with ExitStack() as stack:
        stack.enter_context(signal.connected_to(receiver, "x"))

        with signal.connected_to(receiver, "y"):
            with signal.connected_to(receiver):
                assert connected(signal, receiver) == EVERYWHERE

            assert connected(signal, receiver) == ["x", "y"]

        assert connected(signal, receiver) == ["x"]

    assert not signal.receivers


def test_options_from_before_are_there_after() -> None:
    """E7: a block leaves priority and order of a connection that was there before as they were."""
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


def test_a_receiver_that_the_block_alone_wants_is_let_go() -> None:
    """E7: nothing of the block is kept: its receiver dies at its end, its sender as well."""
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
    """E7: if the sender dies inside the block, its end finds nothing, and takes away nothing."""
    signal, receiver = Signal(), make()

    class App:
        pass

    app = App()
    signal.connect(receiver, "x")
    block = signal.connected_to(receiver, app)

    with block:
        # The block's own frame refers to the sender, so it dies with the block at the earliest.
        del app
        gc.collect()

    assert connected(signal, receiver) == ["x"]


def test_entering_that_fails_adds_nothing() -> None:
    """E7: when a receiver of receiver_connected refuses, the block is not entered, and nothing stays connected."""
    signal, receiver = Signal(), make()

    @signal.receiver_connected.connect
    def refuse(sender: Any, /, **change: Any) -> None:
        raise PermissionError

    with pytest.raises(PermissionError), signal.connected_to(receiver):
        raise AssertionError("entered")

    assert not signal.receivers


@pytest.mark.parametrize("before", ["weak", "strong", "block"])
def test_entering_that_fails_leaves_what_was_there(before: str) -> None:
    """E7: then what was connected before the refused block stays."""
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


def test_a_connect_that_fails_is_undone() -> None:
    """E7: a connect that receiver_connected refuses is taken back, and the options from before come back."""
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
def test_a_connect_that_fails_brings_nothing_back(sender: Any) -> None:
    """E7: what is disconnected before a refused connect is taken back stays disconnected."""
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


def test_the_block_is_told() -> None:
    """E7: the block's connecting and disconnecting are told to those who watch the signal."""
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
def test_subclasses_that_override_connect_are_no_exception(before: Any) -> None:
    """E7: what was connected before a block stays after it also where a subclass has its own connect."""

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


def test_a_block_ends_only_what_is_its_own() -> None:
    """E7: what a subclass connects besides, when a block asks it to connect, is none of the block's."""
    companion = make()

    class Accompanied(Signal):
        def connect(self, receiver: Any = None, *args: Any, **options: Any) -> Any:
            super().connect(companion)
            return super().connect(receiver, *args, **options)

    signal, receiver = Accompanied(), make()

    with signal.connected_to(receiver):
        assert [*signal.receivers_for("x")] == [companion, receiver]

    assert [*signal.receivers_for("x")] == [companion]


def test_muted_undoes_what_it_did() -> None:
    """E7: after muted, the signal is as muted as it was before."""
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
    """E7: what ``once`` uses up is its own connection; the block has its receiver until it ends."""
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
