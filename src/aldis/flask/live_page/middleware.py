"""The live page, at ``/_aldis/``: who may see it, and its files.

It stands before the application, not in it: its own requests reach no hook and no route of the application, and routes
of the application cannot change it. Who asks for the relay alone has a context of the application pushed, in which the
database is asked. Outside debug mode the page is not there: all requests go on to the application as they came.
"""

from __future__ import annotations

import re
from functools import cache, partial
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final
from urllib.parse import parse_qs, quote

import flask.signals as flask_signals

from aldis import default_namespace
from aldis.flask._core_signals import CORE_SIGNALS

from .events import Feed
from .journal import Journal
from .snapshots import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from flask import Flask

    from aldis._web.state import State
    from aldis.relay import Relay

    from .snapshots import Entry

    Environ: TypeAlias = dict[str, Any]
    Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

ROOT: Final = "/_aldis"

_FILES: Final = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS: Final = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
            " trusted-types 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+?))\.?(?::\d{1,5})?", re.IGNORECASE)
_LONGEST_PATH: Final = 300

# A server that stops waits for its threads: for some seconds, if they do not end by themselves. Werkzeug's does not
# wait, and logs each request, so it is not asked again and again.
_LASTS_S: Final = 4.0
_LASTS_ON_WERKZEUG_S: Final = 600.0


def make_page(app: Flask, inner: Application, state: State) -> Page:
    """The live page of an application. Whether it may be seen is looked at by each request.

    :param app: the application.
    :param inner: what answers all requests but those for the page.
    :param state: has the application's own signals, and its relay.
    """
    return Page(app, inner, partial(_sources, state), state.relay)


def _sources(state: State) -> list[Any]:
    signals = getattr(flask_signals, "_signals", {})
    return [default_namespace, signals, *CORE_SIGNALS, *state.signals]


@final
class Page:
    """WSGI middleware that notes requests, and answers those for the page."""

    def __init__(
        self, app: Flask, inner: Application, sources: Callable[[], Iterable[Any]], relay: Relay | None
    ) -> None:
        self._app = app
        self._inner = inner
        self._relay = relay
        self.journal = Journal()
        self.feed = Feed(self.journal, sources, lambda: app.debug, has_relay=relay is not None)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._app.debug:
            if self.journal.is_awake:
                self.journal.sleep()

            return self._inner(environ, start_response)

        self.journal.shows_values = self._option("ALDIS_SHOW_VALUES") == True  # noqa: E712  # And 1; but no text, which may say "no".
        path = environ.get("PATH_INFO", "")

        if path == ROOT or path.startswith(f"{ROOT}/"):
            self.journal.wake()
            return self._answer(environ, start_response, path[len(ROOT) :])

        return self._note(environ, start_response)

    def _option(self, name: str) -> Any:
        return cast("dict[str, Any]", self._app.config).get(name)

    # Noting.

    def _note(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        entry = self.journal.begin(environ["REQUEST_METHOD"], _path_of(environ))
        outer = current.get()
        current.set(entry)
        failure = None

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            entry.status = int(status[:3])
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            body = self._inner(environ, start)
        except BaseException as error:
            failure = type(error).__qualname__
            raise
        finally:
            current.set(outer)
            self.journal.end(entry, failure)

        # A file goes to the server as it is: the server may have a faster way to send it.
        if isinstance(body, (list, tuple, environ.get("wsgi.file_wrapper", ()))):
            return body

        return _Body(body, entry)

    # Answering.

    def _answer(self, environ: Environ, start_response: Callable[..., Any], name: str) -> Iterable[bytes]:
        refusal = _refusal(environ, self._option("ALDIS_PAGE_HOSTS") or ())

        if refusal is not None:
            return _respond(start_response, *refusal)

        if name == "":
            place = quote(environ.get("SCRIPT_NAME", "").encode("latin-1"))
            return _respond(start_response, HTTPStatus.PERMANENT_REDIRECT, b"", ("Location", f"{place}{ROOT}/"))

        if name == "/events":
            return self._listen(environ, start_response)

        if name == "/relay" and self._relay is not None:
            from .relay import look

            return _respond(start_response, HTTPStatus.OK, look(self._app, self._relay), kind="application/json")

        if name[1:] not in _FILES:
            return _respond(start_response, HTTPStatus.NOT_FOUND, b"The live page has no such file.\n")

        file, kind = _FILES[name[1:]]
        return _respond(start_response, HTTPStatus.OK, _read(file), kind=kind)

    def _listen(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = parse_qs(environ.get("QUERY_STRING", "")).get("after", [""])[0]
        last = environ.get("HTTP_LAST_EVENT_ID") or asked
        is_werkzeug = environ.get("SERVER_SOFTWARE", "").startswith("Werkzeug/")
        lasts_s = _LASTS_ON_WERKZEUG_S if is_werkzeug else _LASTS_S
        events = self.feed.events(last, lasts_s=lasts_s if environ.get("wsgi.multithread") else 0)
        kind = ("Content-Type", "text/event-stream; charset=utf-8")
        start_response("200 OK", [kind, ("X-Accel-Buffering", "no"), *_HEADERS])
        return events


@final
class _Body:
    """The body of an answer, in which what is sent belongs to the request."""

    def __init__(self, body: Iterable[bytes], entry: Entry) -> None:
        self._body = body
        self._iterator = iter(body)
        self._entry = entry
        self._failure: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        outer = current.get()
        current.set(self._entry)

        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            self._failure = type(error).__qualname__
            raise
        finally:
            current.set(outer)

    def close(self) -> None:
        """Close the body that this one is of."""
        close = getattr(self._body, "close", None)
        outer = current.get()
        current.set(self._entry)

        try:
            if close is not None:
                close()
        finally:
            current.set(outer)
            self._entry.journal.close(self._entry, self._failure)


def _path_of(environ: Environ) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace")[:_LONGEST_PATH]


def _respond(
    start_response: Callable[..., Any],
    status: HTTPStatus,
    body: bytes,
    *headers: tuple[str, str],
    kind: str = "text/plain; charset=utf-8",
) -> list[bytes]:
    usual = [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS]
    start_response(f"{status.value} {status.phrase}", [*usual, *headers])
    return [body]


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / "_page_files" / name).read_bytes()


# Refusal.


def _refusal(environ: Environ, hosts: Iterable[str]) -> tuple[Any, ...] | None:
    """Why the page is not shown, if it is not."""
    hosts = [hosts] if isinstance(hosts, str) else [str(host) for host in hosts]

    if environ["REQUEST_METHOD"] != "GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, b"The live page is there to GET.\n", ("Allow", "GET")

    if not all(_is_allowed_address(address, hosts) for address in _clients(environ)):
        return HTTPStatus.FORBIDDEN, _WHY_CLIENT

    if not all(_is_allowed_host(name, hosts) for name in _names(environ)):
        return HTTPStatus.FORBIDDEN, _WHY_HOST

    is_foreign = environ.get("HTTP_SEC_FETCH_SITE", "none") not in {"none", "same-origin"}

    if is_foreign and environ.get("HTTP_SEC_FETCH_MODE") != "navigate":
        return HTTPStatus.FORBIDDEN, b"The live page answers to no other site.\n"

    return None


_WHY_CLIENT: Final = (
    b"The live page answers to this machine only. To open it to others, list their addresses or networks in"
    b" ALDIS_PAGE_HOSTS.\n"
)
_WHY_HOST: Final = (
    b"The live page answers as localhost only. If the application goes by another name, list that in"
    b" ALDIS_PAGE_HOSTS.\n"
)


def _clients(environ: Environ) -> Iterator[str]:
    """All addresses that the request may come from: what proxies say cannot be trusted, but can be held against it."""
    yield environ.get("REMOTE_ADDR", "")
    original = environ.get("werkzeug.proxy_fix.orig")

    if original is not None:
        yield original.get("REMOTE_ADDR") or ""

    for header in ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP"):
        if header in environ:
            yield from (part.strip() for part in environ[header].split(","))

    for part in re.findall(r"for=\"?\[?([^\];,\"]*)", environ.get("HTTP_FORWARDED", ""), re.IGNORECASE):
        yield part.strip()


def _names(environ: Environ) -> Iterator[str]:
    """All names that the request may be for. A page of another site may send any header of a proxy to its own name."""
    yield environ.get("HTTP_HOST", "")
    original = environ.get("werkzeug.proxy_fix.orig")

    if original is not None:
        yield original.get("HTTP_HOST") or ""

    if "HTTP_X_FORWARDED_HOST" in environ:
        yield from (part.strip() for part in environ["HTTP_X_FORWARDED_HOST"].split(","))

    for part in re.findall(r"host=\"?([^;,\"]*)", environ.get("HTTP_FORWARDED", ""), re.IGNORECASE):
        yield part.strip()


def _is_allowed_address(text: str, hosts: list[str]) -> bool:
    try:
        address: Any = ip_address(text)
    except ValueError:
        return False

    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or any(address in network for network in _networks(hosts))


def _networks(hosts: list[str]) -> Iterator[Any]:
    for host in hosts:
        try:
            yield ip_network(host, strict=False)
        except ValueError:
            continue  # A name.


def _is_allowed_host(header: str, hosts: list[str]) -> bool:
    match = _HOST.fullmatch(header)

    if match is None:
        return False

    name = (match[1] or match[2]).lower()
    names = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
    return name in names or name.endswith(".localhost") or _is_allowed_address(name, hosts)
