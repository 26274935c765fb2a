"""The consoles in the documentation are compared with the output of the commands."""

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
    """Yield the programs of a page, with the commands that use them and their shown output.

    A code block that begins with ``# shop.py`` is the program. A code block that begins with ``# shop.py, further
    down`` is added to it after two empty lines, and replaces an earlier block of this kind.
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
    """Return the environment for programs whose coverage is not measured, because that takes several times as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def run(folder: Path, command: str) -> str:
    """Run a command in a folder, which is called /srv, and return its output."""
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
    """Return a pattern of the shown output, in which a line of three dots matches any lines."""
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
    """Each command of the pages prints the shown output, except for durations, ids and lines of three dots."""
    (tmp_path / "shop.py").write_text(program, "utf-8")
    printed = without_what_changes(run(tmp_path, command))

    assert pattern_of(without_what_changes(shown)).fullmatch(printed), printed
