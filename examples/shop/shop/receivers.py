"""All receivers, and the signals they are connected to. The views do not know this module."""

# ruff: noqa: ARG001  A receiver takes **extra for the keywords that it does not use.

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

    The receivers are functions of a module, which live as long as the program. So a weak reference is enough.
    The sender is the app, because all apps of the process share the signals.
    """
    committed = after_commit(db.session)
    patience = Exponential(first_s=0.5)  # A real shop waits longer: a mail server can be down for hours.

    user_registered.connect(audit_registration, app)
    user_registered.connect(welcome_mail, app, via=relay.durable("mail.welcome", max_attempts=3, backoff=patience))
    user_registered.connect(count_registration, app, via=committed)

    order_placed.connect(audit_order, app)
    order_placed.connect(invoice, app, via=relay.durable("billing.invoice"))
    order_placed.connect(
        confirmation_mail, app, via=relay.durable("mail.confirmation", max_attempts=3, backoff=patience)
    )
    order_placed.connect(count_order, app, via=committed)

    # Flask's own signals. Type checkers compare these receivers with what Flask sends.
    request_started.connect(count_campaign, app)
    request_started.connect(start_clock, app, priority=10)  # Connected last, and called first.
    template_rendered.connect(count_template, app)
    got_request_exception.connect(report_error, app)
    request_finished.connect(log_access, app)
    request_finished.connect(count_view, app, via=after_response)

    # A signal of Flask-SQLAlchemy. It is Blinker's signal unless Aldis is in Blinker's place. This line works for both.
    models_committed.connect(log_changes, app)


# The shop's own signals. mypy, pyright and connect() compare these receivers with the declarations.


def audit_registration(sender: Flask, *, user_id: int, **extra: object) -> None:
    """Write an audit entry into the transaction of the registration: both are committed, or neither is."""
    db.session.add(AuditEntry(event="user registered", about=user_id))


def welcome_mail(sender: Flask, *, user_id: int, **extra: object) -> None:
    """Send the welcome mail, in a worker, again after a failure. Its queue row exists exactly if the account does."""
    user = db.session.get_one(User, user_id)
    text = render_template("mail/welcome.txt", user=user)
    send_mail(sender, user.email, "Welcome aboard", text, key_of_mail())


def count_registration(sender: Flask, *, source: str = "web", **extra: object) -> None:
    """Count a registration after its commit. A rollback is not counted. A process that dies in between loses the count.

    The view does not pass ``source``. It has the default of the declaration.
    """
    note(sender, "analytics", event="registration", source=source)


def audit_order(sender: Flask, *, order_id: int, **extra: object) -> None:
    db.session.add(AuditEntry(event="order placed", about=order_id))


def invoice(sender: Flask, *, order_id: int, total_cents: int, **extra: object) -> None:
    """Write the invoice, in a worker. If a worker dies after the work and before it deletes the row, this runs again.

    ``relay.first_time`` notes in the invoice's own transaction that the invoice exists. So one invoice is written.
    """
    sleep(sender.config["SHOP_INVOICE_TAKES_S"])
    is_first = relay.first_time(db.session)

    if is_first:
        db.session.add(Invoice(order_id=order_id, total_cents=total_cents))

    db.session.commit()
    message = relay.current()
    tried = {"message": message.id, "attempt": message.attempt, "worker": os.getpid()}
    note(sender, "billing", order=order_id, is_first=is_first, **tried)
    sleep(sender.config["SHOP_INVOICE_TAKES_S"])  # The worst moment to die: the invoice is written, and the row exists.


def confirmation_mail(sender: Flask, *, order_id: int, **extra: object) -> None:
    order = db.session.get_one(Order, order_id)
    text = render_template("mail/order.txt", order=order)
    send_mail(sender, order.user.email, f"Your order {order.id}", text, key_of_mail())


def key_of_mail() -> str:
    """Return a key that is the same in each attempt at a message, so that the mail service sends the mail once."""
    message = relay.current()
    return f"{message.receiver}-{message.id}"


def count_order(sender: Flask, *, total_cents: int, **extra: object) -> None:
    note(sender, "analytics", event="order", total_cents=total_cents)


# Receivers of Flask's signals. They take extra keywords, because Flask may add some in a later version.


def start_clock(sender: Flask, **extra: object) -> None:
    g.started = perf_counter()


def count_campaign(sender: Flask, **extra: object) -> None:
    """Count a campaign by its number. It fails on purpose: the campaigns now have names."""
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
    """Count the view after the response, which does not wait for it. ``request`` still exists; ``g`` is a new one."""
    if request.endpoint == "catalogue.lamp" and response.status_code == 200:
        note(sender, "views", path=request.path)


def log_changes(sender: Flask, changes: list[tuple[Any, str]], **extra: object) -> None:
    note(sender, "changes", changes=sorted(f"{operation} {type(model).__name__}" for model, operation in changes))
