"""Places and shows orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, abort, current_app, flash, g, redirect, render_template, session, url_for
from sqlalchemy.exc import IntegrityError

from shop.models import Lamp, Order, OrderLine, db
from shop.signals import order_placed

from . import cart

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

pages = Blueprint("orders", __name__, url_prefix="/orders")


@pages.before_request
def sign_in_first() -> ResponseReturnValue | None:
    if g.user is not None:
        return None

    flash("Please sign in, or register, to place an order.")
    return redirect(url_for("accounts.sign_in_form"), 303)


@pages.get("")
def index() -> ResponseReturnValue:
    return render_template("orders/index.html", orders=g.user.orders)


@pages.get("/<int:order_id>")
def show(order_id: int) -> ResponseReturnValue:
    order = db.get_or_404(Order, order_id)

    if order.user_id != g.user.id:
        abort(404)

    return render_template("orders/show.html", order=order)


@pages.post("")
def place() -> ResponseReturnValue:
    lines = cart.lines()

    if not lines:
        flash("Your cart is empty.")
        return redirect(url_for("cart.show"), 303)

    order = Order(user=g.user)
    db.session.add(order)

    for lamp, quantity in lines:
        order.lines.append(OrderLine(lamp=lamp, quantity=quantity, price_cents=lamp.price_cents))
        lamp.stock = Lamp.stock - quantity  # The database subtracts, and refuses a number below zero.

    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        flash("Another customer was faster: we do not have that many lamps left.")
        return redirect(url_for("cart.show"), 303)

    order_placed.send(current_app, order_id=order.id, total_cents=order.total_cents)
    db.session.commit()

    session.pop("cart")
    flash("Thank you. We are wrapping your lamps.")
    return redirect(url_for("orders.show", order_id=order.id), 303)
