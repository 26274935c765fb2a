"""Run receivers in the threads of a worker, and limit their time."""

from __future__ import annotations

import ctypes
import logging
import time
from contextlib import contextmanager, suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import TYPE_CHECKING, Final, TypeVar, final

from aldis.exceptions import ReceiverTimeoutError

from .consumer import WAITING_S, Disposition, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from aldis.relay.storage.rows import Row

    # The row's id, and the token of its claim.
    Lease: TypeAlias = tuple[int, str]

T = TypeVar("T")

logger: Final = logging.getLogger("aldis.relay")

_raise_in: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


@final
class ReceiverJob:
    """The work on one claimed row: its receiver runs, or waits for a thread.

    :param limited: called when a time limit begins, so that the worker calls :meth:`interrupt` in time.
    :ivar row: the row.
    :ivar held_until: until when the lease is certainly held, by this machine's monotonic clock.
    :ivar outcome: how the attempt ended; ``None`` until then, and also if the receiver was not begun.
    :ivar started: when the receiver was begun; ``None`` before.
    :ivar ended: when the receiver ended.
    :ivar is_late: whether the time limit passed and the receiver was interrupted.
    """

    __slots__ = (
        "_deadline",
        "_limited",
        "_lock",
        "_thread",
        "ended",
        "held_until",
        "is_late",
        "outcome",
        "row",
        "started",
    )

    ended: float
    held_until: float
    is_late: bool
    outcome: Outcome | None
    row: Row
    started: float | None

    def __init__(self, row: Row, held_until: float, limited: Callable[[], object]) -> None:
        self.row = row
        self.held_until = held_until
        self.outcome = None
        self.started = None
        self.ended = 0.0
        self.is_late = False
        self._limited = limited
        self._lock = Lock()
        self._thread: int | None = None
        self._deadline: float | None = None

    @property
    def lease(self) -> Lease:
        """Return the row's id and the token of the claim."""
        return self.row.id, self.row.token

    @contextmanager
    def guard(self, timeout_s: float | None) -> Generator[None, None, None]:
        """Limit the time of a ``with`` block, if there is a limit. At the limit, :meth:`interrupt` ends the block."""
        if timeout_s is None:
            yield
            return

        with self._lock:
            self._thread = get_ident()
            self._deadline = time.monotonic() + timeout_s
            self._limited()  # Under the lock, so that no interruption is raised in the middle of it.

        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        # The interruption may arrive at any line while interrupt() can find the thread here, also at this line.
        is_released = False

        while not is_released:
            try:
                with self._lock:
                    self._thread = self._deadline = None
                    is_released = True
            except ReceiverTimeoutError:
                continue

        if self.is_late:
            _discard_pending_interruption()

    def interrupt(self, now: float) -> float:
        """Raise :class:`~aldis.exceptions.ReceiverTimeoutError` in the receiver, if its time is over.

        :param now: the monotonic time.
        :return: when its time will be over; infinity if the time is not limited, or is over already.
        """
        with self._lock:
            if self._deadline is None:
                return float("inf")

            if now < self._deadline:
                return self._deadline

            self._deadline = None
            self.is_late = True
            _raise_in(ctypes.c_ulong(self._thread or 0), ctypes.py_object(ReceiverTimeoutError))
            return float("inf")

    def run(self, receive: Callable[[ReceiverJob], Outcome]) -> None:
        """Run the receiver, unless the lease may have expired."""
        self.started = time.monotonic()

        if self.started < self.held_until:
            # In a context of its own: the next receiver must not see the context variables that this one sets.
            self.outcome = copy_context().run(self._receive, receive)

        self.ended = time.monotonic()

    def _receive(self, receive: Callable[[ReceiverJob], Outcome]) -> Outcome:
        try:
            return receive(self)
        except Exception as error:  # A logging handler may raise anything. It must not end the thread.
            with suppress(Exception):
                logger.exception("The worker failed with message %s", self.row.message_id)

            return Outcome(Disposition.FAILED, f"the worker raised {type(error).__qualname__}", WAITING_S)


class _DiscardError(Exception):
    """Replaces an interruption that is pending."""


def _discard_pending_interruption() -> None:
    """Discard a pending interruption of this thread: replace it by another exception, and catch that.

    Rejected: replace it by nothing. Python 3.11 then looks for an interruption at each step, for ever if a debugger or
    a coverage tool traces the thread.
    """
    is_discarded = False

    while not is_discarded:
        try:
            while True:
                _raise_in(ctypes.c_ulong(get_ident()), ctypes.py_object(_DiscardError))
        except ReceiverTimeoutError:
            continue
        except _DiscardError:
            is_discarded = True


def drain_queue(queue: SimpleQueue[T]) -> list[T]:
    """Take everything out of a queue. Other threads may use the queue meanwhile."""
    found: list[T] = []

    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found


@final
class ThreadExecutor:
    """Runs jobs in threads. The threads are daemons: a receiver that never ends cannot keep the process from ending.

    :param count: how many threads.
    :param run: runs a job, and returns the outcome.
    :param ended: called in the thread when a job has run, or was not begun because its lease may be over.
    """

    def __init__(self, count: int, run: Callable[[ReceiverJob], Outcome], ended: Callable[[ReceiverJob], None]) -> None:
        self._jobs: SimpleQueue[ReceiverJob | None] = SimpleQueue()
        self._run = run
        self._ended = ended
        self._threads = [Thread(target=self._work, name=f"aldis-worker-{n}", daemon=True) for n in range(1, count + 1)]

        for thread in self._threads:
            thread.start()

    def put(self, job: ReceiverJob) -> None:
        """Run a job when a thread is free."""
        self._jobs.put(job)

    def take_back(self) -> list[ReceiverJob]:
        """Remove and return the jobs that no thread has begun."""
        return [job for job in drain_queue(self._jobs) if job is not None]

    def end(self) -> None:
        """End the threads when they are free."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._run)
            self._ended(job)
            del job  # Keep no message alive while the thread waits.


@final
class InlineExecutor:
    """Runs jobs in the thread that puts them; otherwise like :class:`ThreadExecutor`. ``relay.drain()`` uses it."""

    def __init__(self, run: Callable[[ReceiverJob], Outcome], ended: Callable[[ReceiverJob], None]) -> None:
        self._run = run
        self._ended = ended

    def put(self, job: ReceiverJob) -> None:
        """Run a job."""
        job.run(self._run)
        self._ended(job)

    def take_back(self) -> list[ReceiverJob]:
        """Return no job: all have run."""
        return []

    def end(self) -> None:
        """Do nothing: there are no threads."""
