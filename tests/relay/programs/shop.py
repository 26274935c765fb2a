"""A shop whose relay is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select

from aldis import NamedSignal, Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages

if TYPE_CHECKING:
    from collections.abc import Callable


def order_placed(sender: Any, /, *, order_id: int, note: str | None = None) -> object: ...


class App:
    """Stands for an application."""


class Shop:
    """A relay on a database in memory, a signal, and the records of durable receivers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        self.signals = Namespace()
        self.placed: NamedSignal[Any, ..., Any] = self.signals.declare(order_placed)
        self.log: list[Any] = []

    def receiver(self, word: str) -> Callable[..., None]:
        """Return a receiver that records a word. All these receivers are defined in the same place."""

        def receive(sender: Any, **payload: Any) -> None:
            self.log.append((word, payload["order_id"]))

        return receive

    def connect(self, *args: Any, **options: Any) -> Any:
        return self.placed.connect(*args, weak=False, **options)

    def values(self, name: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(messages.c[name]).order_by(messages.c.id)))


def audit(sender: Any, **payload: Any) -> None: ...


def bill(sender: Any, **payload: Any) -> None: ...


def failing(sender: Any, **payload: Any) -> None:
    raise LookupError
