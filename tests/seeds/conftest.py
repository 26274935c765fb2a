"""Run snippets of Flask's documentation unchanged, each in its own interpreter."""

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
    # The same on Blinker itself, so that the tests ask nothing of Aldis that Blinker does not do.
    "blinker": "import blinker, sys\nassert 'aldis' not in sys.modules\n",
}

Run = Callable[..., str]


@pytest.fixture(params=PROLOGUES)
def library(request: pytest.FixtureRequest) -> str:
    """Return the name of the library behind ``import blinker``."""
    name: str = request.param
    return name


@pytest.fixture
def run(library: str, tmp_path: Path) -> Run:
    """Return a function that runs the pieces of a program in turn, with warnings as errors, and returns its output.

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
            # Coverage is measured elsewhere: starting it takes as long as these small programs.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run
