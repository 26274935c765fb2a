"""Deliveries: receivers after the response and after the commit run when, and only when, they should."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="tests-do-not-wait",
        what="Receivers after the response have not run yet when Flask's test client returns.",
        at="AfterResponseMiddleware.__call__",
        beside="_read_now",
        old="calls and (self._app.testing or IN_TEST in environ)",
        new="calls is None",
        tests=("flask/test_after_response.py",),
    ),
    Break(
        name="late-sends-lost",
        what="A send after the response has ended is lost.",
        at="DeferredCalls.add",
        beside="_read_now",
        old="self.run_all()",
        new="return",
        tests=("flask/test_after_response.py",),
    ),
    Break(
        name="rolled-back-runs",
        what="A receiver that waits for the commit runs after a rollback.",
        at="_end",
        old="""
            if transaction not in pending.committed:
                return

            pending.committed.remove(transaction)
        """,
        new="pending.committed.discard(transaction)",
        tests=("test_after_commit.py",),
    ),
    Break(
        name="savepoint-runs",
        what="A receiver that waits for the commit runs at the end of a savepoint.",
        at="_end",
        old="transaction.nested",
        new="transaction.nested and transaction.parent is None",
        tests=("test_after_commit.py",),
    ),
)
