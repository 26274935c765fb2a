"""E11: a send costs little more than the loop one would write by hand."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="no-plain-snapshot",
        what="No send takes a fast way for receivers of any sender.",
        at="SnapshotCache._keep_unfiltered",
        old="snapshot.is_plain and self.is_ordinary",
        new="snapshot is None",
        tests=("test_e11_cost.py",),
    ),
    Break(
        name="no-sender-snapshots",
        what="No send takes the fast way for receivers of one sender.",
        at="SnapshotCache._keep_filtered",
        old="self.by_sender[sender_filter.short_key] = snapshot.connections",
        new="pass",
        tests=("test_later_sends.py", "test_e11_cost.py"),
    ),
)
