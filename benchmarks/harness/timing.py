"""Time measurement in short slices that take turns, so that noise affects all contestants alike."""

from __future__ import annotations

import gc
import os
import time
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # A slice runs a statement the given number of times, and returns the seconds that this took.
    Slice = Callable[[int], float]

K = TypeVar("K")

SLICE_S = 0.0005


class Timing:
    """The time of one contestant per run of its statement, round by round."""

    def __init__(self, rounds: list[float]) -> None:
        self.rounds = rounds

    @property
    def best(self) -> float:
        """Return the seconds of the fastest round, which is the one with the least disturbance."""
        return min(self.rounds)

    def ratio(self, base: Timing) -> float:
        """Return the ratio to the base: the median over the rounds, in each of which both ran."""
        return median(mine / its for mine, its in zip(self.rounds, base.rounds, strict=True))


def stay_on_one_core() -> None:
    """Keep this process and its children on one core, because cores need not be equally fast."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def statement(code: str, **names: Any) -> Slice:
    """Return a slice that runs a line of code, in a loop that costs the same for all contestants."""
    return Timer(code, globals=names).timeit


def interleave(slices: Mapping[K, Slice], seconds: float, slice_s: float = SLICE_S) -> dict[K, Timing]:
    """Run the slices in turn, A B C A B C, for about the given number of seconds in total."""
    numbers = {name: _calibrate(run, slice_s) for name, run in slices.items()}
    rounds: dict[K, list[float]] = {name: [] for name in slices}
    order = list(slices)
    end = time.perf_counter() + seconds

    while time.perf_counter() < end or len(rounds[order[0]]) < 5:
        for name in order:
            rounds[name].append(_undisturbed(slices[name], numbers[name]) / numbers[name])

        order.append(order.pop(0))  # So that no contestant always follows the same one.

    return {name: Timing(rounds[name]) for name in slices}


def _calibrate(run: Slice, slice_s: float) -> int:
    number = 1

    while (taken := min(_undisturbed(run, number) for _ in range(3))) < slice_s / 2:
        number = max(number * 2, int(number * slice_s / 2 / max(taken, 1e-9)))

    return max(1, round(number * slice_s / taken))


def _undisturbed(run: Slice, number: int) -> float:
    gc.disable()

    try:
        return run(number)
    finally:
        gc.enable()
