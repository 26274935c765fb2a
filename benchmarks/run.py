"""Measure Aldis beside its peers: ``python benchmarks/run.py [--quick] [--write] [--only SECTION ...]``.

Everything that is compared is measured in one run, in short slices that take turns, and given as ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

import report
import timing

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = (
    "send",
    "kinds",
    "declared",
    "asynchronous",
    "watching",
    "connecting",
    "memory",
    "imports",
    "flask_requests",
)
PEERS = ("blinker", "psygnal", "django", "pluggy", "pyee", "flask", "opentelemetry-sdk")


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description="Measure Aldis beside its peers.")
    parser.add_argument("--quick", action="store_true", help="under a minute, and less exact")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {report.PAGE.name}")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=" ".join(SECTIONS)
    )
    options = parser.parse_args()

    for peer in PEERS:
        if report.version(peer) is None:
            print(f"{peer}: not installed")

    timing.stay_on_one_core()
    warnings.simplefilter("ignore", DeprecationWarning)  # Peers' own.
    goals: list[report.Goal] = []
    begin = time.perf_counter()

    for section in options.only:
        goals += measure(section, options.quick, options.write)

    show_goals(goals)
    print(f"\n{time.perf_counter() - begin:.0f} seconds")


def measure(section: str, quick: bool, write: bool, page: Path = report.PAGE) -> list[report.Goal]:
    """Run one section: print its tables, and write them if that is wanted."""
    module = import_module(section)
    goals: list[report.Goal] = []
    texts = [f"{report.described(module.PEERS)}\n"]
    print(f"\n{texts[0]}")

    for table in module.measure(quick):
        print(table, flush=True)
        texts.append(str(table))
        goals += table.goals

    if goals:
        met = sum(goal.is_met for goal in goals)
        texts.append(
            "\n".join([f"Goals met: {met} of {len(goals)}.", *(f"- {goal}" for goal in goals if not goal.is_met)])
        )

    if write and not report.write(section, "\n".join(texts).rstrip(), page):
        print(f"{page.name} has no place for {section} on this Python: not written.", file=sys.stderr)

    return goals


def show_goals(goals: list[report.Goal]) -> None:
    """Print all goals, those that are not met last."""
    for goal in sorted(goals, key=lambda goal: not goal.is_met):
        print(goal)


if __name__ == "__main__":
    main()
