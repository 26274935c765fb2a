"""Loaded by pytest in each run: makes sure that the copy is tested, and notes which test runs and which fails first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

NOTES: Final = Path(os.environ.get("MUTANTS_NOTES", os.devnull))
NOTED: Final[dict[str, str | None]] = {"running": None, "failed": None, "imported": None}


def note(**news: str) -> None:
    """Write something down at once: the process may be killed at any moment."""
    NOTED.update(news)
    NOTES.write_text(json.dumps(NOTED), encoding="utf-8")


def pytest_sessionstart() -> None:
    """Refuse to test anything but the copy."""
    import aldis

    note(imported=str(aldis.__file__))

    if not Path(str(aldis.__file__)).is_relative_to(os.environ["MUTANTS_COPY"]):
        pytest.exit(f"tests {aldis.__file__}, which is not the copy", returncode=99)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note the test that begins."""
    note(running=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the first test that fails."""
    if report.failed and NOTED["failed"] is None:
        note(failed=report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that cannot be read."""
    if report.failed and NOTED["failed"] is None:
        note(failed=f"{report.nodeid} (cannot be collected)")
