"""Receivers that run when the response has been sent."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, final

from flask import Flask, current_app, has_app_context, has_request_context, request
from werkzeug.wsgi import ClosingIterator

from aldis._web.state import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from aldis import Signal
    from aldis.delivery import Call

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

DEFERRED_CALLS: Final = "aldis.after_response"
"""The key of a request's deferred calls in its WSGI environment."""

IN_TEST: Final = "aldis.in_test"
"""The key by which the test client says that receivers must have run before it returns."""


@final
class AfterResponse:
    """A delivery that runs a receiver when the response has been sent: ``connect(via=after_response)``.

    The receiver runs in the thread of the request, when the server has sent the last byte and closes the
    response. The client does not wait for it, but the thread is busy meanwhile. It runs in an app context of its
    own, with a new ``g``. It can read ``request`` and ``session``: the part of the body that the view has read is
    there, the rest of the body is gone, and a change to the session comes too late to be saved. Context variables have
    the values that they had at the send. With waitress, a streamed response without a length has sent all of its parts
    by then, but it ends for the client only when the receivers have run.

    Receivers run in the order of the sends, also when the request has failed. If an exception leaves the
    application, they run before the server answers. A thread that goes on after the response and sends then runs
    the receiver itself, at once. An exception of a receiver never reaches the client: a callable failure policy gets
    it; otherwise ``app.logger`` logs it. Outside a request, and in ``app.test_request_context()``, which makes no
    response, the receiver runs at once. Async receivers run by ``app.ensure_sync``.

    A receiver runs at most once: if the process dies before that, the call is lost. In tests, with ``app.testing`` or
    from ``app.test_client()``, receivers have run when the client returns. For this, the client reads a streamed
    response to its end if a call is waiting when the view returns.

    In the results of ``send``, the receiver's value is ``None``; if it ran at once, its result.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Accept every receiver."""

    def deliver(self, call: Call, /) -> object:
        """Defer the call to the end of the response.

        :raises RuntimeError: when the application has no :class:`aldis.flask.Aldis`.
        """
        if not has_request_context():
            return _now(call)

        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]

        if DEFERRED_CALLS not in request.environ:
            if EXTENSION in current_app.extensions:
                return _now(call)  # No response is made here, as in test_request_context().

            raise RuntimeError(
                f"This application does not run receivers after the response: {call!r} cannot be delivered."
                " Call Aldis(app), or Aldis().init_app(app), when you make the application."
            )

        request.environ[DEFERRED_CALLS].add(partial(_run, app, call))
        return None

    def __repr__(self) -> str:
        return "after_response"


after_response: Final = AfterResponse()
"""Runs a receiver when the response has been sent. See :class:`AfterResponse`."""


def _now(call: Call) -> object:
    return call(_run_in_app if call.is_async else None)


def _run_in_app(receiver: Callable[..., Any]) -> Callable[..., Any]:
    if has_app_context():
        return current_app.ensure_sync(receiver)

    from aldis.aio import async_to_sync

    return async_to_sync(receiver)


def _run(app: Flask, call: Call) -> None:
    try:
        with app.app_context():
            call(app.ensure_sync)
    except Exception:
        app.logger.exception("%r, delivered after the response, failed", call)


@final
class DeferredCalls:
    """The calls that wait for the end of one response."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Context, Callable[[], None]]] = deque()
        self._running = Lock()
        self._is_over = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, run: Callable[[], None]) -> None:
        """Add a call, from any thread. After the response it runs at once, or behind the calls that run already."""
        self._waiting.append((copy_context(), run))

        # Append first, then look: if the response ends in another thread just now, one of the two threads sees the
        # call.
        if self._is_over:
            self.run_all()

    def run_all(self) -> None:
        """Run the calls that wait, and those that are added meanwhile, in order. The response is over now."""
        self._is_over = True

        # A thread that finds the lock taken leaves its calls to the holder, which looks again at the end.
        while self._waiting and self._running.acquire(blocking=False):
            try:
                self._run_waiting()
            finally:
                self._running.release()

    def _run_waiting(self) -> None:
        while self._waiting:
            context, run = self._waiting.popleft()
            context.run(run)


@final
class AfterResponseMiddleware:
    """WSGI middleware that runs the deferred calls of a request when its response is closed.

    :param app: the application.
    :param application: the WSGI application that makes the response.
    """

    def __init__(self, app: Flask, application: Application) -> None:
        self._app = app
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Make one response. If the application raises, run the deferred calls before the server answers the error."""
        calls = environ[DEFERRED_CALLS] = DeferredCalls()

        try:
            body = self._application(environ, start_response)
        except BaseException:
            calls.run_all()
            raise

        # Pass a file on as it is: the server may have a faster way to send it.
        if not calls and isinstance(body, environ.get("wsgi.file_wrapper", ())):
            calls.run_all()
            return body  # type: ignore[no-any-return]

        close = partial(_close, body, calls)

        if calls and (self._app.testing or IN_TEST in environ):
            return _read_now(body, close)

        # The chain hides the body's own close(). A ClosingIterator would call that first, and nothing more if it
        # raised.
        return ClosingIterator(chain(body), close)


def _read_now(body: Iterable[bytes], close: Callable[[], None]) -> list[bytes]:
    try:
        return list(body)
    finally:
        close()


def _close(body: Iterable[bytes], calls: DeferredCalls) -> None:
    """Close the body, and run the deferred calls even if that raises."""
    try:
        getattr(body, "close", _nothing)()
    finally:
        calls.run_all()


def _nothing() -> None: ...
