"""Receivers that run after the response has been sent."""

from __future__ import annotations

import asyncio
import io
import logging
from contextvars import ContextVar
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Any

import pytest
from flask import (
    Flask,
    Response,
    copy_current_request_context,
    current_app,
    g,
    request,
    send_file,
    session,
)

from aldis import Failure, Namespace
from aldis.flask import Aldis, after_response

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 120
colour: ContextVar[str] = ContextVar("colour", default="none")


class Shop:
    """An application that sends a signal in each of its views, and records what happens."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.log: list[Any] = []
        self.signal = Namespace().signal("order-placed")
        self.done = Event()
        app.secret_key = "for tests"
        app.get("/")(self.index)
        app.post("/form")(self.form)
        app.get("/broken")(self.broken)
        app.get("/stream")(self.stream)
        app.get("/late")(self.late)
        app.get("/file")(self.file)
        app.get("/silent")(lambda: "silent")

    def connect(self, receiver: Any, **options: Any) -> Any:
        return self.signal.connect(receiver, weak=False, via=after_response, **options)

    def index(self) -> str:
        assert self.signal.send(self.app, n=1)[0][1] is None
        self.log.append("view")
        return "index"

    def form(self) -> str:
        session["user"] = request.form["user"]
        self.signal.send(self.app, n=2)
        return "form"

    def broken(self) -> str:
        self.signal.send(self.app, n=3)
        raise ZeroDivisionError

    def stream(self) -> Response:
        self.signal.send(self.app, n=4)
        return Response(self.parts())

    def late(self) -> Response:
        return Response(self.parts(send=True))

    def parts(self, *, send: bool = False) -> Iterator[str]:
        with self.app.test_request_context():
            pass

        for n in range(1000):
            yield f"part {n}\n" * 100

        self.log.append("last part")

    def file(self) -> Response:
        return send_file(io.BytesIO(b"x" * 100_000), mimetype="text/plain")


@pytest.fixture
def shop(app: Flask) -> Shop:
    Aldis(app)
    return Shop(app)


def test_it_runs_when_the_view_is_over(shop: Shop) -> None:
    """The receiver runs after the view, and before the test client returns."""
    shop.connect(lambda sender, n: shop.log.append(n))
    assert shop.app.test_client().get("/").text == "index"
    assert shop.log == ["view", 1]


def test_in_an_app_context_with_the_request_to_read(shop: Shop) -> None:
    """current_app, request, session and context variables are the request's own; g is new."""

    def receiver(sender: Any, n: int) -> None:
        assert not hasattr(g, "of_the_request")
        shop.log.append((current_app.name, request.path, request.form["user"], session["user"], colour.get()))

    @shop.app.before_request
    def before() -> None:
        g.of_the_request = True
        colour.set("red")

    shop.connect(receiver)
    shop.app.test_client().post("/form", data={"user": "ada"})
    assert shop.log == [("shop", "/form", "ada", "ada", "red")]


def test_app_contexts_are_torn_down(shop: Shop) -> None:
    """The app context of the receiver is torn down, so that extensions can release what they hold."""
    shop.connect(lambda sender, n: shop.log.append("receiver"))
    shop.app.teardown_appcontext(lambda error: shop.log.append("teardown"))
    shop.app.test_client().get("/")
    assert shop.log == ["view", "teardown", "receiver", "teardown"]


def test_in_the_order_of_the_sends(shop: Shop) -> None:
    """Receivers run in the order of the sends; a receiver of a send inside such a receiver runs after the others."""

    def first(sender: Any, n: int) -> None:
        shop.log.append(("first", n))

        if n == 1:
            shop.signal.send(shop.app, n=5)

    shop.connect(first)
    shop.connect(lambda sender, n: shop.log.append(("second", n)))
    shop.app.test_client().get("/")
    assert shop.log == ["view", ("first", 1), ("second", 1), ("first", 5), ("second", 5)]


@pytest.mark.parametrize("testing", [False, True])
def test_after_a_failure_too(shop: Shop, testing: bool) -> None:
    """The receiver also runs if the view raises, whether Flask makes a 500 of the exception or lets it through."""
    shop.app.testing = testing
    shop.app.logger.disabled = True
    shop.connect(lambda sender, n: shop.log.append(n))

    if testing:
        with pytest.raises(ZeroDivisionError):
            shop.app.test_client().get("/broken")
    else:
        assert shop.app.test_client().get("/broken").status_code == 500

    assert shop.log == [3]


def test_a_failure_does_not_reach_the_client(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The application logs the exception of a receiver, and the other receivers run."""

    def broken(sender: Any, n: int) -> None:
        raise OSError("disk full")

    shop.connect(broken)
    shop.connect(lambda sender, n: shop.log.append(n))

    with caplog.at_level(logging.ERROR):
        assert shop.app.test_client().get("/").status_code == 200

    assert shop.log == ["view", 1]
    (record,) = caplog.records
    assert record.name == "shop"
    assert "broken" in record.message
    assert record.exc_info


def test_a_failure_goes_to_a_callable_policy(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A callable failure policy is called with the failure, and nothing is logged."""
    failures: list[Failure] = []
    shop.signal.errors = failures.append

    def broken(sender: Any, n: int) -> None:
        raise OSError("disk full")

    shop.connect(broken)
    shop.app.test_client().get("/")
    assert [failure.receiver for failure in failures] == [broken]
    assert not caplog.records


def test_async_receivers(shop: Shop) -> None:
    """ensure_sync runs an async receiver."""

    async def receiver(sender: Any, n: int) -> None:
        await asyncio.sleep(0)
        shop.log.append(request.path)

    shop.connect(receiver)
    shop.app.test_client().get("/")
    assert shop.log == ["view", "/"]


def test_a_failing_teardown_stops_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the teardown of the receiver's context is logged too, and the next receivers run."""
    failures = [OSError("pool is empty")]

    @shop.app.teardown_appcontext
    def tear_down(error: BaseException | None) -> None:
        if shop.log[-1:] == ["receiver"] and failures:
            raise failures.pop()

    shop.connect(lambda sender, n: shop.log.append("receiver"))
    shop.connect(lambda sender, n: shop.log.append(n))

    with caplog.at_level(logging.ERROR):
        assert shop.app.test_client().get("/").status_code == 200

    assert shop.log == ["view", "receiver", 1]
    assert ["pool is empty" in str(record.exc_info) for record in caplog.records] == [True]


def test_the_teardown_is_told_of_the_failure(shop: Shop) -> None:
    """Teardown functions get the exception of the receiver, as they get that of a view."""
    shop.app.logger.disabled = True
    told: list[type] = []
    shop.app.teardown_appcontext(lambda error: told.append(type(error)))

    def broken(sender: Any, n: int) -> None:
        raise OSError

    shop.connect(broken)
    shop.app.test_client().get("/")
    assert told == [type(None), OSError]


def test_what_a_thread_sends_after_the_response(shop: Shop) -> None:
    """A thread that sends after the response runs its receivers itself, during its sends, one after the other."""
    may_go = Event()
    threads: list[Thread] = []

    def first(sender: Any, n: int) -> None:
        shop.log.append((n, request.path, current_thread() in threads))

        if n == 8:
            shop.signal.send(shop.app, n=9)

    @shop.app.get("/lasting")
    def lasting() -> str:
        @copy_current_request_context
        def go_on() -> None:
            assert may_go.wait(TIMEOUT_S)
            shop.signal.send(shop.app, n=8)
            shop.log.append("sent")

        threads.append(Thread(target=go_on))
        threads[0].start()
        return "lasting"

    shop.connect(first)
    shop.connect(lambda sender, n: shop.log.append(n))
    shop.app.test_client().get("/lasting").close()
    assert shop.log == []
    may_go.set()
    threads[0].join(TIMEOUT_S)
    assert shop.log == [(8, "/lasting", True), (9, "/lasting", True), 9, 8, "sent"]


def test_what_is_sent_after_a_file(shop: Shop) -> None:
    """When the server sends a file by its own wrapper, later receivers run as well."""

    class Wrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

    shop.connect(lambda sender, n: shop.log.append(n))
    late: list[Any] = []

    @shop.app.get("/file-and-more")
    def file_and_more() -> Response:
        late.append(copy_current_request_context(lambda: shop.signal.send(shop.app, n=8)))
        return shop.file()

    environ = dict(shop.app.test_request_context("/file-and-more").request.environ)
    environ["wsgi.file_wrapper"] = Wrapper
    body: Any = shop.app(environ, lambda *args: None)  # type: ignore[arg-type]
    assert isinstance(body, Wrapper)
    late[0]()
    assert shop.log == [8]


def test_a_body_that_cannot_be_closed(app: Flask) -> None:
    """A response that is not Flask's, for example of a middleware, passes unchanged."""

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"answer"]

    app.wsgi_app = answer  # type: ignore[method-assign]
    Aldis(app)

    with app.test_client().get("/") as response:
        assert response.data == b"answer"


def test_outside_a_request_at_once(shop: Shop) -> None:
    """Outside of a request, the receiver runs at once, async or not, and its result is among the results."""

    async def receiver(sender: Any, n: int) -> int:
        return n + 1

    shop.connect(lambda sender, n: n)
    shop.connect(receiver)
    assert [result for _, result in shop.signal.send(shop.app, n=7)] == [7, 8]

    with shop.app.app_context():
        assert [result for _, result in shop.signal.send(shop.app, n=8)] == [8, 9]


def test_in_a_context_of_a_test_at_once(shop: Shop) -> None:
    """In test_request_context() there is no response to wait for: the receiver runs at once, with the request."""

    async def receiver(sender: Any, n: int) -> str:
        return request.path

    shop.connect(lambda sender, n: request.path)
    shop.connect(receiver)

    with shop.app.test_request_context("/page"):
        assert [result for _, result in shop.signal.send(shop.app, n=7)] == ["/page", "/page"]


def test_without_the_extension_it_says_so() -> None:
    """In an application without the extension, the send fails with a message that says what to do."""
    shop = Shop(Flask("bare"))
    shop.connect(lambda sender, n: None)

    with shop.app.test_request_context(), pytest.raises(RuntimeError, match=r"Aldis\(app\)"):
        shop.signal.send(shop.app, n=1)


def test_a_client_class_of_one_s_own_is_left(app: Flask) -> None:
    """A test client class that the application has set stays, and with app.testing receivers still run in time."""
    from flask.testing import FlaskClient

    class Client(FlaskClient): ...

    app.test_client_class = Client
    Aldis(app)
    shop = Shop(app)
    shop.connect(lambda sender, n: shop.log.append(n))
    client = app.test_client()
    assert type(client) is Client
    app.testing = True
    client.get("/")
    assert shop.log == ["view", 1]


def test_a_streamed_response_in_tests(shop: Shop) -> None:
    """In tests, a stream is read to its end if a receiver waits for it."""
    shop.connect(lambda sender, n: shop.log.append(n))
    response = shop.app.test_client().get("/stream")
    assert shop.log == ["last part", 4]
    assert response.text.startswith("part 0\n")


def test_a_stream_that_is_not_waited_for(shop: Shop) -> None:
    """A stream without waiting receivers stays a stream."""
    response = shop.app.test_client().get("/late")
    assert shop.log == []
    response.close()
    assert shop.log == []


def test_the_repr(shop: Shop) -> None:
    """Its repr is what a user writes."""
    assert repr(after_response) == "after_response"


# With real servers.


def test_the_client_does_not_wait(shop: Shop, serve: Any) -> None:
    """The client of a real server has the whole response while the receiver still waits."""
    may_go, done = Event(), Event()

    def receiver(sender: Any, n: int) -> None:
        assert may_go.wait(TIMEOUT_S)
        shop.log.append(request.path)
        done.set()

    shop.connect(receiver)
    connection = serve(shop.app).connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read() == b"index"
    assert shop.log == ["view"]
    may_go.set()
    assert done.wait(TIMEOUT_S)
    connection.close()
    assert shop.log == ["view", "/"]


def test_streams_over_http(shop: Shop, serve: Any) -> None:
    """With a streamed response, the receiver runs after the last part."""
    done = Event()

    def receiver(sender: Any, n: int) -> None:
        shop.log.append(n)
        done.set()

    shop.connect(receiver)
    status, body = serve(shop.app).get("/stream")
    assert (status, len(body)) == (200, sum(len(f"part {n}\n") * 100 for n in range(1000)))
    assert done.wait(TIMEOUT_S)
    assert shop.log == ["last part", 4]


def test_a_client_that_leaves(shop: Shop, serve: Any) -> None:
    """The receiver runs even if the client leaves in the middle of the response."""
    done = Event()
    shop.connect(lambda sender, n: done.set())
    connection = serve(shop.app).connect()
    connection.request("GET", "/stream")
    connection.getresponse().read(20)
    connection.close()
    assert done.wait(TIMEOUT_S)


def test_files_go_out_as_they_are(shop: Shop, serve: Any) -> None:
    """A file without waiting receivers reaches the server in the server's own wrapper, which may be faster."""
    server = serve(shop.app)
    assert server.get("/file") == (200, b"x" * 100_000)

    class Wrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

    environ = dict(shop.app.test_request_context("/file").request.environ)
    environ["wsgi.file_wrapper"] = Wrapper
    assert isinstance(shop.app(environ, lambda *args: None), Wrapper)  # type: ignore[arg-type]
