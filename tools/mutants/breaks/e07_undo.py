"""E7: a context manager takes away exactly what it added."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="block-ends-another",
        what="Of two `connected_to` blocks for one receiver, the first to end disconnects it.",
        at="ConnectChange._enter",
        old="connection.open_scopes += 1",
        new="connection.open_scopes = 1",
        tests=("test_e07_undo.py",),
    ),
    Break(
        name="block-takes-what-was-there",
        what="The end of a `connected_to` block disconnects a receiver that was connected before the block.",
        at="ConnectChange._leave",
        old="connection.open_scopes == 0 and not connection.connected_directly",
        new="connection.open_scopes == 0",
        tests=("test_e07_undo.py",),
    ),
    Break(
        name="block-keeps",
        what="A weak connection stays strong after a `connected_to` block.",
        at="ConnectChange._leave",
        old="connection.open_scopes == 0 and not connection.is_strong",
        new="False",
        tests=("test_e05_references.py", "test_e07_undo.py"),
    ),
    Break(
        name="once-ends-the-block",
        what="A `once` connection that is used up takes away the connection of a block.",
        at="ConnectionRegistry._use_up",
        old="connection.open_scopes == 0",
        new="connection.open_scopes >= 0",
        tests=("test_e07_undo.py",),
    ),
    Break(
        name="options-not-put-back",
        what="A connect that fails leaves its options on the connection that was there before.",
        at="ConnectChange._make",
        old="{name: getattr(existing, name) for name in _RESTORED}",
        new="{}",
        tests=("test_e07_undo.py",),
    ),
    Break(
        name="failed-connect-stays",
        what="A connect that fails leaves its connection.",
        at="Signal.connect",
        old="change.undo()",
        new="pass",
        tests=("test_e07_undo.py",),
    ),
    Break(
        name="refusal-brings-back",
        what="A connect that is refused restores a connection that was disconnected in the meantime.",
        at="ConnectChange._restore",
        old="self.registry.find(connection.key, connection.filter_key) is not connection",
        new="False",
        tests=("test_e07_undo.py",),
    ),
)
