"""The threads of a worker that run receivers, and the limit of their time."""

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

    from aldis.relay.storage.rows import Row

T = TypeVar("T")

logger: Final = logging.getLogger("aldis.relay")

_raise_in: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc


@final
class Job:
    """A claimed row in the hands of a worker.

    :param limited: called when its time begins to be limited, so that it is seen to in time.
    :ivar row: the row.
    :ivar held_until: until when the lease is surely held, by this machine's monotonic clock.
    :ivar outcome: what came of it; ``None`` until it has run, and if it was not begun.
    :ivar started: when it was begun, and ``ended`` when that was over.
    :ivar is_late: whether its time was over, and it has been told so.
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
    def lease(self) -> tuple[int, str]:
        """What the claim is known by."""
        return self.row.id, self.row.token

    @contextmanager
    def guard(self, timeout_s: float | None) -> Generator[None, None, None]:
        """Limit the time of a ``with`` block, if there is a limit. See :meth:`interrupt`."""
        if timeout_s is None:
            yield
            return

        with self._lock:
            self._thread = get_ident()
            self._deadline = time.monotonic() + timeout_s
            self._limited()  # Under the lock: nothing is raised in the middle of it.

        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        # The exception may come at any line, this one too, as long as interrupt() may find the thread here.
        is_released = False

        while not is_released:
            try:
                with self._lock:
                    self._thread = self._deadline = None
                    is_released = True
            except ReceiverTimeoutError:
                continue

        if self.is_late:
            _forget_what_was_not_raised()

    def interrupt(self, now: float) -> float:
        """Raise :class:`~aldis.exceptions.ReceiverTimeoutError` in the receiver, if its time is over.

        :param now: the monotonic time.
        :return: when its time will be over, if it will.
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

    def run(self, receive: Callable[[Job], Outcome]) -> None:
        """Run it, unless its lease is over."""
        self.started = time.monotonic()

        if self.started < self.held_until:
            # In a context of its own: what a receiver sets there is none of the next one's.
            self.outcome = copy_context().run(self._received, receive)

        self.ended = time.monotonic()

    def _received(self, receive: Callable[[Job], Outcome]) -> Outcome:
        try:
            return receive(self)
        except Exception as error:  # A handler of logs may be of any make. Without its thread, the job would never end.
            with suppress(Exception):
                logger.exception("Message %s could not be seen to", self.row.message_id)

            return Outcome(Disposition.FAILED, f"the worker raised {type(error).__qualname__}", WAITING_S)


class _OverError(Exception):
    """Raised in place of what was to be raised."""


def _forget_what_was_not_raised() -> None:
    """Have nothing raised in this thread any more that was asked for before.

    To ask for nothing in its place would do, and leave Python 3.11 looking for it at each step: for ever, where a
    debugger or a measurement of coverage traces the thread.
    """
    is_over = False

    while not is_over:
        try:
            while True:
                _raise_in(ctypes.c_ulong(get_ident()), ctypes.py_object(_OverError))
        except ReceiverTimeoutError:
            continue
        except _OverError:
            is_over = True


def drain_queue(queue: SimpleQueue[T]) -> list[T]:
    """What is in a queue, which others take from and put to meanwhile."""
    found: list[T] = []

    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found


@final
class ThreadExecutor:
    """Threads that run jobs. They are daemons: a receiver that never ends cannot keep the process from ending.

    :param run: gives what came of a job.
    :param ended: called in the thread, when a job has run or was not begun because its lease was over.
    """

    def __init__(self, count: int, run: Callable[[Job], Outcome], ended: Callable[[Job], None]) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._run = run
        self._ended = ended
        self._threads = [Thread(target=self._work, name=f"aldis-worker-{n}", daemon=True) for n in range(1, count + 1)]

        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Have a job run when a thread is free."""
        self._jobs.put(job)

    def take_back(self) -> list[Job]:
        """The jobs that no thread has begun."""
        return [job for job in drain_queue(self._jobs) if job is not None]

    def end(self) -> None:
        """Have the threads end when they are free."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._run)
            self._ended(job)
            del job  # Nothing of a message is kept while the thread waits.


@final
class Inline:
    """Runs jobs in the thread that brings them. As :class:`ThreadExecutor`, for who waits for them anyway."""

    def __init__(self, run: Callable[[Job], Outcome], ended: Callable[[Job], None]) -> None:
        self._run = run
        self._ended = ended

    def put(self, job: Job) -> None:
        """Run a job."""
        job.run(self._run)
        self._ended(job)

    def take_back(self) -> list[Job]:
        """None: all have run."""
        return []

    def end(self) -> None:
        """Nothing."""
