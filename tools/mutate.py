"""Break the engine on purpose, one line at a time, and see which test notices.

    python tools/mutate.py                    all breaks
    python tools/mutate.py --only NAME        some of them; may be given several times

Each break is made in a copy of ``src`` in a temporary folder, on which the tests are then run; the source tree is
not touched. First come the test files that should notice the break, and if these pass, all tests of the room.
A run that hangs has noticed it too, and the table says so. A break that no test notices means that a promise is
not tested, or that the line is not needed.

Exits with 1 if a break survived, or could not be made because the source has changed: then mend the table below.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from breaks import Break
from breaks_relay import RELAY

ROOT: Final = Path(__file__).resolve().parent.parent

TIMEOUT_S: Final = 120
TIMEOUT_OF_ALL_S: Final = 900

# Loaded into each run: sees to it that the copy is what is tested, and notes the test that runs and the first to fail.
PLUGIN: Final = """
import json, os, pathlib, pytest

notes = pathlib.Path(os.environ["MUTATE_NOTES"])
noted = {"running": None, "failed": None, "imported": None}

def note(**news):
    noted.update(news)
    notes.write_text(json.dumps(noted))

def pytest_sessionstart(session):
    import aldis
    note(imported=aldis.__file__)

    if not pathlib.Path(aldis.__file__).is_relative_to(os.environ["MUTATE_COPY"]):
        pytest.exit(f"tests {aldis.__file__}, which is not the copy", returncode=99)

def pytest_runtest_logstart(nodeid):
    note(running=nodeid)

def pytest_runtest_logreport(report):
    if report.failed and noted["failed"] is None:
        note(failed=report.nodeid)

def pytest_collectreport(report):
    if report.failed and noted["failed"] is None:
        note(failed=f"{report.nodeid} (cannot be collected)")
"""


class UnusableBreakError(Exception):
    """A break that cannot be made, or that leaves something that is no engine at all."""


BREAKS: Final = (
    Break(
        name="priority-ignored",
        what="priorities do not count",
        promise="E1",
        file="_connection.py",
        old="return -self.options.priority, self.serial",
        new="return 0, self.serial",
        tests=("core/test_e01_order.py",),
    ),
    Break(
        name="priority-upside-down",
        what="lower priorities are called earlier",
        promise="E1",
        file="_connection.py",
        old="return -self.options.priority, self.serial",
        new="return self.options.priority, self.serial",
        tests=("core/test_e01_order.py",),
    ),
    Break(
        name="connecting-order-lost",
        what="those for any sender come first, whenever they were connected",
        promise="E1",
        file="_table.py",
        old="self._serial += 1",
        new="self._serial += 0",
        tests=("core/test_e01_order.py",),
    ),
    Break(
        name="looking-unordered",
        what="`receivers` shows another order than that of calls",
        promise="E1",
        file="_table.py",
        old=("return sorted((c for c in found if c.ref() is not None), key=lambda connection: connection.order)"),
        new="return [c for c in found if c.ref() is not None]",
        tests=("core/test_e01_order.py",),
    ),
    Break(
        name="taken-away-still-called",
        what="one that is disconnected before its turn is called",
        promise="E2",
        file="_table.py",
        old=("connection.ref = gone\n        connection.kept = None"),
        new="connection.kept = None",
        tests=("core/test_e02_snapshot.py",),
    ),
    Break(
        name="newcomers-called",
        what="one that is connected during the send is called by it",
        promise="E2",
        file="_signal.py",
        old=("results.append((receiver, receiver(sender)))\n\n            return results"),
        new=(
            "results.append((receiver, receiver(sender)))\n"
            "\n"
            "            for connection in table.route(sender).connections[len(connections) :]:\n"
            "                results.append((connection.ref(), connection.ref()(sender)))\n"
            "\n"
            "            return results"
        ),
        tests=(
            "core/test_mutants.py",
            "core/test_e02_snapshot.py",
            "core/test_hazards.py",
        ),
    ),
    Break(
        name="dead-ends-the-walk",
        what="a dead receiver ends the walk, without a payload",
        promise="E2",
        file="_signal.py",
        old=("if receiver is not None:\n                    results.append((receiver, receiver(sender)))"),
        new=(
            "if receiver is None:\n"
            "                    break\n"
            "\n"
            "                results.append((receiver, receiver(sender)))"
        ),
        tests=(
            "core/test_mutants.py",
            "core/test_e02_snapshot.py",
            "core/test_hazards.py",
        ),
    ),
    Break(
        name="dead-ends-the-walk-payload",
        what="a dead receiver ends the walk, with a payload",
        promise="E2",
        file="_signal.py",
        old=("if receiver is not None:\n                results.append((receiver, receiver(*arguments, **payload)))"),
        new=(
            "if receiver is None:\n"
            "                break\n"
            "\n"
            "            results.append((receiver, receiver(*arguments, **payload)))"
        ),
        tests=(
            "core/test_mutants.py",
            "core/test_e02_snapshot.py",
            "core/test_hazards.py",
        ),
    ),
    Break(
        name="dead-ends-the-long-walk",
        what="a dead receiver ends a send that has more to look at",
        promise="E2",
        file="_dispatch.py",
        old=("if receiver is None:\n            continue\n\n        try:\n            value = sending.call("),
        new=("if receiver is None:\n            break\n\n        try:\n            value = sending.call("),
        tests=(
            "core/test_e02_snapshot.py",
            "core/test_hazards.py",
        ),
    ),
    Break(
        name="double-called-twice",
        what="a receiver of the sender and of any sender is called twice",
        promise="E2",
        file="_dispatch.py",
        old="if receiver is None or (self.has_doubles and connection.key in self.called):",
        new="if receiver is None:",
        tests=("core/test_connect_forms.py",),
    ),
    Break(
        name="doubles-plain",
        what="routes with a receiver twice are walked as plain ones",
        promise="E2",
        file="_connection.py",
        old="is_simple = not self.has_doubles and all(",
        new="is_simple = all(",
        tests=("core/test_connect_forms.py",),
    ),
    Break(
        name="propagate-goes-on",
        what="the first failure does not stop the send",
        promise="E3",
        file="_dispatch.py",
        old=(
            "if sending.policy == PROPAGATE:\n"
            "                raise\n"
            "\n"
            "            sending.fail(receiver, error)\n"
            "        else:\n"
            "            sending.results.append((receiver, value))\n"
            "\n"
            "    return sending.finish()\n"
            "\n"
            "\n"
            "def walk("
        ),
        new=(
            "sending.fail(receiver, error)\n"
            "        else:\n"
            "            sending.results.append((receiver, value))\n"
            "\n"
            "    return sending.finish()\n"
            "\n"
            "\n"
            "def walk("
        ),
        tests=(
            "core/test_e03_failures.py",
            "core/test_hazards.py",
        ),
    ),
    Break(
        name="all-exceptions-collected",
        what="KeyboardInterrupt and its like are collected",
        promise="E3",
        file="_dispatch.py",
        old=(
            "except Exception as error:\n"
            "            if sending.policy == PROPAGATE:\n"
            "                raise\n"
            "\n"
            "            sending.fail(receiver, error)\n"
            "        else:\n"
            "            sending.results.append((receiver, value))\n"
            "\n"
            "    return sending.finish()\n"
            "\n"
            "\n"
            "def walk("
        ),
        new=(
            "except BaseException as error:\n"
            "            if sending.policy == PROPAGATE:\n"
            "                raise\n"
            "\n"
            "            sending.fail(receiver, error)\n"
            "        else:\n"
            "            sending.results.append((receiver, value))\n"
            "\n"
            "    return sending.finish()\n"
            "\n"
            "\n"
            "def walk("
        ),
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="one-failure-grouped",
        what="one collected failure is raised as a group",
        promise="E3",
        file="_dispatch.py",
        old="if len(failures) == 1:",
        new="if not failures:",
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="policy-not-called",
        what="a callable policy is not handed the failure",
        promise="E3",
        file="_dispatch.py",
        old="self.policy(Failure(self.signal, receiver, self.sender, error))",
        new="pass",
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="policy-stops-the-send",
        what="a policy that raises stops the send",
        promise="E3",
        file="_dispatch.py",
        old="self.failures.append(refusal)",
        new="raise",
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="policy-set-unnoticed",
        what="a policy that is set after the first send does not count",
        promise="E3",
        file="_signal.py",
        old='self._table.set("errors", check_errors(policy))',
        new="self._table.errors = check_errors(policy)",
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="policy-not-looked-at",
        what="plain sends do not look at the policy",
        promise="E3",
        file="_table.py",
        old="and self.errors == PROPAGATE\n",
        new="and self.errors\n",
        tests=("core/test_e03_failures.py",),
    ),
    Break(
        name="failures-hold-themselves",
        what="collected failures are in a cycle with their traceback",
        promise="E3",
        file="_dispatch.py",
        old=(
            "finally:\n"
            "        # The traceback holds this frame: without this, the exceptions would hold "
            "themselves.\n"
            "        failures.clear()"
        ),
        new=("finally:\n        pass"),
        tests=(
            "core/test_e03_failures.py",
            "core/test_aio.py",
        ),
    ),
    Break(
        name="changes-nested",
        what="a change inside a change is made at once",
        promise="E4",
        file="_changes.py",
        old=("def _work_off(self) -> None:\n        if self._running:\n            return\n\n"),
        new="def _work_off(self) -> None:\n",
        tests=(
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="defer-waits",
        what="a weakref callback waits for the lock",
        promise="E4",
        file="_changes.py",
        old=(
            "def defer(self, change: Callable[[], object]) -> None:\n"
            '        """Have a change made soon. Never waits, so that a weakref callback may call it."""\n'
            "        self._changes.append(change)\n"
            "        self.settle()"
        ),
        new=(
            "def defer(self, change: Callable[[], object]) -> None:\n"
            '        """Have a change made soon. Never waits, so that a weakref callback may call it."""\n'
            "        self.apply(change)"
        ),
        tests=(
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="apply-does-not-wait",
        what="a change of another thread may not be made when its call returns",
        promise="E4",
        file="_changes.py",
        old=("with self._lock:\n                self._work_off()\n        finally:"),
        new=("self._running = self._running\n        finally:"),
        tests=("core/test_e04_threads.py",),
    ),
    Break(
        name="read-not-alone",
        what="tables change while somebody looks",
        promise="E4",
        file="_changes.py",
        old=("self._running = True\n\n            try:\n                found = look(True)"),
        new=("try:\n                found = look(True)"),
        tests=(
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="read-forgets",
        what="changes that came up during a look are left lying",
        promise="E4",
        file="_changes.py",
        old=("self.settle()\n        return found"),
        new="return found",
        tests=(
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="fork-takes-no-lock",
        what="a child may find the lock taken by a thread it does not have",
        promise="E4",
        file="_changes.py",
        old='if hasattr(os, "register_at_fork"):',
        new="if False:",
        tests=(
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="once-claimed-twice",
        what="two threads may both call a once receiver",
        promise="E4",
        file="_connection.py",
        old="claims.pop()",
        new="claims[0]",
        tests=(
            "core/test_e04_threads.py",
            "core/test_e02_snapshot.py",
        ),
    ),
    Break(
        name="once-ends-a-later-connect",
        what="a connect is lost while a once connection is used up",
        promise="E4",
        file="_table.py",
        old=("if connection.options is not options:\n            return  #"),
        new=("if connection.options is None:\n            return  #"),
        tests=("core/test_e04_threads.py",),
    ),
    Break(
        name="strong-by-default",
        what="receivers are held strongly by default",
        promise="E5",
        file="_signal.py",
        old=("weak: bool = True,\n        *,\n        priority: float = 0,"),
        new=("weak: bool = False,\n        *,\n        priority: float = 0,"),
        tests=("core/test_e05_references.py",),
    ),
    Break(
        name="strong-turned-weak",
        what="a weak connect makes a strong connection weak",
        promise="E5",
        file="_additions.py",
        old=("if connection.is_strong:\n        return\n\n    connection.ref"),
        new="connection.ref",
        tests=("core/test_e05_references.py",),
    ),
    Break(
        name="methods-die-at-once",
        what="a bound method is referenced like a function",
        promise="E5",
        file="_connection.py",
        old=("if isinstance(key, int):\n        return weakref"),
        new=("if key:\n        return weakref"),
        tests=("core/test_e05_references.py",),
    ),
    Break(
        name="dead-receivers-stay",
        what="dead receivers are not swept",
        promise="E5",
        file="_table.py",
        old="changes.defer(partial(table._sweep_receiver, key))",
        new="pass",
        tests=("core/test_e05_references.py",),
    ),
    Break(
        name="bucket-of-receiver-stays",
        what="an empty bucket of a receiver is left behind",
        promise="E5",
        file="_table.py",
        old=("if not filtered:\n            self._by_receiver.pop(key, None)"),
        new="pass",
        tests=(
            "core/test_leaks.py",
            "core/test_e05_references.py",
        ),
    ),
    Break(
        name="filter-stays",
        what="an empty sender filter is left behind",
        promise="E5",
        file="_table.py",
        old=("if not filter.connections:\n            self._drop_filter(filter)"),
        new="pass",
        tests=(
            "core/test_leaks.py",
            "core/test_e05_references.py",
        ),
    ),
    Break(
        name="receiver-id-reused",
        what="a receiver at a dead one's address is taken for that",
        promise="E5",
        file="_additions.py",
        old="if existing is not None and existing.ref() is None:",
        new="if existing is not None and existing.ref is gone:",
        tests=(
            "core/test_e05_references.py",
            "core/test_e04_collection.py",
        ),
    ),
    Break(
        name="sweep-takes-the-living",
        what="a late sweep takes the receiver that has the dead one's address now",
        promise="E5",
        file="_table.py",
        old=("if connection is not None and connection.ref() is None:\n            self._drop(connection)"),
        new=("if connection is not None:\n            self._drop(connection)"),
        tests=(
            "core/test_e05_references.py",
            "core/test_e04_collection.py",
        ),
    ),
    Break(
        name="none-is-any",
        what="None as a sender means any sender",
        promise="E6",
        file="_connection.py",
        old="if sender is ANY:",
        new="if sender is ANY or sender is None:",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="id-is-a-number",
        what="an int sender is looked up as the object with that id",
        promise="E6",
        file="_table.py",
        old="Filter(key, lambda: True, identity if isinstance(identity, str) else None)",
        new="Filter(key, lambda: True, identity if isinstance(identity, (str, int)) else None)",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="identities-are-values",
        what="objects are keyed as values",
        promise="E6",
        file="_connection.py",
        old='return ("identity", receiver_key(sender)) if',
        new='return ("value", receiver_key(sender)) if',
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="user-code-in-keys",
        what="a str sender of a user's class brings its own __eq__ along",
        promise="E6",
        file="_refs.py",
        old='return str.__add__(value, "")',
        new="return value",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="bytes-beside-str",
        what="bytes are compared with str senders",
        promise="E6",
        file="_refs.py",
        old='return "bytes", bytes.__add__(value, b"")',
        new='return bytes.__add__(value, b"")  # type: ignore',
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="glance-too-sure",
        what="proxies and values are taken for objects at a glance",
        promise="E6",
        file="_table.py",
        old="if sender.__class__ is not kind or issubclass(kind, _KEYED_BY_MORE_THAN_ID):",
        new="if sender is self:",
        tests=(
            "core/test_mutants.py",
            "core/test_e06_senders.py",
        ),
    ),
    Break(
        name="proxy-connected",
        what="connect() takes a proxy as it is",
        promise="E6",
        file="_signal.py",
        old="self._table.add(receiver, found, options",
        new="self._table.add(receiver, sender, options",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="proxy-sent",
        what="receivers of a plain send get the proxy",
        promise="E6",
        file="_signal.py",
        old=("if sender.__class__ is not type(sender):\n            sender = resolve(sender)\n\n        if len"),
        new="if len",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="proxy-routed",
        what="a send by a proxy does not reach those of its object",
        promise="E6",
        file="_dispatch.py",
        old="if sender.__class__ is not type(sender):",
        new="if sender is table:",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="unbound-proxy-taken",
        what="a proxy that stands for nothing can be connected to",
        promise="E6",
        file="_refs.py",
        old=("if is_proxy(found):\n        raise"),
        new=("if found is resolve:\n        raise"),
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="unreferable-sender-dropped",
        what="a sender without weak references is not kept",
        promise="E6",
        file="_table.py",
        old="return Filter(key, lambda: (sender,), short_key)",
        new="return Filter(key, lambda: True, short_key)",
        tests=("core/test_e06_senders.py",),
    ),
    Break(
        name="dead-senders-stay",
        what="connections stay when their sender dies",
        promise="E6",
        file="_table.py",
        old="changes.defer(partial(table._sweep_sender, key))",
        new="pass",
        tests=(
            "core/test_e06_senders.py",
            "core/test_e05_references.py",
        ),
    ),
    Break(
        name="dead-sender-routed",
        what="the route of a dead sender stays until the sweep",
        promise="E6",
        file="_table.py",
        old="table.routes.pop(key[1], None)",
        new="None",
        tests=(
            "core/test_e06_senders.py",
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="dead-sender-found",
        what="a sender at a dead one's address reaches that one's receivers",
        promise="E6",
        file="_table.py",
        old="return filter if filter is not None and filter.ref() is not None else None",
        new="return filter",
        tests=(
            "core/test_e06_senders.py",
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="dead-filter-used-again",
        what="a sender at a dead one's address gets that one's filter",
        promise="E6",
        file="_table.py",
        old=("if filter is not None and filter.ref() is not None:\n            return filter"),
        new=("if filter is not None:\n            return filter"),
        tests=(
            "core/test_e06_senders.py",
            "core/test_e04_collection.py",
            "core/test_e04_threads.py",
        ),
    ),
    Break(
        name="block-ends-another",
        what="of two blocks, the first to end disconnects",
        promise="E7",
        file="_additions.py",
        old="self.connection.holds += 1",
        new="self.connection.holds = 1",
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="block-takes-what-was-there",
        what="a block disconnects what was connected before",
        promise="E7",
        file="_additions.py",
        old="if connection.holds == 0 and not connection.is_own:",
        new="if connection.holds == 0:",
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="block-keeps",
        what="a weak connection is strong after a block",
        promise="E7",
        file="_additions.py",
        old=("elif connection.holds == 0 and not connection.is_strong:\n            connection.kept = None"),
        new="",
        tests=(
            "core/test_e05_references.py",
            "core/test_e07_undo.py",
        ),
    ),
    Break(
        name="once-ends-the-block",
        what="a once connection takes a block's along",
        promise="E7",
        file="_table.py",
        old=("if connection.holds == 0:\n            self._drop(connection)\n            return"),
        new=("if connection.holds >= 0:\n            self._drop(connection)\n            return"),
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="options-not-put-back",
        what="a connect that fails leaves its options",
        promise="E7",
        file="_additions.py",
        old="self.before = {name: getattr(existing, name) for name in _OWNED}",
        new="self.before = {}",
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="failed-connect-stays",
        what="a connect that fails leaves its connection",
        promise="E7",
        file="_signal.py",
        old=("if block is None:\n                addition.undo()\n            else:"),
        new="if block is not None:",
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="mute-ends-all",
        what="the end of a block unmutes the outer one",
        promise="E8",
        file="_blocks.py",
        old="self.table.count_mute(-1)",
        new="self.table.count_mute(-self.table.mutes)",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-forgets-the-outer",
        what="a block inside replaces the outer one",
        promise="E8",
        file="_blocks.py",
        old="_open.set((*(mute for mute in _open.get() if mute.is_open), self))",
        new="_open.set((self,))",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-never-ends-in-tasks",
        what="a task that was started in a block stays muted",
        promise="E8",
        file="_blocks.py",
        old="if mute.is_open and mute.table is table:",
        new="if getattr(mute, 'table', table) is table:",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-of-other-signals",
        what="a block mutes other signals that are muted somewhere",
        promise="E8",
        file="_blocks.py",
        old="if mute.is_open and mute.table is table:",
        new="if mute.is_open:",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-everywhere",
        what="a block mutes other threads and tasks",
        promise="E8",
        file="_dispatch.py",
        old="muted = None if table.is_muted else muted_keys(table)",
        new="muted = None if table.is_muted or table.mutes else muted_keys(table)",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-names-the-last",
        what="only the innermost block's receivers are muted",
        promise="E8",
        file="_blocks.py",
        old="keys |= mute.keys",
        new="keys = mute.keys",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="mute-unnoticed",
        what="a signal that was sent before is not muted",
        promise="E8",
        file="_table.py",
        old=("self.plain = self.others = None\n                self.routes = {}"),
        new="pass",
        tests=("core/test_e08_mute.py",),
    ),
    Break(
        name="async-call-not-seen",
        what="objects with an async __call__ count as sync",
        promise="E9",
        file="_refs.py",
        old="return _has_coroutine_flags(call) and not isinstance(receiver, type)",
        new="return False",
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="async-partial-not-seen",
        what="partials of async functions count as sync",
        promise="E9",
        file="_refs.py",
        old=("while isinstance(receiver, (partial, MethodType)):\n        receiver = receiver.func if"),
        new=("while isinstance(receiver, MethodType):\n        receiver = receiver.func if"),
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="marks-not-seen",
        what="marks of async functions are not honoured",
        promise="E9",
        file="_refs.py",
        old="return any(_has_mark(function, *mark) for mark in _COROUTINE_MARKS)",
        new="return False",
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="async-refused-late",
        what="send() finds out at its turn that it cannot run an async receiver",
        promise="E9",
        file="_dispatch.py",
        old=("wrapper = sending.require(wrapper, is_async=True)\n\n    for"),
        new="for",
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="sync-refused-late",
        what="send_async() finds out at its turn that it cannot run a sync receiver",
        promise="E9",
        file="_dispatch.py",
        old=("wrapper = sending.require(wrapper, is_async=False)\n\n    for"),
        new="for",
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="wrapper-of-call-ignored",
        what="the signal's wrapper goes before that of the call",
        promise="E9",
        file="_dispatch.py",
        old="wrapper = wrapper or signal.async_wrapper",
        new="wrapper = signal.async_wrapper or wrapper",
        tests=("core/test_e09_async.py",),
    ),
    Break(
        name="one-failure-cancels",
        what="a failure cancels the others unasked",
        promise="E9",
        file="aio.py",
        old="if not await call() and self.cancel_on_failure:",
        new="if not await call():",
        tests=("core/test_aio.py",),
    ),
    Break(
        name="own-cancel-swallowed",
        what="a receiver's own CancelledError is passed over",
        promise="E9",
        file="aio.py",
        old="if not failed and any(",
        new="if failed and any(",
        tests=("core/test_aio.py",),
    ),
    Break(
        name="concurrent-unordered",
        what="concurrent results are in the order of their ends",
        promise="E9",
        file="_dispatch.py",
        old="for place in sorted(values))",
        new="for place in values)",
        tests=("core/test_aio.py",),
    ),
    Break(
        name="thread-without-context",
        what="a sync receiver in a thread does not see the context",
        promise="E9",
        file="aio.py",
        old="return await asyncio.to_thread(receiver, *args, **payload)",
        new=("return await asyncio.get_running_loop().run_in_executor(None, lambda: receiver(*args, **payload))"),
        tests=("core/test_aio.py",),
    ),
    Break(
        name="dead-count",
        what="dead receivers count until they are swept",
        promise="E10",
        file="_table.py",
        old="any(connection.ref() is not None for connection in self._all())",
        new="any(True for _ in self._all())",
        tests=(
            "core/test_mutants.py",
            "core/test_e10_truth.py",
        ),
    ),
    Break(
        name="counted-twice",
        what="receivers_for() gives a receiver twice",
        promise="E10",
        file="_signal.py",
        old="if receiver is not None and connection.key not in seen:",
        new="if receiver is not None:",
        tests=(
            "core/test_mutants.py",
            "core/test_e10_truth.py",
        ),
    ),
    Break(
        name="no-plain-snapshot",
        what="no send takes the short way",
        promise="E11",
        file="_table.py",
        old="if base.is_plain and self.is_ordinary:",
        new="if base is None:",
        tests=("core/test_e11_cost.py",),
    ),
    Break(
        name="no-routes",
        what="no send by a sender with a filter takes the short way",
        promise="E11",
        file="_table.py",
        old="self.routes[filter.short_key] = route.connections",
        new="pass",
        tests=(
            "core/test_mutants.py",
            "core/test_e11_cost.py",
        ),
    ),
    Break(
        name="plain-stale",
        what="a change leaves the snapshot that plain sends walk",
        promise="E2",
        file="_table.py",
        old=("self.plain = None\n\n        if self.follower is not None:"),
        new="if self.follower is not None:",
        tests=(
            "core/test_e02_snapshot.py",
            "core/test_e01_order.py",
        ),
    ),
    Break(
        name="routes-stale-any",
        what="a change for any sender leaves the snapshots of single ones",
        promise="E2",
        file="_table.py",
        old=("self.others = self._base = None\n            self.routes = {}"),
        new="self.others = self._base = None",
        tests=(
            "core/test_e01_order.py",
            "core/test_e06_senders.py",
        ),
    ),
    Break(
        name="others-stale",
        what="a change for any sender leaves the snapshot of those without a filter",
        promise="E2",
        file="_table.py",
        old=("self.others = self._base = None\n            self.routes = {}"),
        new=("self._base = None\n            self.routes = {}"),
        tests=(
            "core/test_e01_order.py",
            "core/test_e06_senders.py",
        ),
    ),
    Break(
        name="routes-stale-sender",
        what="a change for a sender leaves that one's snapshot",
        promise="E2",
        file="_table.py",
        old="self.routes.pop(filter.short_key, None)",
        new="pass",
        tests=(
            "core/test_mutants.py",
            "core/test_e01_order.py",
            "core/test_e06_senders.py",
        ),
    ),
    Break(
        name="kept-routes-stale",
        what="a change for any sender leaves the routes of single ones that sends keep",
        promise="E2",
        file="_table.py",
        old=("self._routes = {}\n            return"),
        new="return",
        tests=(
            "core/test_mutants.py",
            "core/test_e01_order.py",
            "core/test_e06_senders.py",
        ),
    ),
    Break(
        name="dead-filter-counts",
        what="the connection of a dead sender is taken for that of who got its id",
        promise="E5",
        file="_table.py",
        old="None if filter is None or filter.ref() is None else",
        new="None if filter is None else",
        tests=("core/test_e04_collection.py",),
    ),
    Break(
        name="refusal-brings-back",
        what="a connect that is refused brings back what was disconnected meanwhile",
        promise="E7",
        file="_additions.py",
        old="if self.table._existing(self.connection.key, self.connection.filter_key) is not self.connection:",
        new="if False:",
        tests=("core/test_e07_undo.py",),
    ),
    Break(
        name="anything-connects",
        what="what is not callable can be connected",
        promise="E12",
        file="_checks.py",
        old="if not callable(receiver):",
        new="if receiver is None:",
        tests=("core/test_e12_early_errors.py",),
    ),
    Break(
        name="misfit-connects",
        what="a receiver that cannot take the payload is connected",
        promise="E12",
        file="_signal.py",
        old="contract.check_receiver(self, receiver)",
        new="pass",
        tests=("core/test_e12_early_errors.py",),
    ),
    Break(
        name="misfit-declared",
        what="a declaration does not look at who is connected",
        promise="E12",
        file="_namespace.py",
        old="contract.check_receiver(self, receiver)",
        new="pass",
        tests=("core/test_declare.py",),
    ),
    Break(
        name="declared-over",
        what="a second function may declare a signal again",
        promise="E12",
        file="_namespace.py",
        old="if before is not None and before.place",
        new="if before is contract and before.place",
        tests=("core/test_declare.py",),
    ),
    Break(
        name="defaults-missing",
        what="defaults are not filled in",
        promise="E12",
        file="_contract.py",
        old="whole = {**self.defaults, **payload}",
        new="whole = {**payload}",
        tests=("core/test_declare.py",),
    ),
    Break(
        name="defaults-win",
        what="defaults go before what was sent",
        promise="E12",
        file="_contract.py",
        old="whole = {**self.defaults, **payload}",
        new="whole = {**payload, **self.defaults}",
        tests=("core/test_declare.py",),
    ),
    Break(
        name="unknown-keywords-sent",
        what="keywords that are not declared are sent",
        promise="E12",
        file="_contract.py",
        old="if whole.keys() == self.names or (takes_more and whole.keys() >= self.names):",
        new="if whole.keys() >= self.names:",
        tests=("core/test_declare.py",),
    ),
    Break(
        name="open-misfit-connects",
        what="a receiver without **extra is connected to an open declaration",
        promise="E12",
        file="_contract.py",
        old='payload["_any_further_keyword"] = None',
        new="pass",
        tests=("core/test_e12_early_errors.py",),
    ),
    Break(
        name="contract-unseen-by-async",
        what="send_async() does not look at the contract",
        promise="E12",
        file="_dispatch.py",
        old="payload = table.contract.complete(signal, payload)",
        new="pass",
        tests=(
            "core/test_e09_async.py",
            "core/test_declare.py",
        ),
    ),
    Break(
        name="loss-unsaid",
        what="nobody is warned of a lost receiver",
        promise="E13",
        file="_table.py",
        old="_warn_of_loss, table.title, *connection.place",
        new="str",
        tests=("core/test_e13_lost_receivers.py",),
    ),
    Break(
        name="loss-of-partials-unsaid",
        what="nobody is warned of a lost partial",
        promise="E13",
        file="_refs.py",
        old="return isinstance(receiver, (FunctionType, BuiltinFunctionType, partial))",
        new="return isinstance(receiver, (FunctionType, BuiltinFunctionType))",
        tests=("core/test_e13_lost_receivers.py",),
    ),
    Break(
        name="loss-placed-wrong",
        what="the warning names the first connect, not the last",
        promise="E13",
        file="_additions.py",
        old="connection.place = new.place",
        new="pass",
        tests=("core/test_e13_lost_receivers.py",),
    ),
    Break(
        name="lost-future-silent",
        what="a failure in a thread is lost in silence",
        promise="E3",
        file="_future.py",
        old="threading.excepthook(threading",
        new="str(threading",
        tests=("core/test_delivery.py",),
    ),
    Break(
        name="asked-future-reported",
        what="a failure that was asked for is reported again",
        promise="E3",
        file="_future.py",
        old="if self._was_asked or not self.done()",
        new="if not self.done()",
        tests=("core/test_delivery.py",),
    ),
    Break(
        name="future-holds-itself",
        what="a failed future is in a cycle with its traceback",
        promise="E3",
        file="_future.py",
        old="future = None  # This",
        new="pass  # This",
        tests=("core/test_delivery.py",),
    ),
    Break(
        name="executor-holds-the-future",
        what="the executor's frame keeps a failed future",
        promise="E3",
        file="_future.py",
        old="self.call = self.future = None",
        new="pass",
        tests=("core/test_delivery.py",),
    ),
    Break(
        name="refusal-missing",
        what="install_as_blinker() does not refuse when it is too late",
        promise="Blinker's contract",
        file="blinker.py",
        old='if any(name.partition(".")[0] == "blinker" for name in list(sys.modules)):',
        new="if not sys.modules:",
        tests=("blinker/test_install.py",),
    ),
    Break(
        name="refusal-of-parts-missing",
        what="install_as_blinker() overlooks a part of the real Blinker",
        promise="Blinker's contract",
        file="blinker.py",
        old='name.partition(".")[0] == "blinker"',
        new='name == "blinker"',
        tests=("blinker/test_install.py",),
    ),
    Break(
        name="install-not-idempotent",
        what="install_as_blinker() cannot be called again",
        promise="Blinker's contract",
        file="blinker.py",
        old=("if _FINDER in sys.meta_path:\n            return\n\n        if any"),
        new="if any",
        tests=("blinker/test_install.py",),
    ),
    Break(
        name="connect-via-weak",
        what="connect_via() holds weakly",
        promise="Blinker's contract",
        file="_signal.py",
        old="def connect_via(self, sender: Any, weak: bool = False)",
        new="def connect_via(self, sender: Any, weak: bool = True)",
        tests=("core/test_connect_forms.py",),
    ),
    Break(
        name="disconnect-untold",
        what="receiver_disconnected is not sent",
        promise="Blinker's contract",
        file="_signal.py",
        old='self._tell("receiver_disconnected", receiver=receiver, sender=sender)',
        new="pass",
        tests=("core/test_connect_forms.py",),
    ),
    Break(
        name="watched-take-the-short-way",
        what="sends of a watched signal take the way that tells nobody",
        promise="sight",
        file="_table.py",
        old="self.mutes > 0 or self.watches or self.stand_ins",
        new="self.mutes > 0 or self.stand_ins",
        tests=("core/test_observe_watches.py",),
    ),
    Break(
        name="new-signals-unwatched",
        what="signals that are made later are not watched by who watches all",
        promise="sight",
        file="_table.py",
        old="self.watches = _watches_of_all",
        new="self.watches = ()",
        tests=("core/test_observe_watches.py",),
    ),
    Break(
        name="failing-watcher-stays",
        what="a watcher that fails is reported again and again",
        promise="sight",
        file="_watching.py",
        old="self.stop()\n                _report",
        new="_report",
        tests=("core/test_observe_watches.py",),
    ),
    Break(
        name="nested-sends-unlinked",
        what="what a receiver sends is no branch of its call",
        promise="sight",
        file="_watching.py",
        old="parent._add(self.record)",
        new="pass",
        tests=("core/test_observe_records.py",),
    ),
    Break(
        name="calls-stay-open",
        what="what is sent after a call looks as if the call had sent it",
        promise="sight",
        file="_watching.py",
        old="_running.set(self._outer)",
        new="pass",
        tests=("core/test_observe_records.py",),
    ),
    Break(
        name="fakes-unseen",
        what="a fake does not keep receivers from running",
        promise="testing",
        file="_table.py",
        old="self.mutes > 0 or self.watches or self.stand_ins",
        new="self.mutes > 0 or self.watches",
        tests=("testing/test_fake.py",),
    ),
    Break(
        name="forwarder-untold",
        what="a core signal does not forward to whom is connected",
        promise="two ways",
        file="_table.py",
        old="changes.report(self.follower)",
        new="pass",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="forwarder-stays",
        what="a core signal goes on forwarding when nobody is connected",
        promise="two ways",
        file="_forwarding.py",
        old="self._source.disconnect(self._forward)",
        new="pass",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="newer-framework-refused",
        what="a keyword that a newer framework sends is refused",
        promise="two ways",
        file="_contract.py",
        old="takes_more = self.is_open or self.is_foreign",
        new="takes_more = self.is_open",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="policy-of-all-applications",
        what="an application's policy for the framework's signals is not asked",
        promise="ALDIS_ERRORS",
        file="_calls.py",
        old="return policy.choose(sender) if type(policy) is SenderPolicy else policy",
        new="return policy",
        tests=("flask/test_extension.py",),
    ),
    Break(
        name="application-not-asked-to-cross",
        what="async receivers do not cross through the application",
        promise="E9",
        file="_dispatch.py",
        old="wrapper = next(filter(None, (crossing(is_async) for crossing in crossings)), None)",
        new="wrapper = None",
        tests=("flask/test_extension.py",),
    ),
    Break(
        name="delivered-unawaited",
        what="send_async() does not await what a delivery gives",
        promise="E9",
        file="_dispatch.py",
        old="return await value if isinstance(value, CoroutineType) else value",
        new="return value",
        tests=(
            "quart/test_after_response.py",
            "sqlalchemy/test_after_commit.py",
        ),
    ),
    Break(
        name="rolled-back-runs",
        what="what waited for a commit runs after a rollback",
        promise="after_commit",
        file="sqlalchemy.py",
        old="if transaction not in pending.committed:\n        return\n\n    pending.committed.remove(transaction)",
        new="pending.committed.discard(transaction)",
        tests=("sqlalchemy/test_after_commit.py",),
    ),
    Break(
        name="savepoint-runs",
        what="what waited runs when a savepoint ends, before the commit",
        promise="after_commit",
        file="sqlalchemy.py",
        old="    if transaction.nested:\n",
        new="    if transaction.nested and transaction.parent is None:\n",
        tests=("sqlalchemy/test_after_commit.py",),
    ),
    Break(
        name="page-without-debug",
        what="the live page answers outside debug mode",
        promise="live page",
        file="flask/_page.py",
        old="if not self._app.debug:",
        new="if self._app is None:",
        tests=(
            "page/test_door.py",
            "page/test_refusal.py",
        ),
    ),
    Break(
        name="page-made-without-debug",
        what="the live page is loaded outside debug mode",
        promise="live page",
        file="flask/_extension.py",
        old="if self._page is None and not self._app.debug:",
        new="if self._app is None:",
        tests=("page/test_door.py",),
    ),
    Break(
        name="page-for-all-clients",
        what="the live page answers to other machines",
        promise="live page",
        file="flask/_page.py",
        old="if not all(_is_allowed_address(address, hosts) for address in _clients(environ)):",
        new="if not environ:",
        tests=("page/test_refusal.py",),
    ),
    Break(
        name="secrets-shown",
        what="values that look secret are shown",
        promise="live page",
        file="flask/_shown.py",
        old="return HIDDEN if is_secret(name) else show(value)",
        new="return show(value)",
        tests=("page/test_shown.py",),
    ),
    Break(
        name="tests-do-not-wait",
        what="receivers after the response have not run when the test client returns",
        promise="after_response",
        file="flask/_after_response.py",
        old="if queue and (self._app.testing or IN_TEST in environ):",
        new="if queue is None:",
        tests=("flask/test_after_response.py",),
    ),
    Break(
        name="late-sends-lost",
        what="what is sent after the response is lost",
        promise="after_response",
        file="flask/_after_response.py",
        old="if self._is_over:\n            self.end()",
        new="if self._is_over:\n            return",
        tests=("flask/test_after_response.py",),
    ),
    Break(
        name="failures-uncounted",
        what="failures of Flask's own signals are not counted",
        promise="ALDIS_ERRORS",
        file="_application.py",
        old="qualified_name(failure.receiver)] += 1",
        new="qualified_name(failure.receiver)] += 0",
        tests=("flask/test_extension.py",),
    ),
    Break(
        name="isolation-forgets",
        what="isolate() does not put back who was disconnected",
        promise="testing",
        file="testing.py",
        old="saved.put_back([",
        new="list([",
        tests=("testing/test_isolate.py",),
    ),
    *RELAY,
)


@dataclass(frozen=True)
class Outcome:
    """What came of a run of tests.

    :ivar noticed_by: the first test that failed or hung, or ``None`` if all passed.
    """

    noticed_by: str | None
    output: str


class Copy:
    """The copy of ``src`` that is broken and tested."""

    def __init__(self, folder: Path) -> None:
        self.src = folder / "src"
        self.notes = folder / "notes.json"
        shutil.copytree(ROOT / "src", self.src, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "mutate_plugin.py").write_text(PLUGIN)
        self.python = self._make_python(folder / "venv")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.src), str(folder)]),
            # Two versions of a file may be written within the same second: their bytecode would be mixed up.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
            "MUTATE_COPY": str(self.src),
            "MUTATE_NOTES": str(self.notes),
        }

    def _make_python(self, folder: Path) -> Path:
        """A Python that finds the copy even where a test starts it with an environment of its own.

        Besides, it has what the Python that runs this has.
        """
        venv.create(folder)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
        own = sysconfig.get_path("purelib")
        (packages / "mutate.pth").write_text(f"{self.src}\nimport site; site.addsitedir({own!r})\n")
        return folder / "bin" / "python"

    def text(self, broken: Break) -> str:
        """The file of a break as it is without it."""
        return (self.src / "aldis" / broken.file).read_text(encoding="utf-8")

    def broken_text(self, broken: Break) -> str:
        """The same with it."""
        try:
            text = self.text(broken)
        except FileNotFoundError:
            raise UnusableBreakError(f"{broken.name}: there is no file {broken.file}") from None

        count = text.count(broken.old)

        if count != 1:
            raise UnusableBreakError(
                f"{broken.name}: in {broken.file} the old text is there {count} times:\n{broken.old}"
            )

        replaced = text.replace(broken.old, broken.new)

        try:
            ast.parse(replaced)
        except SyntaxError as error:
            raise UnusableBreakError(f"{broken.name}: leaves {broken.file} with a syntax error: {error}") from None

        return replaced

    def attempt(self, broken: Break, *, with_all: bool) -> Outcome:
        """Break, test, mend.

        :param with_all: run all tests of the room if the likely ones pass.
        """
        file = self.src / "aldis" / broken.file
        whole = self.text(broken)
        file.write_text(self.broken_text(broken), encoding="utf-8")

        try:
            likely = tests_of([broken])
            outcome = self.test(likely, TIMEOUT_S) if likely else Outcome(None, "")

            if outcome.noticed_by is None and with_all:
                room = "relay" if broken.file.startswith("relay/") else "core"
                outcome = self.test([ROOT / "tests" / room], TIMEOUT_OF_ALL_S)

            return outcome
        finally:
            file.write_text(whole, encoding="utf-8")

    def test(self, paths: list[Path], timeout_s: float) -> Outcome:
        """Run pytest on the copy, up to the first failure."""
        self.notes.write_text("{}")
        command = [str(self.python), "-m", "pytest", "-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
        command += ["-p", "mutate_plugin", *map(str, paths)]
        # A session of its own, so that what the tests started goes too if they hang.
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

        try:
            output, _ = run.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            output, _ = run.communicate()
            return Outcome(f"{self.noted('running')} (hung)", output)
        except BaseException:  # Ctrl-C does not reach another session.
            os.killpg(run.pid, signal.SIGKILL)
            raise

        failed = self.noted("failed")

        if not (self.noted("imported") or "").startswith(str(self.src)):
            raise UnusableBreakError(f"The copy is not what was tested:\n{output[-2000:]}")

        if run.returncode == 0:
            return Outcome(None, output)

        # Without a failure, the run was ended from inside: by the watchdog of the thread tests, or by a crash.
        return Outcome(failed or f"{self.noted('running')} (hung or crashed)", output)

    def noted(self, name: str) -> str | None:
        """What the plugin noted last."""
        try:
            found = json.loads(self.notes.read_text()).get(name)
        except ValueError:  # Killed while it was writing.
            return None

        return None if found is None else str(found)


def tests_of(breaks: list[Break]) -> list[Path]:
    """The test files that should notice, as far as they are there."""
    names = dict.fromkeys(name for broken in breaks for name in broken.tests)
    return [path for path in (ROOT / "tests" / name for name in names) if path.exists()]


def check_unbroken(copy: Copy, breaks: list[Break]) -> bool:
    """See that the tests pass on the engine as it is: what fails anyway notices nothing."""
    outcome = copy.test(tests_of(breaks), TIMEOUT_OF_ALL_S)

    if outcome.noticed_by is not None:
        print(outcome.output[-4000:])
        print(f"The unbroken engine fails already: {outcome.noticed_by}")

    return outcome.noticed_by is None


def try_each(copy: Copy, breaks: list[Break], *, with_all: bool) -> int:
    """Try each break, and say what came of it. Gives how many went unnoticed or could not be tried."""
    width = max(len(broken.name) for broken in breaks)
    bad = 0

    for broken in breaks:
        began = time.monotonic()

        try:
            noticed_by = copy.attempt(broken, with_all=with_all).noticed_by
        except UnusableBreakError as error:
            noticed_by = None
            result = f"CANNOT BE TRIED: {error}"
        else:
            result = noticed_by or f"SURVIVED: {broken.what}"

        bad += noticed_by is None
        print(f"{broken.name:{width}}  {broken.promise:4.7}  {time.monotonic() - began:5.1f} s  {result}", flush=True)

    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the engine, and see which test notices.")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[b.name for b in BREAKS])
    parser.add_argument("--unchecked", action="store_true", help="leave out the run of the unbroken engine")
    parser.add_argument("--quick", action="store_true", help="run the likely tests only, not all if these pass")
    options = parser.parse_args()
    breaks = [broken for broken in BREAKS if not options.only or broken.name in options.only]

    with tempfile.TemporaryDirectory(prefix="aldis-mutate-") as folder:
        copy = Copy(Path(folder).resolve())
        unusable = 0

        # All of them first: to learn at the end that the source has changed would be late.
        for broken in breaks:
            try:
                copy.broken_text(broken)
            except UnusableBreakError as error:
                unusable += 1
                print(error)

        if unusable:
            return 1

        if not options.unchecked and not check_unbroken(copy, breaks):
            return 1

        bad = try_each(copy, breaks, with_all=not options.quick)

    print(f"{len(breaks)} breaks, {len(breaks) - bad} noticed, {bad} not.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
