"""The consoles that the documentation shows, against what the commands print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "# shop.py"
CHANGING = ((r"\d+\.\d\d ms", "N ms"), (r"\b\d{12,}\b", "ID"), (r"\b\d\.\d s\b", "N s"))


def consoles(page: str) -> list[tuple[str, str, str]]:
    """What a page shows: programs, the commands that are run with them, and what those print.

    A fence that begins with ``# shop.py`` is the program; one that begins with ``# shop.py, further down`` is added
    to it after two empty lines, in place of the last such one.
    """
    base = more = ""
    found: list[tuple[str, str, str]] = []

    for language, text in FENCE.findall((DOCS / page).read_text("utf-8")):
        if language == "console":
            command, _, printed = text.removeprefix("$ ").partition("\n")
            found.append((base + more, command, printed))
        elif text.startswith(f"{MARK}\n"):
            base, more = text, ""
        elif text.startswith(MARK):
            more = f"\n\n{text}"

    return found


def untraced() -> dict[str, str]:
    """The environment for programs whose coverage is not measured: that takes several times as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def run(folder: Path, command: str) -> str:
    """What a command prints in a folder, which is called /srv."""
    name, *arguments = shlex.split(command)
    start = {"flask": ["-m", "flask"], "python": []}[name]
    done = subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=folder,
        env={**untraced(), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    return done.stdout.replace(str(folder.resolve()), "/srv")


def pattern_of(shown: str) -> re.Pattern[str]:
    """What is shown, where a line of three dots stands for any lines."""
    parts = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    return re.compile(r"(?:.*\n)*?".join(map(re.escape, parts)))


def without_what_changes(text: str) -> str:
    for changing, name in CHANGING:
        text = re.sub(changing, name, text)

    return text


@pytest.mark.parametrize(
    ("program", "command", "shown"),
    [
        pytest.param(*console, id=f"{Path(page).stem}-{number}")
        for page in ("how-to/find-out-why-a-receiver-does-not-run.md", "reference.md")
        for number, console in enumerate(consoles(page), 1)
    ],
)
def test_what_is_shown_is_what_is_printed(program: str, command: str, shown: str, tmp_path: Path) -> None:
    """Each command of the pages prints what stands below it, save durations, ids and what dots stand for."""
    (tmp_path / "shop.py").write_text(program, "utf-8")
    printed = without_what_changes(run(tmp_path, command))

    assert pattern_of(without_what_changes(shown)).fullmatch(printed), printed
