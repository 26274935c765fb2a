"""A future that reports its exception if no code asks for it.

This is a module of its own, so that the first delivery imports ``concurrent.futures`` and ``import aldis`` does not.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable


class ReportedFuture(Future[Any]):
    """Reports its exception to :func:`threading.excepthook` if it dies before any code asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self._was_asked = False

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, as :meth:`concurrent.futures.Future.result` does."""
        self._was_asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception, as :meth:`concurrent.futures.Future.exception` does."""
        self._was_asked = True
        return super().exception(timeout)

    def __del__(self) -> None:
        if self._was_asked or not self.done() or self.cancelled():
            return

        error = super().exception()

        if error is not None:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))


@final
class Job:
    """Makes a call for a future, once, and then drops its references to both.

    The executor holds this job, and the traceback of an exception holds the executor's frame. If the job still held
    the future then, the future would hold itself through its exception, and would not die when the user drops it.
    """

    __slots__ = ("call", "future")

    def __init__(self, call: Callable[[], Any], future: ReportedFuture) -> None:
        self.call: Callable[[], Any] | None = call
        self.future: ReportedFuture | None = future

    def __call__(self) -> None:
        call, future = self.call, self.future
        self.call = self.future = None

        if call is None or future is None or not future.set_running_or_notify_cancel():
            return

        try:
            value = call()
        except BaseException as error:
            future.set_exception(error)
            future = None  # This frame is in the traceback as well.
        else:
            future.set_result(value)
