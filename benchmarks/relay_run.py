"""Measure the relay beside its peers: ``python benchmarks/relay_run.py [--quick] [--write] [--only SECTION ...]``.

Everything that is compared is measured in one run, in slices that take turns, and given as ratios.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import run

if TYPE_CHECKING:
    from report import Goal

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-relay.md"
SECTIONS = (
    "relay_send",
    "relay_drain",
    "relay_latency",
    "relay_workers",
    "relay_backlog",
    "relay_peers",
    "relay_kills",
)


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description="Measure the relay beside its peers.")
    parser.add_argument("--quick", action="store_true", help="under two minutes, and less exact")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=" ".join(SECTIONS)
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # Peers' own.
    goals: list[Goal] = []
    begin = time.perf_counter()

    for section in options.only:
        goals += run.measure(section, options.quick, options.write, PAGE)

    run.show_goals(goals)
    print(f"\n{time.perf_counter() - begin:.0f} seconds")


if __name__ == "__main__":
    main()
