"""aldis.observe beside other libraries: connections() lists Blinker's signals, and asgiref's wrappers do not break
the tree."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import blinker
import pytest
from asgiref.sync import async_to_sync, sync_to_async

import aldis
from aldis import InvalidOptionError, Namespace
from aldis.observe import ConnectionRecord, connections, watch


class Desk:
    """A sender and receiver, with a method that is another receiver."""

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def hear(self, sender: Any, **payload: Any) -> None: ...

    def __repr__(self) -> str:
        return "ada@example.org"


class Slotted:
    """An object that cannot be referenced weakly."""

    __slots__ = ()


def hear(sender: Any, **payload: Any) -> None: ...


async def hear_async(sender: Any, **payload: Any) -> None: ...


def place(function: Any) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno}"


# Blinker.


def test_connections_of_blinkers_signals() -> None:
    """connections() returns the same records for a signal of Blinker, with the data that Blinker has."""
    lamp = blinker.NamedSignal("lamp")
    lamp.connect(hear)
    lamp.connect(hear_async, weak=False)

    assert connections(lamp) == [
        ConnectionRecord("lamp", f"{__name__}.hear", place(hear), "ANY", True, False, 0, False, None, "blinker"),
        ConnectionRecord(
            "lamp", f"{__name__}.hear_async", place(hear_async), "ANY", False, True, 0, False, None, "blinker"
        ),
    ]


def test_every_kind_of_receiver_of_blinkers() -> None:
    """Bound methods and objects are shown as on Aldis."""
    lamp, desk = blinker.Signal(), Desk()
    lamp.connect(desk)
    lamp.connect(desk.hear)

    assert [(record.signal, record.receiver, record.is_weak) for record in connections(lamp)] == [
        ("Signal", f"{__name__}.Desk", True),
        ("Signal", f"{__name__}.Desk.hear", True),
    ]


def test_every_kind_of_sender_of_blinkers() -> None:
    """Senders are shown as on Aldis, except ints and objects that cannot be referenced weakly, because Blinker
    stores only their ids."""
    lamp, desk, slotted = blinker.Signal(), Desk(), Slotted()

    for sender in ("desk", desk, Desk, desk.hear, 7, slotted, "x" * 61):
        lamp.connect(hear, sender)

    found = {record.sender for record in connections(lamp)}
    assert found == {
        "'desk'",
        f"a {__name__}.Desk",
        f"{__name__}.Desk",
        f"{__name__}.Desk.hear",
        "7, or the object with this id",
        f"{id(slotted)}, or the object with this id",
        repr("x" * 60) + "...",
    }
    assert all(record.receiver == f"{__name__}.hear" for record in connections(lamp))


def test_dead_receivers_of_blinkers_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers and senders that have died are not shown, even if Blinker has not removed them yet."""
    lamp, receiver, sender = blinker.Signal(), Desk(), Desk()
    monkeypatch.setattr(lamp, "_make_cleanup_receiver", lambda *_: None)
    monkeypatch.setattr(lamp, "_make_cleanup_sender", lambda *_: None)
    lamp.connect(receiver)
    lamp.connect(hear, sender)
    assert len(connections(lamp)) == 2
    del receiver, sender
    gc.collect()

    assert len(lamp.receivers) == 2
    assert connections(lamp) == []


def test_namespaces_of_blinkers_and_mixed_ones() -> None:
    """The signals of a namespace of Blinker, and of a mapping with signals of both libraries, are listed in order."""
    theirs, ours = blinker.Namespace(), Namespace()
    theirs.signal("one").connect(hear)
    ours.signal("two").connect(hear)
    mixed = {"two": ours.signal("two"), "one": theirs.signal("one")}

    assert [record.library for record in connections(theirs)] == ["blinker"]
    assert [(record.signal, record.library) for record in connections(mixed)] == [("two", "aldis"), ("one", "blinker")]


def test_flasks_signals_are_shown() -> None:
    """connections() accepts Flask's namespace of core signals."""
    flask_signals = pytest.importorskip("flask.signals")

    with flask_signals.request_started.connected_to(hear):
        found = connections(flask_signals._signals)

    # Other receivers in this process are shown too.
    [record] = [each for each in found if each.receiver == f"{__name__}.hear"]
    assert (record.signal, record.receiver, record.is_weak) == ("request-started", f"{__name__}.hear", False)


def test_listing_blinkers_connections_changes_nothing() -> None:
    """connections() adds nothing to the tables of a signal of Blinker."""
    lamp = blinker.Signal()
    lamp.connect(hear, "desk")
    lamp.receivers[object] = hear  # As if it had just been disconnected from its last sender.
    tables = [dict(table) for table in (lamp.receivers, lamp._by_receiver, lamp._by_sender, lamp._weak_senders)]

    assert len(connections(lamp)) == 1
    assert [dict(each) for each in (lamp.receivers, lamp._by_receiver, lamp._by_sender, lamp._weak_senders)] == tables


def test_blinkers_signals_cannot_be_watched() -> None:
    """watch() refuses a signal of Blinker with a message that says it accepts signals of Aldis only."""
    lamp: Any = blinker.NamedSignal("lamp")

    with pytest.raises(InvalidOptionError, match=r"watch\(\) takes signals of Aldis, .*, not a signal of Blinker"):
        watch(print, lamp)


# asgiref.


def test_the_tree_goes_through_asgiref() -> None:
    """A send inside sync_to_async or async_to_sync is below the call of its receiver in the tree."""
    outer, inner = aldis.Signal(), aldis.Signal()
    outer.sync_wrapper = lambda receiver: sync_to_async(receiver, thread_sensitive=False)
    outer.async_wrapper = async_to_sync
    trees: list[Any] = []

    def sync(sender: Any) -> None:
        inner.send("from sync")

    async def in_loop(sender: Any) -> None:
        inner.send("from async")

    outer.connect(sync)
    outer.connect(in_loop)

    def note(send: Any) -> None:
        if send.parent is None:
            trees.append([[below.sender for below in call.sends] for call in send.calls])

    with watch(note):
        asyncio.run(outer.send_async())
        outer.send()

    assert trees == [[["from sync"], ["from async"]]] * 2
