"""The pages that a reader follows from an empty folder: the test writes the files and types the commands."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.program

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["how-to/first-durable-receiver.md", "how-to/dead-letters.md"]
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
PORT = "5000"
RUNNING = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
PATIENCE_S = 120.0

CHANGING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d{3}|\+00:00)", "TIME"),
    (r"\b\d+(\.\d)? s\b", "N s"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{21}", "ID"),
    (r" {2,}", "  "),
)


def without_what_changes(text: str) -> str:
    """Return a text without times and ids, and with columns of equal width."""
    for changing, name in CHANGING:
        text = re.sub(changing, name, text)

    return text


def pattern_of(shown: str) -> re.Pattern[str]:
    """Return a pattern of the shown output, in which a line of three dots matches any lines."""
    parts = re.split(r"^\.\.\.\n", without_what_changes(shown), flags=re.MULTILINE)
    return re.compile(r"(?:.*\n)*?".join(map(re.escape, parts)))


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield the reader's steps: ``(name of a file, its text)``, and ``("$ command", the shown output)``."""
    for language, text in FENCE.findall((DOCS / page).read_text("utf-8")):
        file = FILE.match(text)

        if language == "python" and file is not None:
            yield file[1], text
        elif language == "console":
            for command in re.split(r"^(?=\$ )", text, flags=re.MULTILINE)[1:]:
                typed, _, shown = command.partition("\n")
                yield typed, shown


def untraced() -> dict[str, str]:
    """Return the environment for programs whose coverage is not measured, because that takes several times as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


class Reader:
    """A reader with a folder, which is called /srv, and with one or two terminals."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._port = PORT

    def do(self, step: str, text: str) -> str:
        """Do one step of the page, and return the output."""
        if not step.startswith("$ "):
            (self._folder / step).write_text(text, "utf-8")
            return text

        name, *arguments = shlex.split(step.removeprefix("$ ").replace(PORT, self._port))

        if name == "curl":
            _, form, address = arguments
            return self._post(address, form)

        if arguments[-1] == "run":
            self._serve(name, arguments)
            return text

        process = self._start(name, arguments)

        if arguments[-1] == "worker":
            return self._see(process, text)

        return process.communicate(timeout=PATIENCE_S)[0].replace(str(self._folder.resolve()), "/srv")

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *(["-m", "flask"] if name == "flask" else []), *arguments],
            cwd=self._folder,
            env={**untraced(), "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._stack.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate(timeout=PATIENCE_S)

    def _see(self, process: subprocess.Popen[str], shown: str) -> str:
        """Read as many lines of the worker's output as the page shows. Then stop the worker, as Ctrl-C does."""
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in shown.splitlines()]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        return "".join(lines)

    def _post(self, address: str, form: str) -> str:
        with build_opener(ProxyHandler({})).open(address, form.encode(), timeout=PATIENCE_S) as response:
            text: str = response.read().decode()
            return text

    def _serve(self, name: str, arguments: list[str]) -> None:
        """Start a server on a free port, and wait until it prints the port."""
        process = self._start(name, [*arguments, "--port", "0"])
        assert process.stdout is not None
        said = ""

        while (found := RUNNING.search(said)) is None:
            line = process.stdout.readline()
            assert line, said
            said += line

        self._port = found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: Path(page).stem)
def test_who_follows_the_page_sees_what_it_shows(page: str, tmp_path: Path) -> None:
    """From an empty folder, each command prints the shown output, except for times and ids."""
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)

        for step, text in steps(page):
            printed = without_what_changes(reader.do(step, text))
            assert pattern_of(text).fullmatch(printed), f"{step}\n{printed}"
