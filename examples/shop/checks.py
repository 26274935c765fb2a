"""Works out what each request of a visit should have caused, and compares it with the timeline.

It does not read the signals for this. It uses what the customer did, the responses, what Flask documents, and what the
shop promises.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from timeline import error_of, name_of, reached, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from customer import Page
    from timeline import Request
    from workers import Books

    from aldis.observe import CallRecord

# The receivers of each signal, in order. Signals that are not listed here have no receivers in the shop.
PROMISED: dict[str, tuple[str, ...]] = {
    "request-started": ("start_clock", "count_campaign"),
    "template-rendered": ("count_template",),
    "got-request-exception": ("report_error",),
    "request-finished": ("log_access", "count_view"),
    "models-committed": ("log_changes",),
    "user-registered": ("audit_registration", "welcome_mail", "count_registration"),
    "order-placed": ("audit_order", "invoice", "confirmation_mail", "count_order"),
}
AFTER_COMMIT = frozenset({"count_registration", "count_order"})
IN_A_WORKER = frozenset({"welcome_mail", "invoice", "confirmation_mail"})
AFTER_RESPONSE = frozenset({"count_view"})

REQUEST = (
    "appcontext-pushed",
    "request-started",
    "request-finished",
    "request-tearing-down",
    "appcontext-tearing-down",
    "appcontext-popped",
)
CONTEXT = ("appcontext-pushed", "appcontext-tearing-down", "appcontext-popped")
TEMPLATE = ("before-render-template", "template-rendered")
COMMIT = ("before-models-committed", "models-committed")

# The signals that are also sent when an action of the customer succeeds.
DEEDS: dict[str, tuple[str, ...]] = {
    "register": (*COMMIT, "user-registered", "message-flashed"),
    "order": (*COMMIT, "order-placed", "message-flashed"),
    "fill the cart": ("message-flashed",),
    "sign out": ("message-flashed",),
}


def succeeded(page: Page, deed: str) -> bool:
    return page.deed == deed and page.status == 303


def is_undeliverable(page: Page) -> bool:
    """Return whether the customer's mail address does not exist."""
    return page.wrote.get("email", "").endswith(".invalid")


def is_lamp(page: Page) -> bool:
    return page.path.startswith("/lamps/") and page.status == 200


def implied_signals(page: Page) -> Counter[str]:
    """Return the signals that a request must have sent, worked out from its response."""
    signals: Counter[str] = Counter(REQUEST)
    signals.update(CONTEXT)  # Sent again: what runs after the response has its own app context.

    if page.content_type == "text/html" and not page.location:
        signals.update(TEMPLATE)

    if page.status == 500:
        signals["got-request-exception"] += 1

    if succeeded(page, page.deed):
        signals.update(DEEDS[page.deed])

    return signals


def implied_failures(page: Page) -> list[str]:
    """Return the receivers that must have failed."""
    return ["count_campaign"] if "campaign=" in page.path else []  # All campaigns have names now.


def implied_entries(pages: Sequence[Page]) -> dict[str, int]:
    """Return the number of entries that the receivers must have written, by kind."""
    registrations = [page for page in pages if succeeded(page, "register")]
    orders = [page for page in pages if succeeded(page, "order")]
    rendered = sum(implied_signals(page)["template-rendered"] for page in pages)

    return {
        "mail": 0,  # No worker has run yet.
        "audit": len(registrations) + len(orders),
        "analytics": len(registrations) + len(orders) + rendered,
        "access": len(pages),
        "views": sum(map(is_lamp, pages)),
        "errors": sum(page.status == 500 for page in pages),
        "changes": len(registrations) + len(orders),
    }


def faults(pages: Sequence[Page], requests: Sequence[Request], entries: dict[str, int]) -> list[str]:
    """Return all differences from what the visit should have caused, in words."""
    served = {request.id: request for request in requests}
    found = [fault for page in pages for fault in _faults_of(page, served.pop(page.request_id, None))]
    found += [f"Request {id}: it was served, but no customer made it." for id in served]

    for book, number in implied_entries(pages).items():
        found += _differs(f"Entries in {book!r}", entries.get(book, 0), number)

    return found


def _faults_of(page: Page, request: Request | None) -> Iterable[str]:
    where = f"Request {page.request_id}, {page.method} {page.path}"
    yield from _faults_of_answer(page)

    if request is None:
        yield f"{where}: the timeline did not see it."
        return

    sends = [send for _, send in request.all_sends()]
    signals, implied = Counter(send.signal_name for send in sends), implied_signals(page)

    for name in sorted(signals | implied):
        yield from _differs(f"{where}: sends of {name}", signals[name], implied[name])

    for send in sends:
        called = tuple(map(name_of, reached(send)))
        yield from _differs(f"{where}: receivers of {send.signal_name}", called, PROMISED.get(send.signal_name, ()))

    calls = [call for send in sends for call in runs(send)]
    failed = [name_of(call) for call in calls if error_of(call)]
    yield from _differs(f"{where}: receivers that failed", failed, implied_failures(page))
    yield from (f"{where}: {fault}" for fault in _hasty(request, calls))


def _hasty(request: Request, calls: list[CallRecord]) -> Iterable[str]:
    """Return the receivers that ran before the commit, the response or the worker that they should have waited for."""
    commits = [send.started_s for _, send in request.all_sends() if send.signal_name == "models-committed"]

    for call in calls:
        if name_of(call) in AFTER_COMMIT and not any(commit_s <= call.started_s for commit_s in commits):
            yield f"{name_of(call)} did not wait for the commit."

        if name_of(call) in AFTER_RESPONSE and request.at_ms(call.started_s) < request.took_ms:
            yield f"{name_of(call)} did not wait for the response."

        if name_of(call) in IN_A_WORKER:
            yield f"{name_of(call)} did not wait for a worker."


# After the orders that were placed at the same time.


def answer_faults(pages: Sequence[Page]) -> list[str]:
    """Return the responses that the customers did not expect, in words."""
    return [fault for page in pages for fault in _faults_of_answer(page)]


def work_faults(pages: Sequence[Page], books: Books) -> list[str]:
    """Return what is wrong after workers were killed and the last worker has done the rest, in words."""
    found: list[str] = []
    registrations = [page for page in pages if succeeded(page, "register")]
    lost = sum(map(is_undeliverable, registrations))
    orders = sum(succeeded(page, "order") for page in pages)

    found += _differs("Orders", len(books.invoices), orders)
    found += (f"Order {id} has {count} invoices." for id, count in books.invoices.items() if count != 1)
    found += (
        f"Order {id} has {books.confirmations[id]} confirmation mails."
        for id in books.invoices
        if books.confirmations[id] != 1
    )
    found += _differs("Welcome mails", books.welcomes, len(registrations) - lost)
    found += _differs("Dead letters", books.dead, {"mail.welcome": lost})
    found += _differs("Messages that still wait", books.backlog, 0)

    if books.kills and not books.repeated:
        found.append("No invoice was attempted twice: no worker was killed between its invoice and the end of its row.")

    return found


def _faults_of_answer(page: Page) -> Iterable[str]:
    where = f"Request {page.request_id}, {page.method} {page.path}"
    yield from _differs(f"{where}: status", page.status, page.expected)
    yield from (f"{where}: the page does not say {words!r}." for words in page.missing)


def _differs(what: str, seen: object, implied: object) -> Iterable[str]:
    if seen != implied:
        yield f"{what}: {_shown(seen)}, expected {_shown(implied)}."


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(value) or "none"

    return str(value)
