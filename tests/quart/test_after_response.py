"""Receivers that run after the response has been sent."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from quart import (
    Quart,
    Response,
    copy_current_app_context,
    copy_current_request_context,
    current_app,
    g,
    request,
    session,
    stream_with_context,
    url_for,
    websocket,
)

from aldis import AsyncReceiverError, Failure, Namespace
from aldis.observe import SendRecord, watch
from aldis.quart import Aldis, after_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TIMEOUT_S = 120

# The exception that leaves the application: in the groups of Quart 0.23, or as it is.
LEFT = pytest.RaisesGroup(ZeroDivisionError, allow_unwrapped=True, flatten_subgroups=True)
colour: ContextVar[str] = ContextVar("colour", default="none")


class LeavingError(Exception):
    """Makes a client leave."""


class Shop:
    """An application that sends a signal in each of its views, and records what happens."""

    def __init__(self, app: Quart) -> None:
        self.app = app
        self.client = app.test_client()
        self.log: list[Any] = []
        self.signal = Namespace().signal("order-placed")
        self.may_go = asyncio.Event()
        self.lasting: list[asyncio.Task[None]] = []
        app.secret_key = "for tests"
        app.get("/")(self.index)
        app.get("/sync")(self.in_thread)
        app.post("/form")(self.form)
        app.get("/broken")(self.broken)
        app.get("/stream")(self.stream)
        app.get("/endless")(self.endless)
        app.get("/lasting")(self.last)
        app.websocket("/socket")(self.socket)

    def connect(self, receiver: Any, **options: Any) -> Any:
        return self.signal.connect(receiver, weak=False, via=after_response, **options)

    def fail_outside(self) -> None:
        """Make requests raise an exception that leaves the application, because no error handler of Quart's gets it."""

        @self.app.teardown_request
        async def tear_down(error: BaseException | None) -> None:
            raise ZeroDivisionError

    def note(self, sender: Any, n: int) -> None:
        self.log.append(n)

    async def index(self) -> str:
        assert (await self.signal.send_async(self.app, n=1))[0][1] is None
        self.log.append("view")
        return "index"

    def in_thread(self) -> str:
        self.signal.send(self.app, n=2)
        self.log.append("view")
        return "sync"

    async def form(self) -> str:
        session["user"] = (await request.form)["user"]
        self.signal.send(self.app, n=3)
        return "form"

    async def broken(self) -> str:
        self.signal.send(self.app, n=4)
        raise ZeroDivisionError

    async def stream(self) -> Response:
        @stream_with_context
        async def parts() -> AsyncIterator[str]:
            for n in range(3):
                yield f"part {n}\n"

            self.signal.send(self.app, n=5)
            self.log.append("last part")

        self.signal.send(self.app, n=6)
        return Response(parts())

    async def endless(self) -> Response:
        async def parts() -> AsyncIterator[str]:
            try:
                while True:
                    yield "part\n"
                    await asyncio.sleep(0)
            finally:
                self.log.append("left")

        self.signal.send(self.app, n=7)
        return Response(parts())

    async def last(self) -> str:
        """Start a task that goes on after the response."""

        @copy_current_request_context
        async def go_on() -> None:
            for n in (8, 10):
                await self.may_go.wait()
                self.may_go.clear()
                self.signal.send(self.app, n=n)
                self.signal.send(self.app, n=n + 1)

        self.lasting.append(asyncio.create_task(go_on()))
        return "lasting"

    async def socket(self) -> None:
        results = await self.signal.send_async(self.app, n=20)
        await websocket.send(str([value for _, value in results]))


@pytest.fixture
def shop(app: Quart) -> Shop:
    Aldis(app)
    return Shop(app)


# When they run.


@pytest.mark.parametrize(("path", "n"), [("/", 1), ("/sync", 2)])
async def test_it_runs_when_the_view_is_over(shop: Shop, path: str, n: int) -> None:
    """Sync and async receivers run after a sync or async view, and before the test client returns."""

    async def receiver(sender: Any, n: int) -> None:
        shop.log.append(("async", n))

    shop.connect(shop.note)
    shop.connect(receiver)
    assert (await shop.client.get(path)).status_code == 200
    assert shop.log == ["view", n, ("async", n)]


async def test_after_the_last_byte(shop: Shop) -> None:
    """The receiver begins after the application has passed the last byte of the response to the server."""
    may_go = asyncio.Event()

    async def receiver(sender: Any, n: int) -> None:
        shop.log.append("receiver")
        await may_go.wait()

    shop.connect(receiver)
    inner = shop.app.asgi_app

    async def server(scope: Any, receive: Any, send: Any) -> None:
        async def note(message: Any) -> None:
            if message["type"] == "http.response.body":
                shop.log.append("more" if message["more_body"] else "end")

            await send(message)

        await inner(scope, receive, note)

    shop.app.asgi_app = server  # type: ignore[method-assign]

    async with shop.client.request("/stream") as connection:
        await connection.send_complete()
        body = b"".join([await connection.receive() for _ in range(4)])
        may_go.set()

    assert body == b"part 0\npart 1\npart 2\n"
    assert shop.log == ["more"] * 3 + ["last part", "end", "receiver", "receiver"]


async def test_in_the_order_of_the_sends(shop: Shop) -> None:
    """Receivers run one after the other; a receiver of a send inside such a receiver runs after the others."""

    async def first(sender: Any, n: int) -> None:
        shop.log.append(("first", n))

        if n == 1:
            await shop.signal.send_async(shop.app, n=11)

        await asyncio.sleep(0)
        shop.log.append(("first again", n))

    shop.connect(first)
    shop.connect(shop.note)
    await shop.client.get("/")
    assert shop.log == ["view", ("first", 1), ("first again", 1), 1, ("first", 11), ("first again", 11), 11]


async def test_after_a_failure_too(shop: Shop) -> None:
    """The receiver also runs if the view raises and Quart makes a 500 of it."""
    shop.app.logger.disabled = True
    shop.connect(shop.note)
    assert (await shop.client.get("/broken")).status_code == 500
    assert shop.log == [4]


async def test_an_error_does_not_wait(shop: Shop) -> None:
    """When the server must answer an error itself, it does not wait for receivers, and they still run."""
    done, may_go = asyncio.Event(), asyncio.Event()
    shop.fail_outside()

    async def receiver(sender: Any, n: int) -> None:
        await may_go.wait()
        done.set()

    shop.connect(receiver)

    with LEFT:
        await shop.client.get("/")

    may_go.set()
    await done.wait()


async def test_a_client_that_leaves(shop: Shop) -> None:
    """When the client leaves in the middle of a stream, the stream ends and the receiver still runs."""
    shop.connect(shop.note)

    with pytest.raises(LeavingError):
        async with shop.client.request("/endless") as connection:
            await connection.send_complete()
            assert await connection.receive() == b"part\n"
            raise LeavingError

    gc.collect()
    assert 7 in shop.log


async def test_what_is_sent_after_the_response(shop: Shop) -> None:
    """The receivers of a task that outlives the response run at each send, in order and one after the other."""
    done = asyncio.Event()

    async def receiver(sender: Any, n: int) -> None:
        shop.log.append((n, request.path))
        await asyncio.sleep(0)
        shop.log.append(n)

        if n % 2:
            done.set()

    shop.connect(receiver)
    await shop.client.get("/lasting")
    assert shop.log == []

    for n in (8, 10):
        shop.may_go.set()
        await done.wait()
        done.clear()
        await asyncio.gather(*shop.app.background_tasks)
        assert shop.log == [(n, "/lasting"), n, (n + 1, "/lasting"), n + 1]
        shop.log.clear()


async def test_what_a_thread_sends_after_the_response(shop: Shop) -> None:
    """The receivers of a sync view that outlives its client run in the event loop."""
    begun, left, done = threading.Event(), threading.Event(), asyncio.Event()
    asyncio.get_running_loop().set_debug(True)  # In debug mode, the loop refuses calls that a thread must not make.

    @shop.app.get("/slow")
    def slow() -> str:
        begun.set()
        assert left.wait(TIMEOUT_S)
        shop.signal.send(shop.app, n=12)
        return "slow"

    async def receiver(sender: Any, n: int) -> None:
        shop.log.append((n, request.path))
        done.set()

    shop.connect(receiver)

    async with shop.client.request("/slow") as connection:
        await connection.send_complete()
        assert await asyncio.to_thread(begun.wait, TIMEOUT_S)
        await connection.disconnect()

    left.set()
    await done.wait()
    assert shop.log == [(12, "/slow")]


async def test_a_server_that_cancels(shop: Shop) -> None:
    """A server can cancel the request's task; the receiver goes on in a background task of the application."""
    begun, may_go = asyncio.Event(), asyncio.Event()

    async def receiver(sender: Any, n: int) -> None:
        begun.set()
        await may_go.wait()
        shop.log.append("receiver")

    shop.connect(receiver)
    task = asyncio.create_task(shop.client.get("/"))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    gc.collect()
    may_go.set()
    await asyncio.gather(*shop.app.background_tasks)
    assert shop.log == ["view", "receiver"]


async def test_the_application_waits_when_it_shuts_down(shop: Shop) -> None:
    """Running receivers are background tasks of the application, whose shutdown waits for them."""
    shop.fail_outside()

    async def receiver(sender: Any, n: int) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

        shop.log.append(n)

    shop.connect(receiver)

    async with shop.app.test_app():
        with LEFT:
            await shop.client.get("/")

        assert shop.log == ["view"]

    assert shop.log == ["view", 1]
    assert not shop.app.background_tasks


async def test_the_application_does_not_wait_for_ever(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """After BACKGROUND_TASK_SHUTDOWN_TIMEOUT, the running receiver is cancelled, and those behind it are lost."""
    begun = asyncio.Event()
    shop.fail_outside()
    shop.app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.001

    async def receiver(sender: Any, n: int) -> None:
        begun.set()

        try:
            await asyncio.Event().wait()
        finally:
            shop.log.append("cancelled")

    shop.connect(receiver)
    shop.connect(shop.note)

    async with shop.app.test_app():
        with LEFT:
            await shop.client.get("/")

        await begun.wait()

    assert shop.log == ["view", "cancelled"]
    assert not [record for record in caplog.records if "after the response" in record.message]


# What they run in.


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_in_an_app_context_with_the_request_to_read(shop: Shop, is_async: bool) -> None:
    """current_app, request, session and context variables are the request's own; g is new; a sync receiver is in a
    thread.
    """

    def read() -> tuple[Any, ...]:
        assert not hasattr(g, "of_the_request")
        in_loop = threading.get_ident() == threading.main_thread().ident
        assert url_for("index") == "/"
        return (current_app.name, request.path, session["user"], colour.get(), in_loop)

    def receiver(sender: Any, n: int) -> None:
        shop.log.append(read())

    async def receiver_async(sender: Any, n: int) -> None:
        assert (await request.form)["user"] == "ada"
        shop.log.append(read())

    @shop.app.before_request
    async def before() -> None:
        g.of_the_request = True
        colour.set("red")

    shop.connect(receiver_async if is_async else receiver)
    await shop.client.post("/form", form={"user": "ada"})
    assert shop.log == [("shop", "/form", "ada", "red", is_async)]


async def test_a_task_of_the_receiver(shop: Shop) -> None:
    """A receiver can pass its context to a task, as a view can."""
    tasks: list[asyncio.Task[None]] = []

    async def receiver(sender: Any, n: int) -> None:
        @copy_current_app_context
        async def go_on() -> None:
            shop.log.append((current_app.name, request.path))

        tasks.append(asyncio.create_task(go_on()))

    shop.connect(receiver)
    await shop.client.get("/")
    await asyncio.gather(*tasks)
    assert shop.log == ["view", ("shop", "/")]


async def test_the_request_is_torn_down_once(shop: Shop) -> None:
    """Teardown functions of the request run once, when the request ends, and not again after the receiver."""
    shop.connect(shop.note)

    @shop.app.teardown_request
    async def tear_down(error: BaseException | None) -> None:
        shop.log.append("teardown")

    await shop.client.get("/")
    assert shop.log == ["view", "teardown", 1]


async def test_app_contexts_are_torn_down(shop: Shop) -> None:
    """The app context of the receiver is torn down, and its teardown functions get the receiver's exception."""
    shop.app.logger.disabled = True
    told: list[type] = []

    async def broken(sender: Any, n: int) -> None:
        shop.log.append("receiver")
        raise OSError

    @shop.app.teardown_appcontext
    async def tear_down(error: BaseException | None) -> None:
        shop.log.append("teardown")
        told.append(type(error))

    shop.connect(broken)
    await shop.client.get("/")
    assert shop.log == ["view", "teardown", "receiver", "teardown"]
    assert told == [type(None), OSError]


# Failures.


async def fails(sender: Any, n: int) -> None:
    raise OSError("disk full")


def fails_in_thread(sender: Any, n: int) -> None:
    raise OSError("disk full")


async def cancels(sender: Any, n: int) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("receiver", [fails, fails_in_thread, cancels], ids=lambda receiver: receiver.__name__)
async def test_a_failure_does_not_reach_the_client(
    shop: Shop, receiver: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The application logs the exception of a receiver, also its own cancellation, and the other receivers run."""
    shop.connect(receiver)
    shop.connect(shop.note)

    with caplog.at_level(logging.ERROR):
        assert (await shop.client.get("/")).status_code == 200

    assert shop.log == ["view", 1]
    (record,) = caplog.records
    assert record.name == "shop"
    assert receiver.__name__ in record.message
    assert record.exc_info


async def test_a_failing_teardown_stops_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the teardown of the receiver's context is logged too, and the next receivers run."""
    failures = [OSError("pool is empty")]

    @shop.app.teardown_appcontext
    async def tear_down(error: BaseException | None) -> None:
        if "receiver" in shop.log and failures:
            raise failures.pop()

    async def receiver(sender: Any, n: int) -> None:
        shop.log.append("receiver")

    shop.connect(receiver)
    shop.connect(shop.note)

    with caplog.at_level(logging.ERROR):
        assert (await shop.client.get("/")).status_code == 200

    assert shop.log == ["view", "receiver", 1]
    assert ["pool is empty" in str(record.exc_info) for record in caplog.records] == [True]


async def test_a_failure_goes_to_a_callable_policy(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A callable failure policy is called with the failure, and nothing is logged."""
    failures: list[Failure] = []
    shop.signal.errors = failures.append
    shop.connect(fails)
    await shop.client.get("/")
    assert [failure.receiver for failure in failures] == [fails]
    assert not caplog.records


async def test_it_is_watched(shop: Shop) -> None:
    """A watcher of the signal sees the delivery of the call, and later the result of the receiver."""
    shop.connect(fails)
    shop.connect(shop.note)
    shop.app.logger.disabled = True
    sends: list[SendRecord] = []

    with watch(sends.append, shop.signal):
        await shop.client.get("/")

    (send,) = sends
    assert [(call.receiver_name.rpartition(".")[2], call.outcome) for call in send.calls] == [
        ("fails", "delivered"),
        ("note", "delivered"),
        ("fails", "raised"),
        ("note", "returned"),
    ]


# Without a response.


async def add_one(sender: Any, n: int) -> int:
    return n + 1


def add_two(sender: Any, n: int) -> int:
    return n + 2


async def test_outside_a_request_at_once(shop: Shop) -> None:
    """Outside of a request, the receiver runs at once, in a thread if it is sync, and its result is in the results."""
    threads: list[bool] = []

    def where(sender: Any, n: int) -> None:
        threads.append(threading.get_ident() == threading.main_thread().ident)

    shop.connect(add_one)
    shop.connect(add_two)
    shop.connect(where)
    assert [value for _, value in await shop.signal.send_async(shop.app, n=7)] == [8, 9, None]

    async with shop.app.app_context():
        assert [value for _, value in await shop.signal.send_async(shop.app, n=8)] == [9, 10, None]

    async with shop.app.test_request_context("/"):
        assert [value for _, value in await shop.signal.send_async(shop.app, n=9)] == [10, 11, None]

    assert threads == [True, False, False]


async def test_send_outside_a_request(shop: Shop) -> None:
    """Outside of a request, send calls sync receivers as without a delivery, also in the loop, and refuses async
    receivers.
    """
    shop.connect(add_two)
    assert shop.signal.send(shop.app, n=7) == [(add_two, 9)]

    async with shop.app.app_context():
        assert shop.signal.send(shop.app, n=8) == [(add_two, 10)]

    shop.connect(add_one)

    with pytest.raises(AsyncReceiverError, match="add_one"):
        shop.signal.send(shop.app, n=9)


async def test_in_a_websocket_at_once(shop: Shop) -> None:
    """In a websocket, there is no response to wait for: the receivers run at once."""
    shop.connect(add_one)
    shop.connect(add_two)

    async with shop.client.websocket("/socket") as connection:
        assert await connection.receive() == "[21, 22]"


async def test_without_the_extension_it_says_so() -> None:
    """In an application without the extension, the send fails with a message that says what to do."""
    shop = Shop(Quart("bare"))
    shop.connect(shop.note)

    async with shop.app.test_request_context("/"):
        with pytest.raises(RuntimeError, match=r"Aldis\(app\)"):
            shop.signal.send(shop.app, n=1)

        with pytest.raises(RuntimeError, match=r"Aldis\(app\)"):
            await shop.signal.send_async(shop.app, n=1)


def test_the_repr() -> None:
    """Its repr is what a user writes."""
    assert repr(after_response) == "after_response"
