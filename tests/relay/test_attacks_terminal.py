"""The worker on a terminal, where it shows how far a drain is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from sqlalchemy import create_engine
from aldis.relay import Relay

relay = Relay(create_engine("sqlite:///new.sqlite"))
"""


def test_a_drain_without_tables_ends_as_elsewhere(tmp_path: Path) -> None:
    """On a terminal, too, a worker whose tables are missing says so, without a traceback, and ends with 78."""
    (tmp_path / "shop.py").write_text(PROGRAM)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aldis", "relay", "worker", "shop", "--drain"]

    ended = subprocess.run(command, cwd=tmp_path, stderr=theirs, timeout=60, check=False)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)

    assert ended.returncode == 78
    assert "The database has no table" in said
    assert "Traceback" not in said
