"""Tests of the demo's own code: the timeline, the checks of a visit, and the printed output.

``test_shop.py`` runs these tests in their own process, with Aldis in Blinker's place.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import checks
import flask
import flask.signals
import pytest
from customer import Page
from flask_sqlalchemy import track_modifications
from screen import Screen
from shop.signals import order_placed
from timeline import Request, Timeline, is_queued, name_of, reached, runs
from workers import Books

import aldis
from aldis.flask import request_started
from aldis.observe import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient

    from aldis.observe import SendRecord
    from aldis.testing import SignalTester

BOB = {"name": "Bob", "email": "bob@nowhere.invalid", "password": "sunshine"}


def test_runs_on_aldis() -> None:
    """Main job: with Aldis in Blinker's place, the signals of Flask and Flask-SQLAlchemy are signals of Aldis."""
    assert vars(sys.modules["blinker"])["Signal"] is aldis.Signal
    assert vars(flask.signals)["Namespace"] is aldis.Namespace
    assert isinstance(track_modifications.models_committed, aldis.NamedSignal)
    assert flask.request_started is request_started


# The timeline.


@pytest.fixture
def requests(app: Flask) -> Iterator[list[Request]]:
    """Return the app's requests that the timeline has recorded."""
    seen: list[Request] = []

    with Timeline(seen.append).watching(app):
        yield seen


def test_timeline_of_a_registration(browser: FlaskClient, requests: list[Request]) -> None:
    """Main job: the timeline has the sends in order, with the receivers that they called or wrote a queue row for."""
    browser.post("/account/register", data=BOB, buffered=True)  # Buffered: the body is read and closed.
    (request,) = requests

    assert (request.method, request.path, request.status) == ("POST", "/account/register", 303)
    # Flask-SQLAlchemy sends its two signals once for each app that the process has made, so their number depends on
    # other tests.
    sends = [(depth, send) for depth, send in request.all_sends() if send.signal_name not in checks.COMMIT]
    assert [(depth, send.signal_name) for depth, send in sends] == [
        (0, "appcontext-pushed"),
        (0, "request-started"),
        (0, "user-registered"),
        (0, "message-flashed"),
        (0, "request-finished"),
        (0, "request-tearing-down"),
        (0, "appcontext-tearing-down"),
        (0, "appcontext-popped"),
        # After the response:
        (0, "appcontext-pushed"),
        (0, "appcontext-tearing-down"),
        (0, "appcontext-popped"),
    ]
    registered = sends[2][1]
    assert [name_of(call) for call in runs(registered)] == ["audit_registration", "count_registration"]
    assert [(name_of(call), is_queued(call)) for call in reached(registered)] == [
        ("audit_registration", False),
        ("welcome_mail", True),
        ("count_registration", False),
    ]
    moments_ms = [request.at_ms(send.started_s) for send in request.sends]
    assert moments_ms == sorted(moments_ms)
    assert all(0 <= moment_ms <= request.took_ms for moment_ms in moments_ms)


def test_concurrent_requests_do_not_mix(app: Flask, requests: list[Request]) -> None:
    """Main job: requests that are served at the same time have separate timelines, each with its own sends only."""
    together = Barrier(3, timeout=120)
    paths = ["/lamps/aldis?campaign=7", "/nowhere", "/static/shop.css"]

    # In the middle of each request, all three wait for each other.
    def meet(sender: Any, **extra: Any) -> None:
        together.wait()

    def visit(path: str) -> int:
        return int(app.test_client().get(path, buffered=True).headers["X-Request-Id"])

    with request_started.connected_to(meet, app), ThreadPoolExecutor(3) as threads:
        ids = list(threads.map(visit, paths))

    by_id = {request.id: request for request in requests}
    templates = [Counter(send.signal_name for send in by_id[id].sends)["template-rendered"] for id in ids]
    assert [by_id[id].path for id in ids] == paths
    assert [by_id[id].status for id in ids] == [200, 404, 200]
    assert [len(by_id[id].sends) for id in ids] == [8 + 3, 8 + 3, 6 + 3]
    assert templates == [1, 1, 0]


def test_sends_outside_of_requests(app: Flask, requests: list[Request], signal_tester: SignalTester) -> None:
    """Main job: a send outside of a request reaches its receivers and is in no request's timeline."""
    faked = signal_tester.fake(order_placed)
    order_placed.send(app, order_id=1, total_cents=2)

    assert (faked.one().order_id, requests) == (1, [])


def test_the_live_page_is_no_request_of_the_shop(app: Flask, browser: FlaskClient, requests: list[Request]) -> None:
    """Main job: the live page's own requests are not in the timeline."""
    app.debug = True
    assert browser.get("/_aldis/").status_code == 200
    assert requests == []


def test_waiting_for_a_request(app: Flask) -> None:
    """Main job: a wait for a request also waits for its receivers, and ends at its time limit."""
    seen: list[Request] = []
    timeline = Timeline(seen.append)

    with timeline.watching(app), ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(timeline.wait_for, 1, 30.0)
        app.test_client().get("/", buffered=True)
        waiting.result(30)
        timeline.wait_for(2, 0.0)

    assert [request.id for request in seen] == [1]


# The checks of a visit.


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
    """Main job: the expected signals, failures and entries follow from the pages of the visit."""
    register = page(
        method="POST", deed="register", status=303, location="/", expected=303, wrote={"email": "a@b.invalid"}
    )
    refused = page(method="POST", deed="register", status=422, wrote={"email": "a@b.invalid"})
    style = page(content_type="text/css")
    lamp = page(path="/lamps/storm?campaign=spring")

    assert checks.implied_signals(style) == Counter(checks.REQUEST) + Counter(checks.CONTEXT)
    assert checks.implied_signals(page(status=500))["got-request-exception"] == 1
    assert checks.implied_signals(register)["user-registered"] == 1
    assert checks.implied_signals(refused) == checks.implied_signals(page())
    assert [checks.implied_failures(each) for each in (register, lamp)] == [[], ["count_campaign"]]
    assert checks.implied_entries([register, refused, style, lamp]) == {
        "mail": 0,
        "audit": 1,
        "analytics": 1 + 1 + 1,
        "access": 4,
        "views": 1,
        "errors": 0,
        "changes": 1,
    }


def sends_of(names: list[str], promised: dict[str, tuple[str, ...]]) -> list[SendRecord]:
    """Return records of sends of these signals, to the receivers that are promised for them."""
    sends: list[SendRecord] = []
    namespace = aldis.Namespace()

    with watch(sends.append):
        for name in names:
            signal = namespace.signal(name)
            named = [receiver_of(receiver) for receiver in promised.get(name, ())]

            for receiver in named:
                signal.connect(receiver)

            signal.send("shop")

            for receiver in named:
                signal.disconnect(receiver)

    return sends


def receiver_of(name: str) -> Callable[..., None]:
    def receive(sender: object) -> None: ...

    receive.__qualname__ = name
    return receive


def test_every_difference_is_a_fault() -> None:
    """Main job: a missing send, a surplus send, a surplus receiver and an unknown request are all reported."""
    names = [*checks.implied_signals(page()).elements(), "message-flashed"]
    names.remove("request-tearing-down")
    promised = {**checks.PROMISED, "request-finished": ("log_access", "count_view", "stranger")}
    seen = Request(1, "GET", "/", 0.0, status=200, sends=sends_of(names, promised))
    stray = Request(7, "GET", "/", 0.0)
    left = {"access": 2, "analytics": 2}

    assert checks.faults([page(), page(request_id=2, status=404, missing=("Lamp",))], [seen, stray], left) == [
        "Request 1, GET /: sends of message-flashed: 1, expected 0.",
        "Request 1, GET /: sends of request-tearing-down: 0, expected 1.",
        (
            "Request 1, GET /: receivers of request-finished: log_access, count_view, stranger"
            ", expected log_access, count_view."
        ),
        "Request 2, GET /: status: 404, expected 200.",
        "Request 2, GET /: the page does not say 'Lamp'.",
        "Request 2, GET /: the timeline did not see it.",
        "Request 7: it was served, but no customer made it.",
    ]


@pytest.mark.parametrize(
    ("names", "took_ms", "faults"),
    [
        (["models-committed", "user-registered", "request-finished"], 0.0, []),
        (["user-registered", "models-committed"], 0.0, ["count_registration did not wait for the commit."]),
        (["user-registered"], 0.0, ["count_registration did not wait for the commit."]),
        (["order-placed"], 0.0, ["invoice did not wait for a worker."]),
        (["request-finished"], 1e99, ["count_view did not wait for the response."]),
    ],
)
def test_receivers_that_do_not_wait_are_faults(names: list[str], took_ms: float, faults: list[str]) -> None:
    """Main job: a count before the commit or the response is reported, and so is an invoice outside of a worker."""
    promised = {
        "user-registered": ("audit_registration", "count_registration"),
        "order-placed": ("invoice",),
        "request-finished": ("count_view",),
    }
    request = Request(1, "POST", "/", 0.0, took_ms=took_ms, sends=sends_of(names, promised))

    found = checks.faults([page(method="POST")], [request], {})
    assert [fault.partition(": ")[2] for fault in found if "did not wait" in fault] == faults


def books(**changes: Any) -> Books:
    plain: dict[str, Any] = {
        "kills": 2,
        "invoices": {1: 1},
        "attempts": 3,
        "repeated": 1,
        "confirmations": Counter({1: 1}),
        "welcomes": 1,
        "dead": {"mail.welcome": 1},
        "backlog": 0,
    }
    return Books(**{**plain, **changes})


def test_every_difference_of_the_books_is_a_fault() -> None:
    """Main job: a surplus invoice, a missing mail, a waiting message, and kills without a repeated attempt are all
    reported.
    """
    visit = [
        page(deed="register", status=303, wrote={"email": "a@b.example"}),
        page(deed="register", status=303, wrote={"email": "a@b.invalid"}),
        page(deed="order", status=303),
    ]

    assert checks.work_faults(visit, books()) == []
    assert checks.work_faults(
        [*visit, page(deed="order", status=303)],
        books(invoices={1: 2}, confirmations=Counter(), welcomes=2, dead={"billing.invoice": 1}, backlog=4, repeated=0),
    ) == [
        "Orders: 1, expected 2.",
        "Order 1 has 2 invoices.",
        "Order 1 has 0 confirmation mails.",
        "Welcome mails: 2, expected 1.",
        "Dead letters: {'billing.invoice': 1}, expected {'mail.welcome': 1}.",
        "Messages that still wait: 4, expected 0.",
        "No invoice was attempted twice: no worker was killed between its invoice and the end of its row.",
    ]


# The printed output.


class Terminal(io.TextIOWrapper):
    def __init__(self, *, encoding: str = "utf-8", is_terminal: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def written(self) -> str:
        self.seek(0)
        return self.read()


def test_what_waits_is_shown_twice(browser: FlaskClient, requests: list[Request]) -> None:
    """Main job: a receiver with a delivery is shown where it begins to wait, and where it runs."""
    browser.get("/lamps/storm?campaign=spring", buffered=True)
    stream = Terminal(is_terminal=False)
    Screen(stream).request(requests[0])

    shown = [" ".join(line.split()) for line in stream.written().splitlines()]
    assert shown[1].startswith("1 GET /lamps/storm?campaign=spring 200 ")
    assert [[word for word in line.split() if not word[0].isdigit()] for line in shown[2:]] == [
        ["request-started", "start_clock", "→", "count_campaign", "✗", "ValueError"],
        ["template-rendered", "count_template"],
        ["request-finished", "log_access", "→", "count_view", "waits"],
        ["after_response", "count_view"],
    ]


def test_what_the_books_show() -> None:
    """Main job: the last table has the numbers, and says how many orders have a wrong number of invoices."""
    stream = Terminal(is_terminal=False)
    Screen(stream).books(books(invoices={1: 1, 2: 2, 3: 0}, confirmations=Counter({1: 1, 2: 1, 3: 1})))
    shown = stream.written()

    assert re.search(r"^Orders +3$", shown, re.MULTILINE)
    assert re.search(r"^Invoices +3  2 orders have none, or more than one$", shown, re.MULTILINE)
    assert re.search(r"^Confirmation mails +3  exactly one for each order$", shown, re.MULTILINE)


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
    """Main job: the output has colours only on a terminal, and only without NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    stream = Terminal(is_terminal=is_terminal)
    Screen(stream).verdict([])
    assert ("\x1b[32m" in stream.written()) is has_colours
    assert "Everything is as expected." in stream.written()


def test_old_terminals() -> None:
    """Main job: a stream that cannot write arrows gets plain ones, and an unknown character does not stop the demo."""
    stream = Terminal(encoding="ascii", is_terminal=False)
    Screen(stream).command("flask signals list", "├─ order-placed\n│  └─ audit\n")
    Screen(stream).verdict(["The page does not say '€ 5.00'."])
    assert "$ flask signals list\n|- order-placed\n|  `- audit\n" in stream.written()
    assert "x 1 things" in stream.written()
    assert "- The page does not say '? 5.00'." in stream.written()
