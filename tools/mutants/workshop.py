"""A copy of the source that can be broken, tested and mended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import venv
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .source import Package
from .splice import edit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .breaks import Break

ROOT: Final = Path(__file__).resolve().parents[2]
_HERE: Final = Path(__file__).parent


def open_workshops(folder: Path, count: int) -> list[Workshop]:
    """Make several copies of the source, all of them the same even while somebody works on the source."""
    first = Workshop(folder / "0", ROOT / "src")
    return [first, *(Workshop(folder / str(number), first.src) for number in range(1, count))]


class RunError(Exception):
    """A run of tests that says nothing: something else than the copy was tested."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run of tests.

    :ivar noticed_by: the first test that failed or hung, or ``None`` if all passed.
    """

    noticed_by: str | None
    output: str


class Workshop:
    """A folder with a copy of the source, and with a Python that imports it.

    :param source: the folder ``src`` to copy.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        folder.mkdir()
        self.src = folder / "src"
        shutil.copytree(source, self.src, ignore=shutil.ignore_patterns("__pycache__"))
        self.package = Package(self.src / "aldis")
        self._notes = folder / "notes.json"
        self._run: subprocess.Popen[str] | None = None
        self._is_closed = False
        shutil.copy(_HERE / "plugin.py", folder / "mutants_plugin.py")
        self._python = self._make_python(folder / "venv")
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.src), str(folder)]),
            # Two versions of a file may be written within the same second: their bytecode would be mixed up.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
            "MUTANTS_COPY": str(self.src),
            "MUTANTS_NOTES": str(self._notes),
        }

    def _make_python(self, folder: Path) -> Path:
        """Make a Python that finds the copy even where a test starts it with an environment of its own.

        It also finds all that this Python finds.
        """
        venv.create(folder)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
        own = sysconfig.get_path("purelib")
        (packages / "mutants.pth").write_text(f"{self.src}\nimport site; site.addsitedir({own!r})\n", encoding="utf-8")
        return folder / "bin" / "python"

    def attempt(self, broken: Break, runs: Sequence[tuple[Sequence[Path], float]]) -> Outcome:
        """Break the copy, test it, and mend it.

        :param runs: the test files of each run, and how many seconds it may take. The first that notices is the last.
        """
        change = edit(self.package, broken)
        whole = change.path.read_bytes()
        change.path.write_bytes(change.data)
        outcome = Outcome(None, "")

        try:
            for files, timeout_s in runs:
                outcome = self.test(files, timeout_s)

                if outcome.noticed_by is not None:
                    break
        finally:
            change.path.write_bytes(whole)

        return outcome

    def test(self, files: Sequence[Path], timeout_s: float) -> Outcome:
        """Run test files on the copy, up to the first failure."""
        self._notes.write_text("{}", encoding="utf-8")
        command = [str(self._python), "-m", "pytest", "-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
        command += ["-p", "mutants_plugin", *map(str, files)]
        # A session of its own, so that the processes that tests started can be killed with it if they hang.
        self._run = run = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

        if self._is_closed:
            self._kill()

        try:
            output, _ = run.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._kill()
            output, _ = run.communicate()
            return Outcome(f"{self._noted('running')} (hung)", output)

        if self._is_closed:
            raise RunError("it was interrupted")

        if run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RunError(f"there are no tests in {', '.join(map(str, files))}")

        if not (self._noted("imported") or "").startswith(str(self.src)):
            raise RunError(f"the tests did not import the copy:\n{output[-2000:]}")

        if run.returncode == 0:
            return Outcome(None, output)

        # Without a failed test, the run ended from inside: by the watchdog of the thread tests, or by a crash.
        return Outcome(self._noted("failed") or f"{self._noted('running')} (hung or crashed)", output)

    def close(self) -> None:
        """End the run that goes on, and begin no other. Ctrl-C does not, because it does not reach other sessions."""
        self._is_closed = True
        self._kill()

    def _kill(self) -> None:
        if self._run is not None and self._run.poll() is None:
            kill_session(self._run.pid)

    def _noted(self, name: str) -> str | None:
        """Return the last note of the plugin."""
        try:
            found = json.loads(self._notes.read_text(encoding="utf-8")).get(name)
        except ValueError:  # The process was killed while it was writing.
            return None

        return None if found is None else str(found)


def kill_session(leader: int) -> None:
    """Kill all processes of a session, in whatever group: the relay's workers have groups of their own."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It may have ended.
            # The name, in parentheses, may contain anything. Behind it come the state, the parent, group and session.
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()

            if int(fields[3]) == leader and int(process.name) != leader:
                os.kill(int(process.name), signal.SIGKILL)

    os.killpg(leader, signal.SIGKILL)
