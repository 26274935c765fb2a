"""Quart's eighteen signals, declared. These tests run beside Blinker and, from test_instead.py, in its place."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest
import quart.signals
from quart import (
    Quart,
    Response,
    current_app,
    flash,
    g,
    render_template_string,
    request,
    session,
    stream_template_string,
    websocket,
)
from quart.ctx import AppContext
from quart.testing.connections import WebsocketResponseError

import aldis
import aldis.observe
import aldis.quart as room
from aldis import AsyncReceiverError, InvalidReceiverError, NamedSignal, PayloadError
from aldis.quart import Aldis
from aldis.quart._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SAYS_NOT_HOW = "_async_wrapper" in inspect.getsource(AppContext.pop)  # Quart 0.23 passes the wrong wrapper there.
IS_INSTEAD = isinstance(quart.signals.request_started, aldis.Signal)
NAMES = [signal.name.replace("-", "_") for signal in CORE_SIGNALS]
each_name = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def source_of(name: str) -> Any:
    """Return Quart's own signal."""
    return getattr(quart.signals, name)


class Log:
    """Async receivers of all eighteen signals, which record their calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.payloads: list[tuple[str, dict[str, Any]]] = []
        self._receivers = [self._listen(signal) for signal in CORE_SIGNALS]

    def _listen(self, signal: NamedSignal[Any, ..., Any]) -> Callable[..., Any]:
        async def receiver(sender: Any, **payload: Any) -> None:
            self.lines.append(signal.name)
            self.payloads.append((signal.name, {"sender": sender, **payload}))

        return signal.connect(receiver)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [payload for each, payload in self.payloads if each == name]


def fill(app: Quart) -> Quart:
    """Give an application one view of each kind."""
    app.secret_key = "for tests"

    @app.get("/")
    async def index() -> str:
        return "index"

    @app.get("/sync")
    def in_thread() -> str:
        return "sync"

    @app.get("/page")
    async def page() -> str:
        await flash("welcome", "greeting")
        return await render_template_string("{{ n }}", n=3)

    @app.get("/parts")
    async def parts() -> AsyncIterator[str]:
        return await stream_template_string("{{ n }}", n=4)

    @app.get("/broken")
    async def broken() -> str:
        raise ZeroDivisionError

    @app.get("/handled")
    async def handled() -> str:
        raise LookupError

    @app.errorhandler(LookupError)
    async def on_lookup(error: LookupError) -> tuple[str, int]:
        return "handled", 410

    @app.websocket("/echo")
    async def echo() -> None:
        await websocket.send(await websocket.receive())

    @app.websocket("/fails")
    async def fails() -> None:
        raise ZeroDivisionError

    return app


async def ended(connection: Any) -> None:
    """Wait until the server has closed a websocket: a client that leaves earlier cancels the handler."""
    await asyncio.wait([connection._task])


# The exported signals.


def test_all_of_quart_s_signals_are_there() -> None:
    """Each signal of Quart is exported under its name, and no other object is exported as one."""
    theirs = {name for name, value in vars(quart.signals).items() if hasattr(value, "receivers_for")}
    assert theirs == set(NAMES)
    assert len(NAMES) == 18
    assert theirs <= set(room.__all__)
    assert all(getattr(room, name).name == source_of(name).name for name in NAMES)


@each_name
def test_they_are_quart_s_where_quart_runs_on_aldis(name: str) -> None:
    """In Blinker's place, the exported signal is Quart's own; beside Blinker, Quart's own signal stays as it is."""
    assert (getattr(room, name) is source_of(name)) is IS_INSTEAD
    assert not source_of(name).receivers


@each_name
def test_they_are_declared_and_documented(name: str) -> None:
    """Each signal has a contract with types and a documentation."""
    signal = getattr(room, name)
    sender, *payload = inspect.signature(signal.contract).parameters.values()
    assert sender.annotation == ("str | bytes" if name in ("websocket_received", "websocket_sent") else "Quart")
    assert all(parameter.annotation is not parameter.empty for parameter in payload)
    assert signal.__doc__.startswith("Sent ")


def test_a_receiver_that_does_not_fit_is_refused() -> None:
    """E12: a receiver that cannot take the payload is refused at connect."""
    with pytest.raises(InvalidReceiverError, match="context"):

        @room.template_rendered.connect  # Type checkers refuse it too.
        async def receiver(sender: Any, template: Any) -> None: ...


async def test_what_a_newer_quart_sends_reaches_receivers(app: Quart) -> None:
    """An unknown keyword reaches the receivers, and a send without a declared keyword is refused."""
    got: list[Any] = []

    @room.request_started.connect
    async def receiver(sender: Any, **payload: Any) -> None:
        got.append(payload)

    await source_of("request_started").send_async(app, _sync_wrapper=app.ensure_async, novelty=1)
    assert got == [{"novelty": 1}]

    @room.message_flashed.connect
    async def other(sender: Any, **payload: Any) -> None: ...

    with pytest.raises(PayloadError, match="category"):
        await source_of("message_flashed").send_async(app, message="x")


async def test_a_wrapper_is_no_payload(app: Quart) -> None:
    """Quart 0.23 passes send's wrapper to send_async as a keyword: receivers without this keyword still run."""
    called: list[Any] = []

    @room.appcontext_pushed.connect
    async def receiver(sender: Quart) -> None:
        called.append(sender)

    await source_of("appcontext_pushed").send_async(app, _async_wrapper=app.ensure_async)
    assert called == [app]


# When they are sent.


async def test_the_signals_of_a_request(app: Quart) -> None:
    """A request sends the signals in Quart's order, with Quart's payloads."""
    log = Log()
    response = await fill(app).test_client().get("/page")
    assert await response.get_data(as_text=True) == "3"

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
    assert await rendered["template"].render_async(n=4) == "4"
    (finished,) = log.of("request-finished")
    assert finished["response"].status_code == 200


async def test_a_streamed_template(app: Quart) -> None:
    """A streamed template is sent before its first part, and again after its last part, which follows the response."""
    log = Log()
    response = await fill(app).test_client().get("/parts")
    assert await response.get_data(as_text=True) == "4"
    lines = [line for line in log.lines if line in ("before-render-template", "request-finished", "template-rendered")]
    assert lines == ["before-render-template", "request-finished", "template-rendered"]


@pytest.mark.parametrize(
    ("path", "status", "exception"), [("/broken", 500, ZeroDivisionError), ("/handled", 410, None)]
)
async def test_the_signals_of_a_request_that_fails(app: Quart, path: str, status: int, exception: Any) -> None:
    """An unhandled exception is sent as a signal, a handled one is not, and both end in a response and a teardown."""
    log = Log()
    app.logger.disabled = True
    assert (await fill(app).test_client().get(path)).status_code == status

    told = [type(payload["exception"]) for payload in log.of("got-request-exception")]
    assert told == [exception] * (exception is not None)
    (torn,) = log.of("request-tearing-down")
    assert set(torn) == {"sender", "exc"}
    assert "request-finished" in log.lines


@each_kind
async def test_the_signals_of_a_websocket(app: Quart, is_async: bool) -> None:
    """A websocket sends a signal for its start, its end and each message, with the text or bytes as the sender."""
    if not is_async:
        Aldis(app)  # Without the extension, sync receivers of messages have no wrapper, because Quart passes none.

    heard: list[Any] = []

    def note(sender: Any) -> None:
        heard.append(sender)

    async def note_async(sender: Any) -> None:
        heard.append(sender)

    receiver = note_async if is_async else note
    room.websocket_received.connect(receiver)
    room.websocket_sent.connect(receiver)
    log = Log()
    client = fill(app).test_client()

    for message in ("hello", b"bytes"):
        async with client.websocket("/echo") as connection:
            await connection.send(message)
            assert await connection.receive() == message
            await ended(connection)

    assert heard == ["hello", "hello", b"bytes", b"bytes"]
    assert [payload["sender"] for payload in log.of("websocket-received")] == ["hello", b"bytes"]
    assert log.lines[: len(log.lines) // 2] == log.lines[len(log.lines) // 2 :]
    assert [line for line in log.lines[: len(log.lines) // 2] if line != "websocket-received"] == [
        "appcontext-pushed",
        "websocket-started",
        "websocket-sent",
        "websocket-finished",
        "websocket-tearing-down",
        "appcontext-tearing-down",
        "appcontext-popped",
    ]
    assert [set(payload) for payload in log.of("websocket-finished")] == [{"sender", "response"}] * 2
    assert [payload["exc"] for payload in log.of("websocket-tearing-down")] == [None] * 2


async def test_messages_are_filtered_by_value(app: Quart) -> None:
    """E6: messages match by value, like all strings and bytes."""
    heard: list[Any] = []

    async def receiver(sender: Any) -> None:
        heard.append(sender)

    room.websocket_received.connect(receiver, "stop")
    client = fill(app).test_client()

    for message in ("go", "st" + "op"):
        async with client.websocket("/echo") as connection:
            await connection.send(message)
            await connection.receive()

    assert heard == ["stop"]


async def test_a_websocket_that_fails(app: Quart) -> None:
    """An unhandled exception in a websocket is sent as a signal."""
    log = Log()
    app.logger.disabled = True

    async with fill(app).test_client().websocket("/fails") as connection:
        with pytest.raises(WebsocketResponseError) as raised:
            await connection.receive()

    assert raised.value.response.status_code == 500
    (told,) = log.of("got-websocket-exception")
    assert type(told["exception"]) is ZeroDivisionError
    assert told["sender"] is app
    (finished,) = log.of("websocket-finished")
    assert finished["response"].status_code == 500


async def test_exceptions_in_the_background_and_while_serving(app: Quart) -> None:
    """Exceptions of background tasks, and those before or after serving, are sent as signals."""
    log = Log()
    app.logger.disabled = True

    async def broken() -> None:
        raise ZeroDivisionError

    async with app.test_app():
        app.add_background_task(broken)

    assert [type(told["exception"]) for told in log.of("got-background-exception")] == [ZeroDivisionError]
    assert log.of("got-serving-exception") == []

    other = Quart("other")
    other.logger.disabled = True
    other.before_serving(broken)

    with pytest.raises(ZeroDivisionError):
        await other.startup()

    ((sender, exception),) = [told.values() for told in log.of("got-serving-exception")]
    assert sender is other
    assert type(exception) is ZeroDivisionError


async def test_nested_app_contexts(app: Quart) -> None:
    """Each nested app context sends its own signals, with its own application as the sender."""
    log, inner = Log(), Quart("inner")

    async with app.app_context(), inner.app_context():
        assert current_app.name == "inner"

    assert [(name, payload["sender"]) for name, payload in log.payloads] == [
        ("appcontext-pushed", app),
        ("appcontext-pushed", inner),
        ("appcontext-tearing-down", inner),
        ("appcontext-popped", inner),
        ("appcontext-tearing-down", app),
        ("appcontext-popped", app),
    ]


@each_kind
async def test_the_request_is_there(app: Quart, is_async: bool) -> None:
    """From request_started to request_finished, receivers can use request, g and session, in a thread as well."""
    fill(app)
    seen: list[Any] = []

    def begin(sender: Quart) -> None:
        g.began = request.path
        session["user"] = "ada"

    def rendered(sender: Quart, **payload: Any) -> None:
        seen.append((request.endpoint, g.began, session["user"]))

    def finish(sender: Quart, *, response: Response) -> None:
        response.headers["X-Began"] = g.began

    async def begin_async(sender: Quart) -> None:
        begin(sender)

    async def rendered_async(sender: Quart, **payload: Any) -> None:
        rendered(sender, **payload)

    async def finish_async(sender: Quart, *, response: Response) -> None:
        finish(sender, response=response)

    room.request_started.connect(begin_async if is_async else begin)
    room.template_rendered.connect(rendered_async if is_async else rendered)
    room.request_finished.connect(finish_async if is_async else finish)

    response = await app.test_client().get("/page")
    assert response.headers["X-Began"] == "/page"
    assert seen == [("page", "/page", "ada")]


# How receivers are called.


async def test_order_and_filters(app: Quart) -> None:
    """E1, E6: sync and async receivers are called by priority and for their senders; current_app can be a sender."""
    called: list[str] = []

    def make(name: str, *, is_async: bool = False) -> Callable[..., Any]:
        def receiver(sender: Any, **payload: Any) -> None:
            called.append(name)

        async def receiver_async(sender: Any, **payload: Any) -> None:
            called.append(name)

        return receiver_async if is_async else receiver

    receivers = [make("any"), make("first"), make("app", is_async=True), make("other"), make("proxy")]
    room.request_started.connect(receivers[0])
    room.request_started.connect(receivers[1], priority=1)
    room.request_started.connect(receivers[2], app)
    room.request_started.connect(receivers[3], Quart("other"))

    async with app.app_context():
        room.request_started.connect(receivers[4], current_app)

    await fill(app).test_client().get("/")
    assert called == ["first", "any", "app", "proxy"]


@each_name
async def test_sync_receivers_run_as_quart_s_sync_views_do(app: Quart, name: str) -> None:
    """E9: the application's ensure_async runs a sync receiver in a thread, so that the loop goes on."""
    if name == "appcontext_popped" and IS_INSTEAD and SAYS_NOT_HOW:
        pytest.skip("Quart does not say how to run sync receivers, and no application is current any more")

    Aldis(app)
    threads: list[int] = []

    def receiver(sender: Any, **payload: Any) -> None:
        threads.append(threading.get_ident())

    getattr(room, name).connect(receiver)
    parameters = list(inspect.signature(getattr(room, name).contract).parameters)[1:]

    # Quart does the same: it passes no wrapper if the sender is a message.
    is_message = name in ("websocket_received", "websocket_sent")
    options = {} if is_message else {"_sync_wrapper": app.ensure_async}

    async with app.app_context():
        await source_of(name).send_async("x" if is_message else app, **options, **dict.fromkeys(parameters))

    assert threads
    assert threading.get_ident() not in threads


async def test_callable_objects(app: Quart) -> None:
    """E9: an object with an async __call__ is awaited, and an object with a plain __call__ runs in a thread."""
    called: list[str] = []

    class Async:
        async def __call__(self, sender: Any) -> None:
            called.append("async")

    class Sync:
        def __call__(self, sender: Any) -> None:
            called.append("sync")

    receivers: list[Callable[..., Any]] = [Async(), Sync()]

    for receiver in receivers:
        room.request_started.connect(receiver)

    await fill(app).test_client().get("/")
    assert called == ["async", "sync"]


async def test_sync_receivers_of_messages_need_the_extension(app: Quart) -> None:
    """Quart passes no wrapper for sync receivers of messages; without Aldis(app), the error says what to do."""

    @room.websocket_sent.connect
    def receiver(sender: Any) -> None: ...

    with pytest.raises(AsyncReceiverError, match="websocket-sent"):
        await source_of("websocket_sent").send_async("x")


async def test_a_receiver_s_exception_is_the_request_s(app: Quart) -> None:
    """Without a policy, an exception of a receiver has its usual effect in Quart: the response is a 500."""
    app.logger.disabled = True

    @room.request_started.connect
    async def receiver(sender: Quart) -> None:
        raise OSError

    assert (await fill(app).test_client().get("/")).status_code == 500


@pytest.mark.skipif(IS_INSTEAD, reason="nothing is forwarded")
async def test_blinker_s_receivers_go_on(app: Quart) -> None:
    """Receivers on Quart's own signal are called as before, beside ours."""
    called: list[str] = []

    async def theirs(sender: Any, **payload: Any) -> None:
        called.append("theirs")

    with source_of("request_started").connected_to(theirs):

        @room.request_started.connect
        async def ours(sender: Any) -> None:
            called.append("ours")

        await fill(app).test_client().get("/")

    assert sorted(called) == ["ours", "theirs"]


# The forwarder.


@pytest.mark.skipif(IS_INSTEAD, reason="nothing is forwarded")
@each_name
def test_a_forwarder_sits_there_only_while_it_is_wanted(name: str) -> None:
    """Quart's signal has a forwarder of ours exactly while our signal has a receiver or a watcher."""
    signal, source = getattr(room, name), source_of(name)

    async def receiver(sender: Any, **payload: Any) -> None: ...

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


async def test_a_watched_request_without_receivers(app: Quart) -> None:
    """A watcher sees sends that have no receivers."""
    records: list[Any] = []

    with aldis.observe.watch(records.append, room.request_started):
        assert (await fill(app).test_client().get("/sync")).status_code == 200

    assert len(records) == 1


async def test_a_send_of_ours_does_not_come_back(app: Quart) -> None:
    """A send of the exported signal reaches its receivers once."""
    called: list[Any] = []

    @room.request_started.connect
    async def receiver(sender: Any) -> None:
        called.append(sender)

    await room.request_started.send_async(app)
    assert called == [app]
