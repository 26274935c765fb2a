"""R3: a claim holds a row for the time of its lease, and a worker that lost its lease changes nothing."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="late-ack",
        what="A worker that lost its lease can still acknowledge the row.",
        at="_acknowledging",
        old='_m.token == bindparam("claim")',
        new='(_m.token == bindparam("claim")) | (_m.id > 0)',
        tests=("test_r6_engines.py", "test_claims.py", "test_kills.py"),
    ),
    Break(
        name="late-failure",
        what="A worker that lost its lease can still release the row or put off its next attempt.",
        at="_change",
        old="and_(_m.id == row.id, _m.token == row.token)",
        new="_m.id == row.id",
        tests=("test_r6_engines.py", "test_claims.py"),
    ),
    Break(
        name="late-death",
        what="A worker that lost its lease can still make a dead letter of the row.",
        at="dead_letter",
        old="and_(_m.id == row.id, _m.token == row.token)",
        new="_m.id == row.id",
        tests=("test_claims.py", "test_r6_engines.py"),
    ),
    Break(
        name="attempts-uncounted",
        what="An attempt is not counted when the row is claimed.",
        at="_claiming",
        old="_m.attempts + 1",
        new="_m.attempts",
        tests=("test_claims.py", "test_r6_engines.py", "test_kills.py"),
    ),
    Break(
        name="leases-without-end",
        what="The rows that a dead worker had claimed are not claimed again.",
        at="_claiming",
        old='bindparam("lease_ms")',
        new='1000 * bindparam("lease_ms")',
        tests=("test_r6_engines.py", "test_claims.py", "test_kills.py"),
    ),
    Break(
        name="no-leases",
        what="Several workers claim the same row.",
        at="_claiming",
        old='bindparam("lease_ms")',
        new='0 * bindparam("lease_ms")',
        tests=("test_claims.py", "test_r6_engines.py"),
    ),
    Break(
        name="leases-not-renewed",
        what="Leases are not renewed while receivers run.",
        at="LeaseKeeper.renew",
        old="if jobs: ...",
        new="if not self: ...",
        tests=("test_r3_leases.py",),
    ),
    Break(
        name="late-receivers-renewed",
        what="The lease of a receiver that runs past its time limit is renewed.",
        at="LeaseKeeper.renew",
        old="job.outcome is None and not job.is_late",
        new="job.outcome is None",
        tests=("test_time_limits.py",),
    ),
    Break(
        name="begun-too-late",
        what="A receiver begins although the lease of its row has ended.",
        at="ReceiverJob.run",
        old="self.started < self.held_until",
        new='self.started < float("inf")',
        tests=("test_r3_leases.py", "test_outages.py"),
    ),
    Break(
        name="clocks-of-programs",
        what="Times come from the clock of the program, not from the clock of the database.",
        at="_now_of_postgresql",
        old='return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"',
        new="""
            import os, tempfile, time

            with tempfile.TemporaryFile() as file:  # Its time is that of the machine.
                wrong = int(time.time() - os.fstat(file.fileno()).st_mtime) * 1000

            return f"(CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT) + {wrong})"
        """,
        tests=("test_wrong_clocks.py",),
    ),
    Break(
        name="release-counts",
        what="A row that was released before its receiver began counts as an attempt.",
        at="release",
        old="row.attempts - 1",
        new="row.attempts",
        tests=("test_claims.py", "test_r6_engines.py"),
    ),
    Break(
        name="ahead-is-kept",
        what="Rows that were claimed ahead are kept although all threads hang.",
        at="ClaimAhead.is_stalled",
        old="waiting & self._waiting",
        new="not self",
        tests=("test_hanging_receivers.py",),
    ),
    Break(
        name="counts-overflow",
        what="The largest possible number of attempts in a row stops the worker.",
        at="_are_counts",
        old="type(value) is int and 0 <= value < _LARGEST_INT",
        new="type(value) is int and 0 <= value <= _LARGEST_INT",
        tests=("test_odd_rows.py",),
    ),
    Break(
        name="no-own-connections",
        what="When receivers use up the connection pool, the worker loses its leases.",
        at="Database.for_worker",
        old="found._own_engines = {}",
        new="found._own_engines = None",
        tests=("test_r3_leases.py",),
    ),
    Break(
        name="one-loop",
        what="Async receivers and databases share an event loop, so that a receiver can block the renewal of leases.",
        at="databases",
        old='Portal("aldis-databases")',
        new="portal",
        tests=("test_r3_leases.py",),
    ),
)
