"""The job of all contestants: it has an effect and may die before or after it, or it does nothing."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from benchmarks.relay.databases import make_engine
from benchmarks.relay.shop import done

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy import Connection, Engine


@dataclass(frozen=True)
class Task:
    """The jobs of a worker.

    :ivar folder: the folder for their files.
    :ivar count: if set, the jobs do nothing, and :attr:`took` has the time that this number of jobs took.
    :ivar url: else, the database in which a job records its effect.
    :ivar deaths: the jobs that kill their process in their first run: before or after their effect.
    """

    folder: Path
    count: int = 0
    url: str = ""
    deaths: Mapping[int, str] = field(default_factory=dict)

    @property
    def began(self) -> Path:
        """Return the file that grows with each job that begins."""
        return self.folder / "began"

    @property
    def took(self) -> Path:
        """Return the file with the seconds from the first job to the last."""
        return self.folder / "took"


class Jobs:
    """The jobs of this process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._engine: Engine | None = make_engine(task.url) if task.url else None
        self._seen = 0
        self._first = 0.0

    def run(self, number: int, may: Callable[[Connection], Any] = lambda _: True) -> None:
        """Run one job.

        :param may: whether the job may have its effect in this transaction.
        """
        if self._engine is None:
            self._count()
            return

        with self._task.began.open("ab", buffering=0) as file:
            file.write(b".")

        self._die(number, "before")

        with self._engine.begin() as connection:
            if may(connection):
                connection.execute(insert(done), {"number": number})

        self._die(number, "after")

    def _count(self) -> None:
        self._seen += 1

        if self._seen == 1:
            self._first = time.perf_counter()
        elif self._seen == self._task.count:
            took = time.perf_counter() - self._first
            part = self._task.took.with_suffix(".part")
            part.write_text(str(took), "ascii")
            part.rename(self._task.took)

    def _die(self, number: int, when: str) -> None:
        mark = self._task.folder / f"died-{number}"

        if self._task.deaths.get(number) == when and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
