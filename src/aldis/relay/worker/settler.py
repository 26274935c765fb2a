"""Write the outcomes of attempts into the database, and count them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, final

from sqlalchemy.exc import DBAPIError

from aldis.relay.storage import claims, dead_letters
from aldis.relay.storage.dialects import is_away, is_busy, is_full
from aldis.relay.storage.rows import DrainCounts

from .consumer import Disposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aldis.relay.storage.database import Database
    from aldis.relay.storage.rows import Row

    from .consumer import Outcome
    from .executor import ReceiverJob
    from .outage import OutageHandler

logger: Final = logging.getLogger("aldis.relay")

# The most outcomes that are written in one transaction.
BATCH: Final = 500

_REPORT_S: Final = 60.0
_COUNTED_AS: Final = {
    Disposition.FAILED: "failed",
    Disposition.DEAD: "dead",
    Disposition.WAITS: "waiting",
}


@final
class Settler:
    """Settles jobs: writes the outcome of each row, then forgets the row.

    :param on_settled: called with the jobs whose outcomes were written.
    :ivar pending: jobs that have ended, and whose outcomes are not written yet.
    :ivar counts: how many messages had which outcome.
    """

    def __init__(
        self,
        database: Database,
        outage: OutageHandler,
        *,
        notifies: bool,
        on_settled: Callable[[list[ReceiverJob]], object],
    ) -> None:
        self._database = database
        self._outage = outage
        self._notifies = notifies
        self._on_settled = on_settled
        self.pending: list[ReceiverJob] = []
        self.counts = DrainCounts()

    def settle(self) -> None:
        """Write the outcomes of all pending jobs, in transactions of their own.

        After an error they are written one by one: perhaps the database refuses one outcome, and accepts the rest.
        """
        while self.pending:
            jobs = self.pending[: 1 if self._outage.is_away else BATCH]

            try:
                counts = self._database.run(lambda connection, jobs=jobs: self.write(connection, jobs))  # type: ignore[misc]
            except DBAPIError as error:
                if not self._outage.is_away or is_busy(error) or is_away(error) or is_full(error):
                    raise

                error.hide_parameters = True
                message_id = jobs[0].row.message_id
                logger.exception("The database refuses the outcome of message %s. It is received again", message_id)
                counts = DrainCounts(lost=1)

            self.note_settled(jobs, counts)

    def write(self, connection: Connection, jobs: list[ReceiverJob]) -> DrainCounts:
        """Write the outcomes of jobs in a transaction of the caller's, and count them."""
        counts: Counter[str] = Counter()
        done = [job.lease for job in jobs if job.outcome is not None and job.outcome.disposition is Disposition.DONE]
        counts["done"] = claims.acknowledge(connection, done) if done else 0
        counts["lost"] = len(done) - counts["done"]

        if self._notifies and any(job.row.ordering_key is not None for job in jobs):
            claims.notify_workers(connection)

        for job in jobs:
            if job.outcome is None or job.outcome.disposition is not Disposition.DONE:
                is_held = _write_outcome(connection, job.row, job.outcome)
                name = "released" if job.outcome is None else _COUNTED_AS[job.outcome.disposition]
                counts[name if is_held else "lost"] += 1

        return DrainCounts(**counts)

    def note_settled(self, jobs: list[ReceiverJob], counts: DrainCounts) -> None:
        """Note that the first pending jobs were written, and that the transaction was committed."""
        self.pending = self.pending[len(jobs) :]
        self.counts = self.counts.plus(counts)

        if jobs:
            self._on_settled(jobs)

        if counts.lost:
            logger.warning(
                "%d messages ended after their lease had expired. They are, or were, received a second time",
                counts.lost,
            )


def _write_outcome(connection: Connection, row: Row, outcome: Outcome | None) -> bool:
    """Write an outcome. Return whether the lease was still held."""
    if outcome is None:
        return claims.release(connection, row, 0)

    wait_ms = int(outcome.wait_s * 1000)

    if outcome.disposition is Disposition.DEAD:
        logger.error("Message %s for %s is a dead letter: %s", row.message_id, row.receiver, outcome.reason)
        counted = row._replace(attempts=row.attempts - (not outcome.is_begun))
        return dead_letters.dead_letter(connection, counted, outcome.reason)

    if outcome.disposition is Disposition.WAITS:
        return claims.release(connection, row, wait_ms, outcome.reason)

    return claims.retry(connection, row, wait_ms, outcome.reason)


@final
class MinuteReport:
    """Logs once a minute how many messages had which outcome.

    :ivar due_at: when it logs next, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.due_at = time.monotonic() + _REPORT_S
        self._reported = DrainCounts()

    def log_if_due(self, counts: DrainCounts) -> None:
        """Log the counts since the last report, if a minute is over."""
        if time.monotonic() < self.due_at:
            return

        new = DrainCounts(*(now - before for now, before in zip(counts, self._reported, strict=True)))
        self.due_at += _REPORT_S
        self._reported = counts
        logger.info("In the last minute: %s", in_words(new))


def in_words(counts: DrainCounts) -> str:
    """Return counts as a text, such as ``3 done, 1 dead``."""
    return ", ".join(f"{count} {name}" for name, count in counts._asdict().items() if count) or "no messages"
