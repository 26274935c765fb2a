"""The live page, at ``/_aldis/``, as WSGI middleware before the application.

It stands before the application, not in it: its own requests reach no hook and no route of the application, and no
route of the application can replace it. Only the relay tab pushes an app context, in which it queries the database.
Outside debug mode there is no page: the middleware passes each request on unchanged.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final
from urllib.parse import quote

import flask.signals as flask_signals
from werkzeug.wrappers import Request, Response

from aldis import default_namespace
from aldis.flask._core_signals import CORE_SIGNALS

from .access import refusal_of
from .events import Feed
from .journal import Journal
from .snapshots import current

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeAlias

    from flask import Flask

    from aldis._web.state import State
    from aldis.relay import Relay

    from .snapshots import RequestSnapshot

    Environ: TypeAlias = dict[str, Any]
    Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

ROOT: Final = "/_aldis"

_FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_MAX_PATH: Final = 300

# A server that shuts down waits some seconds for threads that do not end by themselves, so streams are short there.
# Werkzeug's server does not wait, and it logs each request, so a listener should not connect again and again.
_LASTS_S: Final = 4.0
_LASTS_ON_WERKZEUG_S: Final = 600.0


def make_live_page(app: Flask, inner: Application, state: State) -> LivePageMiddleware:
    """Return the live page of an application. Each request checks for itself whether the page may be shown.

    :param app: the application.
    :param inner: the WSGI application that answers all requests but those for the page.
    :param state: the application's state, which has its relay and the signals to show.
    """
    return LivePageMiddleware(app, inner, partial(_sources, state), state.relay)


def _sources(state: State) -> list[Any]:
    signals = getattr(flask_signals, "_signals", {})
    return [default_namespace, signals, *CORE_SIGNALS, *state.shown]


@final
class LivePageMiddleware:
    """WSGI middleware that notes each request in the journal, and answers requests for the page.

    :param app: the application.
    :param inner: the WSGI application that answers all other requests.
    :param sources: returns the signals and namespaces whose connections the page shows.
    :param relay: the application's relay, if it has one.
    """

    def __init__(
        self, app: Flask, inner: Application, sources: Callable[[], Iterable[Any]], relay: Relay | None
    ) -> None:
        self._app = app
        self._inner = inner
        self._relay = relay
        self.journal = Journal()
        self.feed = Feed(self.journal, sources, lambda: app.debug, has_relay=relay is not None)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if not self._app.debug:
            if self.journal.is_awake:
                self.journal.sleep()

            return self._inner(environ, start_response)

        # Only True or 1: a text may say "no".
        self.journal.shows_values = self._option("ALDIS_SHOW_VALUES") == True  # noqa: E712
        path = environ.get("PATH_INFO", "")

        if path == ROOT or path.startswith(f"{ROOT}/"):
            self.journal.wake()
            return self._answer(Request(environ, populate_request=False), path[len(ROOT) :])(environ, start_response)

        return self._note(environ, start_response)

    def _option(self, name: str) -> Any:
        return cast("dict[str, Any]", self._app.config).get(name)

    # Requests of the application.

    def _note(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        snapshot = self.journal.begin(environ["REQUEST_METHOD"], _path_of(environ))
        failure = None

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            snapshot.status = int(status[:3])
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            with _noted_in(snapshot):
                body = self._inner(environ, start)
        except BaseException as error:
            failure = type(error).__qualname__
            raise
        finally:
            self.journal.end(snapshot, failure)

        # Pass a file on as it is: the server may have a faster way to send it.
        if isinstance(body, (list, tuple, environ.get("wsgi.file_wrapper", ()))):
            return body

        return NotedBody(body, snapshot, self.journal)

    # Requests for the page.

    def _answer(self, request: Request, path: str) -> Response:
        if request.method != "GET":
            message = "The live page answers GET requests only.\n"
            return _respond(message, status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})

        refusal = refusal_of(request, self._option("ALDIS_PAGE_HOSTS") or ())

        if refusal is not None:
            return _respond(refusal, status=HTTPStatus.FORBIDDEN)

        if path == "/events":
            return self._listen(request)

        if path == "/relay" and self._relay is not None:
            return self._look_at(self._relay)

        return _redirect(request) if path == "" else _file(path)

    def _look_at(self, relay: Relay) -> Response:
        from .relay import look

        return _respond(look(self._app, relay), mimetype="application/json")

    def _listen(self, request: Request) -> Response:
        last = request.headers.get("Last-Event-ID") or request.args.get("after", "")
        is_werkzeug = request.environ.get("SERVER_SOFTWARE", "").startswith("Werkzeug/")
        lasts_s = _LASTS_ON_WERKZEUG_S if is_werkzeug else _LASTS_S
        events = self.feed.events(last, lasts_s=lasts_s if request.is_multithread else 0)
        return _respond(events, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


@final
class NotedBody:
    """A response's body. Sends that happen while the server reads it belong to the request."""

    def __init__(self, body: Iterable[bytes], snapshot: RequestSnapshot, journal: Journal) -> None:
        self._body = body
        self._iterator = iter(body)
        self._snapshot = snapshot
        self._journal = journal
        self._failure: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with _noted_in(self._snapshot):
                return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            self._failure = type(error).__qualname__
            raise

    def close(self) -> None:
        """Close the body, and note that the request is over."""
        try:
            with _noted_in(self._snapshot):
                getattr(self._body, "close", _nothing)()
        finally:
            self._journal.close(self._snapshot, self._failure)


@contextmanager
def _noted_in(snapshot: RequestSnapshot) -> Generator[None]:
    """Let the sends in the block belong to a request."""
    outer = current.get()
    current.set(snapshot)

    try:
        yield
    finally:
        current.set(outer)  # Reset without a token, because the application may change the context in between.


def _nothing() -> None: ...


def _path_of(environ: Environ) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace")[:_MAX_PATH]


def _respond(
    body: str | bytes | Iterable[bytes],
    *,
    status: HTTPStatus = HTTPStatus.OK,
    mimetype: str = "text/plain",
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(body, status=status, mimetype=mimetype, headers={**_HEADERS, **(headers or {})})


def _redirect(request: Request) -> Response:
    """Add the slash. The application may be mounted below a path."""
    mounted_at = quote(request.environ.get("SCRIPT_NAME", "").encode("latin-1"))
    return _respond("", status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"{mounted_at}{ROOT}/"})


def _file(path: str) -> Response:
    if path not in _FILES:
        return _respond("The live page has no such file.\n", status=HTTPStatus.NOT_FOUND)

    name, mimetype = _FILES[path]
    return _respond(_read(name), mimetype=mimetype)


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()
