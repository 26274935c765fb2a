"""Decide when a worker polls for due rows, which receiver is served next, and how many rows are claimed.

No receiver waits for the backlog of another receiver, a worker claims only rows that it can begin soon, and a poison
message runs alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, final

from aldis.relay.storage import claims

from .consumer import Disposition, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aldis.relay._registry import ReceiverRegistry
    from aldis.relay.storage.database import Database
    from aldis.relay.storage.rows import KnownReceiver

    from .executor import Lease, ReceiverJob

_KNOWN_S: Final = 1.0
_AMONG_BACKLOGS_S: Final = 0.05
_SHORTEST_IDLE_S: Final = 0.01
_AHEAD_S: Final = 0.25
_ALONE_S: Final = 5.0


@final
class FairScheduler:
    """The receivers of one relay that have due rows, in the order in which a worker serves them.

    :param poll_s: the most seconds between two polls.
    :ivar due: the names of the receivers that may have due rows.
    """

    __slots__ = (
        "_idle_s",
        "_is_woken",
        "_known",
        "_known_until",
        "_poll_at",
        "_poll_s",
        "_polled_at",
        "_receivers",
        "due",
    )

    def __init__(self, receivers: ReceiverRegistry, poll_s: float) -> None:
        self.due: list[str] = []
        self._poll_at = 0.0
        self._receivers = receivers
        self._poll_s = poll_s
        self._known: dict[str, KnownReceiver] = {}
        self._known_until = 0.0
        self._is_woken = False
        self._polled_at = 0.0
        self._idle_s = 0.0

    def wake(self) -> None:
        """Poll at the next opportunity, because new rows may be due. Any thread may call this."""
        self._is_woken = True

    def note_claimed(self) -> None:
        """Note that a row was claimed. Rows come in bursts, so poll again soon."""
        self._idle_s = 0.0
        self._poll_at = min(self._poll_at, time.monotonic() + _SHORTEST_IDLE_S)

    def next_at(self, now: float) -> float:
        """Return when to claim or to poll, if nothing wakes the worker before."""
        return now if self.due or self._is_woken else self._poll_at

    def should_poll(self) -> bool:
        """Return whether it is time to poll."""
        now = time.monotonic()

        if self.due:
            # A backlog may last for hours, and other receivers may have rows meanwhile.
            return now >= self._polled_at + _AMONG_BACKLOGS_S

        return self._is_woken or now >= self._poll_at

    def poll(self, database: Database) -> None:
        """Ask the database which receivers have due rows. Receivers that already wait to be served keep their place."""
        self._polled_at = now = time.monotonic()
        self._is_woken = False

        if now >= self._known_until:
            self._known = self._receivers.known()
            self._known_until = now + _KNOWN_S

        waits = database.look(lambda connection: claims.next_due(connection, self._known))
        due = [name for name, wait_ms in waits.items() if wait_ms <= 0]
        waiting = [name for name in self.due if name in due]
        self.due = waiting + [name for name in due if name not in waiting]
        self._idle_s = min(max(self._idle_s * 2, _SHORTEST_IDLE_S), self._poll_s)
        soonest_s = min((wait_ms / 1000 for wait_ms in waits.values() if wait_ms > 0), default=self._idle_s)
        self._poll_at = now + min(max(soonest_s, 0.001), self._idle_s)

    def take(self, name: str) -> KnownReceiver | None:
        """Take a receiver out of :attr:`due`. Add it again when it may have more due rows.

        :return: the facts that a claim needs about it; ``None`` if it is not connected any more.
        """
        self.due.remove(name)
        return self._known.get(name)


@final
class ClaimAhead:
    """Decides how many rows a worker claims.

    It claims enough rows for every thread, and ahead of that as many rows as can begin within a quarter of a second,
    because rows that wait here for long are kept from other workers. It claims ahead when half of the rows ahead are
    used up, so that one claim fetches several.

    :param concurrency: how many threads run receivers.
    :param batch: the most rows to claim at once.
    """

    def __init__(self, concurrency: int, batch: int) -> None:
        self._concurrency = concurrency
        self._batch = batch
        self._took_s = 0.0
        self._waiting: set[Lease] = set()

    def note_duration(self, took_s: float) -> None:
        """Note how long a receiver took."""
        took_s = max(took_s, 1e-6)
        self._took_s = took_s if not self._took_s else 0.9 * self._took_s + 0.1 * took_s

    def room(self, in_hand: int) -> int:
        """Return how many rows to claim now.

        :param in_hand: how many claimed rows run or wait for a thread.
        """
        threads = self._concurrency
        ahead = min(self._batch - 1, int(threads * _AHEAD_S / self._took_s)) if self._took_s else 0
        room = threads + ahead - in_hand
        return min(room, self._batch) if in_hand < threads or room > ahead // 2 else 0

    def is_stalled(self, waiting: set[Lease]) -> bool:
        """Return whether rows wait for threads that do not become free. If so, claim nothing ahead until a thread is
        free.

        :param waiting: the rows that wait. The answer is true if one of them waited at the last call already.
        """
        is_stalled = bool(waiting & self._waiting)
        self._waiting = waiting

        if is_stalled:
            self._took_s = 0.0

        return is_stalled


@final
class PoisonSlot:
    """Holds one poison message back until it can run alone.

    If two workers died with a message, the message may have killed them. It runs when nothing else runs, so that a
    crash loses no other message, and so that innocent messages, which were lost in the same crash, can be told from the
    guilty one: a message that completes is innocent, and a failed attempt clears its count of crashes. This is one rule
    over several places, which must change together: the claim ends its batch before a poison message
    (:func:`aldis.relay.storage.claims.claim`), this slot holds it back, and nothing is claimed while it waits or runs.

    :param jobs: the rows in hand. The worker adds and removes them.
    :param concurrency: how many threads run receivers.
    :ivar job: the message that is held back.
    :ivar until: how long it is held back, by the monotonic clock.
    """

    def __init__(self, jobs: Mapping[Lease, ReceiverJob], concurrency: int) -> None:
        self._jobs = jobs
        self._concurrency = concurrency
        self.job: ReceiverJob | None = None
        self.until: float = 0.0

    def blocks_claims(self) -> bool:
        """Return whether nothing may be claimed: a poison message waits, or runs within its time limit."""
        return self.job is not None or any(is_poison(job) and not job.is_late for job in self._jobs.values())

    def hold_back(self, job: ReceiverJob) -> bool:
        """Hold a job back if it is a poison message and something else runs. Return whether it is held back."""
        if not is_poison(job) or self._is_alone(job):
            return False

        self.job = job
        self.until = time.monotonic() + _ALONE_S
        return True

    def take(self, lease_s: float) -> ReceiverJob | None:
        """Take out the job that is held back, if it can run now or has waited for too long.

        :param lease_s: for how many seconds other workers may take a job that has waited for too long.
        :return: the job. If the job has an outcome, it did not run, and is released.
        """
        job = self.job
        assert job is not None

        if not self._is_alone(job):
            if time.monotonic() < self.until:
                return None

            job.outcome = Outcome(Disposition.WAITS, "it must run alone, and other receivers take long", lease_s)

        self.job = None
        return job

    def _is_alone(self, job: ReceiverJob) -> bool:
        """Return whether nothing else runs, except receivers that run on after their time limit and may never end."""
        others = [other for other in self._jobs.values() if other is not job]
        return len(others) < self._concurrency and all(other.is_late for other in others)


def is_poison(job: ReceiverJob) -> bool:
    """Return whether so many workers died with this message that it may have killed them."""
    return job.row.crashes >= claims.POISON
