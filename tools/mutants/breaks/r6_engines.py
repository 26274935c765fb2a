"""R6: SQLite, PostgreSQL and MariaDB keep the same promises."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="locks-late",
        what="SQLite is locked only when the first row is written, so that two transactions can both have read before.",
        at="_begin_sqlite",
        old='"BEGIN IMMEDIATE"',
        new='"BEGIN"',
        tests=("test_database.py",),
    ),
    Break(
        name="claims-without-transactions",
        what="Two workers can claim the same row when the engine is set to autocommit.",
        at="begin",
        old="not _reads_committed(connection)",
        new="_reads_committed(connection)",
        tests=("test_r6_engines.py",),
    ),
)
