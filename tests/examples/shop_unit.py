"""Tests of the example shop. They need Aldis in Blinker's place, so ``test_shop.py`` runs them in a process of
their own, with ``examples/shop`` on the path.
"""

from __future__ import annotations

import email
import email.policy
import io
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any, cast

import checks
import flask
import flask.signals
import pytest
from customer import Page
from demo import every_signal
from screen import Screen
from shop import create_app, mail, models, money, receivers
from shop.journal import entries
from shop.models import Lamp, Order, User, db
from shop.signals import models_committed, on_aldis, order_placed, request_started, user_registered
from sqlalchemy import func, select
from timeline import Heard, Request, Sent, Timed, Timeline

import aldis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient

ADA = {"name": "Ada", "email": "ada@example.org", "password": "moonlight"}


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Opens shops, and closes them after the test."""
    with ExitStack() as stack:

        def open_one(**options: Any) -> Flask:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            app = create_app(folder, **options)
            stack.callback(models.close, app)
            return app

        yield open_one


@pytest.fixture
def app(open_shop: Callable[..., Flask]) -> Flask:
    return open_shop()


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def record(signal: Any, app: Flask, stack: ExitStack) -> list[dict[str, Any]]:
    """The payloads of a signal while the stack is open."""
    payloads: list[dict[str, Any]] = []

    def receive(sender: Any, **payload: Any) -> None:
        assert sender is app, "the sender is the app, not a proxy of it"
        payloads.append(payload)

    stack.enter_context(signal.connected_to(receive, app))
    return payloads


def mails(app: Flask) -> list[Any]:
    found = sorted(mail.folder(app).glob("*.eml"))
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]


# The shop.


def test_runs_on_aldis() -> None:
    """Main job: Flask's signals, Flask-SQLAlchemy's and the shop's own are all Aldis's."""
    assert vars(flask.signals)["Namespace"] is aldis.Namespace
    assert all(type(signal) is aldis.NamedSignal for signal in every_signal())
    assert len(every_signal()) == 10 + 2 + 2


def test_signals_of_others_are_noticed() -> None:
    """Main job: a signal that Aldis does not deliver is refused where the shop takes it in."""
    with pytest.raises(AssertionError, match="is not delivered by Aldis"):
        on_aldis(object())


def test_pages_load_nothing_from_elsewhere(browser: FlaskClient) -> None:
    """Main job: all that a page loads is in the shop."""
    for path in ("/", "/lamps/aldis", "/cart", "/account/register", "/account/sign-in", "/nowhere", "/static/shop.css"):
        text = browser.get(path, buffered=True).text  # Buffered: files are closed.
        links = [match[1] for match in re.finditer(r"""(?:src|href|action)=["']?([^"'\s>]+)""", text)]
        assert all(link.startswith("/") or link == "data:," for link in links), path
        assert "url(" not in text, path
        assert "@import" not in text, path
        assert "//" not in text, path


def test_registration(app: Flask, browser: FlaskClient) -> None:
    """Main job: a registration is sent once, with the declared default, and all three receivers do their work."""
    with ExitStack() as stack:
        sent = record(user_registered, app, stack)
        response = browser.post("/account/register", data=ADA, follow_redirects=True)

    assert "Welcome, Ada." in response.text
    assert "Sign out Ada" in response.text
    assert sent == [{"user_id": 1, "source": "web"}]
    assert [(entry["event"], entry["user_id"]) for entry in entries(app, "audit")] == [("user registered", 1)]
    assert {"registration"} < {entry["event"] for entry in entries(app, "analytics")}
    assert [(message["To"], message["Subject"]) for message in mails(app)] == [("ada@example.org", "Welcome aboard")]
    assert mails(app)[0].get_content().startswith("Dear Ada,")


def test_passwords_are_hashed(app: Flask, browser: FlaskClient) -> None:
    """Main job: no file of the shop has a password in it, and the right one opens the door."""
    browser.post("/account/register", data=ADA)

    folder = cast("Path", app.config["SHOP_FOLDER"])
    assert (folder / "shop.db").exists()
    assert not [path for path in folder.rglob("*.*") if b"moonlight" in path.read_bytes()]

    other = app.test_client()
    refused = other.post("/account/sign-in", data={**ADA, "password": "sunlight"})
    assert (refused.status_code, "do not go together" in refused.text) == (422, True)
    assert "Good to see you, Ada." in other.post("/account/sign-in", data=ADA, follow_redirects=True).text
    assert "Fair winds." in other.post("/account/sign-out", follow_redirects=True).text
    assert "Sign out" not in other.get("/").text


@pytest.mark.parametrize(
    "form",
    [
        {},
        {**ADA, "name": " "},
        {**ADA, "email": "ada"},
        {**ADA, "email": "ada@example.org\nBcc: bob@example.org"},
        {**ADA, "password": "short"},
    ],
)
def test_bad_registrations(app: Flask, browser: FlaskClient, form: dict[str, str]) -> None:
    """Main job: a registration that is refused writes no row and sends no signal."""
    with ExitStack() as stack:
        sent = record(user_registered, app, stack)
        response = browser.post("/account/register", data=form)

    assert (response.status_code, sent) == (422, [])
    assert "eight characters" in response.text

    with app.app_context():
        assert db.session.scalar(select(func.count(User.id))) == 0


def test_second_registration_of_an_address(app: Flask, browser: FlaskClient) -> None:
    """Main job: an address is registered once, and the failed commit sends nothing."""
    browser.post("/account/register", data=ADA)

    with ExitStack() as stack:
        sent = record(user_registered, app, stack)
        committed = record(models_committed, app, stack)
        response = browser.post("/account/register", data=ADA)

    assert (response.status_code, sent, committed) == (422, [], [])
    assert "We know this address already." in response.text


def test_order(app: Flask, browser: FlaskClient) -> None:
    """Main job: an order takes the lamps from the shelf, is sent once, and is confirmed by mail."""
    browser.post("/account/register", data=ADA)
    browser.post("/cart", data={"slug": "storm", "quantity": "2"})
    cart = browser.post("/cart", data={"slug": "desk"}, follow_redirects=True).text
    assert "Desk lamp is in your cart." in cart
    assert '<b class="count">3</b>' in cart

    with ExitStack() as stack:
        sent = record(order_placed, app, stack)
        response = browser.post("/orders", follow_redirects=True)

    assert response.request.path == "/orders/1"
    assert "Thank you." in response.text
    assert "€ 138.00" in response.text
    assert "Order 1" in browser.get("/orders").text
    assert "Nothing in it yet." in browser.get("/cart").text
    assert sent == [{"order_id": 1, "total_cents": 2 * 3950 + 5900}]
    assert [m["Subject"] for m in mails(app) if "2 x Storm lantern" in m.get_content()] == ["Your order 1"]

    with app.app_context():
        stock = {lamp.slug: lamp.stock for lamp in db.session.scalars(select(Lamp))}
        assert (stock["storm"], stock["desk"]) == (12 - 2, 8 - 1)


def test_order_of_more_than_there_is(app: Flask, browser: FlaskClient) -> None:
    """Main job: an order that the shelf cannot fill changes nothing, sends nothing, and keeps the cart."""
    browser.post("/account/register", data=ADA)
    browser.post("/cart", data={"slug": "lighthouse", "quantity": "4"})

    with ExitStack() as stack:
        sent = record(order_placed, app, stack)
        response = browser.post("/orders", follow_redirects=True)

    assert "Somebody was faster" in response.text
    assert '<b class="count">4</b>' in response.text
    assert sent == []

    with app.app_context():
        assert db.session.scalar(select(func.count(Order.id))) == 0
        assert db.session.scalar(select(Lamp.stock).filter_by(slug="lighthouse")) == 3


def test_what_is_not_yours(app: Flask, browser: FlaskClient) -> None:
    """Main job: orders are for those who are signed in, an empty cart is no order, and others' orders are not there."""
    assert "Please sign in" in browser.post("/orders", follow_redirects=True).text
    browser.post("/account/register", data=ADA)
    assert "Your cart is empty." in browser.post("/orders", follow_redirects=True).text
    browser.post("/cart", data={"slug": "desk", "quantity": "not a number"})
    assert browser.post("/cart", data={"slug": "lava"}).status_code == 404
    assert "€ 59.00" in browser.post("/orders", follow_redirects=True).text

    other = app.test_client()
    other.post("/account/register", data={**ADA, "email": "bob@example.org"})
    assert other.get("/orders/1").status_code == 404
    assert "None yet." in other.get("/orders").text
    other.post("/cart", data={"slug": "desk"})
    assert "Nothing in it yet." in other.post("/cart/empty", follow_redirects=True).text


def test_failing_receiver(app: Flask, browser: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """E3: a mail that fails is logged without its address, and neither the page nor the other receivers notice."""
    response = browser.post("/account/register", data={**ADA, "email": "ada@nowhere.invalid"}, follow_redirects=True)

    assert "Welcome, Ada." in response.text
    assert len(entries(app, "audit")) == 1
    assert "registration" in {entry["event"] for entry in entries(app, "analytics")}
    assert mails(app) == []
    (failure,) = caplog.records
    assert "welcome_mail" in failure.getMessage()
    assert "user-registered" in failure.getMessage()
    assert "nowhere" not in caplog.text


def test_page_with_a_bug(app: Flask, browser: FlaskClient) -> None:
    """Main job: the bug is noted by a receiver, and the customer sees the shop's own page."""
    response = browser.get("/offers")

    assert (response.status_code, "A bulb blew" in response.text) == (500, True)
    assert [(entry["path"], entry["error"]) for entry in entries(app, "errors")] == [("/offers", "ZeroDivisionError")]
    assert [entry["status"] for entry in entries(app, "access")] == [500]


def test_two_shops(open_shop: Callable[..., Flask]) -> None:
    """E6: two apps in one process share Flask's signals, and each has its own receivers called, once."""
    one, two = open_shop(), open_shop()
    one.test_client().post("/account/register", data=ADA)

    assert [len(entries(one, "access")), len(entries(one, "audit"))] == [1, 1]
    assert [len(entries(two, "access")), len(entries(two, "audit"))] == [0, 0]


def test_order_of_receivers(app: Flask) -> None:
    """E1: what has a priority comes first, though it was connected last; the rest comes as it was connected."""
    assert list(user_registered.receivers_for(app)) == [
        receivers.audit_registration,
        receivers.welcome_mail,
        receivers.count_registration,
    ]


def test_money() -> None:
    """Main job: prices show their cents."""
    assert [money(5), money(24900), money(3950)] == ["€ 0.05", "€ 249.00", "€ 39.50"]


# The timeline.


def watched(open_shop: Callable[..., Flask]) -> tuple[Flask, list[Request]]:
    requests: list[Request] = []
    app = open_shop(via=Timed())
    Timeline(requests.append).watch(app, every_signal())
    return app, requests


def test_timeline_of_a_registration(open_shop: Callable[..., Flask]) -> None:
    """Main job: the timeline has the sends in order, nested ones below the receiver that sent them, and the failure."""
    app, requests = watched(open_shop)
    app.test_client().post("/account/register", data={**ADA, "email": "ada@nowhere.invalid"})
    (request,) = requests

    assert (request.method, request.path, request.status) == ("POST", "/account/register", 303)
    # Flask-SQLAlchemy sends its two once for each app that the process has had, so how often depends on other tests.
    sent_by_others = [sent for sent in request.sent if sent.signal.name not in checks.COMMIT]
    assert [(sent.depth, sent.signal.name) for sent in sent_by_others] == [
        (0, "appcontext-pushed"),
        (0, "request-started"),
        (0, "user-registered"),
        (1, "before-render-template"),
        (1, "template-rendered"),
        (0, "message-flashed"),
        (0, "request-finished"),
        (0, "request-tearing-down"),
        (0, "appcontext-tearing-down"),
        (0, "appcontext-popped"),
    ]
    assert [(heard.receiver, heard.error) for heard in sent_by_others[2].heard] == [
        ("audit_registration", None),
        ("welcome_mail", "UndeliverableError"),
        ("count_registration", None),
    ]
    assert request.under_way == []
    assert all(0 <= sent.at_ms <= request.took_ms for sent in request.sent)
    assert [sent.at_ms for sent in request.sent] == sorted(sent.at_ms for sent in request.sent)


def test_concurrent_requests_do_not_mix(open_shop: Callable[..., Flask]) -> None:
    """Main job: requests that are served at the very same time have a timeline each, with their own sends only."""
    app, requests = watched(open_shop)
    together = Barrier(3, timeout=30)
    paths = ["/lamps/aldis", "/nowhere", "/static/shop.css"]

    # In the middle of each request, all three wait for each other.
    def meet(sender: Any, **extra: Any) -> None:
        together.wait()

    def visit(path: str) -> int:
        return int(app.test_client().get(path, buffered=True).headers["X-Request-Id"])

    with request_started.connected_to(meet, app), ThreadPoolExecutor(3) as threads:
        ids = list(threads.map(visit, paths))

    by_id = {request.id: request for request in requests}
    templates = [Counter(sent.signal.name for sent in by_id[id].sent)["template-rendered"] for id in ids]
    assert [by_id[id].path for id in ids] == paths
    assert [by_id[id].status for id in ids] == [200, 404, 200]
    assert [len(by_id[id].sent) for id in ids] == [8, 8, 6]
    assert templates == [1, 1, 0]


def test_timeline_where_a_failure_stops_the_send(
    open_shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E3: under "propagate" the failure ends the send, and the timeline goes on beside it, not below."""
    monkeypatch.setattr(receivers, "start_clock", broken_clock)
    app, requests = watched(open_shop)

    assert app.test_client().get("/").status_code == 500
    (request,) = requests
    assert [heard.error for heard in request.sent[1].heard] == ["LookupError"]
    assert [sent.signal.name for sent in request.sent][1:3] == ["request-started", "got-request-exception"]
    assert {sent.depth for sent in request.sent} == {0}


def broken_clock(sender: Any, **extra: Any) -> None:
    flask.g.started = 0.0
    raise LookupError


def test_sends_outside_of_requests(open_shop: Callable[..., Flask]) -> None:
    """Main job: what is sent where no request is served reaches its receivers, and is nobody's timeline."""
    app, requests = watched(open_shop)

    order_placed.connect(heard := _Heard(), app, via=Timed())
    order_placed.disconnect(receivers.confirmation_mail, app)
    order_placed.send(app, order_id=1, total_cents=2)

    assert (heard.payloads, requests) == ([{"order_id": 1, "total_cents": 2}], [])


class _Heard:
    def __init__(self) -> None:
        self.payloads: list[dict[str, int]] = []

    def __call__(self, sender: Any, **payload: int) -> None:
        self.payloads.append(payload)


def test_timed_takes_no_async_receivers() -> None:
    """Main job: the example's delivery says early what it cannot do."""

    async def receive(sender: Any, **payload: Any) -> None: ...

    with pytest.raises(ValueError, match="does not await"):
        aldis.Signal().connect(receive, via=Timed())


# What the demo makes of it.


def page(**changes: Any) -> Page:
    plain: dict[str, Any] = {
        "request_id": 1,
        "method": "GET",
        "path": "/",
        "status": 200,
        "content_type": "text/html",
        "location": "",
        "deed": "look",
        "expected": 200,
        "missing": (),
        "wrote": {},
    }
    return Page(**{**plain, **changes})


def test_what_a_visit_implies() -> None:
    """Main job: the expectation follows the visit, and so do the traces that it must leave."""
    register = page(
        method="POST", deed="register", status=303, location="/", expected=303, wrote={"email": "a@b.invalid"}
    )
    refused = page(method="POST", deed="register", status=422, wrote={"email": "a@b.invalid"})
    style = page(content_type="text/css")

    assert checks.implied_signals(style) == Counter(checks.REQUEST)
    assert checks.implied_signals(page(status=500))["got-request-exception"] == 1
    assert checks.implied_signals(register)["user-registered"] == 1
    assert checks.implied_signals(refused) == checks.implied_signals(page())
    assert (checks.implied_failures(register), checks.implied_failures(refused)) == (["welcome_mail"], [])
    assert checks.implied_entries([register, refused, style]) == {
        "mail": 0,
        "audit": 1,
        "analytics": 1 + 1 + 1,
        "access": 3,
        "errors": 0,
        "changes": 1,
    }


def test_every_difference_is_a_fault() -> None:
    """Main job: a missing send, a surplus one, a receiver out of order, and a request that nobody knows are told."""
    seen = Request(1, "GET", "/", 0.0, status=200)
    names = [*checks.implied_signals(page()).elements(), "message-flashed"]
    names.remove("request-tearing-down")
    signals = {signal.name: signal for signal in every_signal()}
    seen.sent = [
        Sent(signals[name], 0.0, 0, [Heard(receiver) for receiver in checks.PROMISED.get(name, ())]) for name in names
    ]
    next(sent for sent in seen.sent if sent.signal.name == "request-finished").heard.append(Heard("stranger"))
    stray = Request(7, "GET", "/", 0.0)
    left = {"access": 2, "analytics": 2}

    found = checks.faults([page(), page(request_id=2, status=404, missing=("Lamp",))], [seen, stray], left)
    assert found == [
        "Request 1, GET /: sends of message-flashed: 1, but the visit implies 0.",
        "Request 1, GET /: sends of request-tearing-down: 0, but the visit implies 1.",
        "Request 1, GET /: receivers of request-finished: log_access, stranger, but the visit implies log_access.",
        "Request 2, GET /: status: 404, but the visit implies 200.",
        "Request 2, GET /: the page does not say 'Lamp'.",
        "Request 2, GET /: the timeline did not see it.",
        "Request 7: it was served, but nobody made it.",
    ]


class Terminal(io.TextIOWrapper):
    def __init__(self, *, encoding: str = "utf-8", is_terminal: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def written(self) -> str:
        self.seek(0)
        return self.read()


@pytest.mark.parametrize(
    ("is_terminal", "variables", "has_colours"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, variables: dict[str, str], has_colours: bool
) -> None:
    """Main job: colours are for terminals, and not for those who set NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    stream = Terminal(is_terminal=is_terminal)
    Screen(stream).verdict([])
    assert ("\x1b[32m" in stream.written()) is has_colours
    assert "All of it is what the visit implies." in stream.written()


def test_old_terminals() -> None:
    """Main job: a stream that knows no arrows gets plain ones, and what has no plain form does not stop the demo."""
    stream = Terminal(encoding="ascii", is_terminal=False)
    Screen(stream).verdict(["The page does not say '€ 5.00'."])
    assert "x 1 things" in stream.written()
    assert "- The page does not say '? 5.00'." in stream.written()


def test_the_process_is_its_own() -> None:
    """These tests replace Blinker for the whole process, so no other test may be in it."""
    assert vars(sys.modules["blinker"])["Signal"] is aldis.Signal
    assert not [name for name in sys.modules if name.startswith("tests.core")]
