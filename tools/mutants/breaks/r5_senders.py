"""R5: a sender crosses to the worker as a name."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="senders-as-text",
        what="A registered sender is stored as if it were a string.",
        at="SenderNames.write",
        old='{"name": name}',
        new='{"text": name}',
        tests=("test_r5_senders.py", "test_r6_engines.py"),
    ),
)
