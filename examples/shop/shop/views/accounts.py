"""Registering, signing in and signing out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, current_app, flash, redirect, render_template, request, session, url_for
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from shop.models import User, db
from shop.signals import user_registered

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

pages = Blueprint("accounts", __name__, url_prefix="/account")


@pages.get("/register")
def register_form() -> ResponseReturnValue:
    return render_template("accounts/register.html")


@pages.post("/register")
def register() -> ResponseReturnValue:
    name, email = request.form.get("name", "").strip(), request.form.get("email", "").strip()
    password = request.form.get("password", "")

    if not name or email.count("@") != 1 or any(character.isspace() for character in email) or len(password) < 8:
        return refuse("accounts/register.html", "A name, an address and eight characters of password, please.")

    user = User(name=name, email=email)
    user.set_password(password)
    db.session.add(user)

    try:
        db.session.flush()  # The user has an id now, and the transaction is still open.
    except IntegrityError:
        db.session.rollback()
        return refuse("accounts/register.html", "We know this address already.")

    # A proxy may be a sender: Aldis sends the object behind it, which is the app here.
    user_registered.send(current_app, user_id=user.id)
    db.session.commit()

    session["user_id"] = user.id
    flash(f"Welcome, {user.name}.")
    return redirect(url_for("catalogue.index"), 303)


@pages.get("/sign-in")
def sign_in_form() -> ResponseReturnValue:
    return render_template("accounts/sign_in.html")


@pages.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    user = db.session.scalar(select(User).filter_by(email=request.form.get("email", "").strip()))

    if user is None or not user.has_password(request.form.get("password", "")):
        return refuse("accounts/sign_in.html", "This address and this password do not go together.")

    session["user_id"] = user.id
    flash(f"Good to see you, {user.name}.")
    return redirect(url_for("catalogue.index"), 303)


@pages.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    session.clear()
    flash("Fair winds.")
    return redirect(url_for("catalogue.index"), 303)


def refuse(template: str, fault: str) -> ResponseReturnValue:
    return render_template(template, fault=fault), 422
