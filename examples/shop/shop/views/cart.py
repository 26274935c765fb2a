"""The cart, which is kept in the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from sqlalchemy import select

from shop.models import Lamp, db

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

pages = Blueprint("cart", __name__, url_prefix="/cart")


def content() -> dict[str, int]:
    """Return the lamps in the cart and the number of each."""
    cart: dict[str, int] = session.get("cart", {})
    return cart


def size() -> int:
    return sum(content().values())


def lines() -> list[tuple[Lamp, int]]:
    cart = content()
    lamps = db.session.scalars(select(Lamp).where(Lamp.slug.in_(cart)).order_by(Lamp.id))
    return [(lamp, cart[lamp.slug]) for lamp in lamps]


@pages.get("")
def show() -> ResponseReturnValue:
    found = lines()
    total_cents = sum(lamp.price_cents * quantity for lamp, quantity in found)
    return render_template("cart/show.html", lines=found, total_cents=total_cents)


@pages.post("")
def add() -> ResponseReturnValue:
    lamp = db.first_or_404(select(Lamp).filter_by(slug=request.form.get("slug", "")))
    quantity = max(1, min(request.form.get("quantity", 1, type=int), 99))
    session["cart"] = {**content(), lamp.slug: content().get(lamp.slug, 0) + quantity}
    flash(f"{lamp.name} is in your cart.")
    return redirect(url_for("cart.show"), 303)


@pages.post("/empty")
def empty() -> ResponseReturnValue:
    session.pop("cart", None)
    return redirect(url_for("cart.show"), 303)
