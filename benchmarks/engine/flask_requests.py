"""Flask's requests per second, on Blinker and on Aldis in its place. There is no network: the requests are WSGI calls.

Each variant runs in its own process; all processes run at the same time and take turns. The processes are started
several times, because the same program can be a few per cent faster in one process than in the next.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.report import Table, ratio, version
from benchmarks.harness.timing import Timing, interleave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.timing import Slice

PEERS = ("flask", "blinker")

APPS = {
    "Blinker": ("blinker", "none"),
    "Aldis": ("aldis", "none"),
    "Blinker, receivers on all ten": ("blinker", "receivers"),
    "Aldis, receivers on all ten": ("aldis", "receivers"),
    "extension": ("aldis", "extension"),
    "watched": ("aldis", "watched"),
    "counted": ("aldis", "counted"),
}
LIBRARIES = tuple(APPS)[:4]
# The base of all ratios: the same receivers, on Blinker.
SIGHT = tuple(APPS)[2:]
PAGES = {"/plain": "a view that returns a string", "/page": "a view that flashes and renders a template"}


def measure(quick: bool) -> Iterator[Table]:
    """Measure two tables."""
    if version("flask") is None or version("blinker") is None:
        return

    timings: dict[str, dict[str, Timing]] = {path: {name: Timing([]) for name in APPS} for path in PAGES}

    for _ in range(1 if quick else 4):
        workers = {name: _start(*how) for name, how in APPS.items()}

        for path in PAGES:
            slices = {name: _slice(worker, path) for name, worker in workers.items()}

            for name, timing in interleave(slices, 2.5 if quick else 6.0, slice_s=0.002).items():
                timings[path][name].rounds.extend(timing.rounds)

        for worker in workers.values():
            worker.communicate()

    yield _libraries(timings)
    yield _sight(timings)


def _libraries(timings: dict[str, dict[str, Timing]]) -> Table:
    table = Table("Flask's requests per second", ("", *LIBRARIES, "Aldis to Blinker", "the same, with receivers"))

    for path, title in PAGES.items():
        found = timings[path]
        rates = (f"{1 / found[name].best:,.0f}" for name in LIBRARIES)
        # These are rates, so the ratio is the inverse of the ratio of times.
        plain = found["Blinker"].ratio(found["Aldis"])
        with_receivers = found["Blinker, receivers on all ten"].ratio(found["Aldis, receivers on all ten"])
        table.rows.append((title, *rates, ratio(plain), ratio(with_receivers)))

    return table


def _sight(timings: dict[str, dict[str, Timing]]) -> Table:
    """Measure receivers on all ten signals, and the cost of watching them."""
    head = ("on Blinker", "on Aldis", "and Aldis(app)", "and all sends watched", "or counted")
    table = Table("Time of a request with receivers on all ten signals, to that on Blinker", ("", *head))

    for path, title in PAGES.items():
        base = timings[path][SIGHT[0]]
        table.rows.append((title, *(ratio(timings[path][name].ratio(base)) for name in SIGHT)))

    return table


def _start(*how: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("flask_app.py")), *how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _slice(worker: subprocess.Popen[str], path: str) -> Slice:
    assert worker.stdin is not None
    assert worker.stdout is not None
    ask, answer = worker.stdin, worker.stdout

    def run(number: int) -> float:
        print(path, number, file=ask, flush=True)
        return float(answer.readline())

    return run
