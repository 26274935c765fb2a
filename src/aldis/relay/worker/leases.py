"""Renew the leases of the rows that a worker has in hand.

The whole life of a lease is one protocol, which stays in one piece on purpose:

- A claim counts an attempt and sets the end of the lease, both in one statement and by the database's clock. So a
  worker that dies needs no cleanup: its rows are due again when the lease ends, and the attempt has been counted.
- This machine's monotonic clock is read *before* the statement is sent. So ``held_until`` is never later than the end
  that the database knows, and a receiver is never begun under a lease that may have expired.
- The worker's own thread renews all leases, and the threads of the receivers renew none. So a worker that hangs loses
  its leases, while a receiver that takes long does not.
- The lease of a receiver that runs on after its time limit is not renewed: another worker may then take the message.
- Every outcome is written with the claim's token. So a worker whose lease expired can no longer complete or retry the
  message.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, final

from aldis.relay.storage import claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aldis.relay.storage.database import Database

    from .executor import Lease, ReceiverJob

logger: Final = logging.getLogger("aldis.relay")


@final
class LeaseKeeper:
    """Renews leases when a quarter of their time is over.

    :param jobs: the rows in hand. The worker adds and removes them.
    :param lease_s: for how many seconds a lease holds.
    :ivar renew_at: when the leases are renewed next, by the monotonic clock.
    """

    def __init__(self, database: Database, jobs: Mapping[Lease, ReceiverJob], lease_s: float) -> None:
        self._database = database
        self._jobs = jobs
        self._lease_s = lease_s
        self.renew_at = 0.0

    def is_due(self) -> bool:
        """Return whether it is time to renew."""
        return time.monotonic() >= self.renew_at

    def renew(self) -> None:
        """Renew the leases of all rows in hand, except those of receivers that run on after their time limit."""
        now = time.monotonic()
        jobs = [job for job in self._jobs.values() if job.outcome is None and not job.is_late]

        if jobs:
            self._renew(jobs, now + self._lease_s)

        self.renew_at = now + self._lease_s / 4

    def _renew(self, jobs: list[ReceiverJob], held_until: float) -> None:
        lease_ms = int(self._lease_s * 1000)
        leases = [job.lease for job in jobs]
        held = self._database.run(lambda connection: claims.renew_leases(connection, leases, lease_ms))

        for job in jobs:
            job.held_until = held_until if job.lease in held else 0.0

        if len(held) < len(jobs):
            logger.warning("%d leases were lost to other workers", len(jobs) - len(held))
