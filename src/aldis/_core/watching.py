"""Watchers: how they are told of sends and of calls.

Sends of a signal that nobody watches do not come here. A watched send comes here at its beginning and its end, and at
the beginning and the end of each call of a receiver. A context variable holds the running call, so a send inside a
receiver becomes a branch of that call's tree, across tasks and deliveries too.
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

    from .options import Options
    from .types import AnySignal

_MOST_SENDS: Final = 1000


class Watcher:
    """Watches sends. Subclass it and override the methods that you need; see :func:`aldis.observe.watch`.

    Each method is called in the thread and the context of the send, and must not be async. A record is complete
    when its send or call ended; until then its ``duration_s`` is ``None``. A watcher that is told of a beginning is
    also told of the end, even if the watch was stopped in between. Sends by a watcher itself are not watched.

    A watcher that raises an :class:`Exception` is removed, and reported with its traceback to the logger
    ``aldis``. Anything else, such as ``KeyboardInterrupt``, is not taken for the watcher's fault: the watcher
    stays, and the send raises it after all watchers were told.

    .. versionadded:: 0.1
    """

    def send_began(self, send: SendRecord) -> None:
        """A send begins. No receiver has run yet."""

    def call_began(self, call: CallRecord) -> None:
        """A receiver is about to be called."""

    def call_ended(self, call: CallRecord) -> None:
        """A receiver returned or raised, or its call was handed over to its delivery."""

    def send_ended(self, send: SendRecord) -> None:
        """A send ended: it returned or raised."""


@final
class FunctionWatcher(Watcher):
    """Calls a function when a send ended."""

    def __init__(self, function: Callable[[SendRecord], object]) -> None:
        self.function = function

    def send_ended(self, send: SendRecord) -> None:
        """Call the function."""
        self.function(send)


@final
class Watch:
    """A running watch, as :func:`aldis.observe.watch` returns it. Also a context manager that stops it at its end.

    It runs until it is stopped. You do not need to keep it.

    :ivar watcher: the watcher.

    .. versionadded:: 0.1
    """

    __slots__ = ("__weakref__", "_has_failed", "_stop", "watcher")

    watcher: Watcher

    def __init__(self, watcher: Watcher, stop: Callable[[Watch], object]) -> None:
        self.watcher = watcher
        self._stop: Callable[[Watch], object] | None = stop
        self._has_failed = False

    def stop(self) -> None:
        """Stop watching. Stopping again does nothing.

        The watcher is told of no more beginnings. It is still told of the end of sends and calls that have begun.
        """
        stop, self._stop = self._stop, None

        if stop is not None:
            stop(self)

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped, by :meth:`stop` or because its watcher failed."""
        return self._stop is None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Watch of {describe_watcher(self.watcher)}{', stopped' if self.is_stopped else ''}>"

    def tell(self, method: str, record: SendRecord | CallRecord) -> None:
        """Call one method of the watcher. A watcher that fails is removed and reported, and the send goes on."""
        if self._has_failed:
            return

        try:
            getattr(self.watcher, method)(record)
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Remove the watcher, and report the exception."""
        if not self._has_failed:  # In several threads at once, it may fail several times.
            self._has_failed = True
            self.stop()
            _report(self.watcher, error)


@final
class SendSpan:
    """One watched send: makes its records, and tells the watchers. A context manager around the send."""

    __slots__ = ("_begin", "_told", "_watches", "record")

    record: SendRecord

    def __init__(
        self, watches: tuple[Watch, ...], signal: AnySignal, sender: Any, payload: dict[str, Any], is_muted: bool
    ) -> None:
        self._watches = watches
        self._told: tuple[Watch, ...] = ()
        self._begin: float | None = None
        parent = running_call()
        self.record = SendRecord(signal, sender, payload, is_muted, parent)

        if parent is None:
            return

        if len(parent.sends) < _MOST_SENDS:
            parent.sends.append(self.record)
        else:
            parent.sends_left_out += 1

    def __enter__(self) -> None:
        self._told = self.running_watches()

        try:
            _tell(self._told, "send_began", self.record)
        except BaseException as error:
            self._end(error)
            raise

        self._begin = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self.record.duration_s = _since(self._begin)
        self.record.exception_type = None if error is None else _exception_name(error)

        try:
            _tell(self._told, "send_ended", self.record)
        finally:
            self.record.payload = None

    def call(self, receiver: Any, is_async: bool, options: Options, *, is_delivery: bool) -> CallSpan:
        """Return the span of one call of a receiver, or of one handing over to its delivery."""
        return CallSpan(self, receiver, is_async, options, is_delivery)

    def running_watches(self) -> tuple[Watch, ...]:
        """Return the watches that were not stopped."""
        for watch in self._watches:
            if watch.is_stopped:
                self._watches = tuple(watch for watch in self._watches if not watch.is_stopped)
                break

        return self._watches


@final
class CallSpan:
    """One watched call. A context manager around the call."""

    __slots__ = ("_begin", "_outer", "_record", "_send_span", "_told")

    def __init__(self, send_span: SendSpan, receiver: Any, is_async: bool, options: Options, is_delivery: bool) -> None:
        self._send_span = send_span
        self._record = CallRecord(send_span.record, receiver, is_async, options, is_delivery)
        self._told: tuple[Watch, ...] = ()
        self._begin: float | None = None
        self._outer: ref[CallRecord] | None = None

    def __enter__(self) -> None:
        record = self._record
        self._send_span.record.calls.append(record)
        self._outer = _running.get()
        self._told = self._send_span.running_watches()

        try:
            _tell(self._told, "call_began", record)
        except BaseException as error:
            self._end(error)
            raise

        _running.set(ref(record))
        self._begin = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        # Reset without a token, because a coroutine may be closed in another context than the one it began in.
        _running.set(self._outer)
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        record = self._record
        record.duration_s = _since(self._begin)

        if error is not None:
            record.outcome = "raised"
            record.exception_type = _exception_name(error)
        else:
            record.outcome = "delivered" if record.is_delivery else "returned"

        _tell(self._told, "call_ended", record)


def _since(begin: float | None) -> float:
    return 0.0 if begin is None else perf_counter() - begin


def _exception_name(error: BaseException) -> str:
    """Return the name of an exception's class, with its module unless it is built in."""
    return qualified_name(type(error)).removeprefix("builtins.")


class _Telling(local):
    """Whether this thread tells watchers now."""

    is_on = False


_telling: Final = _Telling()

# A weak reference: contexts are copied, and a task that runs for ever would keep alive the call in which it was
# started.
_running: Final[ContextVar[ref[CallRecord] | None]] = ContextVar("aldis_running", default=None)


def is_telling() -> bool:
    """Return whether a watcher runs in this thread. Its own sends are not watched, or they would never end."""
    return _telling.is_on


def _tell(watches: tuple[Watch, ...], method: str, record: SendRecord | CallRecord) -> None:
    interrupt: BaseException | None = None
    outer, _telling.is_on = _telling.is_on, True

    try:
        for watch in watches:
            try:
                watch.tell(method, record)
            except BaseException as error:  # Not an Exception: tell() handles those.
                interrupt = error if interrupt is None else interrupt

        if interrupt is not None:
            raise interrupt
    finally:
        _telling.is_on = outer
        interrupt = None  # Its traceback holds this frame.


def running_call() -> CallRecord | None:
    """Return the record of the call that runs in this context, if there is one."""
    running = _running.get()
    call = None if running is None else running()
    return call if call is not None and call.outcome is None else None


def describe_watcher(watcher: Watcher) -> str:
    """Name a watcher, for people. Its repr() is not used, because it may fail too."""
    return describe(watcher.function) if isinstance(watcher, FunctionWatcher) else qualified_name(type(watcher))


def _report(watcher: Watcher, error: BaseException) -> None:
    import logging

    with suppress(Exception):  # A filter of the logger may raise. The send goes on then.
        logging.getLogger("aldis").error(
            "The watcher %s failed and was removed. Signals and receivers are not affected.",
            describe_watcher(watcher),
            exc_info=error,
        )
