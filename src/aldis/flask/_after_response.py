"""Receivers that run when the response has been sent."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, final

from flask import Flask, current_app, has_app_context, has_request_context, request

from aldis._web.state import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context

    from aldis import Signal
    from aldis.delivery import Call

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

QUEUE: Final = "aldis.after_response"
IN_TEST: Final = "aldis.in_test"


@final
class AfterResponse:
    """Runs a receiver when the response has been sent: ``connect(via=after_response)``.

    The receiver runs in the thread of the request, when the server has sent the last byte and closes the
    response; the client does not wait for it, but the worker is busy meanwhile. It runs in an app context of
    its own, with new ``g``. ``request`` and ``session`` are those of the request, to read: what was read of
    the body is there, the rest is gone, and changes to the session are too late to be sent. Context variables
    are those of the sender. With waitress, a streamed response without a length has sent all of its parts by
    then, but ends for the client only when the receivers have run.

    Receivers run in the order of the sends, also when the request has failed; where an exception leaves the
    application, before the server answers it. What is sent later still, by a thread that goes on after the
    response, runs in that thread at once. What receivers raise never reaches the client: a callable failure
    policy is handed it, else ``app.logger`` logs it. Outside a request, and in ``app.test_request_context()``,
    where no response is made, the receiver runs at once. Async receivers run by ``app.ensure_sync``.

    At most once: if the process dies before, they are lost. In tests, with ``app.testing`` or from
    ``app.test_client()``, they have run when the client returns; a streamed response is read to its end for
    that if something waits for it by the time that the view has returned.

    The value in the results of ``send`` is ``None``, or, where it ran at once, what the receiver returned.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Take all receivers."""

    def deliver(self, call: Call, /) -> object:
        """Keep the call for the end of the response.

        :raises RuntimeError: when the application has no :class:`aldis.flask.Aldis`.
        """
        if not has_request_context():
            return _now(call)

        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]

        if QUEUE not in request.environ:
            if EXTENSION in current_app.extensions:
                return _now(call)  # As in test_request_context(): nothing makes a response.

            raise RuntimeError(
                f"This application does not run receivers after the response: {call!r} cannot be delivered."
                " Call Aldis(app), or Aldis().init_app(app), when the application is made."
            )

        request.environ[QUEUE].add(partial(_run, app, call))
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
class Queue:
    """What waits for the end of one response."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Context, Callable[[], None]]] = deque()
        self._running = Lock()
        self._is_over = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, run: Callable[[], None]) -> None:
        """Keep what is to run, from any thread. After the response, it runs now, or behind what runs already."""
        self._waiting.append((copy_context(), run))

        # In this order: what is added in a thread just when the response ends is seen there or here.
        if self._is_over:
            self.end()

    def end(self) -> None:
        """Run what waits, and what comes to wait meanwhile, in order, now that the response is over."""
        self._is_over = True

        # Who finds it running leaves what was added to whoever runs it, and who has run it looks again.
        while self._waiting and self._running.acquire(blocking=False):
            try:
                self._run()
            finally:
                self._running.release()

    def _run(self) -> None:
        while self._waiting:
            context, run = self._waiting.popleft()
            context.run(run)


@final
class Closing:
    """WSGI middleware that runs what waits for the end of the response."""

    def __init__(self, app: Flask, application: Application) -> None:
        self._app = app
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        queue = environ[QUEUE] = Queue()

        try:
            body: Any = self._application(environ, start_response)
        except BaseException:
            queue.end()
            raise

        if queue and (self._app.testing or IN_TEST in environ):
            return _read_now(body, queue)

        # A file goes to the server as it is: the server may have a faster way to send it.
        if not queue and isinstance(body, environ.get("wsgi.file_wrapper", ())):
            queue.end()
            return body  # type: ignore[no-any-return]

        return Body(body, queue)


@final
class Body:
    """A response body; when it is closed, what waits for that runs."""

    def __init__(self, body: Iterable[bytes], queue: Queue) -> None:
        self._body = body
        self._iterator = iter(body)
        self._queue = queue

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._iterator)

    def close(self) -> None:
        """Close the body that this one is of, and run."""
        try:
            _close(self._body)
        finally:
            self._queue.end()


def _read_now(body: Iterable[bytes], queue: Queue) -> list[bytes]:
    whole = Body(body, queue)

    try:
        return list(whole)
    finally:
        whole.close()


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)

    if close is not None:
        close()
