"""The live page in a real browser: Chromium, without a window."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect, sync_playwright

from aldis.flask._feed import MOST_LISTENERS
from aldis.flask._journal import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.program

TIMEOUT_S = 30
PROGRAM = "import shop; shop.serve()"
RED = re.compile(r"rgb\(2\d\d, (\d\d|1[0-3]\d), (\d\d|1[0-3]\d)\)")
HACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'

expect.set_options(timeout=TIMEOUT_S * 1000)


class Server:
    """The shop in a process of its own, on a port that stays the same when it is started again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, str(self.port), "werkzeug", "values"]
        folder = Path(__file__).parent
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

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
    server = Server()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """A browser without anything that moves."""
    chromium = shutil.which("chromium")

    if chromium is None:
        refuse: Any = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse("There is no chromium. On Debian, as root: tools/debian.sh chromium")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser.new_context(reduced_motion="reduce")
        browser.close()


class View:
    """One tab with the page, and all that it complains of."""

    def __init__(self, browser: BrowserContext, server: Server, scheme: str = "light", width: int = 1200) -> None:
        self.server = server
        self.page: Page = browser.new_page()
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.set_viewport_size({"width": width, "height": 800})
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"http://localhost:{server.port}/_aldis/")
        self.expect_state("live")
        self.clear()  # Other tests have made requests, too.

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
    """Look at the page, at the end of the test without complaints in the console."""
    views: list[View] = []

    def look(**options: Any) -> View:
        views.append(View(browser, server, **options))
        return views[-1]

    yield look

    for view in views:
        view.page.close()
        assert view.complaints == []


def test_request_appears(look: Callable[..., View]) -> None:
    """A request appears without a reload, and opens as a waterfall of signals and receivers, with what is nested."""
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
    """A failing receiver shows red, in light and in dark, and in words."""
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
    """Requests are filtered by names of signals and receivers, by path, and by failure, also those that come later."""
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
    """The second tab shows who is connected, in order, and can be filtered and linked to."""
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
    """When the server has restarted, the page goes on by itself, and keeps what it has shown."""
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
    """Where several processes answer in turn, the page shows the requests of all, and tells of no restart."""
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
    """All of it can be used by keyboard: the tabs, the filters, the requests."""
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
    """At the width of a phone, nothing is wider than the page, however long names are."""
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
    """Paths, and names of signals, senders, payloads and values, are shown as text, whatever is in them."""
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
    """While the page is paused nothing moves; what came meanwhile is there when it goes on."""
    view = look()
    view.ask("/lamps/one")
    view.page.click("#pause")
    view.expect_state("paused")
    view.server.ask("/lamps/two")
    expect(view.page.locator("#summary")).to_contain_text("1 new while paused")
    expect(view.page.locator(".entry")).to_have_count(1)
    view.page.click("#pause")
    expect(view.page.locator(".entry .path")).to_have_text(["/lamps/two", "/lamps/one"])


def test_more_pages_than_may_listen(look: Callable[..., View]) -> None:
    """More pages than may listen at once see what happens: the others ask again and again."""
    views = [look() for _ in range(MOST_LISTENERS + 1)]
    views[0].server.ask("/lamps/one")

    for view in views:
        expect(view.entry("/lamps/one")).to_be_visible()


def test_many_requests(look: Callable[..., View]) -> None:
    """The page shows no more than the last 200 requests."""
    view = look()

    for number in range(KEPT + 5):
        view.server.ask(f"/lamps/{number}")

    expect(view.entry("/lamps/204")).to_be_visible()
    expect(view.page.locator(".entry")).to_have_count(KEPT)
