"""The same tests with Aldis in Blinker's place, in their own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.program

HERE = Path(__file__).parent
FILES = ["test_core_signals.py", "test_extension.py", "test_after_response.py"]


def test_both_ways_are_the_same() -> None:
    """Quart's signals, the extension and its delivery pass the same tests in Blinker's place."""
    paths = [HERE / name for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "instead", "-p", "no:cacheprovider", *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 140
