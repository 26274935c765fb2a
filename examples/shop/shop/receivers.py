"""Who listens to what. The views know nothing of this module, and its receivers nothing of each other."""

# ruff: noqa: ARG001  A receiver takes **extra for all that it does not use.

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import g, render_template, request

from .journal import note
from .mail import send_mail
from .models import Order, User, db
from .signals import (
    got_request_exception,
    models_committed,
    order_placed,
    request_finished,
    request_started,
    template_rendered,
    user_registered,
)

if TYPE_CHECKING:
    from flask import Flask, Response
    from jinja2 import Template

    from aldis.delivery import Delivery


def connect(app: Flask, via: Delivery | None = None) -> None:
    """Connect all receivers to one app.

    They are functions of a module, which live as long as the program, so it is fine that signals hold them weakly.

    :param via: how they get called, if not at once.
    """
    user_registered.connect(welcome_mail, app, via=via)
    user_registered.connect(count_registration, app, via=via)
    user_registered.connect(audit_registration, app, priority=10, via=via)  # Connected last, and called first.

    order_placed.connect(confirmation_mail, app, via=via)
    order_placed.connect(count_order, app, via=via)
    order_placed.connect(audit_order, app, priority=10, via=via)

    # Flask's own signals, and those of Flask-SQLAlchemy. There is one of each for all apps: hence the sender.
    request_started.connect(start_clock, app, via=via)
    template_rendered.connect(count_template, app, via=via)
    got_request_exception.connect(report_error, app, via=via)
    request_finished.connect(log_access, app, via=via)
    models_committed.connect(log_changes, app, via=via)


# Of the shop's own signals. mypy and pyright hold these against the declarations, and so does connect().


def audit_registration(sender: Flask, **payload: object) -> None:
    note(sender, "audit", event="user registered", **payload)


def welcome_mail(sender: Flask, *, user_id: int, **extra: object) -> None:
    user = db.session.get_one(User, user_id)
    send_mail(sender, user.email, "Welcome aboard", render_template("mail/welcome.txt", user=user))


def count_registration(sender: Flask, **payload: object) -> None:
    note(sender, "analytics", event="registration", source=payload["source"])  # The view left it to the declaration.


def audit_order(sender: Flask, *, order_id: int, total_cents: int) -> None:
    note(sender, "audit", event="order placed", order_id=order_id, total_cents=total_cents)


def confirmation_mail(sender: Flask, *, order_id: int, **extra: object) -> None:
    order = db.session.get_one(Order, order_id)
    send_mail(sender, order.user.email, f"Your order {order.id}", render_template("mail/order.txt", order=order))


def count_order(sender: Flask, *, total_cents: int, **extra: object) -> None:
    note(sender, "analytics", event="order", total_cents=total_cents)


# Of Flask's signals. The extra keywords are for what Flask may add to a signal some day.


def start_clock(sender: Flask, **extra: object) -> None:
    g.started = perf_counter()


def count_template(sender: Flask, template: Template, **extra: object) -> None:
    note(sender, "analytics", event="template", name=template.name)


def report_error(sender: Flask, exception: Exception, **extra: object) -> None:
    note(sender, "errors", path=request.path, error=type(exception).__name__)


def log_access(sender: Flask, response: Response, **extra: object) -> None:
    took_ms = round((perf_counter() - g.started) * 1000, 1)
    note(sender, "access", method=request.method, path=request.path, status=response.status_code, took_ms=took_ms)


def log_changes(sender: Flask, changes: list[tuple[Any, str]], **extra: object) -> None:
    note(sender, "changes", changes=sorted(f"{operation} {type(model).__name__}" for model, operation in changes))
