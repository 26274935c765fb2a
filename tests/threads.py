"""Tools for tests with threads: start many threads at the same moment."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 6


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run each function in its own thread, all from the same moment. Return their results, or raise their exception."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(place: int, work: Callable[[], Any]) -> None:
        barrier.wait()

        try:
            results[place] = work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    if errors:
        raise BaseExceptionGroup("in threads", errors)

    return results


@contextmanager
def meanwhile(*disturbers: Callable[[], Any]) -> Iterator[None]:
    """Repeat each function in its own thread until the block ends."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def run(disturb: Callable[[], Any]) -> None:
        try:
            while not stop.is_set():
                disturb()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(disturb,)) for disturb in disturbers]

    for thread in threads:
        thread.start()

    try:
        yield
    finally:
        stop.set()

        for thread in threads:
            thread.join()

    if errors:
        raise BaseExceptionGroup("in disturbers", errors)
