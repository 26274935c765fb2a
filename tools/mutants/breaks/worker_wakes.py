"""Worker: it hears of new rows soon, and serves its receivers in turn."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="no-news",
        what="A worker is not told of new rows in SQLite.",
        at="Listener._watch_sqlite",
        old="found != version",
        new="found is None",
        tests=("test_wake.py",),
    ),
    Break(
        name="news-wait",
        what="A worker that was told of new rows waits for its next poll.",
        at="FairScheduler.next_at",
        old="self.due or self._is_woken",
        new="self.due",
        tests=("test_wake.py",),
    ),
    Break(
        name="backlogs-starve",
        what="The backlog of one receiver keeps the rows of the others waiting.",
        at="FairScheduler.should_poll",
        old="_AMONG_BACKLOGS_S",
        new="3600",
        tests=("test_scheduler.py",),
    ),
)
