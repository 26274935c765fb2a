"""A small lamp shop on Flask, with signals by Aldis.

``flask --app shop run --debug`` serves it. ``flask --app shop relay worker`` calls the durable receivers.
The shop works with both libraries behind Flask's own signals: with Blinker, as in the commands above, and with Aldis in
Blinker's place, as in ``demo.py``.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, render_template

from aldis.flask import Aldis

from . import metrics, models, receivers, signals, views

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException

__all__ = ["create_app"]


def create_app(folder: Path | None = None) -> Flask:
    """Make a shop with lamps in stock.

    :param folder: the folder for the database, the mails and the journals. Without it, the folder is the environment
        variable ``SHOP_FOLDER``, or Flask's instance folder.
    """
    app = Flask(__name__)
    folder = (folder or Path(os.environ.get("SHOP_FOLDER") or app.instance_path)).resolve()
    folder.mkdir(exist_ok=True)

    app.config.update(
        ALDIS_ERRORS="log",  # A receiver of Flask's signals that fails is logged, and the customer sees no error.
        PROPAGATE_EXCEPTIONS=False,  # The shop's own error page is shown in debug mode too.
        SECRET_KEY=secrets.token_hex(),
        SHOP_FOLDER=folder,
        SHOP_INVOICE_TAKES_S=float(os.environ.get("SHOP_INVOICE_TAKES_S") or 0),
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'shop.db'}",
        SQLALCHEMY_TRACK_MODIFICATIONS=True,  # Without this, Flask-SQLAlchemy does not send its signals.
    )
    app.template_filter("money")(money)
    app.register_error_handler(404, not_found)
    app.register_error_handler(500, failed)

    Aldis(app, show=[signals.signals], relay=models.relay)
    models.init_app(app)
    views.init_app(app)
    metrics.init_app(app)
    receivers.connect(app)
    return app


def money(cents: int) -> str:
    return f"€ {cents // 100}.{cents % 100:02}"


def not_found(_: HTTPException) -> tuple[str, int]:
    return render_template("error.html", title="No such page", text="We looked behind every lamp."), 404


def failed(_: HTTPException) -> tuple[str, int]:
    return render_template("error.html", title="A bulb blew", text="The fault is ours, and it has been noted."), 500
