"""Tell observers of attempts: when an attempt begins, and how it ended.

Usually there are no observers. Then an attempt costs one more test. Telemetry is an observer, and is loaded only if a
program uses it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, final

from aldis._core.callables import place_of, qualified_name
from aldis._core.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from aldis.relay._registry import DurableReceiver
    from aldis.relay.storage.rows import Row


@final
class Attempt:
    """One attempt to receive a message, in plain values.

    :ivar message_id: the message's id.
    :ivar signal: the signal's name.
    :ivar receiver: the receiver's name, as the row has it.
    :ivar number: the number of the attempt, from 1.
    :ivar sent_s: when the message was sent, by the database's clock, in seconds since 1970.
    :ivar function: the receiver's qualified name; ``None`` if it is not connected here, or the row cannot be read.
    :ivar place: where the function is defined, if that is known.
    :ivar is_async: whether the receiver is async.
    :ivar started_s: when the attempt began, by this machine's clock.
    :ivar duration_s: how many seconds it took; ``None`` until it has ended.
    :ivar outcome: how it ended: ``done``, ``failed``, ``dead`` or ``waits``; ``None`` until it has ended.
    :ivar exception: the exception that the receiver raised. It is dropped when all observers have been told.
    """

    __slots__ = (
        "duration_s",
        "exception",
        "function",
        "is_async",
        "message_id",
        "number",
        "outcome",
        "place",
        "receiver",
        "sent_s",
        "signal",
        "started_s",
    )

    duration_s: float | None
    exception: BaseException | None
    outcome: str | None

    def __init__(self, row: Row, found: DurableReceiver | None) -> None:
        self.message_id = row.message_id
        self.signal = row.signal
        self.receiver = row.receiver
        self.number = row.attempts
        self.sent_s = row.sent_ms / 1000
        self.function = None if found is None else qualified_name(found.receiver)
        self.place = None if found is None else place_of(found.receiver)
        self.is_async = found is not None and found.is_async
        self.started_s = time.time()
        self.duration_s = None
        self.outcome = None
        self.exception = None


class Observer:
    """Observes attempts. Subclass it, and override the methods that you need.

    Each method is called in the thread that runs the receiver, in the context that the receiver sees: the context of
    the sender's trace, if a trace came with the message. An observer that was told of a beginning is always told of the
    end. If there are several observers, the last one that was added is told of ends first.

    An observer that raises anything is removed and reported, and the attempt goes on.
    """

    def attempt_began(self, attempt: Attempt) -> None:
        """Note that an attempt begins: the receiver, if there is one, has not run yet."""

    def attempt_ended(self, attempt: Attempt) -> None:
        """Note that the attempt has ended, in whatever way."""


@final
class Observers:
    """The observers of one relay in this process.

    :ivar watches: the watches of the observers.
    """

    __slots__ = ("_lock", "watches")

    watches: tuple[Watch, ...]

    def __init__(self) -> None:
        self._lock = Lock()
        self.watches = ()

    def add(self, observer: Observer) -> Watch:
        """Tell an observer of the attempts that begin from now on.

        :return: a watch that stops this.
        """
        given: Any = observer  # A watch accepts an observer: it stops and reports watchers of any kind.
        watch = Watch(given, self._remove)

        with self._lock:
            self.watches = (*self.watches, watch)

        return watch

    def _remove(self, watch: Watch) -> None:
        with self._lock:
            self.watches = tuple(other for other in self.watches if other is not watch)

    @contextmanager
    def attempt(self, row: Row, found: DurableReceiver | None) -> Generator[Attempt, None, None]:
        """Tell the observers of an attempt: the ``with`` block makes it, and puts its outcome into the record."""
        attempt = Attempt(row, found)
        told = _tell(self.watches, "attempt_began", attempt)
        began = time.perf_counter()

        try:
            yield attempt
        finally:
            attempt.duration_s = time.perf_counter() - began
            _tell(reversed(told), "attempt_ended", attempt)
            attempt.exception = None


def _tell(watches: Iterable[Watch], method: str, attempt: Attempt) -> list[Watch]:
    """Call one method of the observers. Return the watches of observers that did not fail."""
    told: list[Watch] = []

    for watch in watches:
        try:
            getattr(watch.watcher, method)(attempt)
        except BaseException as error:  # An exception that leaves this function would end a thread of the worker.
            watch.fail(error)
        else:
            told.append(watch)

    return told
