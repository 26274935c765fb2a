"""Event loops in threads of their own: for async receivers in a worker, and for async databases in sync code."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

T = TypeVar("T")

_MOST_THREADS: Final = 1000


@final
class Portal:
    """Starts when it is first used. The loop runs until the process ends.

    A fork leaves it with its parent, and the child has one of its own, if it needs one.

    :param name: of its thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop, in a copy of the context that this is called in."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and wait for it. A wait that is interrupted cancels it.

        :raises RuntimeError: in the loop itself, which would wait for ever.
        """
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            coroutine.close()
            raise RuntimeError("An async receiver cannot have another async receiver run and wait for it.")

        future = self.submit(coroutine)

        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # The worker limits how many receivers run at once, and by default it would be a few for each core.
                self._loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS, self._name))
                Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()

            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop, whatever is done in it: a task that exits would end it otherwise, and what else runs there with it.

    What a task raises is kept with the task, so nothing is lost here.
    """
    while True:
        with suppress(BaseException):
            loop.run_forever()


portal: Final = Portal("aldis-portal")
"""That in which receivers run."""

databases: Final = Portal("aldis-databases")
"""That of databases: a receiver that keeps its loop to itself is not to keep a worker from extending its leases."""
