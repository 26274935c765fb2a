"""The lamps, and a page with a bug in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template
from sqlalchemy import select

from shop.models import Lamp, db

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

pages = Blueprint("catalogue", __name__)


@pages.get("/")
def index() -> ResponseReturnValue:
    return render_template("catalogue/index.html", lamps=db.session.scalars(select(Lamp).order_by(Lamp.id)).all())


@pages.get("/lamps/<slug>")
def lamp(slug: str) -> ResponseReturnValue:
    return render_template("catalogue/lamp.html", lamp=db.first_or_404(select(Lamp).filter_by(slug=slug)))


@pages.get("/offers")
def offers() -> ResponseReturnValue:
    """Fail when there are no offers. The bug is here on purpose, to show what an error looks like."""
    discounts: list[int] = []
    return render_template("catalogue/offers.html", average=sum(discounts) / len(discounts))
