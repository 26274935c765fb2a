"""How watchers are told of what a watched send does.

A signal that nobody watches takes the short ways past this module. A watched one comes here at the
beginning and the end of each send and of each call of a receiver. A context variable holds the call that
runs, so that what is sent inside a receiver becomes a branch of that call's tree, across tasks and
deliveries too.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from threading import local
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final
from weakref import ref

from .callables import describe, qualified_name
from .records import CallRecord, SendRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .connections import Connection
    from .options import Options
    from .types import AnySignal


class Watcher:
    """Watches sends. Subclass it and override what you want to know of; see :func:`aldis.observe.watch`.

    Each method is called in the thread and the context of the send, and must not be async. A record is complete
    when it has ended; until then its ``duration_s`` is ``None``. Who is told of a beginning is told of its end,
    also when the watch was stopped in between. What a watcher itself sends is not watched.

    A watcher that raises an :class:`Exception` is removed, and reported with its traceback to the logger
    ``aldis``. Anything else that it raises, such as ``KeyboardInterrupt``, is none of its doing: the watcher
    stays, and the send raises it when all watchers have been told.

    .. versionadded:: 0.1
    """

    def send_began(self, send: SendRecord) -> None:
        """A send begins. No receiver has run yet."""

    def call_began(self, call: CallRecord) -> None:
        """A receiver is about to be called."""

    def call_ended(self, call: CallRecord) -> None:
        """A receiver has returned or raised, or was handed over to its delivery."""

    def send_ended(self, send: SendRecord) -> None:
        """A send has ended, with whatever came of it."""


@final
class FunctionWatcher(Watcher):
    """Tells a function of the ends of sends."""

    def __init__(self, function: Callable[[SendRecord], object]) -> None:
        self.function = function

    def send_ended(self, send: SendRecord) -> None:
        """Call the function."""
        self.function(send)


@final
class Watch:
    """A watcher at work: what :func:`aldis.observe.watch` returns. Also a context manager that stops it at its end.

    It works until it is stopped; nobody needs to keep it.

    :ivar watcher: who watches.

    .. versionadded:: 0.1
    """

    __slots__ = ("__weakref__", "_has_failed", "_stop", "watcher")

    watcher: Watcher

    def __init__(self, watcher: Watcher, stop: Callable[[Watch], object]) -> None:
        self.watcher = watcher
        self._stop: Callable[[Watch], object] | None = stop
        self._has_failed = False

    def stop(self) -> None:
        """Stop watching. To stop again does nothing.

        The watcher is told of no more beginnings. What has begun is still told of when it ends.
        """
        stop, self._stop = self._stop, None

        if stop is not None:
            stop(self)

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped, also because its watcher failed."""
        return self._stop is None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Watch of {describe_watcher(self.watcher)}{', stopped' if self.is_stopped else ''}>"

    def tell(self, what: str, record: SendRecord | CallRecord) -> None:
        """Call one method of the watcher. If that fails, it is removed and reported: the send goes on."""
        if self._has_failed:
            return

        try:
            getattr(self.watcher, what)(record)
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Remove the watcher, and report what it raised."""
        if not self._has_failed:  # In several threads at once, it may fail several times.
            self._has_failed = True
            self.stop()
            _report(self.watcher, error)


@final
class SendSpan:
    """One send that is watched: makes its records, and tells the watchers. A context manager around the send."""

    __slots__ = ("_told", "_watches", "record")

    record: SendRecord

    def __init__(
        self, watches: tuple[Watch, ...], signal: AnySignal, sender: Any, payload: dict[str, Any], is_muted: bool
    ) -> None:
        self._watches = watches
        self._told: tuple[Watch, ...] = ()
        parent = _call_that_runs()
        self.record = SendRecord(signal, sender, payload, is_muted, parent)

        if parent is not None:
            parent._add(self.record)

    def __enter__(self) -> None:
        self._told = self.working()

        try:
            _tell(self._told, "send_began", self.record)
        except BaseException as error:
            self._end(error)
            raise

        self.record._begin = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self.record._end(error)

        try:
            _tell(self._told, "send_ended", self.record)
        finally:
            self.record.payload = None

    def calling(self, receiver: Any, connection: Connection, options: Options, *, is_delivery: bool) -> CallSpan:
        """What to put around one call of a receiver, or around its being handed over to its delivery."""
        return CallSpan(self, receiver, connection.is_async, options, is_delivery)

    def working(self) -> tuple[Watch, ...]:
        """The watches that have not been stopped."""
        for watch in self._watches:
            if watch._stop is None:
                self._watches = tuple(watch for watch in self._watches if watch._stop is not None)
                break

        return self._watches


@final
class CallSpan:
    """One call that is watched. A context manager around the call."""

    __slots__ = ("_outer", "_record", "_told", "_watched")

    def __init__(self, watched: SendSpan, receiver: Any, is_async: bool, options: Options, is_delivery: bool) -> None:
        self._watched = watched
        self._record = CallRecord(watched.record, receiver, is_async, options, is_delivery)
        self._told: tuple[Watch, ...] = ()
        self._outer: ref[CallRecord] | None = None

    def __enter__(self) -> None:
        record = self._record
        self._watched.record.calls.append(record)
        self._outer = _running.get()
        self._told = self._watched.working()

        try:
            _tell(self._told, "call_began", record)
        except BaseException as error:
            self._end(error)
            raise

        _running.set(ref(record))
        record._begin = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        # Not by a token: a coroutine may be closed in another context than the one it began in.
        _running.set(self._outer)
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._record._end(error)
        _tell(self._told, "call_ended", self._record)


class _Telling(local):
    """Whether this thread is telling watchers."""

    is_on = False


_telling: Final = _Telling()

# Weakly, because contexts are copied, and a task that goes on for ever would keep what it was started in.
_running: Final[ContextVar[ref[CallRecord] | None]] = ContextVar("aldis_running", default=None)


def is_telling() -> bool:
    """Whether a watcher is at work in this thread: what that sends is not watched, or it would never end."""
    return _telling.is_on


def _tell(watches: tuple[Watch, ...], what: str, record: SendRecord | CallRecord) -> None:
    interrupt: BaseException | None = None
    outer, _telling.is_on = _telling.is_on, True

    try:
        for watch in watches:
            try:
                watch.tell(what, record)
            except BaseException as error:  # No Exception: those are seen to.
                interrupt = error if interrupt is None else interrupt

        if interrupt is not None:
            raise interrupt
    finally:
        _telling.is_on = outer
        interrupt = None  # Its traceback holds this frame.


def _call_that_runs() -> CallRecord | None:
    running = _running.get()
    call = None if running is None else running()
    return call if call is not None and call.outcome is None else None


def describe_watcher(watcher: Watcher) -> str:
    """Name a watcher, for people. Not by its own repr(), which may fail as well."""
    return describe(watcher.function) if isinstance(watcher, FunctionWatcher) else qualified_name(type(watcher))


def _report(watcher: Watcher, error: BaseException) -> None:
    import logging

    with suppress(Exception):  # A filter of the logger's may raise, and the send must not mind.
        logging.getLogger("aldis").error(
            "The watcher %s failed and was removed. Signals and receivers are not affected.",
            describe_watcher(watcher),
            exc_info=error,
        )
