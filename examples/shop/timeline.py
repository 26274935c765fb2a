"""Sees which signals a request sends, which receivers they reach, in which order, and how long each takes.

The shop knows nothing of this. ``aldis.observe.watch`` tells of each send of the process, whoever sends it; a context
variable says which request is being served, so that requests that run side by side do not mix. What runs after the
response has the context of its request, too.
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
    """One request, and what was sent for it.

    :ivar took_ms: until the app had its answer. Receivers that run after the response come later.
    :ivar sends: those outside of receivers. What receivers sent is in the records of their calls.
    """

    id: int
    method: str
    path: str
    began_s: float = field(default_factory=time)
    status: int = 0
    took_ms: float = 0.0
    sends: list[SendRecord] = field(default_factory=list)

    def at_ms(self, moment_s: float) -> float:
        """A moment in the request's time."""
        return (moment_s - self.began_s) * 1000

    def all_sends(self) -> Iterator[tuple[int, SendRecord]]:
        """All sends, and how deep each is in others: 0, or more if a receiver of another send sent it."""
        yield from _below(0, self.sends)


def _below(depth: int, sends: list[SendRecord]) -> Iterator[tuple[int, SendRecord]]:
    for send in sends:
        yield depth, send

        for call in send.calls:
            yield from _below(depth + 1, call.sends)


def runs(send: SendRecord) -> list[CallRecord]:
    """The receivers that a send called, in order; those that waited for a delivery when that ran them."""
    return [call for call in send.calls if not call.is_delivery]


def is_queued(call: CallRecord) -> bool:
    """Whether a receiver got a row of the relay, for a worker to run it."""
    return call.is_delivery and isinstance(call.via, Durable)


def reached(send: SendRecord) -> list[CallRecord]:
    """The receivers that a send called, or wrote a row for, in order."""
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

    :param ended: is handed each request when all of it is over, in the thread that served it.
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
        """Wait until all of a request is over. Whoever made it has the response before that."""
        with self._changed:
            self._changed.wait_for(lambda: id in self._over, timeout_s)

    def _see(self, send: SendRecord) -> None:
        request = _request.get()

        if request is not None and send.parent is None:
            request.sends.append(send)

    def _serve(
        self, wsgi_app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Flask sends its first signal before a request has a context, and its last one after. This is around both."""
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
