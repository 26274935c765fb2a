"""Tries breaks, several at the same time, and prints which test noticed each of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from .breaks import BreakError
from .workshop import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from .breaks import Break
    from .results import Results
    from .suite import Suite
    from .workshop import Workshop

S = TypeVar("S")
T = TypeVar("T")

TIMEOUT_S: Final = 120.0
TIMEOUT_OF_ALL_S: Final = 900.0
# How many times longer than on the unbroken source a run may take.
_SLOWER: Final = 5


@dataclass(frozen=True)
class Row:
    """The result of a break.

    :ivar noticed_by: the first test that failed or hung, or ``None``.
    :ivar problem: why the break could not be tried.
    """

    broken: Break
    seconds: float
    noticed_by: str | None = None
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            result = f"NOT TRIED: {self.problem}"
        else:
            result = self.noticed_by or f"NOT NOTICED: {self.broken.what}"

        return f"{self.broken.name:<27} {self.seconds:6.1f} s  {result}"


class Runner:
    """Tries breaks in copies of the source.

    :param workshops: the copies. As many breaks are tried at the same time.
    :param suite: where the tests are.
    :param is_quick: whether only the tests run that a break names.
    """

    def __init__(self, workshops: Sequence[Workshop], suite: Suite, results: Results, *, is_quick: bool) -> None:
        self._workshops = workshops
        self._suite = suite
        self._results = results
        self._is_quick = is_quick
        self._failing: dict[Path, str] = {}
        self._free: SimpleQueue[Workshop] = SimpleQueue()

        for workshop in workshops:
            self._free.put(workshop)

    def check_unbroken(self, breaks: Iterable[Break]) -> None:
        """Run the tests that the breaks name on the unbroken source: a test that fails anyway notices nothing."""
        files: set[Path] = set()

        for broken in breaks:
            try:
                files.update(self._named_tests(broken))
            except BreakError:
                continue  # try_breaks() reports it.

        todo = [path for path in sorted(files) if self._suite.short(path) not in self._results.seconds]

        for path, seconds, failure in self._each(self._check_file, todo):
            name = self._suite.short(path)

            if failure is None:
                self._results.add_tests(name, seconds)
                print(f"Unbroken: {name} passes in {seconds:.1f} s", flush=True)
            else:
                self._failing[path] = failure
                print(f"Unbroken: {name} FAILS: {failure}", flush=True)

    def try_breaks(self, breaks: Sequence[Break]) -> list[Row]:
        """Try breaks, and print a row for each as soon as its result is known."""
        rows: list[Row] = []

        for row in self._each(self._try, breaks):
            self._results.add_break(row.broken.name, row.seconds, noticed_by=row.noticed_by, problem=row.problem)
            rows.append(row)
            print(row, flush=True)

        return rows

    def _each(self, work: Callable[[Workshop, S], T], things: Iterable[S]) -> Iterator[T]:
        """Do some work for each thing, in as many threads as there are copies. Yield the results as they come."""

        def work_in_copy(thing: S) -> T:
            workshop = self._free.get()

            try:
                return work(workshop, thing)
            finally:
                self._free.put(workshop)

        with ThreadPoolExecutor(len(self._workshops)) as executor:
            try:
                for future in as_completed([executor.submit(work_in_copy, thing) for thing in things]):
                    yield future.result()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)

                for workshop in self._workshops:
                    workshop.close()

                raise

    def _check_file(self, workshop: Workshop, path: Path) -> tuple[Path, float, str | None]:
        """Run a test file on the unbroken source. Return why it fails, too."""
        began = time.monotonic()

        try:
            failure = workshop.test([path], TIMEOUT_OF_ALL_S).noticed_by
        except RunError as error:
            failure = str(error)

        return path, time.monotonic() - began, failure

    def _try(self, workshop: Workshop, broken: Break) -> Row:
        began = time.monotonic()

        try:
            outcome = workshop.attempt(broken, self._runs(broken))
        except (BreakError, RunError) as error:
            return Row(broken, time.monotonic() - began, problem=str(error))

        return Row(broken, time.monotonic() - began, noticed_by=outcome.noticed_by)

    def _runs(self, broken: Break) -> list[tuple[Sequence[Path], float]]:
        """Return the runs for a break: first the tests that it names, then those beside them."""
        named = self._named_tests(broken)

        for path in named:
            if path in self._failing:
                raise BreakError(
                    f"{broken.name}: {self._suite.short(path)} fails on the unbroken source: {self._failing[path]}"
                )

        seconds = sum(self._results.seconds.get(self._suite.short(path), 0.0) for path in named)
        runs: list[tuple[Sequence[Path], float]] = [(named, max(TIMEOUT_S, _SLOWER * seconds))]

        if not self._is_quick:
            runs.append((self._suite.around(named), TIMEOUT_OF_ALL_S))

        return runs

    def _named_tests(self, broken: Break) -> list[Path]:
        try:
            return [self._suite.find(name) for name in broken.tests]
        except BreakError as error:
            raise BreakError(f"{broken.name}: {error}") from None
