"""A small shop with its live page, for its own process: ``python -c "import shop; shop.serve()" PORT [KIND]``.

KIND is ``werkzeug`` or ``waitress``, or ``beside`` to run Flask on Blinker. ``values`` as another argument shows the
values of payloads. ``relay=FILE`` makes some receivers durable, in an SQLite database.
"""

from __future__ import annotations

import sys
import threading
from time import sleep
from typing import Any

import aldis

PORT, KIND = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "werkzeug"

if KIND != "beside":
    aldis.install_as_blinker()

from flask import Flask, Response, abort, flash, render_template_string, request  # noqa: E402

import aldis.flask as aldis_flask  # noqa: E402

signals = aldis.Namespace(errors=lambda failure: None)
app = Flask("shop")
app.secret_key = "for tests only"
app.debug = True
app.config["ALDIS_SHOW_VALUES"] = "values" in sys.argv
relay: Any = None

for file in (argument.partition("=")[2] for argument in sys.argv if argument.startswith("relay=")):
    from sqlalchemy import create_engine

    from aldis.relay import Relay

    relay = Relay(create_engine(f"sqlite:///{file}"))
    relay.create_tables()

aldis_flask.Aldis(app, show=[signals], relay=relay)

BASKET = "<h1>{{ title }}</h1>"


class UndeliverableError(Exception):
    pass


@signals.declare
def order_placed(sender: Flask, /, *, order_id: int, total_cents: int, card_number: str = "") -> None:
    """Sent when the rows of an order have been committed."""


@signals.declare
def invoice_issued(sender: Flask, /, *, order_id: int, number: str) -> None:
    """Sent when an invoice has its number."""


@signals.declare
def mail_queued(sender: Flask, /, *, to: str, subject: str) -> None:
    """Sent when a mail waits for its delivery."""


@signals.declare
def stock_low(sender: Flask, /, *, sku: str, left: int) -> None:
    """Sent when fewer than five pieces of an article are left."""


@signals.declare
def user_registered(sender: Flask, /, *, user_id: int, password: str, source: str = "web") -> None:
    """Sent when the row of a new user has been committed."""


@signals.declare
def cache_swept(sender: str, /, *, entries: int) -> None:
    """Sent when a thread has cleaned the cache."""


@order_placed.connect(priority=10)
def audit_order(sender: Any, *, order_id: int, **extra: Any) -> None:
    sleep(0.0004)


@order_placed.connect
def issue_invoice(sender: Any, *, order_id: int, **extra: Any) -> None:
    sleep(0.0011)
    invoice_issued.send(sender, order_id=order_id, number=f"2026-{order_id:05}")
    sleep(0.0005)


@order_placed.connect
def reserve_stock(sender: Any, **extra: Any) -> None:
    sleep(0.0009)
    stock_low.send(sender, sku="lamp-7", left=3)


@order_placed.connect(via=aldis_flask.after_response)
def warm_recommendations(sender: Any, **extra: Any) -> None:
    sleep(0.0025)


@invoice_issued.connect
def mail_invoice(sender: Any, *, number: str, **extra: Any) -> None:
    sleep(0.0006)
    mail_queued.send(sender, to="ada@example.org", subject=f"Your invoice {number}")


@mail_queued.connect
def count_mail(sender: Any, **extra: Any) -> None:
    sleep(0.0002)


@user_registered.connect(priority=10)
def audit_registration(sender: Any, **extra: Any) -> None:
    sleep(0.0004)


@user_registered.connect
def welcome_mail(sender: Any, *, user_id: int, **extra: Any) -> None:
    sleep(0.0007)

    if user_id % 2:
        raise UndeliverableError("no such mailbox")

    mail_queued.send(sender, to="new@example.org", subject="Welcome aboard")


@user_registered.connect
def count_registration(sender: Any, **extra: Any) -> None:
    sleep(0.0003)


@cache_swept.connect
def log_sweep(sender: Any, **extra: Any) -> None:
    sleep(0.0003)


if relay is not None:

    @order_placed.connect(via=relay.durable("billing.invoice"))
    def write_invoice(sender: Any, **extra: Any) -> None: ...

    @order_placed.connect(via=relay.durable("search.index"))
    def index_order(sender: Any, **extra: Any) -> None: ...

    @user_registered.connect(via=relay.durable("mail.welcome", backoff=3600))
    def mail_later(sender: Any, **extra: Any) -> None:
        raise UndeliverableError("no such mailbox")

    @user_registered.connect(via=relay.durable("crm.contact", max_attempts=1))
    def add_contact(sender: Any, **extra: Any) -> None:
        raise UndeliverableError("no such contact")

    # Its receiver is in another service.
    reorder = relay.forward(stock_low, "warehouse.reorder")

    @app.post("/drain")
    def drain() -> dict[str, int]:
        return dict(relay.drain()._asdict())

    @app.post("/claim")
    def claim() -> str:
        """Claim some messages, as a busy worker does."""
        from aldis.relay.storage import claims

        known = relay._parts.receivers.known()["billing.invoice"]
        relay._parts.database.run(lambda connection: claims.claim(connection, "billing.invoice", known, 2, 600_000))
        return "claimed"


@aldis_flask.request_finished.connect
def log_access(sender: Any, **extra: Any) -> None:
    sleep(0.0002)


@aldis_flask.got_request_exception.connect
def report_error(sender: Any, **extra: Any) -> None:
    sleep(0.0005)


@app.get("/")
def index() -> str:
    sleep(0.002)
    return render_template_string(BASKET, title="Lamps")


@app.get("/lamps/<name>")
def lamp(name: str) -> str:
    if name == "lava":
        abort(404)

    sleep(0.0015)
    return render_template_string(BASKET, title=name)


@app.post("/orders")
def place() -> tuple[str, int]:
    sleep(0.003)
    order_placed.send(app, order_id=int(request.args.get("id", 7)), total_cents=12900, card_number="4111111111111111")
    flash("Thank you.")
    return render_template_string(BASKET, title="Thank you"), 201


@app.post("/register")
def register() -> str:
    sleep(0.002)
    user_registered.send(app, user_id=int(request.args["id"]), password="correct horse")
    return "ok"


@app.get("/offers")
def offers() -> str:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    sleep(0.001)
    raise ZeroDivisionError


@app.get("/export")
def export() -> Response:
    def lines() -> Any:
        for number in range(3):
            sleep(0.004)
            mail_queued.send(app, to="export@example.org", subject=f"part {number}")
            yield f"{number}\n"

    return Response(lines(), mimetype="text/plain")


@app.get("/odd/<path:text>")
def odd(text: str) -> str:
    text = text[text.index("<") :]
    signals.signal(text).connect(log_access, sender=text)
    signals.signal(text).send(text, **{text: text})
    return "odd"


@app.get("/sweep")
def sweep() -> str:
    thread = threading.Thread(target=lambda: cache_swept.send("sweeper", entries=120))
    thread.start()
    thread.join()
    return "swept"


def serve() -> None:
    if KIND == "waitress":
        import waitress  # type: ignore[import-untyped]

        print("ready", flush=True)  # noqa: T201
        waitress.serve(app, host="127.0.0.1", port=PORT, threads=4)
    else:
        from werkzeug.serving import make_server

        server = make_server("127.0.0.1", PORT, app, threaded=True)
        print("ready", flush=True)  # noqa: T201
        server.serve_forever()
