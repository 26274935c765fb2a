"""When a worker looks for due rows, and whose turn it is then: no receiver waits for the backlog of another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, final

from aldis.relay.storage import claims as _store

if TYPE_CHECKING:
    from aldis.relay._registry import Known, Registry
    from aldis.relay.storage.database import Database

_KNOWN_S: Final = 1.0
_AMONG_BACKLOGS_S: Final = 0.05
_LEAST_S: Final = 0.01


@final
class FairScheduler:
    """The receivers of one relay that have due rows, in the order in which a worker claims for them.

    :param poll_s: the most seconds between two looks.
    :ivar hungry: the names that may have due rows.
    """

    __slots__ = (
        "_has_news",
        "_idle_s",
        "_known",
        "_known_until",
        "_look_at",
        "_looked_at",
        "_poll_s",
        "_registry",
        "hungry",
    )

    def __init__(self, registry: Registry, poll_s: float) -> None:
        self.hungry: list[str] = []
        self._look_at = 0.0
        self._registry = registry
        self._poll_s = poll_s
        self._known: dict[str, Known] = {}
        self._known_until = 0.0
        self._has_news = False
        self._looked_at = 0.0
        self._idle_s = 0.0

    def hear(self) -> None:
        """There may be rows that were not there, or could not be claimed, before. May be called in any thread."""
        self._has_news = True

    def note_claimed(self) -> None:
        """A row was claimed, and where there is one, others come: have the next look be soon."""
        self._idle_s = 0.0
        self._look_at = min(self._look_at, time.monotonic() + _LEAST_S)

    def next_at(self, now: float) -> float:
        """When to claim, or to look, if nothing is heard before."""
        return now if self.hungry or self._has_news else self._look_at

    def is_to_look(self) -> bool:
        """Whether it is time to look."""
        now = time.monotonic()

        if self.hungry:
            return now >= self._looked_at + _AMONG_BACKLOGS_S  # A backlog may last for hours, and others have rows too.

        return self._has_news or now >= self._look_at

    def look(self, database: Database) -> None:
        """Ask which receivers have due rows. Those that have waited for their turn keep it."""
        self._looked_at = now = time.monotonic()
        self._has_news = False

        if now >= self._known_until:
            self._known = self._registry.known()
            self._known_until = now + _KNOWN_S

        waits = database.look(lambda connection: _store.due(connection, self._known))
        due = [name for name, wait_ms in waits.items() if wait_ms <= 0]
        waiting = [name for name in self.hungry if name in due]
        self.hungry = waiting + [name for name in due if name not in waiting]
        self._idle_s = min(max(self._idle_s * 2, _LEAST_S), self._poll_s)
        soonest_s = min((wait_ms / 1000 for wait_ms in waits.values() if wait_ms > 0), default=self._idle_s)
        self._look_at = now + min(max(soonest_s, 0.001), self._idle_s)

    def take(self, name: str) -> Known | None:
        """Have it be the turn of one, which has no other until it is added to :attr:`hungry` again.

        :return: what is known of it; ``None`` if that is nothing any more.
        """
        self.hungry.remove(name)
        return self._known.get(name)
