"""The live page in a real browser: Chromium, without a window."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect, sync_playwright

from aldis.flask.live_page.events import MAX_LISTENERS
from aldis.flask.live_page.journal import MAX_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.program

TIMEOUT_S = 120
PROGRAM = "import shop; shop.serve()"
RED = re.compile(r"rgb\(2\d\d, (\d\d|1[0-3]\d), (\d\d|1[0-3]\d)\)")
HACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'

expect.set_options(timeout=TIMEOUT_S * 1000)


def free_port() -> int:
    """Return a port that stays free while the server is away: the system itself assigns no ports below 32768."""
    while True:
        port = random.randrange(20_000, 32_000)

        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """The shop in its own process. A restart keeps the port."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments

        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, str(self.port), "werkzeug", *self.arguments]
        folder = Path(__file__).parent
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def database(self) -> str:
        """Return the file of the relay's database."""
        return self.arguments[0].partition("=")[2]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT_S)

    def ask(self, path: str, method: str = "GET") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection.request(method, path)

        with connection.getresponse() as response:
            response.read()

        connection.close()
        return response.status


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("values")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """Start a browser without animations."""
    chromium = shutil.which("chromium")

    if chromium is None:
        refuse: Any = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse("There is no chromium. On Debian, as root: tools/debian.sh chromium")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser.new_context(reduced_motion="reduce")
        browser.close()


class View:
    """One tab with the page, and its complaints in the console."""

    def __init__(self, browser: BrowserContext, server: Server, scheme: str = "light", width: int = 1200) -> None:
        self.server = server
        self.page: Page = browser.new_page()
        self.page.set_default_timeout(TIMEOUT_S * 1000)
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.set_viewport_size({"width": width, "height": 800})
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"http://localhost:{server.port}/_aldis/")
        self.expect_state("live")
        self.clear()  # Other tests have made requests too.

    def clear(self) -> None:
        self.page.locator("#clear").evaluate("button => button.click()")

    def expect_state(self, state: str) -> None:
        expect(self.page.locator("#state")).to_have_attribute("data-state", state)

    def ask(self, path: str, method: str = "GET") -> Locator:
        """Make a request, and wait for it to appear."""
        self.server.ask(path, method)
        entry = self.entry(path.partition("?")[0])
        expect(entry).to_be_visible()
        return entry

    def entry(self, path: str) -> Locator:
        found = self.page.locator(".entry").filter(has=self.page.locator(".path", has_text=re.compile(f"^{path}$")))
        return found.first

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.fixture
def look(browser: BrowserContext, server: Server) -> Iterator[Callable[..., View]]:
    """Open the page. At the end of the test, check that the console has no complaints."""
    views: list[View] = []

    def look(**options: Any) -> View:
        views.append(View(browser, server, **options))
        return views[-1]

    yield look

    for view in views:
        view.page.close()
        assert view.complaints == []


def test_request_appears(look: Callable[..., View]) -> None:
    """A request appears without a reload, and opens as a waterfall of signals and receivers, nested ones included."""
    view = look()
    view.page.evaluate("window.wasHere = true")
    entry = view.ask("/orders?id=41", "POST")
    expect(entry).to_contain_text("201")
    entry.locator("summary").click()
    rows = entry.locator(".row")
    expect(rows.filter(has_text="run by after_response")).to_have_count(1)
    depths = {
        name: rows.filter(has_text=re.compile(name)).first.get_attribute("data-depth")
        for name in ("^order-placed", r"^shop\.issue_invoice", "^invoice-issued", r"^shop\.count_mail")
    }
    assert list(depths.values()) == ["0", "1", "2", "5"]
    expect(rows.filter(has_text="order-placed").first).to_contain_text("order_id: int = 41")
    expect(entry).to_contain_text("card_number: str = (hidden)")
    expect(entry).not_to_contain_text("4111")
    assert view.page.evaluate("window.wasHere")


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(244, 246, 249)"), ("dark", "rgb(12, 18, 28)")])
def test_failing_receiver_is_red(look: Callable[..., View], scheme: str, ground: str) -> None:
    """A failed receiver is shown in red, in light and dark mode, and in words."""
    view = look(scheme=scheme)
    expect(view.page.locator("body")).to_have_css("background-color", ground)
    good = view.ask("/register?id=8", "POST")
    good.locator("summary").click()
    expect(good.locator(".row").first).to_be_visible()
    expect(good.locator(".row.failed")).to_have_count(0)
    view.clear()
    failed = view.ask("/register?id=7", "POST")
    expect(failed).to_have_css("border-left-color", RED)
    expect(failed).to_contain_text("1 failed")
    failed.locator("summary").click()
    row = failed.locator(".row.failed")
    expect(row).to_contain_text("raised shop.UndeliverableError")
    expect(row.locator(".failure")).to_have_css("color", RED)
    expect(row.locator(".bar")).to_have_css("border-top-color", RED)
    expect(failed.locator(".row:not(.failed) .bar").first).not_to_have_css("border-top-color", RED)


def test_filters(look: Callable[..., View]) -> None:
    """Requests, later ones too, are filtered by the names of signals and receivers, by path, and by failure."""
    view = look()
    shown = view.page.locator(".entry:visible .path")
    view.ask("/lamps/one")
    view.ask("/register?id=7", "POST")
    view.page.fill("#filter-signal", "USER-reg")
    expect(shown).to_have_text(["/register"])
    view.page.fill("#filter-signal", "log_access")
    expect(shown).to_have_text(["/register", "/lamps/one"])
    view.page.fill("#filter-path", "lamps")
    expect(shown).to_have_text(["/lamps/one"])
    view.server.ask("/register?id=8", "POST")
    view.ask("/lamps/two")
    expect(shown).to_have_text(["/lamps/two", "/lamps/one"])
    expect(view.page.locator("#summary")).to_contain_text("2 of 4 shown")
    view.page.fill("#filter-path", "")
    view.page.check("#filter-failed")
    expect(shown).to_have_text(["/register"])
    view.page.fill("#filter-path", "nowhere")
    expect(view.page.locator("#empty-title")).to_have_text("Nothing matches the filters")


def test_connections(look: Callable[..., View]) -> None:
    """The second tab shows the connections in order, and can be filtered and linked to."""
    view = look()
    view.page.click("#tab-connections")
    card = view.page.locator(".card").filter(has=view.page.locator("h3", has_text="order-placed"))
    expect(card.locator("tbody tr td:nth-child(2)")).to_contain_text(
        ["shop.audit_order", "shop.issue_invoice", "shop.reserve_stock", "shop.warm_recommendations"]
    )
    expect(card).to_contain_text("Sent when the rows of an order have been committed.")
    expect(card.locator("tr").nth(1)).to_contain_text("priority 10")
    expect(card.locator("tr").nth(4)).to_contain_text("via after_response")
    view.page.fill("#filter-signal", "count_mail")
    expect(view.page.locator(".card h3")).to_have_text(["mail-queued"])
    assert view.page.url.endswith("#connections")
    view.page.reload()
    expect(card).to_be_visible()


def test_restart(look: Callable[..., View], server: Server) -> None:
    """After a restart of the server, the page goes on by itself, and keeps the requests that it has shown."""
    view = look()
    view.ask("/lamps/before")
    server.kill()
    view.expect_state("lost")
    server.start()
    view.expect_state("live")
    view.ask("/lamps/after")
    expect(view.page.locator("#requests .path")).to_have_text(["/lamps/after", "/lamps/before"])
    expect(view.page.locator(".divider")).to_have_text("The server was restarted")
    assert {complaint.partition(":")[0] for complaint in view.complaints} <= {"Failed to load resource"}
    view.complaints.clear()


def test_several_processes(look: Callable[..., View]) -> None:
    """With several server processes, the page shows the requests of all, and reports no restart."""
    view = look()
    turns = itertools.cycle("ab")

    def answer(route: Route) -> None:
        turn = next(turns)
        entry = {"number": 1, "method": "GET", "path": f"/{turn}", "status": 200, "started": 0, "duration": 1}
        entry |= {"failure": None, "closed": None, "left_out": 0, "partial": False, "sends": []}
        lines = [f'event: hello\ndata: {{"epoch": "{turn}"}}']
        lines += [f'event: entries\ndata: {{"requests": 1, "entries": [{json.dumps(entry)}]}}\nid: {turn}-1']
        lines += ["event: again\ndata: 10\n\n"]
        route.fulfill(content_type="text/event-stream", body="\n\n".join(lines))

    view.page.route("**/events?*", answer)
    view.page.reload()
    expect(view.page.locator("#requests .path")).to_have_text(["/b", "/a"])
    expect(view.page.locator(".divider")).to_have_count(0)


def test_keyboard(look: Callable[..., View]) -> None:
    """The tabs, the filters and the requests can all be used by keyboard."""
    view = look()
    view.ask("/lamps/one")
    view.ask("/lamps/two")
    press = view.page.keyboard.press
    focused = view.page.locator(":focus")
    view.page.locator("#tab-requests").focus()
    press("ArrowRight")
    expect(view.page.locator("#panel-connections")).to_be_visible()
    expect(focused).to_have_id("tab-connections")
    press("Home")
    expect(view.page.locator("#panel-requests")).to_be_visible()
    press("/")
    expect(focused).to_have_id("filter-signal")
    view.page.keyboard.type("nothing/")
    expect(view.page.locator(".entry:visible")).to_have_count(0)
    press("Escape")
    expect(view.page.locator(".entry:visible")).to_have_count(2)

    for name in ("filter-path", "filter-failed", "filter-outside", "pause", "clear"):
        press("Tab")
        expect(focused).to_have_id(name)

    press("Tab")
    expect(focused).to_contain_text("/lamps/two")
    press("ArrowDown")
    expect(focused).to_contain_text("/lamps/one")
    expect(focused).to_have_css("outline-style", "solid")
    press("Enter")
    expect(view.entry("/lamps/one").locator(".row").first).to_be_visible()


def test_phone(look: Callable[..., View]) -> None:
    """On a phone, the content is as wide as the page at most, even with long names."""
    view = look(width=360)
    path = "/odd/" + "long/" * 20 + "<a" + "-long-name" * 15
    view.server.ask(quote(path))
    entry = view.entry(path)
    assert view.fits()
    entry.locator("summary").click()
    expect(entry.locator(".row").first).to_be_visible()
    assert view.fits()
    view.page.click("#tab-connections")
    expect(view.page.locator(".card").first).to_be_visible()
    assert view.fits()


def test_names_are_text(look: Callable[..., View]) -> None:
    """Paths, and names of signals, senders, payloads and values, are always shown as text."""
    view = look()
    view.server.ask("/odd/" + quote(HACK))
    entry = view.page.locator(".entry").filter(has_text=f"/odd/{HACK}").first
    entry.locator("summary").click()
    row = entry.locator(".row").filter(has_text=f"{HACK}: str")
    expect(row.locator(".signal-name")).to_have_text(HACK)
    expect(row).to_contain_text(f"by '{HACK[:60]}")
    view.page.click("#tab-connections")
    expect(view.page.locator(".card h3", has_text=HACK)).to_be_visible()
    assert view.page.locator("main script, #requests img, #connections img").count() == 0
    assert view.page.evaluate("window.hacked") is None


def test_pause(look: Callable[..., View]) -> None:
    """A paused page does not change, and shows what came meanwhile when it goes on."""
    view = look()
    view.ask("/lamps/one")
    view.page.click("#pause")
    view.expect_state("paused")
    view.server.ask("/lamps/two")
    # It says 2 if the part after the first request's response came late.
    expect(view.page.locator("#summary")).to_contain_text(re.compile("[12] new while paused"))
    expect(view.page.locator(".entry")).to_have_count(1)
    view.page.click("#pause")
    expect(view.page.locator(".entry .path")).to_have_text(["/lamps/two", "/lamps/one"])


def test_more_pages_than_may_listen(look: Callable[..., View]) -> None:
    """More pages than may listen at once still show all requests, because they take turns."""
    views = [look() for _ in range(MAX_LISTENERS + 1)]
    views[0].server.ask("/lamps/one")

    for view in views:
        expect(view.entry("/lamps/one")).to_be_visible()


def test_many_requests(look: Callable[..., View]) -> None:
    """The page shows the last 200 requests at most."""
    view = look()

    for number in range(MAX_REQUESTS + 5):
        view.server.ask(f"/lamps/{number}")

    expect(view.entry("/lamps/204")).to_be_visible()
    expect(view.page.locator(".entry")).to_have_count(MAX_REQUESTS)


# The relay.


@pytest.fixture(scope="module")
def relay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A shop with a relay: some messages wait, a worker has claimed one, others are dead letters."""
    server = Server(f"relay={tmp_path_factory.mktemp('relay') / 'relay.sqlite'}")

    try:
        assert server.ask("/register?id=7", "POST") == server.ask("/drain", "POST") == 200
        assert server.ask("/orders?id=41", "POST") == server.ask("/orders?id=42", "POST") == 201
        assert server.ask("/claim", "POST") == 200
        yield server
    finally:
        server.kill()


class RelayView(View):
    """One tab with the page, and its third tab open."""

    def __init__(self, browser: BrowserContext, server: Server, **options: Any) -> None:
        super().__init__(browser, server, **options)
        self.asked = 0
        self.page.on("request", lambda request: self.count(request.url))

    def count(self, address: str) -> None:
        self.asked += address.endswith("/_aldis/relay")

    def open(self) -> None:
        self.page.click("#tab-relay")
        expect(self.page.locator("#relay-summary")).to_contain_text("receivers")

    def receiver(self, name: str) -> Locator:
        return self.page.locator("#relay .card").first.locator("tbody tr").filter(has_text=name)

    def bury(self, receiver: str, reason: str) -> None:
        """Make a dead letter of a message, and keep the message."""
        columns = "message_id, signal, version, sender, payload, trace, ordering_key, sent_ms"
        self.execute(
            f"INSERT INTO aldis_dead_letters (id, {columns}, receiver, died_ms, attempts, reason)"
            f" SELECT 9, {columns}, '{receiver}', sent_ms, 1, '{reason}' FROM aldis_messages LIMIT 1"
        )

    def execute(self, statement: str) -> None:
        """Change the database."""
        with closing(sqlite3.connect(self.server.database)) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def look_at_relay(browser: BrowserContext, relay_server: Server) -> Iterator[Callable[..., RelayView]]:
    """Open the page of a shop with a relay. At the end of the test, check that the console has no complaints."""
    views: list[RelayView] = []

    def look(has_own_clock: bool = False, **options: Any) -> RelayView:
        assert browser.browser is not None
        context = browser.browser.new_context() if has_own_clock else browser  # All pages of a context share one clock.
        views.append(RelayView(context, relay_server, **options))
        return views[-1]

    yield look

    for view in views:
        view.page.close()
        assert view.complaints == []


def test_no_relay(look: Callable[..., View]) -> None:
    """An application without a relay has no third tab, by mouse or by keyboard."""
    view = look()
    expect(view.page.locator("#tab-relay")).to_be_hidden()
    view.page.locator("#tab-requests").focus()
    view.page.keyboard.press("ArrowLeft")
    expect(view.page.locator(":focus")).to_have_id("tab-connections")
    view.page.goto(f"http://localhost:{view.server.port}/_aldis/#relay")
    view.page.reload()
    view.expect_state("live")
    expect(view.page.locator("#panel-requests")).to_be_visible()


def test_relay(look_at_relay: Callable[..., RelayView]) -> None:
    """The third tab shows the waiting messages and the dead letters of each receiver, and no payload."""
    view = look_at_relay()
    view.open()
    invoice = view.receiver("billing.invoice").locator("td")
    expect(invoice).to_have_text(
        ["billing.invoice", re.compile(r"^\d+$"), "2", "0", re.compile(r"^\d.* (s|min)$"), "0", ""]
    )
    welcome = view.receiver("mail.welcome")
    expect(welcome.locator("td").nth(3)).to_have_text("1")
    expect(welcome.locator(".why")).to_have_text(
        re.compile(r"^shop\.mail_later \(shop\.py:\d+\) raised UndeliverableErr")
    )
    expect(view.receiver("warehouse.reorder")).to_contain_text("not known here")
    expect(view.receiver("search.index")).not_to_contain_text("not known here")
    expect(view.receiver("crm.contact").locator(".failure")).to_have_css("color", RED)
    [dead] = view.page.locator("#relay .card").nth(1).locator("tbody tr").all()
    expect(dead.locator("td").nth(1)).to_have_text("crm.contact")
    expect(dead.locator(".why")).to_contain_text("in the last of 1 attempts")
    summary = re.compile(r"^5 receivers · \d+ waiting · 2 in flight · 1 dead letter$")
    expect(view.page.locator("#relay-summary")).to_have_text(summary)
    assert "correct horse" not in view.page.content()
    assert view.page.locator("#panel-relay button, #panel-relay input, #panel-relay a").count() == 0
    view.page.fill("#filter-signal", "INVOICE")
    expect(view.page.locator("#relay tbody tr")).to_have_count(1)
    view.page.fill("#filter-signal", "nothing")
    expect(view.page.locator("#empty-relay")).to_have_text("No receiver of that name")


def test_relay_goes_on(look_at_relay: Callable[..., RelayView]) -> None:
    """Changes appear by themselves; while only ages change, the rows stay, with the reader's selection in them."""
    view = look_at_relay()
    view.execute("UPDATE aldis_messages SET sent_ms = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")
    view.open()
    row = view.receiver("search.index")
    before = int(row.locator("td").nth(1).inner_text())
    age = row.locator(".age").inner_text()
    view.page.evaluate("document.querySelector('#relay tbody tr').dataset.mark = 'kept'")
    expect(row.locator(".age")).not_to_have_text(age)
    expect(view.page.locator("#relay [data-mark=kept]")).to_have_count(1)
    view.server.ask("/orders?id=43", "POST")
    expect(row.locator("td").nth(1)).to_have_text(str(before + 1))


def test_relay_is_asked_while_it_is_seen(look_at_relay: Callable[..., RelayView]) -> None:
    """The page asks the server only while the tab is open and the page is visible."""
    view = look_at_relay(has_own_clock=True)
    view.page.clock.install()
    view.page.reload()
    view.expect_state("live")
    # From here on, time passes only when the test lets it pass, however long the machine takes.
    view.page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    view.page.clock.run_for(10_000)
    assert view.asked == 0
    view.open()
    assert view.asked == 1

    for asked in (2, 3):
        # In steps, because the page asks some time after it has read the last answer, and that moment is not known.
        with view.page.expect_response("**/_aldis/relay"):
            while view.asked < asked:
                view.page.clock.run_for(500)

        assert view.asked == asked

    hide = "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true})"
    view.page.evaluate(hide % "true")
    view.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    view.page.clock.run_for(10_000)
    assert view.asked == 3

    with view.page.expect_response("**/_aldis/relay"):
        view.page.evaluate(hide % "false")
        view.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    view.page.click("#tab-requests")
    view.page.clock.run_for(10_000)
    assert view.asked == 4


def test_relay_that_cannot_be_asked(look_at_relay: Callable[..., RelayView]) -> None:
    """When tables are missing, the page shows a message instead of the numbers, and goes on when the tables exist
    again.
    """
    view = look_at_relay()
    view.open()
    view.execute("ALTER TABLE aldis_messages RENAME TO gone")
    expect(view.page.locator("#relay-problem")).to_contain_text("The database has no table aldis_messages.")
    expect(view.page.locator("#relay")).to_be_empty()
    view.execute("ALTER TABLE gone RENAME TO aldis_messages")
    expect(view.receiver("search.index")).to_be_visible()
    expect(view.page.locator("#relay-problem")).to_be_hidden()


def test_relay_of_a_server_that_is_away(look_at_relay: Callable[..., RelayView]) -> None:
    """While the server is away, the page says so; it shows a refusal too."""
    view = look_at_relay()
    view.open()
    view.page.route("**/_aldis/relay", lambda route: route.abort())
    expect(view.page.locator("#relay-problem")).to_contain_text("The server does not answer.")
    view.page.unroute("**/_aldis/relay")
    view.page.route("**/_aldis/relay", lambda route: route.fulfill(status=403, body=""))
    expect(view.page.locator("#relay-problem")).to_contain_text("The server answers with 403.")
    view.page.unroute("**/_aldis/relay")
    expect(view.receiver("search.index")).to_be_visible()
    assert {complaint.partition(":")[0] for complaint in view.complaints} <= {"Failed to load resource"}
    view.complaints.clear()


def test_relay_by_keyboard_and_by_link(look_at_relay: Callable[..., RelayView]) -> None:
    """The third tab can be opened by keyboard and by a link."""
    view = look_at_relay()
    press = view.page.keyboard.press
    focused = view.page.locator(":focus")
    view.page.locator("#tab-requests").focus()

    for key, name in (
        ("ArrowLeft", "relay"),
        ("ArrowRight", "requests"),
        ("End", "relay"),
        ("ArrowLeft", "connections"),
        ("ArrowRight", "relay"),
    ):
        press(key)
        expect(focused).to_have_id(f"tab-{name}")
        expect(focused).to_have_attribute("aria-selected", "true")
        expect(view.page.locator(f"#panel-{name}")).to_be_visible()

    expect(view.page.get_by_role("tabpanel", name="Relay")).to_be_visible()
    expect(view.page.get_by_role("tab", selected=True)).to_have_text("Relay")
    assert view.page.url.endswith("#relay")
    view.page.reload()
    expect(view.receiver("search.index")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_relay_on_a_phone(look_at_relay: Callable[..., RelayView], scheme: str) -> None:
    """On a phone, the content is as wide as the page at most, and a screen reader still finds a table."""
    view = look_at_relay(width=360, scheme=scheme)
    name = "w" * 200
    view.bury(name, "raised")
    view.open()
    expect(view.page.get_by_role("row").filter(has_text=name).first).to_be_visible()
    expect(view.page.get_by_role("columnheader", name="Reason")).to_have_count(1)
    assert view.fits()
    view.execute("DELETE FROM aldis_dead_letters WHERE id = 9")


def test_names_of_the_relay_are_text(look_at_relay: Callable[..., RelayView]) -> None:
    """Names and reasons in rows are always shown as text."""
    view = look_at_relay()
    view.bury("mail.welcome", HACK)
    view.open()
    expect(view.page.locator("#relay .why").filter(has_text=HACK)).to_be_visible()
    assert view.page.locator("#relay img, #relay script").count() == 0
    assert view.page.evaluate("window.hacked") is None
    view.execute("DELETE FROM aldis_dead_letters WHERE id = 9")
