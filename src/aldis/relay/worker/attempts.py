"""How observers are told of attempts: of each message that is taken in hand, and of what came of it.

Nobody observes, mostly: then an attempt costs one test more. It is a port, so that what observes is loaded only where
somebody wants it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, final

from aldis._core.callables import place_of, qualified_name
from aldis._core.watching import Watch, Watcher

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from aldis.relay._registry import Receiver
    from aldis.relay.storage.rows import Row


@final
class Attempt:
    """One attempt to receive a message, in plain values.

    :ivar message_id: the message's id.
    :ivar signal: the signal's name.
    :ivar receiver: the receiver's name, as it stands in the row.
    :ivar number: which attempt it is, from 1.
    :ivar sent_s: when the message was sent, by the database's clock, in seconds since 1970.
    :ivar function: the receiver's qualified name; ``None`` if there is none here, or the row cannot be read.
    :ivar place: where that is defined, if it is known.
    :ivar is_async: whether the receiver is async.
    :ivar started_s: when it began, by this machine's clock.
    :ivar duration_s: how long it took; ``None`` until it has ended.
    :ivar outcome: what came of it: ``done``, ``failed``, ``dead`` or ``waits``; ``None`` until it has ended.
    :ivar exception: what the receiver raised, until all were told of the end.
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

    def __init__(self, row: Row, found: Receiver | None) -> None:
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


class Observer(Watcher):
    """Observes attempts. Subclass it, and override what you want to know of.

    Each method is called in the thread that runs the receiver, in the context that the receiver sees: that of the
    sender's trace, where it crossed. Who was told of a beginning is told of its end, in any case. With several, the one
    that was added last is told of ends first.

    An observer that raises is removed and reported, whatever it raises: the attempt goes on.
    """

    def attempt_began(self, attempt: Attempt) -> None:
        """A receiver is about to run, if there is one that can."""

    def attempt_ended(self, attempt: Attempt) -> None:
        """It has ended, with whatever came of it."""


@final
class Observers:
    """Who observes the attempts of one relay in this process.

    :ivar watches: those who do.
    """

    __slots__ = ("_lock", "watches")

    watches: tuple[Watch, ...]

    def __init__(self) -> None:
        self._lock = Lock()
        self.watches = ()

    def add(self, observer: Observer) -> Watch:
        """Tell an observer of what begins from now on.

        :return: what stops it.
        """
        watch = Watch(observer, self._remove)

        with self._lock:
            self.watches = (*self.watches, watch)

        return watch

    def _remove(self, watch: Watch) -> None:
        with self._lock:
            self.watches = tuple(other for other in self.watches if other is not watch)

    @contextmanager
    def attempt(self, row: Row, found: Receiver | None) -> Generator[Attempt, None, None]:
        """Tell of an attempt, which is made in the ``with`` block and puts into the record what came of it."""
        attempt = Attempt(row, found)
        told = _tell(self.watches, "attempt_began", attempt)
        began = time.perf_counter()

        try:
            yield attempt
        finally:
            attempt.duration_s = time.perf_counter() - began
            _tell(reversed(told), "attempt_ended", attempt)
            attempt.exception = None


def _tell(watches: Iterable[Watch], what: str, attempt: Attempt) -> list[Watch]:
    """Call one method of observers. Gives those that did not fail."""
    told: list[Watch] = []

    for watch in watches:
        try:
            getattr(watch.watcher, what)(attempt)
        except BaseException as error:  # What got out of here would end a thread of the worker.
            watch.fail(error)
        else:
            told.append(watch)

    return told
