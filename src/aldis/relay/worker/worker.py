"""The worker: claims rows, has their receivers run, and says what came of them.

One thread, the one that calls :meth:`Worker.run`, does all the work with the database; threads of :mod:`._runners` run
the receivers. What has ended while a transaction was under way is settled by the next one, all of it at once. Where
more is to be claimed, that is the one that claims it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from enum import IntEnum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, final

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from aldis.relay._backoff import check_number
from aldis.relay.storage import claims as _store, tables as _tables
from aldis.relay.storage.dialects import is_away, is_busy, is_full, use_wal

from .consumer import Disposition, Outcome
from .executor import Inline, Job, ThreadExecutor, drain_queue
from .listener import Listener
from .scheduler import FairScheduler
from .wake import WakeEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aldis.relay._registry import Known
    from aldis.relay._relay import Relay
    from aldis.relay.storage.rows import Row

logger: Final = logging.getLogger("aldis.relay")

_AWAY_S: Final = (0.2, 5.0)
_AHEAD_S: Final = 0.25
_ALONE_S: Final = 5.0
_REPORT_S: Final = 60.0
_SAME_STOP_S: Final = 1.0
_MOST_FINISHED: Final = 500


class Exit(IntEnum):
    """With what a worker's process ends, as init systems understand it.

    .. versionadded:: 0.1
    """

    STOPPED = 0
    """It was asked to stop, or has drained what there was, and everything that it had begun has ended."""

    FAILED = 1
    """It failed in a way that nobody foresaw. To start it again may help."""

    UNFINISHED = 75
    """It was asked to stop, and receivers ran on for longer than was to be waited. Their messages come again."""

    MISCONFIGURED = 78
    """The tables are not there, or of another version. To start it again is of no use."""


@final
class Settings:
    """How a worker works.

    :ivar concurrency: how many receivers run at the same time.
    :ivar batch: how many rows are claimed at once, at the most. It is fewer where receivers take long.
    :ivar lease_s: for how many seconds a claim holds, if it is not extended; it is, all the time.
    :ivar poll_s: the most seconds between two looks for new rows.
    :ivar grace_s: how many seconds receivers have to end when the worker stops.
    :ivar drains: whether to end when nothing is due any more.
    """

    __slots__ = ("batch", "concurrency", "drains", "grace_s", "lease_s", "poll_s")

    def __init__(
        self,
        *,
        concurrency: int = 4,
        batch: int = 100,
        lease_s: float = 60.0,
        poll_s: float = 1.0,
        grace_s: float = 30.0,
        drains: bool = False,
    ) -> None:
        for name, value, least in (
            ("concurrency", concurrency, 1),
            ("batch", batch, 1),
            ("lease_s", lease_s, 0.5),
            ("poll_s", poll_s, 0.001),
            ("grace_s", grace_s, 0),
        ):
            check_number(name, value, least=least)

        self.concurrency = int(concurrency)
        self.batch = int(batch)
        self.lease_s = lease_s
        self.poll_s = poll_s
        self.grace_s = grace_s
        self.drains = drains


@final
class Worker:
    """Receives the messages of one relay, until it is stopped.

    :ivar tally: how many messages came to which end: ``done``, ``failed``, ``dead``, ``waits``, ``lost`` or
        ``given back``.
    """

    def __init__(
        self,
        relay: Relay,
        settings: Settings,
        *,
        beat: Callable[[Worker], object] = lambda _: None,
        settled: Callable[[int], object] = lambda _: None,
        is_inline: bool = False,
    ) -> None:
        self._relay = relay
        self._is_inline = is_inline
        self._database = relay._database.impatient() if is_inline else relay._database.apart()
        self.settings = settings
        self.tally: Counter[str] = Counter()
        self.is_ready = False
        self._beat = beat
        self._settled = settled
        self._bell = WakeEvent()
        self._turns = FairScheduler(relay._registry, settings.poll_s)
        self._stopping: float | None = None
        self._is_hurried = False
        self._ended: SimpleQueue[Job] = SimpleQueue()
        self._unsettled: list[Job] = []
        self._jobs: dict[tuple[int, str], Job] = {}
        self._suspicious: Job | None = None
        self._suspicious_until = 0.0
        self._waited: set[tuple[int, str]] = set()
        self._found_nothing = False
        self._took_s = 0.0
        self._deadline = float("inf")
        self._hold_at = 0.0
        self._report_at = time.monotonic() + _REPORT_S
        self._reported: Counter[str] = Counter()
        self._pause_s = _AWAY_S[0]
        self._is_away = False
        self._runners: ThreadExecutor | Inline = (
            Inline(self._receive, self._end)
            if is_inline
            else ThreadExecutor(settings.concurrency, self._receive, self._end)
        )

    def stop(self) -> None:
        """Have it stop: claim nothing more, and end when the receivers that run have.

        A second time, end at once; but not within a second, for an init system may tell a process what its parent
        tells it, too. May be called in a signal handler.
        """
        now = time.monotonic()

        if self._stopping is None:
            self._stopping = now
        elif now - self._stopping > _SAME_STOP_S:
            self._is_hurried = True

        self._bell.ring()

    def run(self) -> Exit:
        """Work until it is stopped, or nothing is left if it drains.

        :raises RelaySchemaError: when the tables are not there, or of another version.
        :raises InvalidOptionError: when the relay's engine would lose messages as it is set up.
        """
        wakeups: Listener | None = None

        try:
            self._relay._engine.start()
            self._start()
            wakeups = None if self.settings.drains else self._wakeups()

            while not self._is_over():
                self._try(self._step)
                self._report()
                self._bell.wait(0 if self._is_over() else self._rest_s())
        finally:
            self._runners.end()
            self._relay._engine.stop()

            if wakeups is not None:
                wakeups.stop()

            self._close(self._database.close)

        return Exit.UNFINISHED if self._jobs else Exit.STOPPED

    def _start(self) -> None:
        while not self.is_ready and self._stopping is None:
            self.is_ready = self._try(lambda: self._database.run(_tables.check))
            self._bell.wait(0 if self.is_ready else self._pause_s)

        self._try(lambda: self._database.run_plain(use_wal))

    def _wakeups(self) -> Listener:
        with self._database.scope():
            return Listener(self._database.engine(), listens=self._relay._notifies, wake=self._wake)

    def _wake(self) -> None:
        self._turns.hear()
        self._bell.ring()

    def _is_over(self) -> bool:
        if self._is_hurried:
            return True

        if self._stopping is not None:
            is_late = time.monotonic() - self._stopping > self.settings.grace_s
            return is_late or not (self._jobs or self._unsettled)

        return self.settings.drains and self._found_nothing

    # A database that goes away and comes back.

    def _try(self, work: Callable[[], object]) -> bool:
        """Do some work with the database. If that is away, say so once, and have it tried again after a pause."""
        try:
            work()
        except SQLAlchemyError as error:
            if isinstance(error, StatementError):
                error.hide_parameters = True

            if self._is_inline:
                raise  # Whoever drains waits for it, and can neither stop it nor see what it waits for.

            self._note_trouble(error)
            return False

        if self._is_away:
            logger.warning("The database is back")

        self._is_away = False
        self._pause_s = _AWAY_S[0]
        return True

    def _note_trouble(self, error: SQLAlchemyError) -> None:
        self._turns.hear()  # Of what was not seen, or not claimed.

        if isinstance(error, DBAPIError) and is_busy(error):
            return  # Others write for long. Nothing is wrong, and the next step does it again.

        if not self._is_away:
            logger.warning("The database does not answer as it should. Trying again: %s", error)

        self._is_away = True
        self._pause_s = min(self._pause_s * 2, _AWAY_S[1])

        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return  # SQLAlchemy has seen to the other connections, too.

        self._close(self._database.reconnect)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except Exception:
            logger.debug("The connections could not be closed", exc_info=True)

    # One step.

    def _step(self) -> None:
        # First what needs no database, for that may be away.
        self._interrupt()

        if time.monotonic() >= self._hold_at:
            self._beat(self)

        if self._stopping is not None:
            self._take_back()

        self._unsettled.extend(drain_queue(self._ended))

        if self._is_away:
            self._database.look(_ask)  # Nothing else may be to do, and then nothing would tell whether it is back.

        if not self._settles_by_a_claim():
            self._settle()

        self._hold()

        if self._stopping is None:
            self._feed()

        self._settle()

    def _rest_s(self) -> float:
        """How long nothing is to be done, unless the event is set."""
        now = time.monotonic()
        ends = [self._deadline, self._report_at]

        if self._suspicious is not None:
            ends.append(self._suspicious_until)

        if self._stopping is not None:
            ends.append(self._stopping + self.settings.grace_s + 0.01)

        if self._is_away:
            ends.append(now + self._pause_s)
        else:
            ends.append(self._hold_at)

            if self._stopping is None and self._room():
                ends.append(self._turns.next_at(now))

        return max(min(ends) - now, 0.0)

    def _interrupt(self) -> None:
        """Interrupt the receivers whose time is over, and see whose will be next."""
        now = time.monotonic()
        self._deadline = min((job.interrupt(now) for job in self._jobs.values()), default=float("inf"))

    def _report(self) -> None:
        if time.monotonic() >= self._report_at:
            self._report_at += _REPORT_S
            new = self.tally - self._reported
            self._reported = self.tally.copy()
            logger.info("In the last minute: %s", ", ".join(f"{n} {end}" for end, n in new.items()) or "nothing to do")

    # Claiming.

    def _room(self) -> int:
        """How many rows to claim now.

        Enough for every thread, and ahead of that as many as will be begun in a moment: what waits here for long is
        kept from other workers. Ahead, rows are claimed when half of that is used up, so that one claim gets several.
        """
        if self._suspicious is not None or any(map(_runs_alone, self._jobs.values())):
            return 0

        threads, in_hand = self.settings.concurrency, len(self._jobs) - len(self._unsettled)
        ahead = min(self.settings.batch - 1, int(threads * _AHEAD_S / self._took_s)) if self._took_s else 0
        room = threads + ahead - in_hand
        return min(room, self.settings.batch) if in_hand < threads or room > ahead // 2 else 0

    def _feed(self) -> None:
        """Claim for the receivers that have due rows, in turn, so that none waits for the backlog of another."""
        if self._suspicious is not None:
            self._begin_alone(self._suspicious)
            return

        if not self._room():
            return

        if self.settings.drains:
            self._turns.hear()  # It ends when a look finds nothing.

        is_looking = self._turns.is_to_look()

        if is_looking:
            self._turns.look(self._database)

        for name in [*self._turns.hungry]:
            if not (room := self._room()):
                break

            known = self._turns.take(name)

            if known is not None and self._claim(name, known, room):
                self._turns.hungry.append(name)

        self._found_nothing = is_looking and not (self._turns.hungry or self._jobs)

    def _begin_alone(self, job: Job) -> None:
        """Begin a suspicious row when nothing else runs. If that takes too long, leave it to another worker."""
        if self._is_alone(job):
            self._runners.put(job)
        elif time.monotonic() >= self._suspicious_until:
            job.outcome = Outcome(
                Disposition.WAITS, "it is to run alone, and others run for long", self.settings.lease_s
            )
            self._unsettled.append(job)
        else:
            return

        self._suspicious = None

    def _is_alone(self, job: Job) -> bool:
        """Whether a job is, but for those that run on though their time is over: they may never end."""
        others = [other for other in self._jobs.values() if other is not job]
        return len(others) < self.settings.concurrency and all(other.is_late for other in others)

    def _claim(self, name: str, known: Known, most: int) -> bool:
        """Claim up to so many rows. Gives whether there may be more."""
        held_until = time.monotonic() + self.settings.lease_s
        lease_ms = int(self.settings.lease_s * 1000)
        ended = self._unsettled

        def settle_and_claim(connection: Connection) -> tuple[Counter[str], list[Row]]:
            return self._write_outcomes(connection, ended), _store.claim(connection, name, known, most, lease_ms)

        counts, rows = self._database.run(settle_and_claim)
        self._unsettled = []
        self._note_settled(ended, counts)

        for row in rows:
            self._take(Job(row, held_until, self._bell.ring))

        return len(rows) == most

    def _take(self, job: Job) -> None:
        self._turns.note_claimed()
        self._jobs[job.lease] = job

        if _is_suspicious(job) and not self._is_alone(job):
            self._suspicious = job
            self._suspicious_until = time.monotonic() + _ALONE_S
        else:
            self._runners.put(job)

    # Settling.

    def _receive(self, job: Job) -> Outcome:
        outcome = self._relay._engine.handle(job.row, job.guard)
        why = outcome.why and f", {outcome.why}"
        logger.debug("Message %s for %s: %s%s", job.row.message_id, job.row.receiver, outcome.what.value, why)
        return outcome

    def _end(self, job: Job) -> None:
        self._ended.put(job)

        if not self._bell.has_rung():  # It is waited for before what has ended is taken, so the job is not overlooked.
            self._bell.ring()

    def _settles_by_a_claim(self) -> bool:
        """Whether what came of rows is said in the transaction that claims the next: one commit, and not two.

        Not after trouble, which may be one of the claim and is not to keep the rest from being written.
        """
        is_well = self._stopping is None and not self._is_away and len(self._unsettled) <= _MOST_FINISHED
        return is_well and bool(self._turns.hungry and self._room())

    def _settle(self) -> None:
        """Say what came of the rows that have ended."""
        while self._unsettled:
            most = 1 if self._is_away else _MOST_FINISHED  # After trouble one by one: it may be that of one of them.
            now, later = self._unsettled[:most], self._unsettled[most:]

            try:
                counts = self._database.run(lambda connection, now=now: self._write_outcomes(connection, now))  # type: ignore[misc]
            except DBAPIError as error:
                if most > 1 or is_busy(error) or is_away(error) or is_full(error):
                    raise

                error.hide_parameters = True
                logger.exception("What came of message %s is refused. It comes again", now[0].row.message_id)
                counts = Counter(lost=1)

            self._unsettled = later
            self._note_settled(now, counts)

    def _write_outcomes(self, connection: Connection, jobs: list[Job]) -> Counter[str]:
        """Write what came of rows. Gives how many came to which end."""
        counts: Counter[str] = Counter()
        done = [job.lease for job in jobs if job.outcome is not None and job.outcome.what is Disposition.DONE]
        counts["done"] = _store.finish(connection, done) if done else 0
        counts["lost"] = len(done) - counts["done"]

        if self._relay._notifies and any(job.row.ordering_key is not None for job in jobs):
            _store.tell(connection)

        for job in jobs:
            if job.outcome is None or job.outcome.what is not Disposition.DONE:
                is_held = _write_outcome(connection, job.row, job.outcome)
                end = "given back" if job.outcome is None else job.outcome.what.value
                counts[end if is_held else "lost"] += 1

        return counts

    def _note_settled(self, jobs: list[Job], counts: Counter[str]) -> None:
        self.tally.update(counts)

        if jobs:
            self._settled(len(jobs))

        for job in jobs:
            self._forget(job)

        if counts["lost"]:
            logger.warning(
                "%d messages were received after their lease had ended: they come, or came, a second time",
                counts["lost"],
            )

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.lease, None)

        if job.row.ordering_key is not None:
            self._turns.hear()  # The next of its key can be claimed.

        if job.started is not None:
            took_s = max(job.ended - job.started, 1e-6)
            self._took_s = took_s if not self._took_s else 0.9 * self._took_s + 0.1 * took_s

    def _hold(self) -> None:
        """Extend the leases, long before they end. Not of receivers that run on though their time is over."""
        now = time.monotonic()

        if now < self._hold_at:
            return

        self._leave_what_waits()
        jobs = [job for job in self._jobs.values() if job.outcome is None and not job.is_late]

        if jobs:
            lease_ms = int(self.settings.lease_s * 1000)
            leases = [job.lease for job in jobs]
            held = self._database.run(lambda connection: _store.extend(connection, leases, lease_ms))

            for job in jobs:
                job.held_until = now + self.settings.lease_s if job.lease in held else 0.0

            if len(held) < len(jobs):
                logger.warning("%d leases were lost to other workers", len(jobs) - len(held))

        self._hold_at = now + self.settings.lease_s / 4

    def _leave_what_waits(self) -> None:
        """Have what was claimed ahead given back, if it waits for threads that do not come free."""
        waits = {job.lease for job in self._jobs.values() if job.started is None and job is not self._suspicious}

        if waits & self._waited:
            self._unsettled.extend(self._runners.take_back())
            self._took_s = 0.0  # What it was is of no use any more: claim nothing ahead.

        self._waited = waits

    def _take_back(self) -> None:
        """Begin no more of what was claimed, and have it given back."""
        self._unsettled.extend(self._runners.take_back())

        if self._suspicious is not None:
            self._unsettled.append(self._suspicious)
            self._suspicious = None


def _ask(connection: Connection) -> None:
    connection.execute(select(1))


def _is_suspicious(job: Job) -> bool:
    return job.row.losses >= _store.SUSPICIOUS


def _runs_alone(job: Job) -> bool:
    return _is_suspicious(job) and not job.is_late


def _write_outcome(connection: Connection, row: Row, outcome: Outcome | None) -> bool:
    if outcome is None:
        return _store.put_back(connection, row, 0)

    wait_ms = int(outcome.wait_s * 1000)

    if outcome.what is Disposition.DEAD:
        logger.error("Message %s for %s is a dead letter: %s", row.message_id, row.receiver, outcome.why)
        return _store.bury(connection, row._replace(attempts=row.attempts - (not outcome.is_begun)), outcome.why)

    if outcome.what is Disposition.WAITS:
        return _store.put_back(connection, row, wait_ms, outcome.why)

    return _store.try_again(connection, row, wait_ms, outcome.why)
