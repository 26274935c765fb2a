"""R1: the rows of a send are written in the caller's own transaction."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="transaction-not-joined",
        what="A send does not join the caller's transaction.",
        at="Outbox.close",
        old="caller is not None",
        new="caller is None",
        tests=("test_r1_one_transaction.py",),
    ),
    Break(
        name="rows-not-written",
        what="The rows of a send are not written.",
        at="Outbox.close",
        old="not opened.rows",
        new="opened.rows",
        tests=("test_r1_one_transaction.py",),
    ),
    Break(
        name="payload-in-errors",
        what="An error of the database shows the payload.",
        at="_explain",
        old="error.hide_parameters = True",
        new="error.hide_parameters = False",
        tests=("test_failed_writes.py",),
    ),
    Break(
        name="other-threads-sessions",
        what="A send joins the session of another task.",
        at="_noted_session",
        old="begun[1:] == here",
        new="begun[1:2] == here[:1]",
        tests=("test_r1_one_transaction.py", "test_async_transactions.py"),
    ),
    Break(
        name="several-sessions",
        what="When several sessions have a transaction open, a send joins one of them instead of raising.",
        at="_noted_session",
        old="len(found) > 1",
        new="len(found) > 99",
        tests=("sending/test_transactions.py",),
    ),
    Break(
        name="full-disks-unsaid",
        what="A send that fails because the disk is full does not say so.",
        at="_why",
        old="is_full(error)",
        new="not error",
        tests=("test_failed_writes.py", "test_full_disks.py"),
    ),
    Break(
        name="no-patience",
        what="A send does not wait for a database that is away for a moment.",
        at="RetryPolicy.pause_s",
        old="self._wait_s if is_away(error) else 0.0",
        new="0.0",
        tests=("test_database.py", "test_outages.py"),
    ),
    Break(
        name="uncommitted-untold",
        what="Messages that were never committed are not reported.",
        at="note",
        old="session.info.setdefault",
        new="session.info.get",
        tests=("test_uncommitted.py",),
    ),
    Break(
        name="memory-ends-transactions",
        what="With SQLite in memory, the relay ends the program's transaction.",
        at="_check_is_free",
        old='getattr(driver, "in_transaction", False)',
        new='getattr(driver, "in_transactions", False)',
        tests=("test_database.py",),
    ),
    Break(
        name="waits-for-itself",
        what="A coroutine in the event loop can wait for the same loop, for ever.",
        at="Portal.run",
        old="self._loop is not None",
        new="self._loop is None",
        tests=("test_hanging_receivers.py",),
    ),
)
