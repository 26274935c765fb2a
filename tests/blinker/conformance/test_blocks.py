"""Blinker's contract: connected_to and muted.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on
purpose, ``differs`` names the promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import Any

import pytest


def receivers_of(signal: Any, sender: Any = None) -> list[Any]:
    return list(signal.receivers_for(sender))


# connected_to


def test_connected_to_connects_for_a_block(library: Any, named: Any, log: list[Any]) -> None:
    """connected_to: connects at the beginning of the block, disconnects at its end, and yields None."""
    signal = library.Signal()
    receiver = named("called")

    with signal.connected_to(receiver) as nothing:
        signal.send("me")
        signal.send()

    signal.send("me")
    assert nothing is None
    assert log == ["called", "called"]
    assert not signal.receivers


@pytest.mark.parametrize("keyword", [True, False])
def test_connected_to_a_sender(library: Any, named: Any, log: list[Any], keyword: bool) -> None:
    """connected_to: accepts a sender, by position and by keyword."""
    signal = library.Signal()
    receiver = named("called")
    block = signal.connected_to(receiver=receiver, sender="me") if keyword else signal.connected_to(receiver, "me")

    with block:
        signal.send("me")
        signal.send("you")

    signal.send("me")
    assert log == ["called"]


def test_connected_to_holds_the_receiver_strongly(library: Any, log: list[Any]) -> None:
    """connected_to: the receiver may be a lambda."""
    signal = library.Signal()

    with signal.connected_to(lambda sender: log.append("called")):
        gc.collect()
        signal.send("me")

    assert log == ["called"]


def test_connected_to_disconnects_after_a_failure(library: Any, named: Any) -> None:
    """connected_to: disconnects when the block raises, and the exception goes on."""
    signal = library.Signal()
    receiver = named("called")

    with pytest.raises(LookupError, match="mine"), signal.connected_to(receiver):
        raise LookupError("mine")

    assert signal.send() == []


def test_connected_to_is_a_decorator(library: Any, named: Any, log: list[Any]) -> None:
    """connected_to: as a decorator, it connects for each call of the function."""
    signal = library.Signal()
    receiver = named("called")

    @signal.connected_to(receiver)  # type: ignore[untyped-decorator]
    def work() -> str:
        signal.send()
        return "done"

    assert [work(), work()] == ["done", "done"]
    signal.send()
    assert log == ["called", "called"]


def test_connected_to_works_in_an_exit_stack(library: Any, named: Any, log: list[Any]) -> None:
    """connected_to: is an ordinary context manager."""
    signal = library.Signal()

    with contextlib.ExitStack() as stack:
        for name in "ab":
            stack.enter_context(signal.connected_to(named(name)))

        signal.send()

    signal.send()
    assert sorted(log) == ["a", "b"]


def test_connected_to_leaves_earlier_connections(library: Any, named: Any, differs: Any) -> None:
    """E7: Blinker disconnects all connections of the receiver at the end."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    signal.connect(receiver, "you")

    with signal.connected_to(receiver, sender="me"):
        pass

    assert len(signal.send("you")) == differs("E7", blinker=0, aldis=1)
    assert len(signal.send("me")) == differs("E7", blinker=0, aldis=1)


def test_connected_to_nests(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E7: in Blinker the end of the inner block disconnects the receiver for the outer block too."""
    signal = library.Signal()
    receiver = named("called")

    with signal.connected_to(receiver):
        with signal.connected_to(receiver):
            pass

        signal.send()

    assert log == differs("E7", blinker=[], aldis=["called"])
    assert signal.send() == []


# Muting


def test_a_muted_signal_calls_no_receiver(library: Any, named: Any, log: list[Any]) -> None:
    """muted and is_muted: a send in the block returns no results; after it sends work as before."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)
    assert signal.is_muted is False

    with signal.muted() as nothing:
        assert nothing is None
        assert signal.is_muted is True
        assert signal.send() == []
        assert asyncio.run(signal.send_async()) == []

    assert signal.is_muted is False
    assert log == []
    assert len(signal.send()) == 1


def test_muting_ends_after_a_failure(library: Any) -> None:
    """muted: ends when the block raises, and the exception goes on."""
    signal = library.Signal()

    with pytest.raises(LookupError, match="mine"), signal.muted():
        raise LookupError("mine")

    assert signal.is_muted is False


def test_a_muted_signal_still_has_receivers(library: Any, named: Any) -> None:
    """muted: the signal still lists its receivers."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)

    with signal.muted():
        assert signal.receivers
        assert signal.has_receivers_for("me")
        assert receivers_of(signal) == [receiver]


def test_signals_can_be_connected_while_muted(library: Any, named: Any) -> None:
    """muted: connections that are made in the block stay after it."""
    signal = library.Signal()
    receiver = named("called")

    with signal.muted():
        signal.connect(receiver)

    assert len(signal.send()) == 1


def test_is_muted_can_be_set(library: Any, named: Any) -> None:
    """is_muted: may be set directly, for all threads."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)

    signal.is_muted = True
    assert signal.is_muted is True
    assert signal.send() == []
    assert in_thread(signal.send) == []

    signal.is_muted = False
    assert signal.is_muted is False
    assert len(signal.send()) == 1


def test_muting_nests(library: Any, named: Any, log: list[Any], differs: Any) -> None:
    """E8: in Blinker the end of the inner block unmutes the outer block too."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)

    with signal.muted():
        with signal.muted():
            pass

        assert signal.is_muted is differs("E8", blinker=False, aldis=True)
        signal.send()

    assert log == differs("E8", blinker=["called"], aldis=[])
    assert signal.is_muted is False


def test_muting_is_for_the_current_thread(library: Any, named: Any, differs: Any) -> None:
    """E8: Blinker's block mutes the signal in all threads."""
    signal = library.Signal()
    receiver = named("called")
    signal.connect(receiver)

    with signal.muted():
        results = in_thread(signal.send)

    assert len(results) == differs("E8", blinker=0, aldis=1)


def in_thread(function: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
