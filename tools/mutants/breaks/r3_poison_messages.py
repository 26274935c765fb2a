"""R3: a message that killed two workers runs alone, and does not hold up the others for long."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="kills-together",
        what="A row that killed two workers is claimed together with other rows.",
        at="_cut",
        beside="claim",
        old="row.losses >= SUSPICIOUS",
        new="row.losses >= 10**9",
        tests=("test_store.py", "test_contract.py"),
    ),
    Break(
        name="kills-beside",
        what="A row that killed two workers runs while other receivers run.",
        at="_is_suspicious",
        old="job.row.losses >= _store.SUSPICIOUS",
        new="job.row.losses >= 10**9",
        tests=("test_worker.py",),
    ),
    Break(
        name="alone-late",
        what="A row that must run alone waits although no other receiver runs.",
        at="Worker._take",
        old="_is_suspicious(job) and not self._is_alone(job)",
        new="_is_suspicious(job)",
        tests=("test_worker.py",),
    ),
    Break(
        name="alone-with-the-late",
        what="Receivers that run past their time limit keep a row from running alone.",
        at="Worker._is_alone",
        old="all(other.is_late for other in others)",
        new="not others",
        tests=("test_worker_apart.py",),
    ),
    Break(
        name="late-ones-run-alone",
        what="A row that runs alone past its time limit keeps all other rows waiting.",
        at="_runs_alone",
        old="_is_suspicious(job) and not job.is_late",
        new="_is_suspicious(job)",
        tests=("test_worker_apart.py",),
    ),
    Break(
        name="alone-for-ever",
        what="A row that must run alone waits as long as other receivers run, without end.",
        at="Worker._begin_alone",
        old="time.monotonic() >= self._suspicious_until",
        new="not self",
        tests=("test_worker_apart.py",),
    ),
)
