"""Worker: it survives a database that is away, busy or full, and forgets nothing of what it received."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="database-away",
        what="A worker ends when its database goes away.",
        at="OutageHandler.attempt",
        old="self._is_fatal",
        new="self",
        tests=("test_outages.py",),
    ),
    Break(
        name="refused-together",
        what="When the database refuses the outcome of one message, the outcomes written with it are lost.",
        at="Settler.settle",
        old="1 if self._outage.is_away else BATCH",
        new="BATCH",
        tests=("test_settler.py", "test_outages.py"),
    ),
    Break(
        name="full-is-refused",
        what="A worker forgets the outcome of a message when the disk is full.",
        at="Settler.settle",
        old="not self._outage.is_away or is_busy(error) or is_away(error) or is_full(error)",
        new="not self._outage.is_away or is_busy(error) or is_away(error)",
        tests=("test_outages.py",),
    ),
    Break(
        name="network-errors",
        what="An OSError that a driver raises ends the worker.",
        at="as_dbapi_error",
        old="OSError",
        new="ZeroDivisionError",
        tests=("test_outages.py",),
    ),
    Break(
        name="back-unasked",
        what="A worker without work believes that its database is back without asking it.",
        at="Worker._step",
        old="self._database.look(_ask)",
        new="pass",
        tests=("test_outages.py",),
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
        tests=("test_hanging_receivers.py", "test_outages.py"),
    ),
    Break(
        name="trouble-unheard",
        what="Rows that could not be claimed because of trouble wait for the next poll.",
        at="OutageHandler._handle",
        old="self._on_error()",
        new="pass",
        tests=("test_wake.py",),
    ),
    Break(
        name="drains-too-early",
        what="A drain ends while a database that refuses claims still has due rows.",
        at="Worker._feed",
        old="self.scheduler.poll(self._database)",
        new="""
            self.scheduler.poll(self._database)
            self._found_nothing = not self.jobs
        """,
        tests=("test_outages.py",),
    ),
    Break(
        name="begun-while-stopping",
        what="A worker that stops begins further receivers while its database is away.",
        at="Worker._release_unbegun",
        old="self._executor.take_back()",
        new="[] if self.outage.is_away else self._executor.take_back()",
        tests=("test_outages.py",),
    ),
)
