"""A customer who visits the shop over HTTP, as a browser would, and records each request and its response."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPErrorProcessor, ProxyHandler, build_opener

from interrupts import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse


STREET = {"Carol": "reading", "Dan": "storm", "Erin": "desk", "Frank": "miner"}
"""The customers who order at the same time, and the lamp that each orders."""

EACH = 6
"""The number of orders that each of them places. The shop has that many of each lamp, and few more."""


@dataclass(frozen=True)
class Page:
    """One response of the shop.

    :ivar deed: the customer's action: ``"look"``, ``"register"``, ``"fill the cart"``, ``"order"`` or ``"sign out"``.
    :ivar expected: the expected status.
    :ivar missing: the expected texts that the page does not have.
    :ivar wrote: the fields of the form that the customer sent.
    """

    request_id: int
    method: str
    path: str
    status: int
    content_type: str
    location: str
    deed: str
    expected: int
    missing: tuple[str, ...]
    wrote: dict[str, str]


class AsItComes(HTTPErrorProcessor):
    """Returns every response as it is: no error for a status other than 200, and no redirection."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response


class Customer:
    """A customer with a browser that stores cookies. After a form, the customer opens the page that the form leads to.

    :param address: the shop's address.
    :param pages: is called with each page.
    """

    def __init__(self, address: str, pages: Callable[[Page], object]) -> None:
        self._address = address
        self._pages = pages
        # No proxy, whatever the environment says, because the shop is on this machine.
        self._browser = build_opener(HTTPCookieProcessor(CookieJar()), AsItComes, ProxyHandler({}))

    def look(self, path: str, *reads: str, expected: int = 200) -> Page:
        """Open a page.

        :param reads: texts that the page must have.
        """
        return self._open(path, "look", expected, reads, None)

    def do(self, deed: str, path: str, *reads: str, **fields: str) -> Page:
        """Send a form, and open the page that it leads to."""
        page = self._open(path, deed, 303, (), fields)
        return self.look(page.location, *reads) if page.location else page

    def _open(self, path: str, deed: str, expected: int, reads: tuple[str, ...], fields: dict[str, str] | None) -> Page:
        data = None if fields is None else urlencode(fields).encode()
        response: HTTPResponse

        with uninterrupted(), self._browser.open(self._address + path, data, timeout=30) as response:
            text = response.read().decode()
            page = Page(
                request_id=int(response.headers.get("X-Request-Id", 0)),
                method="GET" if data is None else "POST",
                path=path,
                status=response.status,
                content_type=response.headers.get_content_type(),
                location=response.headers.get("Location", ""),
                deed=deed,
                expected=expected,
                missing=tuple(words for words in reads if words not in text),
                wrote=fields or {},
            )

        self._pages(page)
        return page


def visit(address: str, tell: Callable[[str], object], settle: Callable[[Page], object]) -> list[Page]:
    """Visit the shop, as the demo shows it.

    :param tell: is called with a text before each step.
    :param settle: is called with each page. The customer goes on when it returns.
    """
    pages: list[Page] = []

    def keep(page: Page) -> None:
        pages.append(page)
        settle(page)

    ada = Customer(address, keep)
    bob = Customer(address, keep)

    tell("Ada opens the shop, and looks at a lamp.")
    ada.look("/", "Aldis lamp", "Storm lantern")
    ada.look("/static/shop.css", "--glow")
    ada.look("/lamps/aldis", "Blinks from ship to ship")

    tell("She opens a page that does not exist, and a page that has a bug.")
    ada.look("/lamps/lava", "No such page", expected=404)
    ada.look("/offers", "A bulb blew", expected=500)

    tell("She registers: one signal and three receivers, which the view does not know. A worker sends the mail later.")
    ada.do("register", "/account/register", "Welcome, Ada.", name="Ada", email="ada@example.org", password="moonlight")

    tell("She puts two lamps into her cart, and orders them.")
    ada.do("fill the cart", "/cart", "Aldis lamp is in your cart.", slug="aldis", quantity="2")
    ada.do("order", "/orders", "Thank you.", "€ 498.00")

    tell("Bob clicks on an advertisement. The receiver that counts clicks fails, and Bob still sees his page.")
    bob.look("/?campaign=spring", "Storm lantern")

    tell("His mail address does not exist. The welcome mail will fail in a worker, and Bob does not wait for it.")
    bob.do(
        "register", "/account/register", "Welcome, Bob.", name="Bob", email="bob@nowhere.invalid", password="sunshine"
    )

    tell("Four customers come in at the same time. Their signals do not mix.")
    strangers = [Customer(address, keep) for _ in range(4)]
    slugs = ["storm", "desk", "lighthouse", "miner"]

    with ThreadPoolExecutor(len(strangers)) as street:
        list(street.map(lambda stranger, slug: stranger.look(f"/lamps/{slug}", "in stock"), strangers, slugs))

    tell("Ada signs out.")
    ada.do("sign out", "/account/sign-out", "Fair winds.")

    tell("A monitoring system reads the metrics.")
    Customer(address, keep).look("/metrics", 'signal_sends_total{signal="order-placed"} 1')
    return pages


def rush(address: str) -> list[Page]:
    """Let four customers place their orders at the same time."""
    pages: list[Page] = []

    def order(name: str, slug: str) -> None:
        customer = Customer(address, pages.append)
        customer.do(
            "register",
            "/account/register",
            f"Welcome, {name}.",
            name=name,
            email=f"{name.lower()}@example.org",
            password="lamplight",
        )

        for _ in range(EACH):
            customer.do("fill the cart", "/cart", slug=slug)
            customer.do("order", "/orders", "Thank you.")

    with ThreadPoolExecutor(len(STREET)) as street:
        list(street.map(order, STREET, STREET.values()))

    return pages
