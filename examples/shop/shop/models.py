"""The shop's database: users, lamps, orders, invoices and an audit, in SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CheckConstraint, ForeignKey, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from aldis.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Flask


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)

# Makes some of the shop's receivers durable: `send` writes a row into this database, in the transaction of the order or
# the registration. `flask --app shop relay worker` calls the receiver later, in its own process.
relay = Relay(db)

# Flask-SQLAlchemy makes this class at run time. For type checkers, it is the class it is made of.
if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


class User(Model):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id.desc()")

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


class Lamp(Model):
    __tablename__ = "lamps"
    __table_args__ = (CheckConstraint("stock >= 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    text: Mapped[str]
    colour: Mapped[str]
    price_cents: Mapped[int]
    stock: Mapped[int]


class Order(Model):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    user: Mapped[User] = relationship(back_populates="orders")
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order")
    invoices: Mapped[list[Invoice]] = relationship(back_populates="order")

    @property
    def total_cents(self) -> int:
        return sum(line.quantity * line.price_cents for line in self.lines)


class OrderLine(Model):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id))
    lamp_id: Mapped[int] = mapped_column(ForeignKey(Lamp.id))
    quantity: Mapped[int]
    price_cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    lamp: Mapped[Lamp] = relationship()


class Invoice(Model):
    """One invoice. An order must have exactly one. The table allows two, so that the demo can prove that it has one."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id))
    total_cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="invoices")


class AuditEntry(Model):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]
    about: Mapped[int]


def init_app(app: Flask) -> None:
    """Open the app's database, and fill a new one with lamps."""
    db.init_app(app)

    with app.app_context():
        db.create_all()
        relay.create_tables()

        if db.session.scalar(select(Lamp).limit(1)) is None:
            db.session.add_all(new_lamps())
            db.session.commit()


def audited(app: Flask) -> int:
    """Return the number of audit entries."""
    with app.app_context():
        return db.session.scalars(select(func.count(AuditEntry.id))).one()


def invoiced(app: Flask) -> dict[int, int]:
    """Return the number of invoices of each order."""
    counts = select(Order.id, func.count(Invoice.id)).outerjoin(Invoice).group_by(Order.id)

    with app.app_context():
        return {row[0]: row[1] for row in db.session.execute(counts)}


def waiting(app: Flask, receiver: str, messages: Sequence[str]) -> int:
    """Return how many of these messages still have a queue row for a receiver."""
    rows = relay.metadata.tables["aldis_messages"].c
    count = select(func.count()).where(rows.receiver == receiver, rows.message_id.in_(messages))

    with app.app_context():
        return db.session.scalars(count).one()


def close(app: Flask) -> None:
    """Close the app's database."""
    with app.app_context():
        db.engine.dispose()


def new_lamps() -> list[Lamp]:
    shelves = [
        ("aldis", "Aldis lamp", "Blinks from ship to ship. Shutters included, code book not.", "#2f6f8f", 24900, 5),
        ("storm", "Storm lantern", "Burns on when the wind has better ideas.", "#b4532a", 3950, 12),
        ("desk", "Desk lamp", "Bends over your work and never looks away.", "#4a7c59", 5900, 8),
        ("lighthouse", "Small lighthouse", "Two nautical miles, or one large living room.", "#a63446", 12900, 3),
        ("reading", "Reading lamp", "Knows when the chapter ends, and pretends not to.", "#8a6d3b", 4500, 20),
        ("miner", "Miner's lamp", "Both hands free, for whatever is down there.", "#5b5f97", 7400, 6),
    ]
    return [
        Lamp(slug=slug, name=name, text=text, colour=colour, price_cents=price, stock=stock)
        for slug, name, text, colour, price, stock in shelves
    ]
