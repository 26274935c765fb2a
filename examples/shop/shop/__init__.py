"""A small lamp shop on Flask. Its signals, Flask's and Flask-SQLAlchemy's are delivered by Aldis."""

from __future__ import annotations

import aldis

aldis.install_as_blinker()  # Before Flask is imported, or anything else that imports Blinker.

import secrets  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from flask import Flask, render_template  # noqa: E402

from . import models, receivers, views  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.exceptions import HTTPException

    from aldis.delivery import Delivery

__all__ = ["create_app"]


def create_app(folder: Path, *, via: Delivery | None = None) -> Flask:
    """Make a shop, with lamps on its shelves.

    :param folder: where the database, the mails and the logs go.
    :param via: how the shop's receivers get called, if not at once.
    """
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=secrets.token_hex(),
        SHOP_FOLDER=folder.resolve(),
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder.resolve() / 'shop.db'}",
        SQLALCHEMY_TRACK_MODIFICATIONS=True,  # Flask-SQLAlchemy sends its signals only then.
    )
    app.template_filter("money")(money)
    app.register_error_handler(404, not_found)
    app.register_error_handler(500, failed)

    models.init_app(app)
    views.init_app(app)
    receivers.connect(app, via)
    return app


def money(cents: int) -> str:
    return f"€ {cents // 100}.{cents % 100:02}"


def not_found(_: HTTPException) -> tuple[str, int]:
    return render_template("error.html", title="No such page", text="We looked behind every lamp."), 404


def failed(_: HTTPException) -> tuple[str, int]:
    return render_template("error.html", title="A bulb blew", text="The fault is ours, and it has been noted."), 500
