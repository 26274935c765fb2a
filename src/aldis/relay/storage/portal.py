"""Portals: event loops, each in its own thread, for async receivers in a worker and async databases in sync code."""

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
    """An event loop in a thread of its own. It starts when it is first used, and runs until the process ends.

    After a fork, the loop stays in the parent. The child starts its own loop when it needs one.

    :param name: the name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop, in a copy of the caller's context. Return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wait for it, and return its result. An interrupted wait cancels it.

        :raises RuntimeError: when it is called in the loop itself, which would wait for ever.
        """
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            coroutine.close()
            raise RuntimeError("An async receiver cannot run another async receiver and wait for it.")

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
                # The worker limits how many receivers run at once. The default executor would limit them to a few for
                # each core.
                self._loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS, self._name))
                Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()

            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop for ever. Otherwise a task that exits would end the loop, and all other tasks with it.

    The task keeps its exception, so no exception is lost here.
    """
    while True:
        with suppress(BaseException):
            loop.run_forever()


portal: Final = Portal("aldis-portal")
"""The portal in which receivers run."""

databases: Final = Portal("aldis-databases")
"""The portal of databases. It is a separate one, so that a receiver that blocks its loop cannot keep the worker from
renewing its leases.
"""
