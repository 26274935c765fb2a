"""Observation: watchers see every send and every call, and cannot harm them."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="watched-take-the-fast-way",
        what="A send of a watched signal takes a fast way, which tells no watcher.",
        at="SnapshotCache.is_ordinary",
        old="self.is_custom or self.is_muted or self.mutes > 0 or self.watches or self.interceptors",
        new="self.is_custom or self.is_muted or self.mutes > 0 or self.interceptors",
        tests=("test_watches.py",),
    ),
    Break(
        name="new-signals-unwatched",
        what="A watcher of all signals does not see signals that are made later.",
        at="ConnectionRegistry._join",
        old="_watches_of_all",
        new="()",
        tests=("test_watches.py",),
    ),
    Break(
        name="failing-watcher-stays",
        what="A watcher that fails is not removed.",
        at="Watch.fail",
        old="self.stop()",
        new="pass",
        tests=("test_watches.py",),
    ),
    Break(
        name="nested-sends-unlinked",
        what="A send by a receiver is not recorded below the call of this receiver.",
        at="SendSpan.__init__",
        old="parent.sends.append(self.record)",
        new="pass",
        tests=("test_records.py",),
    ),
    Break(
        name="calls-stay-open",
        what="A send after the end of a call is recorded as if the call had sent it.",
        at="CallSpan.__exit__",
        old="_running.set(self._outer)",
        new="pass",
        tests=("test_records.py",),
    ),
)
