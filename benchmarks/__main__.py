"""Measure Aldis beside its peers: ``python -m benchmarks engine|relay [--quick] [--write] [--only SECTION ...]``.

All compared variants are measured in one run, in short slices that take turns, and the results are shown as ratios.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.harness import report, sections, timing

if TYPE_CHECKING:
    from pathlib import Path


class Benchmark(NamedTuple):
    """A benchmark: a folder with one module for each section, and the page with its results."""

    page: Path
    sections: tuple[str, ...]
    peers: tuple[str, ...]
    uses_one_core: bool


BENCHMARKS = {
    "engine": Benchmark(
        page=report.DOCS / "benchmarks.md",
        sections=(
            "send",
            "kinds",
            "declared",
            "asynchronous",
            "watching",
            "connecting",
            "memory",
            "imports",
            "flask_requests",
        ),
        peers=("blinker", "psygnal", "django", "pluggy", "pyee", "flask", "opentelemetry-sdk"),
        uses_one_core=True,
    ),
    "relay": Benchmark(
        page=report.DOCS / "benchmarks-relay.md",
        sections=("send", "drain", "latency", "workers", "backlog", "peers", "kills"),
        peers=("celery", "huey", "procrastinate", "dbos"),
        uses_one_core=False,
    ),
}


def main() -> None:
    """Run the requested sections."""
    options = parse()
    benchmark = BENCHMARKS[options.what]

    for peer in benchmark.peers:
        if report.version(peer) is None:
            print(f"{peer}: not installed")

    if benchmark.uses_one_core:
        timing.stay_on_one_core()

    warnings.simplefilter("ignore", DeprecationWarning)  # Peers raise such warnings.
    goals: list[report.Goal] = []
    begin = time.perf_counter()

    for section in options.only or benchmark.sections:
        goals += sections.measure(options.what, section, options.quick, benchmark.page, options.write)

    sections.show_goals(goals)
    print(f"\n{time.perf_counter() - begin:.0f} seconds")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Aldis beside its peers.")
    commands = parser.add_subparsers(dest="what", required=True, metavar="engine|relay")

    for name, benchmark in BENCHMARKS.items():
        command = commands.add_parser(name, help=f"measure for docs/{benchmark.page.name}")
        command.add_argument("--quick", action="store_true", help="take one or two minutes and measure less exactly")
        command.add_argument("--write", action="store_true", help=f"write the tables into {benchmark.page.name}")
        command.add_argument(
            "--only", nargs="+", choices=benchmark.sections, metavar="SECTION", help=" ".join(benchmark.sections)
        )

    return parser.parse_args()


if __name__ == "__main__":
    main()
