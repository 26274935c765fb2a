"""R3: a message that killed two workers runs alone, and does not hold up the others for long."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="kills-together",
        what="A row that killed two workers is claimed together with other rows.",
        at="_until_poison",
        old="row.crashes >= POISON",
        new="row.crashes >= 10**9",
        tests=("test_r6_engines.py", "test_claims.py"),
    ),
    Break(
        name="kills-beside",
        what="A row that killed two workers runs while other receivers run.",
        at="is_poison",
        old="job.row.crashes >= claims.POISON",
        new="job.row.crashes >= 10**9",
        tests=("test_poison_messages.py",),
    ),
    Break(
        name="alone-late",
        what="A row that must run alone waits although no other receiver runs.",
        at="PoisonSlot.hold_back",
        old="not is_poison(job) or self._is_alone(job)",
        new="not is_poison(job)",
        tests=("test_poison_messages.py",),
    ),
    Break(
        name="alone-with-the-late",
        what="Receivers that run past their time limit keep a row from running alone.",
        at="PoisonSlot._is_alone",
        old="all(other.is_late for other in others)",
        new="not others",
        tests=("test_hanging_receivers.py",),
    ),
    Break(
        name="late-ones-run-alone",
        what="A row that runs alone past its time limit keeps all other rows waiting.",
        at="PoisonSlot.blocks_claims",
        old="is_poison(job) and not job.is_late",
        new="is_poison(job)",
        tests=("test_poison_messages.py",),
    ),
    Break(
        name="alone-for-ever",
        what="A row that must run alone waits as long as other receivers run, without end.",
        at="PoisonSlot.take",
        old="time.monotonic() < self.until",
        new="self",
        tests=("test_poison_messages.py",),
    ),
)
