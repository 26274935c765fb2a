"""E4: connect, disconnect, send and collection work in any mix of threads, and cannot deadlock."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="changes-nested",
        what="A change that comes up inside another change is made at once, in the middle of it.",
        at="ChangeQueue._drain",
        old="""
            if self._running:
                return
        """,
        new="pass",
        tests=("test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="defer-waits",
        what="The callback of a weak reference waits for the lock.",
        at="ChangeQueue.defer",
        old="""
            self._changes.append(change)
            self.try_drain()
        """,
        new="self.apply(change)",
        tests=("test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="apply-does-not-wait",
        what="`connect` can return before its change is made, when another thread holds the lock.",
        at="ChangeQueue.apply",
        old="""
            with self._lock:
                self._drain()
        """,
        new="self._running = self._running",
        tests=("test_e04_threads.py",),
    ),
    Break(
        name="read-not-alone",
        what="Connections change while another piece of code reads them.",
        at="ChangeQueue.read",
        old="self._running = True",
        new="pass",
        tests=("test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="read-forgets",
        what="Changes that come up during a read are not made when the read ends.",
        at="ChangeQueue.read",
        old="self.try_drain()",
        new="pass",
        tests=("test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="fork-takes-no-lock",
        what="A forked child can find the lock held by a thread that does not exist in the child.",
        at="<module>",
        beside="ChangeQueue",
        old='hasattr(os, "register_at_fork")',
        new="False",
        tests=("test_e04_collection.py", "test_e04_threads.py"),
    ),
    Break(
        name="once-claimed-twice",
        what="Two threads can both call a `once` receiver.",
        at="Options.claim",
        old="self.claims.pop()",
        new="self.claims[0]",
        tests=("test_e04_threads.py", "test_e02_snapshot.py"),
    ),
    Break(
        name="once-ends-a-later-connect",
        what="A connect is lost when a `once` connection of the same receiver is used up at the same time.",
        at="ConnectionRegistry._use_up",
        old="connection.options is not options",
        new="connection.options is None",
        tests=("test_e04_threads.py",),
    ),
)
