"""Tests of the example shop, written like the tests of any application that uses Aldis.

``test_shop.py`` runs them in their own processes: on Blinker, and with Aldis in Blinker's place.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest
from flask_sqlalchemy.track_modifications import models_committed
from shop import mail, metrics, models, money, receivers
from shop.journal import entries, note
from shop.models import AuditEntry, Invoice, Lamp, Order, User, db, relay
from shop.signals import order_placed, user_registered
from sqlalchemy import func, select

from aldis.flask import failures_of, message_flashed, request_finished, request_started
from aldis.relay import DrainCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask, Response
    from flask.testing import FlaskClient

    from aldis.testing import SignalTester

ADA = {"name": "Ada", "email": "ada@example.org", "password": "moonlight"}


def mails(app: Flask) -> list[Any]:
    found = sorted(mail.folder(app).glob("*.eml"))
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]


def audit(app: Flask) -> list[tuple[str, int]]:
    with app.app_context():
        return [(entry.event, entry.about) for entry in db.session.scalars(select(AuditEntry))]


def events(app: Flask) -> list[str]:
    return [entry["event"] for entry in entries(app, "analytics") if entry["event"] != "template"]


# The pages, and the signals that they send.


def test_pages_load_nothing_from_elsewhere(browser: FlaskClient) -> None:
    """Main job: a page loads nothing from other servers."""
    for path in ("/", "/lamps/aldis", "/cart", "/account/register", "/account/sign-in", "/nowhere", "/static/shop.css"):
        text = browser.get(path, buffered=True).text  # Buffered: files are closed.
        links = [match[1] for match in re.finditer(r"""(?:src|href|action)=["']?([^"'\s>]+)""", text)]
        assert all(link.startswith("/") or link == "data:," for link in links), path
        assert "url(" not in text, path
        assert "@import" not in text, path
        assert "//" not in text, path


def test_page_of_a_lamp(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: the page of a lamp shows that lamp."""
    templates = signal_tester.captured_templates(app)
    response = browser.get("/lamps/storm")

    (template, context) = templates[0]
    assert (response.status_code, template.name) == (200, "catalogue/lamp.html")
    assert context["lamp"].name == "Storm lantern"


def test_registration(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: a registration is sent once, with the declared default, and all three receivers run, one of them in a
    worker.
    """
    sent = signal_tester.record(user_registered, sender=app)
    flashed = signal_tester.record(message_flashed, sender=app)
    response = browser.post("/account/register", data=ADA, follow_redirects=True)

    assert "Welcome, Ada." in response.text
    assert "Sign out Ada" in response.text
    assert flashed.one().message == "Welcome, Ada."
    assert sent.one().payload == {"user_id": 1, "source": "web"}
    assert sent.one().sender is app, "the sender must be the app, not its proxy"
    assert audit(app) == [("user registered", 1)]
    assert events(app) == ["registration"]
    assert (mails(app), relay.drain()) == ([], DrainCounts(done=1))
    assert [(message["To"], message["Subject"]) for message in mails(app)] == [("ada@example.org", "Welcome aboard")]
    assert mails(app)[0].get_content().startswith("Dear Ada,")


def test_registration_without_mail(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: a test can keep one receiver from running, whatever its delivery."""
    faked = signal_tester.fake(user_registered, only=receivers.welcome_mail)
    browser.post("/account/register", data=ADA)

    assert faked.one().stopped == (receivers.welcome_mail,)
    assert (relay.drain(), mails(app)) == (DrainCounts(), [])
    assert events(app) == ["registration"]


def test_passwords_are_hashed(app: Flask, browser: FlaskClient) -> None:
    """Main job: no file of the shop contains a password, and a sign-in with the right password succeeds."""
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
def test_bad_registrations(app: Flask, browser: FlaskClient, signal_tester: SignalTester, form: dict[str, str]) -> None:
    """Main job: a refused registration writes no row and sends no signal."""
    sent = signal_tester.record(user_registered, sender=app)
    response = browser.post("/account/register", data=form)

    assert (response.status_code, list(sent)) == (422, [])
    assert "eight characters" in response.text

    with app.app_context():
        assert db.session.scalar(select(func.count(User.id))) == 0


def test_second_registration_of_an_address(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: an address is registered once, and the failed transaction sends nothing."""
    browser.post("/account/register", data=ADA)
    sent = signal_tester.record([user_registered, models_committed], sender=app)
    response = browser.post("/account/register", data=ADA)

    assert (response.status_code, list(sent)) == (422, [])
    assert "We know this address already." in response.text


def test_order(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: an order reduces the stock, is sent once, and is confirmed by mail."""
    browser.post("/account/register", data=ADA)
    browser.post("/cart", data={"slug": "storm", "quantity": "2"})
    cart = browser.post("/cart", data={"slug": "desk"}, follow_redirects=True).text
    assert "Desk lamp is in your cart." in cart
    assert '<b class="count">3</b>' in cart

    sent = signal_tester.record(order_placed, sender=app)
    response = browser.post("/orders", follow_redirects=True)

    assert response.request.path == "/orders/1"
    assert "Thank you." in response.text
    assert "€ 138.00" in response.text
    assert "Order 1" in browser.get("/orders").text
    assert "Nothing in it yet." in browser.get("/cart").text
    assert sent.one().payload == {"order_id": 1, "total_cents": 2 * 3950 + 5900}
    assert "Your invoice is being made out." in response.text
    assert relay.drain() == DrainCounts(done=3)
    assert "Invoice 1 is made out, over € 138.00." in browser.get("/orders/1").text
    assert audit(app)[1:] == [("order placed", 1)]
    assert [m["Subject"] for m in mails(app) if "2 x Storm lantern" in m.get_content()] == ["Your order 1"]

    with app.app_context():
        stock = {lamp.slug: lamp.stock for lamp in db.session.scalars(select(Lamp))}
        assert (stock["storm"], stock["desk"]) == (12 - 2, 8 - 1)


def test_order_of_more_than_there_is(app: Flask, browser: FlaskClient, signal_tester: SignalTester) -> None:
    """Main job: an order above the stock changes nothing, sends nothing, and leaves the cart as it was."""
    browser.post("/account/register", data=ADA)
    browser.post("/cart", data={"slug": "lighthouse", "quantity": "4"})

    sent = signal_tester.record(order_placed, sender=app)
    response = browser.post("/orders", follow_redirects=True)

    assert "Another customer was faster" in response.text
    assert '<b class="count">4</b>' in response.text
    assert not sent

    with app.app_context():
        assert db.session.scalar(select(func.count(Order.id))) == 0
        assert db.session.scalar(select(Lamp.stock).filter_by(slug="lighthouse")) == 3


def test_what_is_not_yours(app: Flask, browser: FlaskClient) -> None:
    """Main job: an order needs a signed-in user and a full cart, and a user cannot see the orders of other users."""
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


def test_money() -> None:
    """Main job: prices show their cents."""
    assert [money(5), money(24900), money(3950)] == ["€ 0.05", "€ 249.00", "€ 39.50"]


# When receivers run.


@pytest.mark.parametrize("is_committed", [True, False])
def test_mail_waits_for_the_commit(app: Flask, is_committed: bool) -> None:
    """R1: the audit entry and the mail's queue row are in the transaction; counts come after the commit; a rollback
    leaves no trace of them.
    """
    with app.app_context():
        db.session.add(User(name="Ada", email="ada@example.org", password_hash=""))
        db.session.flush()
        user_registered.send(app, user_id=1)
        assert (models.audited(app), waiting(), mails(app), events(app)) == (0, 0, [], [])

        if is_committed:
            db.session.commit()
        else:
            db.session.rollback()

        db.session.commit()
        counts = (models.audited(app), waiting(), len(events(app)))
        assert counts == ((1, 1, 1) if is_committed else (0, 0, 0))

    relay.drain()
    assert len(mails(app)) == is_committed


def waiting() -> int:
    return sum(status.backlog for status in relay.status())


def order(app: Flask) -> None:
    browser = app.test_client()
    browser.post("/account/register", data=ADA)
    browser.post("/cart", data={"slug": "desk"})
    browser.post("/orders")


def test_one_effect_however_many_attempts(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: after failures behind the invoice and the mail, further attempts run, and one invoice and one mail exist."""

    def failing_once(function: Callable[..., None], *, when: Callable[..., bool]) -> Callable[..., None]:
        failures = [OSError("the printer is on fire")]

        def call(*args: Any, **options: Any) -> None:
            function(*args, **options)

            if failures and when(*args):
                raise failures.pop()

        return call

    monkeypatch.setattr(receivers, "note", failing_once(note, when=lambda _, book: book == "billing"))
    monkeypatch.setattr(receivers, "send_mail", failing_once(mail.send_mail, when=lambda *_: True))
    order(app)

    assert relay.drain() == DrainCounts(done=1, failed=2)
    assert (models.invoiced(app), len(mails(app))) == ({1: 1}, 2)

    with app.app_context():  # Otherwise the next attempt is a second away.
        db.session.execute(relay.metadata.tables["aldis_messages"].update().values(due_ms=0))
        db.session.commit()
        assert [row.total_cents for row in db.session.scalars(select(Invoice))] == [5900]

    assert relay.drain() == DrainCounts(done=2)
    assert models.invoiced(app) == {1: 1}
    assert sorted(message["Subject"] for message in mails(app)) == ["Welcome aboard", "Your order 1"]
    assert [(entry["attempt"], entry["is_first"]) for entry in entries(app, "billing")] == [(1, True), (2, False)]


def test_views_are_counted_after_the_response(app: Flask, browser: FlaskClient) -> None:
    """Main job: a view is counted after the last byte of the response, and only for the page of a lamp."""
    counted: list[int] = []

    def stream(sender: Flask, *, response: Response, **extra: object) -> None:
        text = response.get_data()

        def body() -> Iterator[bytes]:
            yield text
            counted.append(len(entries(app, "views")))

        response.response = body()

    with request_finished.connected_to(stream, app):
        for path in ("/lamps/storm", "/lamps/lava", "/", "/lamps/desk"):
            browser.get(path)

    assert counted == [0, 1, 1, 1]
    assert [entry["path"] for entry in entries(app, "views")] == ["/lamps/storm", "/lamps/desk"]


def test_order_of_receivers(app: Flask) -> None:
    """E1: a receiver with a priority runs first, although it was connected last; the others run in the order of
    connect.
    """
    assert list(request_started.receivers_for(app)) == [receivers.start_clock, receivers.count_campaign]
    assert list(order_placed.receivers_for(app)) == [
        receivers.audit_order,
        receivers.invoice,
        receivers.confirmation_mail,
        receivers.count_order,
    ]


def test_two_shops(open_shop: Callable[[], Flask]) -> None:
    """E6: two apps in one process share Flask's signals, and each app's receivers run once, for that app only."""
    one, two = open_shop(), open_shop()
    one.test_client().post("/account/register", data=ADA)

    assert [len(entries(one, "access")), len(audit(one)), len(events(one))] == [1, 1, 1]
    assert [len(entries(two, "access")), len(audit(two)), len(events(two))] == [0, 0, 0]


# When receivers fail.


def test_failing_receiver_of_a_worker(app: Flask, browser: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """R3: a mail that fails is logged without its address, is attempted as often as allowed, and becomes a dead letter;
    the page and the other receivers are not affected.
    """
    response = browser.post("/account/register", data={**ADA, "email": "ada@nowhere.invalid"}, follow_redirects=True)

    assert "Welcome, Ada." in response.text
    assert (len(audit(app)), events(app), caplog.records) == (1, ["registration"], [])

    ends: Counter[str] = Counter()

    while waiting():
        ends.update(relay.drain()._asdict())

        with app.app_context():  # Otherwise the next attempt is two seconds away.
            db.session.execute(relay.metadata.tables["aldis_messages"].update().values(due_ms=0))
            db.session.commit()

    assert (+ends, mails(app)) == ({"failed": 2, "dead": 1}, [])
    assert "welcome_mail" in caplog.records[0].getMessage()
    assert "nowhere" not in caplog.text
    (letter,) = relay.dead_letters()
    assert (letter.signal, letter.receiver, letter.attempts) == ("user-registered", "mail.welcome", 3)
    assert "raised UndeliverableError" in letter.reason


def test_failing_receiver_of_a_core_signal(app: Flask, browser: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """Main job: a receiver of Flask's own signal that fails is logged and counted, and the page stays the same."""
    response = browser.get("/?campaign=spring")

    assert (response.status_code, "Storm lantern" in response.text) == (200, True)
    assert [entry["status"] for entry in entries(app, "access")] == [200]
    assert events(app) == []
    (failure,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "count_campaign" in failure.getMessage()
    assert failures_of(app) == {("request-started", "shop.receivers.count_campaign"): 1}

    browser.get("/?campaign=7")
    assert events(app) == ["campaign"]


@pytest.mark.parametrize("is_debug", [False, True])
def test_page_with_a_bug(app: Flask, browser: FlaskClient, is_debug: bool) -> None:
    """Main job: a receiver records the bug of the page, and the customer sees the shop's own error page."""
    app.debug = is_debug
    response = browser.get("/offers")

    assert (response.status_code, "A bulb blew" in response.text) == (500, True)
    assert [(entry["path"], entry["error"]) for entry in entries(app, "errors")] == [("/offers", "ZeroDivisionError")]
    assert [entry["status"] for entry in entries(app, "access")] == [500]


# The metrics and the live page.


def test_metrics(browser: FlaskClient) -> None:
    """Main job: the metrics count sends, calls and failures, and each grows by one."""
    before = dict(numbers(browser.get("/metrics").text))
    browser.get("/?campaign=spring")
    after = dict(numbers(browser.get("/metrics").text))

    campaign = '{signal="request-started",receiver="shop.receivers.count_campaign"}'
    grew = {key: after[key] - before.get(key, 0) for key in after}
    assert grew[f"receiver_failures_total{campaign}"] == 1
    assert grew[f"receiver_seconds_count{campaign}"] == 2
    assert grew[f"receiver_seconds_sum{campaign}"] > 0
    assert grew['signal_sends_total{signal="request-started"}'] == 2


def numbers(text: str) -> list[tuple[str, float]]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    return [(name, float(number)) for name, _, number in lines]


def test_metrics_have_a_type() -> None:
    """Main job: each number belongs to a family, whose type comes before it, as the format demands."""
    family = None

    for line in metrics.lines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        else:
            assert family is not None
            assert line.startswith(family)


@pytest.mark.parametrize(("is_debug", "status"), [(False, 404), (True, 200)])
def test_live_page(app: Flask, browser: FlaskClient, is_debug: bool, status: int) -> None:
    """Main job: the live page exists in debug mode only."""
    app.debug = is_debug
    assert browser.get("/_aldis/").status_code == status
