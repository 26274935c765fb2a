"""R2: a message is received at least once, and its effect happens once."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="ids-of-rows",
        what="Each durable receiver of a message gets a message id of its own.",
        at="Outgoing.add",
        old='{**self.shared, "receiver": receiver, "ordering_key": ordering_key}',
        new='{**self.shared, "message_id": str(uuid4()), "receiver": receiver, "ordering_key": ordering_key}',
        tests=("test_r6_engines.py",),
    ),
    Break(
        name="first-time-always",
        what="An effect that was already noted happens again.",
        at="note_effect",
        old="done.rowcount == 1",
        new="done.rowcount >= 0",
        tests=("test_r2_effects_once.py", "test_r6_engines.py", "test_kills.py"),
    ),
    Break(
        name="effects-cut",
        what="Two ids of effects that begin alike count as one, because both are cut.",
        at="_LONGEST_ID",
        old="36",
        new="99",
        tests=("test_r2_effects_once.py",),
    ),
)
