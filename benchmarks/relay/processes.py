"""Workers in their own processes, and functions that wait for them."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

SPAWN: Final = multiprocessing.get_context("spawn")
LONG_S: Final = 120.0


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """Run a function in its own process while a ``with`` block runs, then kill the process."""
    child = SPAWN.Process(target=target, args=arguments, daemon=True)
    child.start()

    try:
        yield child
    finally:
        child.kill()
        child.join()


def wait_until(is_true: Callable[[], bool], seconds: float = LONG_S, every_s: float = 0.01) -> None:
    """Wait until a condition is true.

    :raises TimeoutError: if it takes too long.
    """
    end = time.monotonic() + seconds

    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition is still false after {seconds:.0f} s")

        time.sleep(every_s)
