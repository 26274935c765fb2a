"""The cost of a send, beside the loop written by hand and other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.engine.peers import CONTESTANTS, Case, slices
from benchmarks.harness.report import Goal, Table, duration, ratio
from benchmarks.harness.timing import interleave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness.timing import Timing

PEERS = ("blinker", "psygnal", "django", "pluggy", "pyee")
COUNTS = (0, 1, 3, 10, 100)
KEYS = (0, 1, 4)
LIMITS = {1: 1.25, 3: 1.25, 10: 1.15, 100: 1.15}

TITLES = {
    "any": "Receivers for any sender",
    "object": "Receivers for one sender, an object",
    "str": "Receivers for one sender, a string",
}


def measure(quick: bool) -> Iterator[Table]:
    """Measure a table for each kind of sender."""
    for by, title in TITLES.items():
        table = Table(title, ("receivers", "keywords", "by hand", *list(CONTESTANTS)[1:], "goal"))

        for count in COUNTS:
            for keys in KEYS:
                case = Case(count, by, keys)  # type: ignore[arg-type]
                timings = interleave(slices(case), 0.25 if quick else 2.5)
                goal = check(f"{title}: {count}, {keys} keywords", count, timings)
                table.goals += [goal] if goal else []
                table.rows.append((count, keys, *cells(timings), short(goal, count)))

        yield table


def cells(timings: dict[str, Timing]) -> Iterator[str]:
    """Return the time of the loop by hand, and the ratios of the other contestants to it."""
    base = timings["by hand"]
    yield duration(base.best)

    for name in list(CONTESTANTS)[1:]:
        yield ratio(timings[name].ratio(base) if name in timings else None)


def check(what: str, count: int, timings: dict[str, Timing]) -> Goal | None:
    """Return whether Aldis meets its goal, or None if there are no receivers and Blinker is not installed."""
    if count == 0:
        if "Blinker" not in timings:
            return None

        value = timings["Aldis"].ratio(timings["Blinker"])
        return Goal(f"{what}: {value:.2f} of Blinker, less than 1", value < 1)

    value = timings["Aldis"].ratio(timings["by hand"])
    return Goal(f"{what}: {value:.2f} of the loop, at most {LIMITS[count]}", value <= LIMITS[count])


def short(goal: Goal | None, count: int) -> str:
    """Return a goal as the text of a cell."""
    if goal is None:
        return "-"

    limit = f"≤ {LIMITS[count]}" if count else "< Blinker"
    return f"{limit}: {'met' if goal.is_met else 'not met'}"
