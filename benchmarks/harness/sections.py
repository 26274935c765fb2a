"""Run the sections of a benchmark: print their tables and goals, and write them into a page of the documentation."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.harness import report

if TYPE_CHECKING:
    from pathlib import Path


def measure(package: str, section: str, quick: bool, page: Path, write: bool) -> list[report.Goal]:
    """Run one section: print its tables, and write them into the page if requested.

    :param package: the folder of the section, such as ``"engine"``.
    """
    module = import_module(f"benchmarks.{package}.{section}")
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
        print(
            f"{page.name} has no markers for {section} on this Python, so the tables are not written.", file=sys.stderr
        )

    return goals


def show_goals(goals: list[report.Goal]) -> None:
    """Print all goals, unmet goals last."""
    for goal in sorted(goals, key=lambda goal: not goal.is_met):
        print(goal)
