"""Sees which signals a request sends, which receivers they reach, in which order, and how long each takes.

The shop knows nothing of this. Three means of Aldis are enough for it:

- For each signal, a receiver with the highest priority there is opens a send, and one with the lowest closes it.
- The shop's own receivers are connected ``via`` a delivery, :class:`Timed`, which runs them at once and takes the time.
- Flask's signals are Aldis's, so all that holds for them too.

A context variable says which request is being served, so that requests that run side by side do not mix.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

    from aldis import NamedSignal
    from aldis.delivery import Call

    AnySignal: TypeAlias = NamedSignal[Any, ..., Any]


@dataclass
class Heard:
    """One receiver that was called."""

    receiver: str
    took_ms: float = 0.0
    error: str | None = None


@dataclass
class Sent:
    """One send.

    :ivar at_ms: when it began, in the request's time.
    :ivar depth: 0, or more if a receiver of another send sent it.
    """

    signal: AnySignal
    at_ms: float
    depth: int
    heard: list[Heard] = field(default_factory=list)


@dataclass
class Request:
    """One request, and what was sent while it was served."""

    id: int
    method: str
    path: str
    began: float
    status: int = 0
    took_ms: float = 0.0
    sent: list[Sent] = field(default_factory=list)
    under_way: list[Sent] = field(default_factory=list)

    def clock_ms(self) -> float:
        return (perf_counter() - self.began) * 1000


_request: ContextVar[Request | None] = ContextVar("request", default=None)


class Timeline:
    """Watches one app.

    :param ended: is handed each request when it has been served, in the thread that served it.
    """

    def __init__(self, ended: Callable[[Request], object]) -> None:
        self._ended = ended
        self._ids = count(1)

    def watch(self, app: Flask, signals: Iterable[AnySignal]) -> None:
        """Begin. Receivers that were connected via :class:`Timed` are seen, others are not."""
        for signal in signals:
            # Nobody else keeps these partials alive: hence weak=False.
            signal.connect(partial(self._open, signal), app, weak=False, priority=math.inf)
            signal.connect(partial(self._close, signal), app, weak=False, priority=-math.inf)

        app.wsgi_app = self._around(app.wsgi_app)  # type: ignore[method-assign, assignment]

    def _open(self, signal: AnySignal, sender: Flask, /, **payload: object) -> None:
        request = _request.get()

        if request is not None:
            sent = Sent(signal, request.clock_ms(), len(request.under_way))
            request.sent.append(sent)
            request.under_way.append(sent)

    def _close(self, signal: AnySignal, sender: Flask, /, **payload: object) -> None:
        request = _request.get()

        if request is not None:
            request.under_way.pop()

    def _around(self, wsgi_app: WSGIApplication) -> WSGIApplication:
        """Flask sends its first signal before a request has a context, and its last one after. This is around both."""

        def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            request = Request(next(self._ids), environ["REQUEST_METHOD"], environ["PATH_INFO"], perf_counter())

            def start(
                status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
            ) -> Callable[[bytes], object]:
                request.status = int(status[:3])
                return start_response(status, [*headers, ("X-Request-Id", str(request.id))], exc_info)

            token = _request.set(request)

            try:
                return wsgi_app(environ, start)
            finally:
                _request.reset(token)
                request.took_ms = request.clock_ms()
                self._ended(request)

        return serve


class Timed:
    """A delivery: runs receivers at once, as if they were connected without it, and takes the time."""

    def check(self, receiver: Callable[..., Any], is_async: bool, /) -> None:
        if is_async:
            raise ValueError("The timeline does not await receivers. Connect this one without via=.")

    def deliver(self, call: Call, /) -> object:
        request = _request.get()

        if request is None:
            return call.receiver(call.sender, **call.payload)

        heard = Heard(call.receiver.__name__)
        request.under_way[-1].heard.append(heard)
        began = perf_counter()

        try:
            # Not call(), which would see to a failure by itself: raised here, it gets to the signal's failure policy.
            return call.receiver(call.sender, **call.payload)
        except Exception as error:
            heard.error = type(error).__name__

            if call.signal.errors == "propagate":
                request.under_way.pop()  # This ends the send, and nobody else will close it.

            raise
        finally:
            heard.took_ms = (perf_counter() - began) * 1000
