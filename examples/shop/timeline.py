"""Records which signals a request sends, which receivers they reach, in which order, and how long each takes.

The shop does not know of it. ``aldis.observe.watch`` reports each send of the process. A context variable says which
request is being served, so that concurrent requests do not mix. Code that runs after the response has the context of
its request.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from threading import Condition
from time import time
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from aldis.observe import watch
from aldis.relay import Durable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

    from aldis.observe import CallRecord, SendRecord

LIVE_PAGE = "/_aldis"


@dataclass
class Request:
    """One request, and the sends that it caused.

    :ivar took_ms: the time until the app returned its response. Receivers that run after the response come later.
    :ivar sends: the sends outside of receivers. The records of calls have the sends that receivers made.
    """

    id: int
    method: str
    path: str
    began_s: float = field(default_factory=time)
    status: int = 0
    took_ms: float = 0.0
    sends: list[SendRecord] = field(default_factory=list)

    def at_ms(self, moment_s: float) -> float:
        """Return a time in milliseconds since the request began."""
        return (moment_s - self.began_s) * 1000

    def all_sends(self) -> Iterator[tuple[int, SendRecord]]:
        """Return all sends with their depth: 0, or more if a receiver of another send sent the signal."""
        yield from _below(0, self.sends)


def _below(depth: int, sends: list[SendRecord]) -> Iterator[tuple[int, SendRecord]]:
    for send in sends:
        yield depth, send

        for call in send.calls:
            yield from _below(depth + 1, call.sends)


def runs(send: SendRecord) -> list[CallRecord]:
    """Return the calls of receivers, in order. A receiver with a delivery has its call when the delivery ran it."""
    return [call for call in send.calls if not call.is_delivery]


def is_queued(call: CallRecord) -> bool:
    """Return whether the relay wrote a queue row for this receiver."""
    return call.is_delivery and isinstance(call.via, Durable)


def reached(send: SendRecord) -> list[CallRecord]:
    """Return the receivers that a send called, or wrote a queue row for, in order."""
    return [call for call in send.calls if not call.is_delivery or is_queued(call)]


def name_of(call: CallRecord) -> str:
    return call.receiver_name.rpartition(".")[2]


def error_of(call: CallRecord) -> str | None:
    return call.exception_type and call.exception_type.rpartition(".")[2]


_request: ContextVar[Request | None] = ContextVar("request", default=None)


def _path_of(environ: WSGIEnvironment) -> str:
    path, query = environ["PATH_INFO"], environ.get("QUERY_STRING")
    return f"{path}?{query}" if query else path


class Timeline:
    """Watches one app.

    :param ended: is called with each request when all of its receivers have run, in the thread that served it.
    """

    def __init__(self, ended: Callable[[Request], object]) -> None:
        self._ended = ended
        self._ids = count(1)
        self._over: set[int] = set()
        self._changed = Condition()

    @contextmanager
    def watching(self, app: Flask) -> Iterator[None]:
        wsgi_app = app.wsgi_app
        app.wsgi_app = partial(self._serve, wsgi_app)  # type: ignore[method-assign]

        try:
            with watch(self._see):
                yield
        finally:
            app.wsgi_app = wsgi_app  # type: ignore[method-assign]

    def wait_for(self, id: int, timeout_s: float = 10.0) -> None:
        """Wait until a request and its receivers have ended. The client has the response earlier than that."""
        with self._changed:
            self._changed.wait_for(lambda: id in self._over, timeout_s)

    def _see(self, send: SendRecord) -> None:
        request = _request.get()

        if request is not None and send.parent is None:
            request.sends.append(send)

    def _serve(
        self, wsgi_app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve a request and record it.

        Flask sends its first signal before the request context exists and its last one after, so this wraps both.
        """
        if environ["PATH_INFO"].startswith(LIVE_PAGE):
            return wsgi_app(environ, start_response)

        request = Request(next(self._ids), environ["REQUEST_METHOD"], _path_of(environ))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            request.status = int(status[:3])
            return start_response(status, [*headers, ("X-Request-Id", str(request.id))], exc_info)

        token = _request.set(request)

        try:
            body = wsgi_app(environ, start)
        finally:
            request.took_ms = request.at_ms(time())
            _request.reset(token)

        return ClosingIterator(body, partial(self._end, request))

    def _end(self, request: Request) -> None:
        self._ended(request)

        with self._changed:
            self._over.add(request.id)
            self._changed.notify_all()
