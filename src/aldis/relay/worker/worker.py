"""The worker: claims rows, lets receivers run, and writes the outcomes.

One thread, which calls :meth:`Worker.run`, does all the work with the database; the threads of :mod:`.executor` run the
receivers. When the worker claims rows, the same transaction writes the pending outcomes: one commit instead of two.
"""

from __future__ import annotations

import logging
import time
from enum import IntEnum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, final

from sqlalchemy import select

from aldis.relay._backoff import check_number
from aldis.relay.storage import claims, tables
from aldis.relay.storage.dialects import use_wal

from .executor import InlineExecutor, ReceiverJob, ThreadExecutor, drain_queue
from .leases import LeaseKeeper
from .listener import Listener
from .outage import OutageHandler, close_quietly
from .parts import parts_of
from .scheduler import ClaimAhead, FairScheduler, PoisonSlot
from .settler import BATCH, MinuteReport, Settler
from .wake import StopRequest, WakeEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aldis.relay.storage.rows import DrainCounts, KnownReceiver, Row

    from .consumer import Outcome
    from .executor import Lease
    from .parts import HasParts

logger: Final = logging.getLogger("aldis.relay")


class Exit(IntEnum):
    """The exit code of a worker's process, as init systems understand it.

    .. versionadded:: 0.1
    """

    STOPPED = 0
    """The worker was asked to stop, or no message was due any more, and all receivers that it began have ended."""

    FAILED = 1
    """The worker failed by an unexpected error. Starting it again may help."""

    UNFINISHED = 75
    """The worker was asked to stop, and receivers ran on after the grace period. Their messages are received again."""

    MISCONFIGURED = 78
    """The tables are missing, or have another version. Starting the worker again does not help."""


@final
class Settings:
    """The options of a worker.

    :ivar concurrency: how many receivers run at the same time.
    :ivar batch: the most rows to claim at once. The worker claims fewer rows if receivers take long.
    :ivar lease_s: for how many seconds a claim holds without being renewed. The worker renews its leases all the time.
    :ivar poll_s: the most seconds between two polls for due rows.
    :ivar grace_s: how many seconds running receivers get when the worker stops.
    :ivar drains: whether to end when no row is due any more.
    :raises InvalidOptionError: when an option is not a number, or too small.
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

    :param relay: the relay.
    :param beat: called with the worker when it is ready, and with each heartbeat after that.
    :param settled: called with the number of messages whose outcomes were just written.
    :param is_inline: whether receivers run in the thread that calls :meth:`run`, and errors of the database are raised.
    :ivar is_ready: whether the check of the tables has passed.
    :ivar jobs: the rows in hand: the worker has claimed them, and has not written their outcomes yet.
    """

    def __init__(
        self,
        relay: HasParts,
        settings: Settings,
        *,
        beat: Callable[[Worker], object] = lambda _: None,
        settled: Callable[[int], object] = lambda _: None,
        is_inline: bool = False,
    ) -> None:
        parts = parts_of(relay)
        self._runner = parts.runner
        self._notifies = parts.notifies
        self._database = parts.database.for_drain() if is_inline else parts.database.for_worker()
        self.settings = settings
        self.is_ready = False
        self.jobs: dict[Lease, ReceiverJob] = {}
        self._beat = beat
        self._settled = settled
        self._ended: SimpleQueue[ReceiverJob] = SimpleQueue()
        self._found_nothing = False
        self._deadline = float("inf")

        # The parts.
        self.wake_event = WakeEvent()
        self.scheduler = FairScheduler(parts.receivers, settings.poll_s)
        self.outage = OutageHandler(self._database, self.scheduler.wake, is_fatal=is_inline)
        self.settler = Settler(self._database, self.outage, notifies=parts.notifies, on_settled=self._forget)
        self.leases = LeaseKeeper(self._database, self.jobs, settings.lease_s)
        self.report = MinuteReport()
        self._ahead = ClaimAhead(settings.concurrency, settings.batch)
        self._poison = PoisonSlot(self.jobs, settings.concurrency)
        self._stop = StopRequest()
        self._executor: ThreadExecutor | InlineExecutor = (
            InlineExecutor(self._receive, self._end)
            if is_inline
            else ThreadExecutor(settings.concurrency, self._receive, self._end)
        )

    @property
    def counts(self) -> DrainCounts:
        """Return how many messages had which outcome."""
        return self.settler.counts

    def stop(self) -> None:
        """Stop: claim no more rows, and end when the running receivers have ended. A signal handler may call this.

        The second call ends the worker at once, but not within a second of the first call: see
        :meth:`.wake.StopRequest.request`.
        """
        self._stop.request()
        self.wake_event.set()

    def run(self) -> Exit:
        """Work until the worker is stopped, or until no row is due if it drains.

        :raises RelaySchemaError: when the tables are missing, or have another version.
        :raises InvalidOptionError: when the relay's runner would lose messages with its settings.
        """
        listener: Listener | None = None

        try:
            self._runner.start()
            self._start()
            listener = None if self.settings.drains else self._listen()

            while not self._is_over():
                self.outage.attempt(self._step)
                self.report.log_if_due(self.counts)
                self.wake_event.wait(0 if self._is_over() else self._rest_s())
        finally:
            self._executor.end()
            self._runner.stop()

            if listener is not None:
                listener.stop()

            close_quietly(self._database.close)

        return Exit.UNFINISHED if self.jobs else Exit.STOPPED

    def _step(self) -> None:
        # First the work without the database, which may be away.
        self._interrupt()

        if self.leases.is_due():
            self._beat(self)

        if self._is_stopping():
            self._release_unbegun()

        self.settler.pending.extend(drain_queue(self._ended))

        if self.outage.is_away:
            self._database.look(_ask)  # Perhaps no other query notices that it is back.

        if not self._settles_by_a_claim():
            self.settler.settle()

        if self.leases.is_due():
            self._release_stalled()
            self.leases.renew()

        if not self._is_stopping():
            self._feed()

        self.settler.settle()

    def _start(self) -> None:
        while not self.is_ready and not self._is_stopping():
            self.is_ready = self.outage.attempt(lambda: self._database.run(tables.check))
            self.wake_event.wait(0 if self.is_ready else self.outage.pause_s)

        self.outage.attempt(lambda: self._database.run_plain(use_wal))

    def _listen(self) -> Listener:
        with self._database.scope():
            return Listener(self._database.engine(), listens=self._notifies, wake=self._wake)

    def _wake(self) -> None:
        self.scheduler.wake()
        self.wake_event.set()

    def _is_stopping(self) -> bool:
        return self._stop.requested_at is not None

    def _is_over(self) -> bool:
        if self._stop.is_urgent:
            return True

        if self._stop.requested_at is not None:
            is_late = time.monotonic() - self._stop.requested_at > self.settings.grace_s
            return is_late or not (self.jobs or self.settler.pending)

        return self.settings.drains and self._found_nothing

    def _rest_s(self) -> float:
        """Return for how many seconds there is nothing to do, unless the event is set."""
        now = time.monotonic()
        ends = [self._deadline, self.report.due_at]

        if self._poison.job is not None:
            ends.append(self._poison.until)

        if self._stop.requested_at is not None:
            ends.append(self._stop.requested_at + self.settings.grace_s + 0.01)

        if self.outage.is_away:
            ends.append(now + self.outage.pause_s)
        else:
            ends.append(self.leases.renew_at)

            if not self._is_stopping() and self._room():
                ends.append(self.scheduler.next_at(now))

        return max(min(ends) - now, 0.0)

    def _interrupt(self) -> None:
        """Interrupt the receivers whose time is over, and note when the time of the next one is over."""
        now = time.monotonic()
        self._deadline = min((job.interrupt(now) for job in self.jobs.values()), default=float("inf"))

    # Claiming.

    def _room(self) -> int:
        """Return how many rows to claim now."""
        return 0 if self._poison.blocks_claims() else self._ahead.room(len(self.jobs) - len(self.settler.pending))

    def _feed(self) -> None:
        """Claim for the receivers that have due rows, in turn, so that no receiver waits for the backlog of another
        receiver.
        """
        if self._poison.job is not None:
            self._begin_poison()
            return

        if not self._room():
            return

        if self.settings.drains:
            self.scheduler.wake()  # A drain ends when a poll finds nothing, so it polls each time.

        has_polled = self.scheduler.should_poll()

        if has_polled:
            self.scheduler.poll(self._database)

        for name in [*self.scheduler.due]:
            if not (room := self._room()):
                break

            known = self.scheduler.take(name)

            if known is not None and self._claim(name, known, room):
                self.scheduler.due.append(name)

        self._found_nothing = has_polled and not (self.scheduler.due or self.jobs)

    def _begin_poison(self) -> None:
        """Begin or release the poison message that was held back, if it is time to."""
        job = self._poison.take(self.settings.lease_s)

        if job is None:
            return

        if job.outcome is None:
            self._executor.put(job)
        else:
            self.settler.pending.append(job)

    def _claim(self, name: str, known: KnownReceiver, most: int) -> bool:
        """Claim up to a number of rows, and write the pending outcomes. Return whether more rows may be due."""
        held_until = time.monotonic() + self.settings.lease_s
        lease_ms = int(self.settings.lease_s * 1000)
        ended = self.settler.pending

        def settle_and_claim(connection: Connection) -> tuple[DrainCounts, list[Row]]:
            return self.settler.write(connection, ended), claims.claim(connection, name, known, most, lease_ms)

        counts, rows = self._database.run(settle_and_claim)
        self.settler.note_settled(ended, counts)

        for row in rows:
            self._take(ReceiverJob(row, held_until, self.wake_event.set))

        return len(rows) == most

    def _take(self, job: ReceiverJob) -> None:
        self.scheduler.note_claimed()
        self.jobs[job.lease] = job

        if not self._poison.hold_back(job):
            self._executor.put(job)

    def _settles_by_a_claim(self) -> bool:
        """Return whether the transaction that claims the next rows writes the outcomes, too.

        After an error it does not: the claim may be the cause, and must not keep outcomes from being written.
        """
        is_well = not self._is_stopping() and not self.outage.is_away and len(self.settler.pending) <= BATCH
        return is_well and bool(self.scheduler.due and self._room())

    # Jobs begin, end, and are released.

    def _receive(self, job: ReceiverJob) -> Outcome:
        outcome = self._runner.handle(job.row, job.guard)
        reason = outcome.reason and f", {outcome.reason}"
        logger.debug("Message %s for %s: %s%s", job.row.message_id, job.row.receiver, outcome.disposition.value, reason)
        return outcome

    def _end(self, job: ReceiverJob) -> None:
        self._ended.put(job)

        # The worker waits for the event before it empties the queue, so it finds this job.
        if not self.wake_event.is_set():
            self.wake_event.set()

    def _forget(self, jobs: list[ReceiverJob]) -> None:
        """Forget jobs whose outcomes were written."""
        self._settled(len(jobs))

        for job in jobs:
            self.jobs.pop(job.lease, None)

            if job.row.ordering_key is not None:
                self.scheduler.wake()  # The next row with this key can be claimed now.

            if job.started is not None:
                self._ahead.note_duration(job.ended - job.started)

    def _release_stalled(self) -> None:
        """Release the rows that were claimed ahead, if they wait for threads that do not become free."""
        waiting = {lease for lease, job in self.jobs.items() if job.started is None and job is not self._poison.job}

        if self._ahead.is_stalled(waiting):
            self.settler.pending.extend(self._executor.take_back())

    def _release_unbegun(self) -> None:
        """Release all rows that were claimed and not begun."""
        self.settler.pending.extend(self._executor.take_back())

        if self._poison.job is not None:
            self.settler.pending.append(self._poison.job)
            self._poison.job = None


def _ask(connection: Connection) -> None:
    connection.execute(select(1))
