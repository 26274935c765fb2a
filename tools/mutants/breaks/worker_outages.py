"""Worker: it survives a database that is away, busy or full, and forgets nothing of what it received."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="database-away",
        what="A worker ends when its database goes away.",
        at="Worker._try",
        old="self._is_inline",
        new="self",
        tests=("test_worker_away.py",),
    ),
    Break(
        name="refused-together",
        what="When the database refuses the outcome of one message, the other outcomes are never written.",
        at="Worker._settle",
        old="1 if self._is_away else _MOST_FINISHED",
        new="_MOST_FINISHED",
        tests=("test_worker_apart.py",),
    ),
    Break(
        name="full-is-refused",
        what="A worker forgets the outcome of a message when the disk is full.",
        at="Worker._settle",
        old="most > 1 or is_busy(error) or is_away(error) or is_full(error)",
        new="most > 1 or is_busy(error) or is_away(error)",
        tests=("test_worker_away.py",),
    ),
    Break(
        name="network-errors",
        what="An OSError that a driver raises ends the worker.",
        at="as_dbapi_error",
        old="OSError",
        new="ZeroDivisionError",
        tests=("test_worker_away.py",),
    ),
    Break(
        name="back-unasked",
        what="A worker without work believes that its database is back without asking it.",
        at="Worker._step",
        old="self._database.look(_ask)",
        new="self._report()",
        tests=("test_worker_away.py",),
    ),
    Break(
        name="codes-unknown",
        what="The error codes by which PostgreSQL says that it is away are not known.",
        at="_AWAY_IN_POSTGRESQL",
        old='("08", "57P0", "25006")',
        new='("XX",)',
        tests=("test_database.py",),
    ),
    Break(
        name="waits-with-writers",
        what="A worker waits for writers of SQLite as long as the program's own connections would.",
        at="limit_wait",
        old='"sqlite"',
        new='"none"',
        tests=("test_worker_apart.py",),
    ),
    Break(
        name="trouble-unheard",
        what="Rows that could not be claimed because of trouble wait for the next poll.",
        at="Worker._note_trouble",
        old="self._turns.hear()",
        new="pass",
        tests=("test_worker_wakes.py",),
    ),
    Break(
        name="drains-too-early",
        what="A drain ends while a database that refuses claims still has due rows.",
        at="Worker._feed",
        old="self._turns.look(self._database)",
        new="""
            self._turns.look(self._database)
            self._found_nothing = not self._jobs
        """,
        tests=("test_worker_away.py",),
    ),
    Break(
        name="begun-while-stopping",
        what="A worker that stops begins further receivers while its database is away.",
        at="Worker._take_back",
        old="self._runners.take_back()",
        new="[] if self._is_away else self._runners.take_back()",
        tests=("test_worker_away.py",),
    ),
)
