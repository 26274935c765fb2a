"""The base of the contract suite: a set-up of the relay, and a small program that uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, final

from sqlalchemy import Column, Integer, MetaData, Table, insert, select, update

from aldis import ANY, Namespace
from aldis.aio import sync_to_async
from aldis.relay.storage.tables import messages, now_ms
from aldis.relay.worker.parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from aldis import NamedSignal
    from aldis.relay._relay import Relay
    from aldis.relay.storage.rows import Message

T = TypeVar("T")

orders: Final = Table(
    "aldis_contract_orders", MetaData(), Column("number", Integer, primary_key=True, autoincrement=False)
)
"""The program's own rows. They must be committed and rolled back together with its messages."""


class Harness:
    """A set-up of the relay, as the suite uses it. Make a subclass if your set-up does one of these steps in another
    way.

    :param relay: a relay whose tables exist and are empty.
    :param sessions: returns a new session with the relay's database, for example a ``sessionmaker``.

    .. versionadded:: 0.1
    """

    relay: Relay
    """The relay."""

    threads: int = 4
    """How many threads may use the database at the same time."""

    def __init__(self, relay: Relay, sessions: Callable[[], Session]) -> None:
        self.relay = relay
        self._sessions = sessions

    def transact(self, work: Callable[[Session], T]) -> T:
        """Do some work in a transaction: commit it, or roll it back if the work raises.

        :param work: called with the session.
        :return: the result of ``work``.
        """
        with self._sessions() as session, session.begin():
            return work(session)

    def send(self, signal: NamedSignal[Any, ..., Any], sender: Any, /, **payload: Any) -> Any:
        """Send outside of any transaction.

        :return: the results of the send.
        """
        return signal.send(sender, **payload)

    def run(self) -> None:
        """Receive all messages that are due, and those that receivers send meanwhile. Return when all receivers have
        ended.

        The receivers must run in this process, because they record their messages in its memory.
        """
        self.relay.drain()

    def make_due(self) -> None:
        """Let time pass: make every waiting message due, and end all leases."""
        parts_of(self.relay).database.run(
            lambda connection: connection.execute(update(messages).values(due_ms=now_ms() - 1))
        )


class Received(NamedTuple):
    """One message, as a receiver got it."""

    name: str
    sender: Any
    payload: dict[str, Any]
    message: Message


def order_placed(sender: Any, /, *, order_id: int, customer: str = "Ada") -> object:
    """Sent when an order was placed."""


@final
@dataclass
class Shop:
    """A small program: it places orders, and records the messages of its durable receivers.

    :ivar order_placed: the signal that it sends with each order.
    :ivar received: the messages in the order of their attempts, failed attempts included.
    """

    harness: Harness

    def __post_init__(self) -> None:
        self.relay: Relay = self.harness.relay
        self.run: Callable[[], object] = self.harness.run
        self.make_due: Callable[[], object] = self.harness.make_due
        self.order_placed: NamedSignal[Any, ..., Any] = Namespace(sync_wrapper=sync_to_async).declare(order_placed)
        self.received: list[Received] = []

    def connect(
        self,
        name: str = "billing",
        work: Callable[[int], object] = lambda _: None,
        *,
        sender: Any = ANY,
        **options: Any,
    ) -> Callable[..., None]:
        """Connect a durable receiver.

        :param work: is called with the number of the order, after the receiver has recorded the message.
        :param options: the options of :meth:`Relay.durable`.
        """

        def receive(sender: Any, **payload: Any) -> None:
            self.note(name, sender, payload)
            work(payload.get("order_id", 0))

        self.order_placed.connect(receive, sender, weak=False, via=self.relay.durable(name, **options))
        return receive

    def note(self, name: str, sender: Any, payload: dict[str, Any]) -> None:
        """Record a message that a receiver got."""
        self.received.append(Received(name, sender, payload, self.relay.current()))

    def place(self, *numbers: int, sender: Any = "shop") -> None:
        """Place orders in one transaction."""
        self.harness.transact(lambda session: [self.place_in(session, number, sender) for number in numbers])

    def place_in(self, session: Session, number: int, sender: Any = "shop") -> Any:
        """Place an order in a transaction, and return the message's id if there is a receiver."""
        session.execute(insert(orders), {"number": number})
        results = self.order_placed.send(sender, order_id=number)
        return results[0][1] if results else None

    def orders(self) -> list[int]:
        """Return the orders in the database."""
        return self.harness.transact(lambda session: list(session.scalars(select(orders.c.number).order_by("number"))))

    def numbers(self, name: str = "billing") -> list[int]:
        """Return the numbers of the orders that a receiver got, in order."""
        return [received.payload["order_id"] for received in self.received if received.name == name]

    def attempts(self, name: str = "billing") -> list[int]:
        """Return the numbers of the attempts in which the receiver got them."""
        return [received.message.attempt for received in self.received if received.name == name]

    def ids(self) -> list[str]:
        """Return the ids of the received messages."""
        return [received.message.id for received in self.received]

    def rows(self) -> dict[str, int]:
        """Return the number of queue rows for each receiver that has any."""
        counts = {status.receiver: status.backlog + status.in_flight for status in self.relay.status()}
        return {name: count for name, count in counts.items() if count}

    def reasons(self) -> list[str]:
        """Return the reasons of the dead letters."""
        return [letter.reason for letter in self.relay.dead_letters()]
