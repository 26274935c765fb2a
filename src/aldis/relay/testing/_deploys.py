"""The contract suite's tests of deploys: names, versions, and malformed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import insert

from aldis import Namespace
from aldis.relay.storage.tables import messages, now_ms
from aldis.relay.worker.parts import parts_of

from ._harness import order_placed
from ._receiving import SECRET

if TYPE_CHECKING:
    from aldis import NamedSignal

    from ._harness import Shop

# Malformed rows: the columns that differ from a row that a send writes, and the reason of the dead letter.
_MALFORMED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no JSON": ({"payload": "{"}, "not a JSON object"),
    "no object": ({"payload": '["' + SECRET + '"]'}, "not a JSON object"),
    "empty": ({"payload": ""}, "not a JSON object"),
    "deep": ({"payload": "[" * 100_000}, "not a JSON object"),
    "a missing keyword": ({"payload": "{}"}, "does not fit"),
    "another type": ({"payload": '{"order_id":"' + SECRET + '"}'}, "does not fit"),
    "a large number": ({"payload": '{"order_id":1e999}'}, "not a JSON object"),
    "a large payload": ({"payload": '{"order_id":7,"customer":"' + SECRET + "x" * 4_100_000 + '"}'}, "larger than"),
    "version 0": ({"version": 0}, "row is malformed"),
    "a negative version": ({"version": -(2**31)}, "row is malformed"),
    "a sender that is no JSON": ({"sender": SECRET}, "sender is malformed"),
    "a sender of another kind": ({"sender": '{"pickle": "' + SECRET + '"}'}, "sender is malformed"),
    "a deep sender": ({"sender": "[" * 60_000}, "sender is malformed"),
    "many attempts": ({"attempts": 2_000_000_000}, "in the last of 20 attempts"),
}


def first_version() -> NamedSignal[Any, ..., Any]:
    """The signal as it was declared first."""

    def order_placed(sender: Any, /, *, number: int) -> object: ...

    return Namespace().declare(order_placed)


def second_version() -> NamedSignal[Any, ..., Any]:
    """The signal after a keyword was renamed."""

    def upgraded(payload: dict[str, Any]) -> dict[str, Any]:
        return {"order_id": payload["number"]}

    return Namespace().declare(version=2, upgraders={1: upgraded})(order_placed)


class DeploysContract:
    """Messages can be received by other code than the code that sent them: R4."""

    def test_a_receiver_that_is_not_known(self, shop: Shop) -> None:
        """R4: Rows for a receiver that this process does not know wait, are counted, and are received when it knows the
        receiver.
        """
        route = shop.relay.forward(shop.order_placed, "billing")
        shop.place(7)
        shop.run()
        (status,) = shop.relay.status()
        assert (status.receiver, status.is_known, status.backlog, status.dead) == ("billing", False, 1, 0)
        assert status.oldest_age_s >= 0

        shop.order_placed.disconnect(route)
        shop.connect("billing")
        shop.run()
        assert (shop.numbers(), shop.attempts()) == ([7], [1])
        assert [status.is_known for status in shop.relay.status()] == [True]

    def test_a_receiver_that_is_never_known_again(self, shop: Shop) -> None:
        """R4: The rows of a receiver that was removed can be deleted, and no other rows."""
        shop.relay.forward(shop.order_placed, "gone")
        shop.connect("billing")
        shop.place(1, 2)

        assert shop.relay.drop_messages("gone") == 2
        shop.run()
        assert (shop.numbers(), shop.rows()) == ([1, 2], {})

    def test_a_receiver_that_was_renamed(self, shop: Shop) -> None:
        """R4: A renamed receiver receives the rows of its earlier name."""
        before = shop.connect("invoices")
        shop.place(1)
        shop.order_placed.disconnect(before)
        shop.connect("billing", aliases=["invoices"])
        shop.place(2)
        assert shop.rows() == {"billing": 1, "invoices": 1}

        shop.run()
        assert sorted(shop.numbers()) == [1, 2]
        assert {received.message.receiver for received in shop.received} == {"billing", "invoices"}
        assert shop.rows() == {}

    @pytest.mark.parametrize("name", ["Billing", "bílling", "billing."])
    def test_similar_names(self, shop: Shop, name: str) -> None:
        """R4: Two names are the same only if every letter is the same."""
        shop.relay.forward(shop.order_placed, name)
        shop.connect(
            "billing", lambda _: shop.harness.transact(lambda session: shop.relay.first_time(session, "effect"))
        )
        shop.connect(
            "BILLING", lambda _: shop.harness.transact(lambda session: shop.relay.first_time(session, "EFFECT"))
        )
        shop.place(7)
        shop.run()

        assert (shop.numbers("billing"), shop.numbers("BILLING"), shop.rows()) == ([7], [7], {name: 1})
        assert shop.harness.transact(lambda session: shop.relay.first_time(session, "Effect"))

    def test_a_payload_that_is_older(self, shop: Shop) -> None:
        """R4: A payload of an older version is upgraded before it is received."""
        before = first_version()
        before.connect(_ignore, weak=False, via=shop.relay.durable("billing"))
        shop.harness.send(before, "shop", number=7)
        before.disconnect(_ignore)

        shop.order_placed = second_version()
        shop.connect()
        shop.run()
        assert [received.payload for received in shop.received] == [{"order_id": 7, "customer": "Ada"}]

    def test_a_payload_that_is_newer(self, shop: Shop) -> None:
        """R4: A payload of a newer version waits for newer code, and uses no attempt."""
        after = second_version()
        after.connect(_ignore, weak=False, via=shop.relay.durable("billing"))
        shop.harness.send(after, "shop", order_id=7)
        after.disconnect(_ignore)

        shop.order_placed = first_version()
        old = shop.connect(max_attempts=1)
        shop.harness.send(shop.order_placed, "shop", number=8)
        shop.run()
        assert [received.payload for received in shop.received] == [{"number": 8}]
        assert shop.rows() == {"billing": 1}

        shop.order_placed.disconnect(old)
        shop.order_placed = after
        shop.connect(max_attempts=1)
        shop.make_due()
        shop.run()
        assert [received.payload for received in shop.received[1:]] == [{"order_id": 7, "customer": "Ada"}]
        assert shop.attempts() == [1, 1]

    def test_a_keyword_that_was_added(self, shop: Shop) -> None:
        """R4: A keyword that was added with a default needs no new version."""
        self._write(shop, payload='{"order_id":7}')
        shop.connect()
        shop.run()

        assert [received.payload for received in shop.received] == [{"order_id": 7, "customer": "Ada"}]

    @pytest.mark.parametrize("kind", _MALFORMED)
    def test_a_malformed_row(self, shop: Shop, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        """R3, R4: A malformed row becomes a dead letter with its reason, and other rows are received."""
        values, reason = _MALFORMED[kind]
        shop.connect()
        self._write(shop, payload='{"order_id":1}')
        self._write(shop, **values)
        self._write(shop, payload='{"order_id":2}')
        shop.run()

        assert sorted(shop.numbers()) == [1, 2]
        assert [reason in found for found in shop.reasons()] == [True]
        assert (shop.rows(), SECRET in f"{shop.reasons()}{caplog.text}") == ({}, False)

    @pytest.mark.parametrize("values", [{"signal": "unheard-of"}, {"version": 2**31 - 1}, {"sender": '{"name": "no"}'}])
    def test_a_row_with_unknown_names(self, shop: Shop, values: dict[str, Any]) -> None:
        """R4: A row whose signal, version or sender this process does not know waits; other rows are received."""
        shop.connect(max_attempts=1)
        self._write(shop, **values)
        self._write(shop, payload='{"order_id":2}')
        shop.run()

        assert (shop.numbers(), shop.rows(), shop.reasons()) == ([2], {"billing": 1}, [])

    def _write(self, shop: Shop, **values: Any) -> None:
        """Write a queue row by hand."""
        row = {
            "message_id": "0e6ad2cf-7b5c-4b8e-9d4e-3f8b6c1d2a10",
            "signal": "order-placed",
            "receiver": "billing",
            "version": 1,
            "payload": '{"order_id":7}',
            "attempts": 0,
            "crashes": 0,
        }
        statement = insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), **{**row, **values})
        parts_of(shop.relay).database.run(lambda connection: connection.execute(statement))


def _ignore(sender: Any, **payload: Any) -> None: ...
