"""The program that the relay's figures measure: it writes an order and sends a signal to billing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, literal_column
from sqlalchemy.orm import DeclarativeBase

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVER: Final = "billing.invoice"

metadata: Final = MetaData()
orders: Final = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer", String(50), nullable=False),
    Column("total", Integer, nullable=False),
)
done: Final = Table(
    "done", metadata, Column("id", Integer, primary_key=True), Column("number", Integer, nullable=False)
)


class Base(DeclarativeBase):
    metadata = metadata


class Order(Base):
    __table__ = orders


# The statement of a send, for the contestants by hand.
ZERO: Final = literal_column("0", Integer)
INSERT_MESSAGE: Final = insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), attempts=ZERO, crashes=ZERO).inline()


def nothing(sender: str, **payload: Any) -> None:
    """Do nothing, as a receiver."""


class Shop:
    """A relay with a signal and a receiver, and their tables.

    :ivar send: sends the signal for an order.
    """

    def __init__(self, engine: Engine, receive: Callable[..., None] = nothing, **options: Any) -> None:
        self.engine = engine
        self.relay = Relay(engine, **options)
        signals = Namespace()

        @signals.declare
        def order_placed(sender: str, /, *, order_id: int, total: int) -> None:
            """Sent with an order."""

        self.signal = order_placed
        self.send = order_placed.send
        self.connect(RECEIVER, receive)

    def connect(self, name: str, receive: Callable[..., None] = nothing, **options: Any) -> None:
        """Connect a durable receiver with this name."""
        self.signal.connect(partial(receive), via=self.relay.durable(name, **options), weak=False)

    def make(self) -> None:
        """Create the tables."""
        metadata.create_all(self.engine)
        self.relay.create_tables()


def row(message_id: str | None = None) -> dict[str, Any]:
    """Return a row as a send would write it."""
    return {
        "message_id": message_id or str(uuid4()),
        "signal": "order-placed",
        "receiver": RECEIVER,
        "version": 1,
        "sender": '{"text": "shop"}',
        "payload": '{"order_id":7,"total":3}',
        "trace": None,
        "ordering_key": None,
    }


def fill(engine: Engine, number: int) -> None:
    """Write the given number of rows, in one transaction."""
    with engine.begin() as connection:
        connection.execute(INSERT_MESSAGE, [row() for _ in range(number)])
