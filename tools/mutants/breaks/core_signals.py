"""Two ways into Flask: Flask's own signals reach Aldis, and `ALDIS_ERRORS` decides about their failures."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="forwarder-untold",
        what="Flask's signal does not forward to Aldis when the first receiver is connected.",
        at="SnapshotCache.invalidate",
        old="changes.report(self.on_change)",
        new="pass",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="forwarder-stays",
        what="Flask's signal goes on forwarding to Aldis when no receiver is connected any more.",
        at="SignalMirror.update",
        old="self._source.disconnect(self._forward)",
        new="pass",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="newer-framework-refused",
        what="A keyword that a newer version of Flask sends is refused.",
        at="Contract.complete",
        old="self.is_open or self.is_foreign",
        new="self.is_open",
        tests=("flask/test_core_signals.py",),
    ),
    Break(
        name="policy-of-all-applications",
        what="The failure policy of the sending application is not used.",
        at="SnapshotCache.policy_for",
        old="self.errors.choose(sender) if type(self.errors) is SenderPolicy else self.errors",
        new="self.errors",
        tests=("flask/test_extension.py",),
    ),
    Break(
        name="failures-uncounted",
        what="Failures of receivers of Flask's signals are not counted.",
        at="State._handle",
        old="self._failures[...] += 1",
        new="self._failures[...] += 0",
        tests=("flask/test_extension.py",),
    ),
)
