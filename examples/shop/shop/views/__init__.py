"""The pages. Their forms have no protection against CSRF. A real shop needs it, for example from Flask-WTF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, session

from shop.models import User, db

from . import accounts, cart, catalogue, orders

if TYPE_CHECKING:
    from flask import Flask


def init_app(app: Flask) -> None:
    for room in (accounts, cart, catalogue, orders):
        app.register_blueprint(room.pages)

    app.before_request(load_user)
    app.context_processor(for_every_page)


def load_user() -> None:
    user_id = session.get("user_id")
    g.user = None if user_id is None else db.session.get(User, user_id)


def for_every_page() -> dict[str, object]:
    return {"cart_size": cart.size}  # Pages call it. Mails do not, because they have no session.
