"""Many threads at the same moment, for the tests of what threads may do."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 6


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own, all from the same moment; return what they return, raise what they raise."""
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
    """Repeat each of these in a thread of its own until the block ends."""
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
