"""E10: `signal.receivers` is truthy exactly when a live receiver is connected."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="dead-count",
        what="Collected receivers count until the clean-up.",
        at="ConnectionRegistry.has_any",
        old="(connection.ref() is not None for connection in self.all_connections())",
        new="(True for _ in self.all_connections())",
        tests=("test_later_sends.py", "test_e10_truth.py"),
    ),
    Break(
        name="counted-twice",
        what="`receivers_for` yields a receiver twice when it is connected for the sender and for any sender.",
        at="Signal.receivers_for",
        old="receiver is not None and connection.key not in seen",
        new="receiver is not None",
        tests=("test_later_sends.py", "test_e10_truth.py"),
    ),
)
