"""Flask's ten signals, declared. These tests run beside Blinker and, from test_instead.py, in its place."""

from __future__ import annotations

import asyncio
import gc
import inspect
from threading import Event
from typing import TYPE_CHECKING, Any

import flask
import flask.signals
import pytest
from flask import Flask, Response, current_app, flash, g, render_template_string, request, session, stream_with_context

import aldis
import aldis.flask as room
import aldis.observe
from aldis import InvalidReceiverError, NamedSignal, PayloadError
from aldis.flask._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IS_INSTEAD = isinstance(flask.signals.request_started, aldis.Signal)
NAMES = [signal.name.replace("-", "_") for signal in CORE_SIGNALS]
each_name = pytest.mark.parametrize("name", NAMES)


def source_of(name: str) -> Any:
    """Return Flask's own signal."""
    return getattr(flask.signals, name)


class Log:
    """Receivers of all ten signals, which record their calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.payloads: list[tuple[str, dict[str, Any]]] = []
        self._receivers = [self._listen(signal) for signal in CORE_SIGNALS]

    def _listen(self, signal: NamedSignal[Any, ..., Any]) -> Callable[..., None]:
        def receiver(sender: Any, **payload: Any) -> None:
            self.lines.append(signal.name)
            self.payloads.append((signal.name, {"sender": sender, **payload}))

        return signal.connect(receiver)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [payload for each, payload in self.payloads if each == name]


def fill(app: Flask) -> Flask:
    """Give an application one view of each kind."""
    app.secret_key = "for tests"

    @app.get("/")
    def index() -> str:
        return "index"

    @app.get("/page")
    def page() -> str:
        flash("welcome", "greeting")
        return render_template_string("{{ n }}", n=3)

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    @app.get("/handled")
    def handled() -> str:
        raise LookupError

    @app.errorhandler(LookupError)
    def on_lookup(error: LookupError) -> tuple[str, int]:
        return "handled", 410

    @app.get("/async")
    async def in_async() -> str:
        await asyncio.sleep(0)
        return "async"

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            yield request.path
            yield from ("part\n" * 1000 for _ in range(1000))

        return Response(stream_with_context(parts()))

    return app


# The exported signals.


def test_all_of_flask_s_signals_are_there() -> None:
    """Each signal of Flask is exported under its name, and no other object is exported as one."""
    theirs = {name for name, value in vars(flask.signals).items() if hasattr(value, "receivers_for")}
    assert theirs == set(NAMES)
    assert theirs <= set(room.__all__)
    assert all(getattr(room, name).name == source_of(name).name for name in NAMES)


@each_name
def test_they_are_flask_s_where_flask_runs_on_aldis(name: str) -> None:
    """In Blinker's place, the exported signal is Flask's own; beside Blinker, Flask's own signal stays as it is."""
    assert (getattr(room, name) is source_of(name)) is IS_INSTEAD
    assert not source_of(name).receivers


@each_name
def test_they_are_declared_and_documented(name: str) -> None:
    """Each signal has a contract with types and a documentation."""
    signal = getattr(room, name)
    sender, *payload = inspect.signature(signal.contract).parameters.values()
    assert sender.annotation == "Flask"
    assert all(parameter.annotation is not parameter.empty for parameter in payload)
    assert signal.__doc__.startswith("Sent ")


def test_a_receiver_that_does_not_fit_is_refused() -> None:
    """E12: a receiver that cannot take the payload is refused at connect."""
    with pytest.raises(InvalidReceiverError, match="context"):

        @room.template_rendered.connect  # Type checkers refuse it too.
        def receiver(sender: Any, template: Any) -> None: ...


def test_what_a_newer_flask_sends_reaches_receivers(app: Flask) -> None:
    """An unknown keyword reaches the receivers, and a send without a declared keyword is refused."""
    got: list[Any] = []

    @room.request_started.connect
    def receiver(sender: Any, **payload: Any) -> None:
        got.append(payload)

    source_of("request_started").send(app, _async_wrapper=app.ensure_sync, novelty=1)
    assert got == [{"novelty": 1}]

    @room.message_flashed.connect
    def other(sender: Any, **payload: Any) -> None: ...

    with pytest.raises(PayloadError, match="category"):
        source_of("message_flashed").send(app, message="x")


# When they are sent.


def test_the_signals_of_a_request(app: Flask) -> None:
    """A request sends the signals in Flask's order, with Flask's payloads."""
    log = Log()
    assert fill(app).test_client().get("/page").text == "3"

    assert log.lines == [
        "appcontext-pushed",
        "request-started",
        "message-flashed",
        "before-render-template",
        "template-rendered",
        "request-finished",
        "request-tearing-down",
        "appcontext-tearing-down",
        "appcontext-popped",
    ]
    assert {payload["sender"] for _, payload in log.payloads} == {app}
    assert log.of("message-flashed") == [{"sender": app, "message": "welcome", "category": "greeting"}]
    (rendered,) = log.of("template-rendered")
    assert rendered["context"]["n"] == 3
    assert rendered["template"].render(n=4) == "4"
    (finished,) = log.of("request-finished")
    assert finished["response"].status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "exception"), [("/broken", 500, ZeroDivisionError), ("/handled", 410, None)]
)
def test_the_signals_of_a_request_that_fails(app: Flask, path: str, status: int, exception: Any) -> None:
    """An unhandled exception is sent as a signal and with the teardown; a handled exception is not."""
    log = Log()
    app.logger.disabled = True
    assert fill(app).test_client().get(path).status_code == status

    told = [payload["exception"] for payload in log.of("got-request-exception")]
    assert [type(error) for error in told] == [exception] * (exception is not None)
    (torn,) = log.of("request-tearing-down")
    assert torn["exc"] is (told[0] if told else None)
    assert "request-finished" in log.lines


def test_an_async_view(app: Flask) -> None:
    """A request with an async view sends the same signals."""
    log = Log()
    assert fill(app).test_client().get("/async").text == "async"
    assert log.lines[:3] == ["appcontext-pushed", "request-started", "request-finished"]


def test_nested_app_contexts(app: Flask) -> None:
    """Each nested app context sends its own signals, with its own application as the sender."""
    log, inner = Log(), Flask("inner")

    with app.app_context(), inner.app_context():
        assert current_app.name == "inner"

    assert [(name, payload["sender"]) for name, payload in log.payloads] == [
        ("appcontext-pushed", app),
        ("appcontext-pushed", inner),
        ("appcontext-tearing-down", inner),
        ("appcontext-popped", inner),
        ("appcontext-tearing-down", app),
        ("appcontext-popped", app),
    ]


def test_the_request_is_there(app: Flask) -> None:
    """From request_started to request_finished, receivers can use request, g and session."""
    fill(app)

    @room.request_started.connect
    def begin(sender: Flask) -> None:
        g.began = request.path
        session["user"] = "ada"

    seen: list[Any] = []

    @room.template_rendered.connect
    def rendered(sender: Flask, **payload: Any) -> None:
        seen.append((request.endpoint, g.began, session["user"]))

    @room.request_finished.connect
    def finish(sender: Flask, *, response: Any) -> None:
        response.headers["X-Began"] = g.began
        seen.append((request.endpoint, g.began, session["user"]))

    assert app.test_client().get("/page").headers["X-Began"] == "/page"
    assert seen == [("page", "/page", "ada")] * 2


# With real servers.


def test_over_http(app: Flask, serve: Any) -> None:
    """Requests to a real server send the same signals as those of the test client."""
    log, server = Log(), serve(fill(app))
    assert server.get("/page") == (200, b"3")
    assert log.lines.count("request-started") == log.lines.count("request-finished") == 1


def test_a_streamed_response(app: Flask, serve: Any) -> None:
    """With stream_with_context, the teardown comes when the stream has ended, and not earlier."""
    log, server = Log(), serve(fill(app))
    status, body = server.get("/stream")
    assert (status, body[:11]) == (200, b"/streampart")
    connection = server.connect()
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    assert log.lines.count("request-finished") == 2
    assert log.lines.index("request-finished") < log.lines.index("request-tearing-down")


def test_a_stream_that_the_client_leaves(app: Flask, serve: Any) -> None:
    """When the client leaves in the middle of a stream, the request is still torn down."""
    torn = Event()

    @room.request_tearing_down.connect
    def tear_down(sender: Flask, *, exc: BaseException | None) -> None:
        torn.set()

    connection = serve(fill(app)).connect()
    connection.request("GET", "/stream")
    connection.getresponse().read(20)
    connection.close()
    assert torn.wait(120)


# How receivers are called.


def test_order_and_filters(app: Flask) -> None:
    """E1, E6: receivers are called by priority and for their senders, of which current_app can be one."""
    called: list[str] = []

    def make(name: str) -> Callable[..., None]:
        def receiver(sender: Any, **payload: Any) -> None:
            called.append(name)

        return receiver

    receivers = [make(name) for name in ("any", "first", "app", "other", "proxy")]
    room.request_started.connect(receivers[0])
    room.request_started.connect(receivers[1], priority=1)
    room.request_started.connect(receivers[2], app)
    room.request_started.connect(receivers[3], Flask("other"))

    with app.app_context():
        room.request_started.connect(receivers[4], current_app)

    fill(app).test_client().get("/")
    assert called == ["first", "any", "app", "proxy"]


def test_async_receivers_cross_as_flask_s_views_do(app: Flask) -> None:
    """E9: the application's ensure_sync runs an async receiver."""
    ran: list[str] = []

    @room.request_started.connect
    async def receiver(sender: Flask) -> None:
        await asyncio.sleep(0)
        ran.append(request.path)

    assert fill(app).test_client().get("/").status_code == 200
    assert ran == ["/"]


def test_a_receiver_s_exception_is_the_request_s(app: Flask) -> None:
    """Without a policy, an exception of a receiver has its usual effect in Flask: the response is a 500."""
    app.logger.disabled = True

    @room.request_finished.connect
    def receiver(sender: Flask, *, response: Any) -> None:
        raise ZeroDivisionError

    assert fill(app).test_client().get("/broken").status_code == 500


@pytest.mark.skipif(IS_INSTEAD, reason="nothing is forwarded")
def test_blinker_s_receivers_go_on(app: Flask) -> None:
    """Receivers on Flask's own signal are called as before, beside ours."""
    called: list[str] = []

    def theirs(sender: Any, **payload: Any) -> None:
        called.append("theirs")

    with source_of("request_started").connected_to(theirs):

        @room.request_started.connect
        def ours(sender: Any) -> None:
            called.append("ours")

        fill(app).test_client().get("/")

    assert sorted(called) == ["ours", "theirs"]


# The forwarder.


@pytest.mark.skipif(IS_INSTEAD, reason="nothing is forwarded")
@each_name
def test_a_forwarder_sits_there_only_while_it_is_wanted(name: str) -> None:
    """Flask's signal has a forwarder of ours exactly while our signal has a receiver or a watcher."""
    signal, source = getattr(room, name), source_of(name)

    def receiver(sender: Any, **payload: Any) -> None: ...

    def other(sender: Any, **payload: Any) -> None: ...

    assert not source.receivers
    signal.connect(receiver)
    assert len(source.receivers) == 1
    signal.connect(other, "x", weak=False)
    assert len(source.receivers) == 1
    signal.disconnect(receiver)
    assert len(source.receivers) == 1
    signal.disconnect(other)
    assert not source.receivers

    signal.connect(receiver)
    del receiver
    gc.collect()
    assert not source.receivers

    with signal.connected_to(other):
        assert source.receivers

    assert not source.receivers

    with aldis.observe.watch(lambda send: None, signal):
        assert source.receivers

    assert not source.receivers


def test_a_send_of_ours_does_not_come_back(app: Flask) -> None:
    """A send of the exported signal reaches its receivers once."""
    called: list[Any] = []

    @room.request_started.connect
    def receiver(sender: Any) -> None:
        called.append(sender)

    room.request_started.send(app)
    assert called == [app]
