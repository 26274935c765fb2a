"""R5: a sender crosses to the worker as a name."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="senders-as-text",
        what="A registered sender is stored as if it were a string.",
        at="Senders.write",
        old='{"name": name}',
        new='{"text": name}',
        tests=("test_contract.py", "test_senders.py"),
    ),
)
