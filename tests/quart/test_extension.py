"""The extension: failure policies of applications, wrappers for sync receivers, several applications."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import quart.signals
from quart import Quart, current_app, flash, render_template_string, websocket
from quart.ctx import AppContext
from quart.testing.connections import WebsocketResponseError

import aldis.quart as room
from aldis import AsyncReceiverError, Failure, InvalidOptionError, Namespace, Signal
from aldis.observe import SendRecord, watch
from aldis.quart import Aldis, failures_of
from aldis.quart._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable


def make(errors: Any = None, name: str = "shop") -> Quart:
    """Make an application with the extension, and with views that together send all signals."""
    app = Quart(name)
    app.secret_key = "for tests"
    app.logger.disabled = False

    if errors is not None:
        app.config["ALDIS_ERRORS"] = errors

    Aldis(app)

    @app.get("/")
    async def index() -> str:
        await flash("welcome")
        return await render_template_string("index")

    @app.get("/broken")
    async def broken() -> str:
        raise ZeroDivisionError

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


async def visit(app: Quart) -> list[Any]:
    """Let an application send each of Quart's signals, and return what its clients got."""
    client = app.test_client()
    got: list[Any] = []

    async def broken() -> None:
        raise ZeroDivisionError

    async with app.test_app():
        for path in ("/", "/broken"):
            response = await client.get(path)
            got.append((response.status_code, (await response.get_data(as_text=True))[:5]))

        async with client.websocket("/echo") as connection:
            await connection.send("hello")
            got.append(await connection.receive())
            await ended(connection)

        async with client.websocket("/fails") as connection:
            with pytest.raises(WebsocketResponseError) as raised:
                await connection.receive()

        got.append(raised.value.response.status_code)
        app.add_background_task(broken)

    app.before_serving_funcs.append(broken)

    with pytest.raises(ZeroDivisionError):
        await app.startup()

    return got


SAYS_NOT_HOW = "_async_wrapper" in inspect.getsource(AppContext.pop)  # Quart 0.23 passes the wrong wrapper there.
IS_INSTEAD = isinstance(quart.signals.request_started, Signal)

# The exception that leaves the application: in the groups of Quart 0.23, or as it is.
LEFT = pytest.RaisesGroup(pytest.RaisesExc(OSError, match="secret"), allow_unwrapped=True, flatten_subgroups=True)
VISITED = [(200, "index"), (500, "<!doc"), "hello", 500]


def break_at(signal: Any, *, is_async: bool = True) -> Callable[..., Any]:
    """Connect a receiver that fails."""

    def broken(sender: Any, **payload: Any) -> None:
        raise OSError("secret")

    async def broken_async(sender: Any, **payload: Any) -> None:
        raise OSError("secret")

    receiver = broken_async if is_async else broken
    receiver.__qualname__ = f"broken_at_{signal.name}"
    return signal.connect(receiver, weak=False)  # type: ignore[no-any-return]


async def test_without_it_nothing_changes() -> None:
    """Without the extension, failures act as in Quart: the response is a 500, and got_request_exception raises."""
    app = make()
    app.logger.disabled = True
    receiver = break_at(room.request_finished)
    assert (await app.test_client().get("/")).status_code == 500
    room.request_finished.disconnect(receiver)
    break_at(room.got_request_exception)

    with LEFT:
        await app.test_client().get("/broken")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("signal", CORE_SIGNALS, ids=lambda signal: signal.name)
async def test_log_changes_no_response(signal: Any, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """With "log", a failed receiver changes no response, the others run, and the failure is logged and counted."""
    if signal is room.appcontext_popped and IS_INSTEAD and SAYS_NOT_HOW and not is_async:
        pytest.skip("Quart does not say how to run sync receivers, and no application is current any more")

    app = make("log")
    ran: list[str] = []
    break_at(signal, is_async=is_async)

    async def after(sender: Any, **payload: Any) -> None:
        ran.append("after")

    signal.connect(after, priority=-1)
    records: list[SendRecord] = []

    with caplog.at_level(logging.ERROR), watch(records.append, signal):
        assert await visit(app) == VISITED

    logged = [record for record in caplog.records if "failed on" in record.message]
    assert len(logged) == len(ran) >= 1
    assert {record.name for record in logged} == {"shop"}
    assert all(f"broken_at_{signal.name}" in record.message and record.exc_info for record in logged)
    assert sum(failures_of(app).values()) == len(ran)
    assert [[call.outcome for call in record.calls] for record in records] == [["raised", "returned"]] * len(ran)


async def test_a_policy_of_one_s_own() -> None:
    """A callable policy is called with each failure; if it raises, the request gets this exception."""
    failures: list[Failure] = []
    app = make(failures.append)
    receiver = break_at(room.request_started)
    assert (await app.test_client().get("/")).status_code == 200
    (failure,) = failures
    assert (failure.receiver, failure.sender, type(failure.exception)) == (receiver, app, OSError)

    def strict(failure: Failure) -> None:
        raise failure.exception

    other = make(strict, "other")
    other.logger.disabled = True
    assert (await other.test_client().get("/")).status_code == 500


async def test_each_application_has_its_own() -> None:
    """The policy belongs to the sender or to the serving application: other applications are not affected."""
    quiet, loud, plain = make("log", "quiet"), make("propagate", "loud"), Quart("plain")
    break_at(room.request_started)
    break_at(room.websocket_received)
    plain.get("/")(lambda: "index")

    @plain.websocket("/echo")
    async def echo() -> None:
        await websocket.send(await websocket.receive())

    for app, status in ((quiet, 200), (loud, 500), (plain, 500)):
        logging.getLogger(app.name).disabled = True
        assert (await app.test_client().get("/")).status_code == status

    async with quiet.test_client().websocket("/echo") as connection:
        await connection.send("hello")
        assert await connection.receive() == "hello"

    for app in (loud, plain):
        with LEFT:
            async with app.test_client().websocket("/echo") as connection:
                await connection.send("hello")


async def test_the_signal_s_own_policy_is_for_those_without_one() -> None:
    """A policy that was set on the signal earlier holds for applications that propagate, and for other senders."""
    got: list[Failure] = []
    room.message_flashed.errors = got.append
    quiet = make("log", "quiet")
    logging.getLogger("quiet").disabled = True
    break_at(room.message_flashed)
    await room.message_flashed.send_async(quiet, message="x", category="y")
    assert got == []
    await room.message_flashed.send_async(Quart("plain"), message="x", category="y")
    assert len(got) == 1


@pytest.mark.parametrize("errors", ["ignore", 3, None])
def test_what_is_no_policy_is_refused(errors: Any) -> None:
    """An invalid configuration is refused at init_app, and the application then has no extension."""
    app = Quart("shop")
    app.config["ALDIS_ERRORS"] = errors

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        Aldis(app)

    assert "aldis" not in app.extensions


def test_an_async_policy_is_refused() -> None:
    """An async policy is refused, because no code would await it."""

    async def policy(failure: Failure) -> None: ...

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        make(policy)


def test_twice_is_refused() -> None:
    """A second init_app of the same application is refused."""
    app = make()

    with pytest.raises(InvalidOptionError, match="Aldis already"):
        Aldis(app)


def test_a_factory() -> None:
    """One extension serves several applications, and keeps no reference to them."""
    signals = Namespace()
    extension = Aldis(show=[signals])
    first, second = Quart("first"), Quart("second")
    extension.init_app(first)
    extension.init_app(second)
    states = [app.extensions["aldis"] for app in (first, second)]
    assert states[0] is not states[1]
    assert [state.shown for state in states] == [(signals,)] * 2
    assert first not in vars(extension).values()


# Wrappers for sync receivers.


async def test_sync_receivers_of_any_signal_cross_through_the_application() -> None:
    """E9: in an application with the extension, send_async runs sync receivers of signals that have no wrapper."""
    app, signal = make(), Signal()
    ran: list[Any] = []

    @signal.connect
    def receiver(sender: Any) -> str:
        ran.append((current_app.name, threading.get_ident() == threading.main_thread().ident))
        return "done"

    async with app.app_context():
        assert await signal.send_async() == [(receiver, "done")]

    assert ran == [("shop", False)]


async def test_elsewhere_they_do_not() -> None:
    """Outside of a context, or in an application without the extension, send_async raises before any receiver runs."""
    make()
    signal = Signal()

    @signal.connect
    def receiver(sender: Any) -> None: ...

    with pytest.raises(AsyncReceiverError):
        await signal.send_async()

    async with Quart("plain").app_context():
        with pytest.raises(AsyncReceiverError):
            await signal.send_async()


async def test_when_it_has_served_they_do_not() -> None:
    """An application wraps receivers only while it serves."""
    app, signal = make(), Signal()
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    @signal.connect
    def receiver(sender: Any) -> None: ...

    async def receive() -> Any:
        assert await signal.send_async() == [(receiver, None)]
        return messages.pop()

    async def send(message: Any) -> None: ...

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    with pytest.raises(AsyncReceiverError):
        await signal.send_async()


async def test_async_receivers_do_not_cross_by_it() -> None:
    """In a running event loop, send cannot run async receivers, so it raises."""
    app, signal = make(), Signal()

    @signal.connect
    async def receiver(sender: Any) -> None: ...

    async with app.app_context():
        with pytest.raises(AsyncReceiverError):
            signal.send()


def test_quart_s_signals_are_where_they_were() -> None:
    """The extension itself connects no receiver."""
    make("log")
    assert not any(getattr(quart.signals, signal.name.replace("-", "_")).receivers for signal in CORE_SIGNALS)
