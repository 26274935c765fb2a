"""Run test files many times while every core is busy, and count the failures.

    python tools/steady.py                                    the files of DEFAULT, 20 times each
    python tools/steady.py tests/relay/worker --runs 5        a folder, a file or a glob pattern
    python tools/steady.py 'tests/**/test_e04*.py' --at-once 3

A test that depends on timing passes on an idle machine and fails on a busy one. So this program starts processes that
only use a core ("burners"), and runs each file again and again. Several runs of a file overlap, so they also share the
servers. It prints one line for each file. It keeps the output of every failed run in the folder that the last line
names. It exits with 1 if a run failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

ROOT: Final = Path(__file__).parents[1]

# Below the root. These are patterns, so that a file stays in the list when it moves.
DEFAULT: Final = (
    "tests/relay",
    "tests/flask",
    "tests/quart",
    "tests/page",
    "tests/testing",
    "tests/**/test_*threads*.py",
    "tests/**/test_e04*.py",
)

# It ends by itself when its parent is gone, even if the parent was killed.
BURNER: Final = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""

# No run takes so long. A run that does is a failure.
LONGEST_RUN_S: Final = 1800.0


class Run(NamedTuple):
    """One run of a file."""

    seconds: float
    failed: bool


@contextmanager
def busy_cores(count: int) -> Generator[None, None, None]:
    """Keep this many cores busy during a ``with`` block."""
    with ExitStack() as stack:
        for _ in range(count):
            burner = subprocess.Popen([sys.executable, "-c", BURNER, str(os.getpid())])
            stack.callback(burner.wait)
            stack.callback(burner.kill)

        yield


@final
class Runner:
    """Runs files by pytest, and keeps the output of runs that fail.

    :param kept: the folder for this output.
    """

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._lock = Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = Event()

    def run(self, file: Path, number: int) -> Run:
        """Run a file once."""
        began = time.monotonic()
        process = self._start(file)

        try:
            output = process.communicate(timeout=LONGEST_RUN_S)[0]
        except subprocess.TimeoutExpired:
            kill_group(process)
            output = process.communicate()[0] + f"\nNot finished after {LONGEST_RUN_S:g} s.\n"
        finally:
            with self._lock:
                self._running.discard(process)

            kill_group(process)  # Also the processes that a failed test has left running.

        failed = process.returncode != 0

        if failed and not self._stopped.is_set():
            self._kept.mkdir(parents=True, exist_ok=True)
            name = str(file.relative_to(ROOT).with_suffix("")).replace(os.sep, "-")
            (self._kept / f"{name}-{number}.txt").write_text(output, encoding="utf-8")

        return Run(time.monotonic() - began, failed)

    def _start(self, file: Path) -> subprocess.Popen[str]:
        """Start pytest as the leader of a process group, which can be killed as a whole."""
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", str(file)]

        with self._lock:
            if self._stopped.is_set():
                raise KeyboardInterrupt

            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def stop(self) -> None:
        """End all runs, and start no more."""
        with self._lock:
            self._stopped.set()

            for process in self._running:
                kill_group(process)


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def files_of(patterns: Iterable[str]) -> list[Path]:
    """Return the test files of patterns, each once. A folder stands for all test files below it.

    :raises SystemExit: if a pattern of the caller matches no file.
    """
    found: dict[Path, None] = {}

    for pattern in patterns:
        some = sorted(expanded(pattern))

        if not some and pattern not in DEFAULT:
            sys.exit(f"No test file matches {pattern!r}.")

        found.update(dict.fromkeys(some))

    return list(found)


def expanded(pattern: str) -> Iterator[Path]:
    """Yield the test files of one pattern."""
    for path in ROOT.glob(pattern.rstrip("/")):
        if path.is_dir():
            yield from path.rglob("test_*.py")
        else:
            yield path


def line(file: str, cells: Iterable[object]) -> str:
    """Return a line of the table."""
    return f"{file:<64}" + "".join(f"{cell!s:>10}" for cell in cells)


def report(file: Path, runs: list[Run]) -> None:
    """Print the line of a file."""
    failures = sum(run.failed for run in runs)
    slowest = max(run.seconds for run in runs)
    print(line(str(file.relative_to(ROOT)), (len(runs), failures, f"{slowest:.1f} s")), flush=True)


def repeat(files: list[Path], runs: int, at_once: int, kept: Path) -> int:
    """Run each file several times. Return how many runs failed."""
    runner = Runner(kept)
    failures = 0
    print(line("file", ("runs", "failures", "slowest")), flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        results: dict[Path, list[Future[Run]]] = {
            file: [pool.submit(runner.run, file, number) for number in range(1, runs + 1)] for file in files
        }

        try:
            for file, pending in results.items():
                done = [future.result() for future in pending]
                failures += sum(run.failed for run in done)
                report(file, done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise

    return failures


def stop_as_ctrl_c(*_: object) -> None:
    """End as Ctrl-C does, burners and tests included."""
    raise KeyboardInterrupt


def main() -> int:
    """Read the arguments, and run the files."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="files, folders, glob patterns (default: see above)")
    parser.add_argument("--runs", type=int, default=20, help="runs of each file (default: 20)")
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time (default: 2)")
    parser.add_argument("--burners", type=int, default=cores, help=f"cores to keep busy (default: all, {cores})")
    parser.add_argument("--kept", type=Path, default=ROOT / ".steady", help="the folder for the output of failed runs")
    options = parser.parse_args()
    files = files_of(options.files or DEFAULT)
    kept = options.kept.resolve() / time.strftime("%Y-%m-%d-%H%M%S")
    signal.signal(signal.SIGTERM, stop_as_ctrl_c)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A background process ignores Ctrl-C by default.

    try:
        with busy_cores(options.burners):
            failures = repeat(files, options.runs, options.at_once, kept)
    except KeyboardInterrupt:
        print("Stopped.")
        return 130

    print(f"{failures} runs failed; see {kept}" if failures else "No run failed.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
