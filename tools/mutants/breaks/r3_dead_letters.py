"""R3: what fails is tried again after a pause, and in the end becomes one dead letter."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="attempts-without-end",
        what="A message whose worker dies is claimed again for ever.",
        at="Consumer._prepare",
        old="found.durable.max_attempts",
        new="10**9",
        tests=("test_odd_rows.py", "test_kills.py"),
    ),
    Break(
        name="deaths-without-end",
        what="A message whose receiver raises is tried again for ever.",
        at="_failed",
        old="row.attempts >= found.durable.max_attempts",
        new="row.attempts >= 10**9",
        tests=("test_r6_engines.py",),
    ),
    Break(
        name="no-backoff",
        what="A message whose receiver raised is tried again at once.",
        at="_failed",
        old="seconds_of(found.durable.backoff, row.attempts)",
        new="0.0",
        tests=("test_r6_engines.py",),
    ),
    Break(
        name="dead-letter-beside-a-claim",
        what="Another worker can claim a row while it becomes a dead letter.",
        at="dead_letter",
        old="source.with_for_update()",
        new="source",
        tests=("test_claims.py",),
    ),
    Break(
        name="requeued-twice",
        what="A dead letter that two users requeue at the same time becomes two messages.",
        at="requeue",
        old="source.order_by(_d.id).with_for_update()",
        new="source.order_by(_d.id)",
        tests=("test_claims.py",),
    ),
    Break(
        name="attempts-of-the-dead",
        what="A dead letter counts the last claim as an attempt, although its receiver did not begin.",
        at="_write_outcome",
        old="row.attempts - (not outcome.is_begun)",
        new="row.attempts",
        tests=("test_odd_rows.py",),
    ),
    Break(
        name="numbers-again",
        what="The number of a deleted dead letter is used again for another.",
        at="dead_letters",
        old="sqlite_autoincrement=True",
        new="sqlite_autoincrement=False",
        tests=("relay/test_relay.py",),
    ),
)
