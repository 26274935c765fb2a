"""The cost of ``import aldis`` in a new process, beside ``import blinker``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness.report import Goal, Table, duration, version
from benchmarks.harness.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = ("blinker",)

COUNT_MODULES = "import sys; before = set(sys.modules); import {}; print(len(set(sys.modules) - before))"


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    names = ["aldis"] + ["blinker"] * (version("blinker") is not None)

    # Compiled modules go into a separate folder, so that each library is compiled once and later rounds use the result.
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        modules = {name: int(_run(COUNT_MODULES.format(name), environment)) for name in names}
        timings = _time(names, environment, 10 if quick else 100)

    table = Table(
        "Import in a new process, less what an empty process takes", ("", "time", "modules that it brings in")
    )
    costs = {}

    for name in names:
        empty = timings["nothing"].rounds
        costs[name] = median(with_it - without for with_it, without in zip(timings[name].rounds, empty, strict=True))
        table.rows.append((f"`import {name}`", duration(costs[name]), modules[name]))

    if "blinker" in costs:
        share = costs["aldis"] / costs["blinker"]
        table.goals.append(Goal(f"Import: {share:.2f} of Blinker's, at most 1", share <= 1))

    yield table


def _time(names: list[str], environment: dict[str, str], rounds: int) -> dict[str, Timing]:
    codes = {"nothing": "pass", **{name: f"import {name}" for name in names}}
    times: dict[str, list[float]] = {name: [] for name in codes}

    for _ in range(rounds):
        for name, code in codes.items():
            start = time.perf_counter()
            _run(code, environment)
            times[name].append(time.perf_counter() - start)

    return {name: Timing(taken) for name, taken in times.items()}


def _run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return done.stdout
