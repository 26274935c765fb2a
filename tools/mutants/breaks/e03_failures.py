"""E3: what happens when a receiver raises is decided by the failure policy, and no failure is lost in silence."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="propagate-goes-on",
        what="Under `propagate`, a failure does not stop the send.",
        at="_send",
        old="if run.policy == PROPAGATE: ...",
        new="pass",
        tests=("test_e03_failures.py", "test_hazards.py"),
    ),
    Break(
        name="all-exceptions-collected",
        what="Under `collect`, KeyboardInterrupt and SystemExit are collected too.",
        at="_send",
        old="Exception",
        new="BaseException",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="one-failure-grouped",
        what="A single collected failure is raised inside an ExceptionGroup.",
        at="_raise",
        old="len(failures) == 1",
        new="not failures",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="policy-not-called",
        what="A policy that is a callable is not called with the failure.",
        at="SendRun.fail",
        old="self.policy(Failure(self.signal, receiver, self.sender, error))",
        new="pass",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="policy-stops-the-send",
        what="A policy that raises stops the send: the receivers after that are not called.",
        at="SendRun.fail",
        old="self.failures.append(refusal)",
        new="raise",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="policy-set-unnoticed",
        what="A policy that is set after the first send has no effect.",
        at="Signal.errors.setter",
        old='self._registry.set("errors", check_errors(policy))',
        new="self._registry.errors = check_errors(policy)",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="policy-ignored-when-fast",
        what="A send that takes a fast way ignores the policy.",
        at="SnapshotCache.is_ordinary",
        old="self.errors == PROPAGATE",
        new="self.errors",
        tests=("test_e03_failures.py",),
    ),
    Break(
        name="failures-hold-themselves",
        what="Collected failures stay in a reference cycle with their traceback.",
        at="_raise",
        old="failures.clear()",
        new="pass",
        tests=("test_e03_failures.py", "test_aio.py"),
    ),
    Break(
        name="lost-future-silent",
        what="A failure in a thread of a delivery is not reported when nobody asks for it.",
        at="ReportedFuture.__del__",
        old="threading.excepthook",
        new="str",
        tests=("test_delivery.py",),
    ),
    Break(
        name="asked-future-reported",
        what="A failure in a thread is reported again after the caller has asked for it.",
        at="ReportedFuture.__del__",
        old="self._was_asked or not self.done() or self.cancelled()",
        new="not self.done() or self.cancelled()",
        tests=("test_delivery.py",),
    ),
    Break(
        name="future-holds-itself",
        what="A failed future stays in a reference cycle with its traceback.",
        at="Job.__call__",
        old="future = None",
        new="pass",
        tests=("test_delivery.py",),
    ),
    Break(
        name="executor-holds-the-future",
        what="The thread of the executor keeps a failed future alive.",
        at="Job.__call__",
        old="self.call = self.future = None",
        new="pass",
        tests=("test_delivery.py",),
    ),
)
