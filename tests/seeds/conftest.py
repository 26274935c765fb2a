"""Runs what people paste from Flask's documentation, as it stands, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

PROLOGUES = {
    "aldis": "import aldis\naldis.install_as_blinker()\nimport blinker\nassert blinker.Signal is aldis.Signal\n",
    # The same on Blinker itself, so that nothing is asked of Aldis here that Blinker does not do.
    "blinker": "import blinker, sys\nassert 'aldis' not in sys.modules\n",
}

Run = Callable[..., str]


@pytest.fixture(params=PROLOGUES)
def library(request: pytest.FixtureRequest) -> str:
    """Which library stands behind ``import blinker``."""
    name: str = request.param
    return name


@pytest.fixture
def run(library: str, tmp_path: Path) -> Run:
    """Runs the pieces of a program, one after the other, with warnings as errors, and gives what it prints.

    The program finds ``LIBRARY`` in its globals: "aldis" or "blinker".
    """

    def run(*pieces: str) -> str:
        program = tmp_path / "program.py"
        text = [PROLOGUES[library], f"LIBRARY = {library!r}\n", *map(dedent, pieces)]
        program.write_text("\n".join(text), "utf-8")
        command = [sys.executable, "-X", "utf8", "-W", "error", str(program)]
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            # Coverage is measured elsewhere: to start it takes these small programs as long as what they do.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run
