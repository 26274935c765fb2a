"""Who listens to what. The views know nothing of this module, and its receivers nothing of each other."""

# ruff: noqa: ARG001  A receiver takes **extra for all that it does not use.

from __future__ import annotations

import os
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from flask import g, render_template, request
from flask_sqlalchemy.track_modifications import models_committed

from aldis.flask import after_response, got_request_exception, request_finished, request_started, template_rendered
from aldis.relay import Exponential
from aldis.sqlalchemy import after_commit

from .journal import note
from .mail import send_mail
from .models import AuditEntry, Invoice, Order, User, db, relay
from .signals import order_placed, user_registered

if TYPE_CHECKING:
    from flask import Flask, Response
    from jinja2 import Template


def connect(app: Flask) -> None:
    """Connect all receivers to one app.

    They are functions of a module, which live as long as the program, so it is fine that signals hold them weakly.
    The app is given as the sender, because there is one of each signal for all apps of the process.
    """
    committed = after_commit(db.session)
    patience = Exponential(first_s=0.5)  # In a shop that sells, more of it: mail servers are away for hours.

    user_registered.connect(audit_registration, app)
    user_registered.connect(welcome_mail, app, via=relay.durable("mail.welcome", max_attempts=3, backoff=patience))
    user_registered.connect(count_registration, app, via=committed)

    order_placed.connect(audit_order, app)
    order_placed.connect(invoice, app, via=relay.durable("billing.invoice"))
    order_placed.connect(
        confirmation_mail, app, via=relay.durable("mail.confirmation", max_attempts=3, backoff=patience)
    )
    order_placed.connect(count_order, app, via=committed)

    # Flask's own signals. Type checkers hold these receivers against what Flask sends.
    request_started.connect(count_campaign, app)
    request_started.connect(start_clock, app, priority=10)  # Connected last, and called first.
    template_rendered.connect(count_template, app)
    got_request_exception.connect(report_error, app)
    request_finished.connect(log_access, app)
    request_finished.connect(count_view, app, via=after_response)

    # One of Flask-SQLAlchemy's, which is Blinker's where Aldis is not in its place. This works for both.
    models_committed.connect(log_changes, app)


# Of the shop's own signals. mypy and pyright hold these against the declarations, and so does connect().


def audit_registration(sender: Flask, *, user_id: int, **extra: object) -> None:
    """Runs at once, and writes into the transaction of the registration: there is none without the other."""
    db.session.add(AuditEntry(event="user registered", about=user_id))


def welcome_mail(sender: Flask, *, user_id: int, **extra: object) -> None:
    """Runs in a worker, and again if it fails: a row of the relay says so, which is there if the account is."""
    user = db.session.get_one(User, user_id)
    text = render_template("mail/welcome.txt", user=user)
    send_mail(sender, user.email, "Welcome aboard", text, key_of_mail())


def count_registration(sender: Flask, *, source: str = "web", **extra: object) -> None:
    """Runs after the commit: who was rolled back does not count. A process that dies in between forgets it.

    The view left ``source`` to the declaration, whose default it gets. That it has one is part of its type.
    """
    note(sender, "analytics", event="registration", source=source)


def audit_order(sender: Flask, *, order_id: int, **extra: object) -> None:
    db.session.add(AuditEntry(event="order placed", about=order_id))


def invoice(sender: Flask, *, order_id: int, total_cents: int, **extra: object) -> None:
    """Runs in a worker, once or more: a worker may die when all is done and it has not said so yet.

    ``relay.first_time`` notes in the invoice's own transaction that it is made. So there is one, however often this
    runs.
    """
    sleep(sender.config["SHOP_INVOICE_TAKES_S"])
    is_first = relay.first_time(db.session)

    if is_first:
        db.session.add(Invoice(order_id=order_id, total_cents=total_cents))

    db.session.commit()
    message = relay.current()
    tried = {"message": message.id, "attempt": message.attempt, "worker": os.getpid()}
    note(sender, "billing", order=order_id, is_first=is_first, **tried)
    sleep(sender.config["SHOP_INVOICE_TAKES_S"])  # The worst moment to die: it is made, and the row is still there.


def confirmation_mail(sender: Flask, *, order_id: int, **extra: object) -> None:
    order = db.session.get_one(Order, order_id)
    text = render_template("mail/order.txt", order=order)
    send_mail(sender, order.user.email, f"Your order {order.id}", text, key_of_mail())


def key_of_mail() -> str:
    """The same in each attempt at a message: who has sent a mail with this key does not send it again."""
    message = relay.current()
    return f"{message.receiver}-{message.id}"


def count_order(sender: Flask, *, total_cents: int, **extra: object) -> None:
    note(sender, "analytics", event="order", total_cents=total_cents)


# Of Flask's signals. The extra keywords are for what Flask may add to a signal some day.


def start_clock(sender: Flask, **extra: object) -> None:
    g.started = perf_counter()


def count_campaign(sender: Flask, **extra: object) -> None:
    """Has a bug, to show what comes of one: marketing has begun to give campaigns names instead of numbers."""
    if "campaign" in request.args:
        note(sender, "analytics", event="campaign", number=int(request.args["campaign"]))


def count_template(sender: Flask, *, template: Template, **extra: object) -> None:
    note(sender, "analytics", event="template", name=template.name)


def report_error(sender: Flask, *, exception: Exception, **extra: object) -> None:
    note(sender, "errors", path=request.path, error=type(exception).__name__)


def log_access(sender: Flask, *, response: Response, **extra: object) -> None:
    took_ms = round((perf_counter() - g.started) * 1000, 1)
    note(sender, "access", method=request.method, path=request.path, status=response.status_code, took_ms=took_ms)


def count_view(sender: Flask, *, response: Response, **extra: object) -> None:
    """Runs after the response, which does not wait for it. ``request`` is there still, and ``g`` is a new one."""
    if request.endpoint == "catalogue.lamp" and response.status_code == 200:
        note(sender, "views", path=request.path)


def log_changes(sender: Flask, changes: list[tuple[Any, str]], **extra: object) -> None:
    note(sender, "changes", changes=sorted(f"{operation} {type(model).__name__}" for model, operation in changes))
