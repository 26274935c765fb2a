"""The contract suite's tests of sending: rows in the sender's own transaction, whole payloads, senders by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from aldis import Namespace
from aldis.exceptions import PayloadError, UnnamedSenderError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ._harness import Shop


class RolledBack(Exception):  # noqa: N818  # It is not an error.
    """Rolls a transaction back."""


class Size(Enum):
    """An enumeration in a payload."""

    SMALL = "small"
    LARGE = "large"


@dataclass
class Line:
    """A dataclass in a payload."""

    item: str
    price: Decimal
    size: Size | None = None


def order_shipped(
    sender: Any,
    /,
    *,
    parcel: UUID,
    shipped_at: datetime,
    arrives_on: date | None,
    lines: list[Line],
    weights: dict[str, float],
    patience: timedelta,
    label: bytes,
    is_gift: bool = False,
) -> object:
    """Sent when an order was shipped."""


class Sender:
    """An object that sends."""


class SendingContract:
    """What is sent is received: R1, R2, R5, and R4 for payloads."""

    def test_a_committed_send(self, shop: Shop) -> None:
        """R1, R2: A message of a committed transaction is received once, and its queue row is deleted."""
        shop.connect()
        shop.place(7)
        assert shop.rows() == {"billing": 1}

        shop.run()
        shop.run()
        assert (shop.orders(), shop.numbers(), shop.rows()) == ([7], [7], {})

    def test_nothing_is_received_before_the_commit(self, shop: Shop) -> None:
        """R1: No durable receiver runs during the send."""
        shop.connect()
        received = shop.harness.transact(lambda session: (shop.place_in(session, 7), shop.numbers())[1])

        assert received == []

    def test_a_send_that_is_rolled_back(self, shop: Shop) -> None:
        """R1: A message of a transaction that was rolled back is never received."""
        shop.connect()

        def work(session: Session) -> None:
            shop.place_in(session, 7)
            raise RolledBack

        with pytest.raises(RolledBack):
            shop.harness.transact(work)

        shop.run()
        assert (shop.orders(), shop.numbers(), shop.rows()) == ([], [], {})

    def test_a_savepoint_that_is_rolled_back(self, shop: Shop) -> None:
        """R1: A message of a savepoint that was rolled back is never received. A message beside the savepoint is."""
        shop.connect()

        def work(session: Session) -> None:
            shop.place_in(session, 1)

            with session.begin_nested() as savepoint:
                shop.place_in(session, 2)
                savepoint.rollback()

            with session.begin_nested():
                shop.place_in(session, 3)

        shop.harness.transact(work)
        shop.run()
        assert (shop.orders(), shop.numbers()) == ([1, 3], [1, 3])

    def test_a_savepoint_that_is_released_and_rolled_back_with_all(self, shop: Shop) -> None:
        """R1: A message of a released savepoint is not received if the transaction around it is rolled back."""
        shop.connect()

        def work(session: Session) -> None:
            shop.place_in(session, 1)

            with session.begin_nested():
                shop.place_in(session, 2)

            raise RolledBack

        with pytest.raises(RolledBack):
            shop.harness.transact(work)

        shop.run()
        assert (shop.orders(), shop.numbers(), shop.rows()) == ([], [], {})

    def test_a_send_outside_of_any_transaction(self, shop: Shop) -> None:
        """R1: A send outside of any transaction writes a row for each of its receivers, and they are received."""
        shop.connect("billing")
        shop.connect("mail")
        shop.harness.send(shop.order_placed, "shop", order_id=7)
        assert shop.rows() == {"billing": 1, "mail": 1}

        shop.run()
        assert (shop.numbers("billing"), shop.numbers("mail")) == ([7], [7])

    def test_a_send_of_a_receiver(self, shop: Shop) -> None:
        """R1: A message that a receiver sends in its own transaction is received too."""
        shop.connect(work=lambda number: shop.place(number + 1) if number < 3 else None)
        shop.place(1)

        shop.run()
        assert (shop.orders(), shop.numbers()) == ([1, 2, 3], [1, 2, 3])

    def test_several_receivers(self, shop: Shop) -> None:
        """R2: Each receiver of a message has its own row, and all see the id that the send returned."""
        shop.connect("billing")
        shop.connect("mail")
        id = shop.harness.transact(lambda session: shop.place_in(session, 7))
        assert shop.rows() == {"billing": 1, "mail": 1}

        shop.run()
        assert sorted(received.name for received in shop.received) == ["billing", "mail"]
        assert shop.ids() == [id, id]

    def test_ids(self, shop: Shop) -> None:
        """R2: Two messages have two ids."""
        shop.connect()
        shop.place(1, 2)

        shop.run()
        assert len(set(shop.ids())) == 2

    def test_the_payload(self, shop: Shop) -> None:
        """R4: A payload arrives with the types that the signal declares, and with the defaults."""
        order: dict[str, Any] = {
            "parcel": UUID("0e6ad2cf-7b5c-4b8e-9d4e-3f8b6c1d2a10"),
            "shipped_at": datetime(2026, 2, 3, 4, 5, 6, 789, UTC),
            "arrives_on": None,
            "lines": [Line("lamp", Decimal("19.90"), Size.LARGE), Line("öl 🪔 \x00", Decimal("1e-9"))],
            "weights": {"kg": 1.25, "": 0.1},
            "patience": timedelta(days=2, milliseconds=1),
            "label": b"\x00\xff",
        }
        signal = Namespace().declare(order_shipped)
        found: list[dict[str, Any]] = []

        def receive(sender: Any, **payload: Any) -> None:
            found.append(payload)

        signal.connect(receive, weak=False, via=shop.relay.durable("parcels"))
        shop.harness.send(signal, "shop", **order)

        shop.run()
        assert found == [{**order, "is_gift": False}]
        assert [type(line) for line in found[0]["lines"]] == [Line, Line]

    def test_a_payload_that_does_not_fit(self, shop: Shop) -> None:
        """R4: A value of a wrong type is refused before a row is written and before any receiver runs."""

        def receive(sender: Any, *, order_id: int, **_: Any) -> None:
            raise NotImplementedError

        shop.order_placed.connect(receive, weak=False)
        shop.connect()

        with pytest.raises(PayloadError, match="cannot be written"):
            shop.harness.send(shop.order_placed, "shop", order_id="secret")

        assert shop.rows() == {}

    @pytest.mark.parametrize("sender", ["shop", "", "Laden 🪔", '{"name": "shop"}', None])
    def test_a_sender_that_crosses_as_it_is(self, shop: Shop, sender: str | None) -> None:
        """R5: Strings and None arrive as the same sender."""
        shop.connect(sender=sender)
        shop.place(7, sender=sender)

        shop.run()
        assert [received.sender for received in shop.received] == [sender]

    def test_a_registered_sender(self, shop: Shop) -> None:
        """R5: A registered sender is stored by its name, and the receiver gets the registered object."""
        sender = Sender()
        shop.relay.register_sender(sender, "shop")
        shop.connect(sender=sender)
        shop.place(7, sender=sender)

        shop.run()
        assert [received.sender for received in shop.received] == [sender]

    def test_a_sender_that_is_not_registered_there(self, shop: Shop) -> None:
        """R5: A message whose sender this process does not know waits until a sender of that name is registered."""
        sender = Sender()
        shop.relay.register_sender(sender, "shop")
        shop.connect(max_attempts=1)
        shop.place(7, sender=sender)
        del sender

        shop.run()
        assert (shop.numbers(), shop.rows()) == ([], {"billing": 1})

        sender = Sender()
        shop.relay.register_sender(sender, "shop")
        shop.make_due()
        shop.run()
        assert [received.sender for received in shop.received] == [sender]

    def test_a_sender_without_a_name(self, shop: Shop) -> None:
        """R5: An object without a name is refused as a sender, and nothing is written."""
        shop.connect()

        with pytest.raises(UnnamedSenderError, match="register_sender"):
            shop.harness.send(shop.order_placed, Sender(), order_id=7)

        assert shop.rows() == {}

    def test_a_receiver_of_one_sender(self, shop: Shop) -> None:
        """R5: For a receiver that is connected for one sender, only messages of that sender are written."""
        shop.connect(sender="shop")
        shop.place(7, sender="desk")

        assert shop.rows() == {}
