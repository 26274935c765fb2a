"""E5: receivers are held weakly by default, and what is disconnected or collected leaves nothing behind."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="strong-by-default",
        what="Receivers are held strongly by default.",
        at="Signal.connect",
        old="weak: bool = True",
        new="weak: bool = False",
        tests=("test_e05_references.py",),
    ),
    Break(
        name="strong-turned-weak",
        what="A weak connect of a receiver turns its strong connection weak.",
        at="_update",
        old="""
            if connection.is_strong:
                return
        """,
        new="pass",
        tests=("test_e05_references.py",),
    ),
    Break(
        name="methods-die-at-once",
        what="A bound method is weakly referenced like a function, and so dies at once.",
        at="refer",
        old="isinstance(key, int)",
        new="key",
        tests=("test_e05_references.py",),
    ),
    Break(
        name="dead-receivers-stay",
        what="The connection of a collected receiver is never removed.",
        at="_receiver_died",
        old="changes.defer(partial(registry.sweep_receiver, key))",
        new="pass",
        tests=("core/test_leaks.py", "test_e05_references.py"),
    ),
    Break(
        name="bucket-of-receiver-stays",
        what="The empty entry of a receiver stays when its last connection is gone.",
        at="ConnectionRegistry.drop",
        old="""
            if not filtered:
                self._by_receiver.pop(key, None)
        """,
        new="pass",
        tests=("core/test_leaks.py", "test_e05_references.py"),
    ),
    Break(
        name="filter-stays",
        what="An empty sender filter stays when its last connection is gone.",
        at="ConnectionRegistry.drop",
        old="""
            if not sender_filter.connections:
                self._drop_filter(sender_filter)
        """,
        new="pass",
        tests=("core/test_leaks.py", "test_e05_references.py"),
    ),
    Break(
        name="receiver-id-reused",
        what="A new receiver with the `id` of a collected one is taken for the collected one.",
        at="ConnectChange._make",
        old="existing.ref() is None",
        new="False",
        tests=("test_e05_references.py", "test_e04_collection.py"),
    ),
    Break(
        name="sweep-takes-the-living",
        what="A late clean-up removes the new receiver that has the `id` of a collected one.",
        at="ConnectionRegistry.sweep_receiver",
        old="connection is not None and connection.ref() is None",
        new="connection is not None",
        tests=("test_e05_references.py", "test_e04_collection.py"),
    ),
    Break(
        name="dead-filter-counts",
        what="The connection of a collected sender is taken for one of the new sender with the same `id`.",
        at="ConnectionRegistry.find",
        old="sender_filter is None or sender_filter.ref() is None",
        new="sender_filter is None",
        tests=("test_e04_collection.py",),
    ),
)
