"""E2: a send calls the receivers that were connected when it began, and are still connected at their turn."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="taken-away-still-called",
        what="A send calls a receiver that was disconnected before its turn.",
        at="ConnectionRegistry.drop",
        old="connection.ref = gone",
        new="pass",
        tests=("test_e02_snapshot.py",),
    ),
    Break(
        name="newcomers-called",
        what="A send calls a receiver that was connected during this send.",
        at="Signal.send",
        old="""
            for connection in connections:
                ref = connection.ref
                receiver = ref()

                if receiver is not None:
                    results.append((receiver, receiver(sender)))
        """,
        new="""
            for connection in connections:
                ref = connection.ref
                receiver = ref()

                if receiver is not None:
                    results.append((receiver, receiver(sender)))

            for connection in registry.snapshot(sender).connections[len(connections) :]:
                results.append((connection.ref(), connection.ref()(sender)))
        """,
        tests=("test_later_sends.py", "test_e02_snapshot.py", "test_hazards.py"),
    ),
    Break(
        name="dead-ends-the-walk",
        what="A collected receiver ends a send without payload: the receivers after it are not called.",
        at="Signal.send",
        old="""
            if receiver is not None:
                results.append((receiver, receiver(sender)))
        """,
        new="""
            if receiver is None:
                break

            results.append((receiver, receiver(sender)))
        """,
        tests=("test_later_sends.py", "test_e02_snapshot.py", "test_hazards.py"),
    ),
    Break(
        name="dead-ends-the-walk-payload",
        what="A collected receiver ends a send with payload: the receivers after it are not called.",
        at="Signal.send",
        old="""
            if receiver is not None:
                results.append((receiver, receiver(*arguments, **payload)))
        """,
        new="""
            if receiver is None:
                break

            results.append((receiver, receiver(*arguments, **payload)))
        """,
        tests=("test_later_sends.py", "test_e02_snapshot.py", "test_hazards.py"),
    ),
    Break(
        name="dead-ends-the-long-walk",
        what="A collected receiver ends a send that looks at more than its receivers: the others are not called.",
        at="_send",
        old="""
            if receiver is None:
                continue
        """,
        new="""
            if receiver is None:
                break
        """,
        tests=("test_e02_snapshot.py", "test_hazards.py"),
    ),
    Break(
        name="double-called-twice",
        what="A receiver that is connected both for the sender and for any sender is called twice.",
        at="SendRun.start",
        old="receiver is None or (self.has_doubles and connection.key in self.called)",
        new="receiver is None",
        tests=("test_connect_forms.py",),
    ),
    Break(
        name="doubles-plain",
        what="A send without anything else to do calls a receiver twice that its snapshot contains twice.",
        at="Snapshot.__init__",
        old="not self.has_doubles and all(connection.is_simple for connection in self.connections)",
        new="all(connection.is_simple for connection in self.connections)",
        tests=("test_connect_forms.py",),
    ),
    Break(
        name="plain-stale",
        what="After a change, sends keep the old snapshot of the receivers for any sender.",
        at="SnapshotCache.invalidate",
        old="self.plain = None",
        new="pass",
        tests=("test_e02_snapshot.py", "test_e01_order.py"),
    ),
    Break(
        name="sender-snapshots-stale",
        what="After a change for any sender, a sender with receivers of its own keeps its old snapshot.",
        at="SnapshotCache.invalidate",
        old="self.by_sender = {}",
        new="pass",
        tests=("test_e01_order.py", "test_e06_senders.py"),
    ),
    Break(
        name="others-stale",
        what="After a change for any sender, senders without receivers of their own keep their old snapshot.",
        at="SnapshotCache.invalidate",
        old="self.others = self._unfiltered = None",
        new="self._unfiltered = None",
        tests=("test_e01_order.py", "test_e06_senders.py"),
    ),
    Break(
        name="sender-snapshot-stale",
        what="After a change for one sender, this sender keeps its old snapshot.",
        at="SnapshotCache.invalidate",
        old="self.by_sender.pop(sender_filter.short_key, None)",
        new="pass",
        tests=("test_later_sends.py", "test_e01_order.py", "test_e06_senders.py"),
    ),
    Break(
        name="cached-snapshots-stale",
        what="After a change for any sender, the cached snapshots of single senders stay in use.",
        at="SnapshotCache.invalidate",
        old="self._by_filter = {}",
        new="pass",
        tests=("test_later_sends.py", "test_e01_order.py", "test_e06_senders.py"),
    ),
)
