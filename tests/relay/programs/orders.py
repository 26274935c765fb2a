"""A program that places orders: its messages belong to the transaction of the order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Engine,
    String,
    func,
    insert,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aldis import NamedSignal, Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages

if TYPE_CHECKING:
    from collections.abc import Callable


SECRET = "hunter2"


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(String(50))


class RolledBack(Exception):
    """Rolls a transaction back."""


def order_placed(sender: Any, /, *, note: str) -> object: ...


class OrderShop:
    """A program on a database: an engine, a signal, and the committed rows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
        Base.metadata.create_all(engine)
        Relay(engine).create_tables()

    def connect(self, relay: Relay, *names: str) -> Relay:
        """Connect durable receivers."""
        for name in names or ("billing",):
            self.placed.connect(self.receiver(name), weak=False, via=relay.durable(name))

        return relay

    def receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: Any, **payload: Any) -> None: ...

        receive.__qualname__ = name
        return receive

    def send(self) -> None:
        self.placed.send("shop", note=SECRET)

    def order(self, transaction: Any) -> None:
        """Place an order in a transaction: a business row and a message."""
        transaction.execute(insert(Order), {"item": "tea"})
        self.send()

    @property
    def fate(self) -> tuple[int, int]:
        """Return the numbers of committed business rows and of committed messages."""
        with self.engine.connect() as connection:
            orders = connection.scalar(select(func.count()).select_from(Order))
            return orders or 0, connection.scalar(select(func.count()).select_from(messages)) or 0
