"""Fixtures of the Flask room's tests: applications, and a real server on loopback."""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import waitress  # type: ignore[import-untyped]
from flask import Flask
from werkzeug.serving import make_server

from aldis.flask import _core_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 120


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave Flask's signals and the loggers as they were: without receivers, and with the usual failure policy."""
    for name in ("shop", "other", "quiet", "loud", "plain", "second"):
        logging.getLogger(name).disabled = False

    yield

    for signal in _core_signals.CORE_SIGNALS:
        signal.receivers.clear()
        signal.errors = "propagate"


@pytest.fixture
def app() -> Flask:
    return Flask("shop")


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def get(self, path: str) -> tuple[int, bytes]:
        """Make a request, and return the status and the body."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()


@contextlib.contextmanager
def _werkzeug(app: Any) -> Iterator[Server]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    try:
        yield Server(server.server_port)
    finally:
        server.shutdown()
        thread.join(TIMEOUT_S)
        server.server_close()


@contextlib.contextmanager
def _waitress(app: Any) -> Iterator[Server]:
    create: Any = waitress.create_server  # pyright: ignore[reportAttributeAccessIssue]  # It is not typed.
    # Waitress writes long responses to a file, and leaves it open when the client leaves. With this limit it never
    # does.
    server: Any = create(app, host="127.0.0.1", port=0, outbuf_overflow=2**30)
    thread = threading.Thread(target=server.run)
    thread.start()

    try:
        yield Server(server.effective_port)
    finally:
        # The tasks end first: one that still writes must not find its channel closed. Then the rest, in the loop's own
        # thread.
        server.task_dispatcher.shutdown()

        with contextlib.suppress(OSError):  # The loop has ended by itself, because the last client has left.
            server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map, ignore_all=True))

        thread.join(TIMEOUT_S)


@pytest.fixture(params=[_werkzeug, _waitress], ids=["werkzeug", "waitress"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Server]]:
    """Serve an application with a real server until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(request.param(app))
