"""The contract suite's tests of claims: leases, tokens, order, and the database's clock.

They are below the runners: workers claim queue rows by these functions, whatever their runner is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, final

import pytest
from sqlalchemy import insert, select

from aldis.relay.storage import claims as _claims, dead_letters
from aldis.relay.storage.tables import messages, now_ms
from aldis.relay.worker.parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from aldis.relay.storage.rows import Row

    from ._harness import Shop

T = TypeVar("T")

_LEASE_MS = 60_000


@final
class Claims:
    """The claims of a shop. Each call has its own transaction, as in a worker."""

    def __init__(self, shop: Shop) -> None:
        self._parts = parts_of(shop.relay)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction."""
        return self._parts.database.run(work)

    def claim(self, name: str = "billing", limit: int = 100, lease_ms: int = _LEASE_MS) -> list[Row]:
        """Claim queue rows of a receiver, as a worker does."""
        known = self._parts.receivers.known()[name]
        return self.run(lambda connection: _claims.claim(connection, name, known, limit, lease_ms))

    def renew(self, *rows: Row, lease_ms: int = _LEASE_MS) -> set[int]:
        """Renew leases. Return the ids of the leases that still existed."""
        held = self.run(lambda connection: _claims.renew_leases(connection, _leases(rows), lease_ms))
        return {id for id, _ in held}

    def acknowledge(self, *rows: Row) -> int:
        """Acknowledge messages. Return the number of leases that still existed."""
        return self.run(lambda connection: _claims.acknowledge(connection, _leases(rows)))

    def fail(self, row: Row, wait_ms: int = 0) -> bool:
        """Retry a message later. Return whether its lease still existed."""
        return self.run(lambda connection: _claims.retry(connection, row, wait_ms, "it failed"))

    def release(self, row: Row, wait_ms: int = 0) -> bool:
        """Release a message. Return whether its lease still existed."""
        return self.run(lambda connection: _claims.release(connection, row, wait_ms))

    def dead_letter(self, row: Row) -> bool:
        """Make a message a dead letter. Return whether its lease still existed."""
        return self.run(lambda connection: dead_letters.dead_letter(connection, row, "it died"))

    def wait_ms(self) -> list[int]:
        """Return the milliseconds until each row is due or its lease ends, in the order of the sends."""
        statement = select(messages.c.due_ms - now_ms()).order_by(messages.c.id)
        return self.run(lambda connection: list(connection.scalars(statement)))


class CompetingContract:
    """Workers that claim at the same time get different rows: R3."""

    @pytest.fixture
    def claims(self, shop: Shop) -> Claims:
        """Return the claims of the shop."""
        return Claims(shop)

    def test_who_claims_at_the_same_time(self, shop: Shop, claims: Claims) -> None:
        """R3: Many workers claim at the same time: each row is claimed exactly once."""
        shop.connect()
        shop.place(*range(40))

        assert sorted(self._claim_all(shop, claims)) == [*range(40)]

    def test_who_claims_ordered_rows_at_the_same_time(self, shop: Shop, claims: Claims) -> None:
        """R3: Many workers claim at the same time: the rows of one key are claimed one after the other, in order."""
        shop.connect(key="customer")
        self._send(shop, *((number, "ABC"[number % 3]) for number in range(30)))
        found = self._claim_all(shop, claims)

        assert sorted(found) == [*range(30)]

        for key in range(3):
            assert [number for number in found if number % 3 == key] == [*range(key, 30, 3)]

    def _claim_all(self, shop: Shop, claims: Claims) -> list[int]:
        """Claim and acknowledge all rows. Return the numbers of the orders in the order of the claims."""
        from json import loads

        found: list[int] = []

        def work(_: int) -> None:
            while shop.rows():
                rows: list[Any] = claims.claim(limit=3)
                found.extend(loads(row.payload)["order_id"] for row in rows)
                claims.acknowledge(*rows)

        with ThreadPoolExecutor(shop.harness.threads) as executor:
            list(executor.map(work, range(shop.harness.threads)))

        return found

    def _send(self, shop: Shop, *orders: tuple[int, str]) -> None:
        for number, customer in orders:
            shop.harness.send(shop.order_placed, "shop", order_id=number, customer=customer)


class ClaimsContract(CompetingContract):
    """A worker's claim excludes other workers, until its lease ends: R3."""

    def test_a_claim(self, shop: Shop, claims: Claims) -> None:
        """R3: A claimed row cannot be claimed by another worker, and the rows that were due first are claimed first."""
        shop.connect()
        shop.place(1, 2, 3)
        first, second = claims.claim(limit=2), claims.claim()

        assert [row.payload for row in first] == [f'{{"order_id":{number},"customer":"Ada"}}' for number in (1, 2)]
        assert [row.payload for row in second] == ['{"order_id":3,"customer":"Ada"}']
        assert claims.claim() == []
        assert {row.attempts for row in (*first, *second)} == {1}
        assert len({row.token for row in first}) == 1
        assert first[0].token != second[0].token

    def test_a_claim_of_one_receiver(self, shop: Shop, claims: Claims) -> None:
        """R3: A claim takes rows of one receiver only."""
        shop.connect("billing")
        shop.connect("mail")
        shop.place(7)
        (row,) = claims.claim("mail")

        assert row.receiver == "mail"
        assert len(claims.claim("billing")) == 1

    def test_a_lease(self, shop: Shop, claims: Claims) -> None:
        """R3: A lease ends after the number of milliseconds in the claim, by the database's clock."""
        shop.connect()
        shop.place(1)
        claims.claim(lease_ms=3_600_000)

        (wait_ms,) = claims.wait_ms()
        assert 3_500_000 < wait_ms <= 3_600_000

    def test_what_was_received(self, shop: Shop, claims: Claims) -> None:
        """R3: Acknowledged rows are deleted, and no other rows."""
        shop.connect()
        shop.place(1, 2, 3)
        rows = claims.claim(limit=2)

        assert claims.acknowledge(*rows) == 2
        assert shop.rows() == {"billing": 1}
        assert claims.acknowledge(*rows) == 0

    def test_what_failed(self, shop: Shop, claims: Claims) -> None:
        """R3: A failed row is not claimed before its backoff ends; the next attempt then counts."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()
        assert claims.fail(row, wait_ms=3_600_000)
        assert claims.claim() == []
        assert claims.wait_ms()[0] > 3_500_000

        shop.make_due()
        assert [(row.attempts, row.crashes) for row in claims.claim()] == [(2, 0)]

    def test_what_was_not_begun(self, shop: Shop, claims: Claims) -> None:
        """R3: A released row has not used an attempt."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()

        assert claims.release(row)
        assert [(row.attempts, row.crashes) for row in claims.claim()] == [(1, 0)]

    def test_a_lease_that_ran_out(self, shop: Shop, claims: Claims) -> None:
        """R3: After its lease has ended, the row of a dead worker is claimed again, and the lost attempt counts."""
        shop.connect()
        shop.place(1)
        (first,) = claims.claim()
        shop.make_due()
        (second,) = claims.claim()

        assert (second.id, second.message_id, second.attempts, second.crashes) == (first.id, first.message_id, 2, 1)
        assert second.token != first.token

    @pytest.mark.parametrize("late", ["acknowledge", "fail", "release", "dead_letter"])
    def test_what_is_said_too_late(self, shop: Shop, claims: Claims, late: str) -> None:
        """R3: A worker whose lease ended can no longer change a row that another worker has claimed."""
        shop.connect()
        shop.place(1)
        (first,) = claims.claim()
        shop.make_due()
        (second,) = claims.claim()

        assert not getattr(claims, late)(first)
        assert (shop.rows(), shop.reasons(), claims.claim()) == ({"billing": 1}, [], [])
        assert claims.acknowledge(second) == 1

    def test_what_is_said_late_of_a_row_that_nobody_claimed(self, shop: Shop, claims: Claims) -> None:
        """R3: An acknowledgement after the lease's end still counts if no other worker has claimed the row."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()
        shop.make_due()

        assert claims.acknowledge(row) == 1

    def test_leases_that_are_extended(self, shop: Shop, claims: Claims) -> None:
        """R3: A renewed lease does not end."""
        shop.connect()
        shop.place(1, 2)
        first, second = claims.claim()
        shop.make_due()

        assert claims.renew(first) == {first.id}
        assert [row.id for row in claims.claim()] == [second.id]

    def test_leases_that_are_extended_too_late(self, shop: Shop, claims: Claims) -> None:
        """R3: Renewing a lease that another worker has taken over has no effect on that worker's lease."""
        shop.connect()
        shop.place(1, 2)
        first, second = claims.claim()
        shop.make_due()
        claims.claim(limit=1)

        assert claims.renew(first, second, lease_ms=3_600_000) == {second.id}
        assert claims.wait_ms()[0] <= _LEASE_MS

    def test_what_is_dead(self, shop: Shop, claims: Claims) -> None:
        """R3: A dead letter keeps the whole message, and its queue row is deleted."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()
        assert claims.dead_letter(row)
        (letter,) = shop.relay.dead_letters()

        assert (letter.message_id, letter.receiver, letter.attempts) == (row.message_id, "billing", 1)
        assert shop.relay.dead_payload(letter.id) == row.payload
        assert shop.rows() == {}
        assert shop.relay.retry_dead(letter.id) == 1
        assert [again.sent() for again in claims.claim()] == [row.sent()]

    def test_a_row_that_killed_two_workers(self, shop: Shop, claims: Claims) -> None:
        """R3: A row that was lost with two workers is a poison message: it is claimed alone, so that no other row is
        lost with it.
        """
        shop.connect()
        shop.place(1, 2, 3)
        ids = [row.id for row in claims.claim()]

        for _ in range(2):
            self._lose(shop, claims, ids[1])

        assert [row.id for row in claims.claim()] == ids[:1]
        assert [(row.id, row.crashes, row.attempts) for row in claims.claim()] == [(ids[1], 2, 3)]
        assert [row.id for row in claims.claim()] == ids[2:]

    def _lose(self, shop: Shop, claims: Claims, suspect: int) -> None:
        """End all leases and claim the rows again. All workers but one are still alive."""
        shop.make_due()

        for row in claims.claim():
            if row.id != suspect:
                claims.release(row)

        shop.make_due()

    def test_ordered_rows(self, shop: Shop, claims: Claims) -> None:
        """R3: Of one key, only the first row can be claimed, due or not; rows of other keys and without a key can be
        claimed too.
        """
        shop.connect(key="customer")
        self._send(shop, (1, "A"), (2, "A"), (3, "B"), (4, "B"))
        first, third = claims.claim()
        assert [row.ordering_key for row in (first, third)] == ["A", "B"]
        assert claims.claim() == []

        claims.fail(first, wait_ms=3_600_000)
        assert claims.claim() == []
        claims.acknowledge(third)
        assert [row.ordering_key for row in claims.claim()] == ["B"]

        shop.make_due()
        (again,) = [row for row in claims.claim() if row.ordering_key == "A"]
        assert again.id == first.id
        claims.dead_letter(again)
        assert [row.ordering_key for row in claims.claim()] == ["A"]

    def test_keys_that_are_alike(self, shop: Shop, claims: Claims) -> None:
        """R3: Two keys are the same only if every letter is the same, and any text can be a key."""
        shop.connect(key="customer")
        customers = ["a", "A", "á", "a\x00", "a\x00b", "\x00", "🪔", "a" * 201, "a" * 202, "a" * 201]
        self._send(shop, *enumerate(customers))

        assert len(claims.claim()) == len(customers) - 1

    def test_ordered_rows_that_come_late(self, shop: Shop, claims: Claims) -> None:
        """R3: A row that was committed late waits while a later row of its key is being received."""
        shop.connect(key="customer")
        self._send(shop, (1, "B"), (2, "A"))
        first, younger = claims.claim()
        claims.acknowledge(first)
        older = {**younger.sent(), "id": younger.id - 1, "due_ms": 0, "attempts": 0, "crashes": 0}
        claims.run(lambda connection: connection.execute(insert(messages), older))
        assert claims.claim() == []

        claims.acknowledge(younger)
        assert [row.id for row in claims.claim()] == [younger.id - 1]

    def test_the_next_look(self, shop: Shop, claims: Claims) -> None:
        """R3: The database's clock says when rows will be due, for each receiver that has any."""
        shop.connect("billing")
        shop.connect("mail")
        shop.place(1, 2)
        (row, _) = claims.claim("mail", lease_ms=3_600_000)
        claims.fail(row, wait_ms=1_800_000)

        found = claims.run(lambda connection: _claims.next_due(connection, ["billing", "mail", "nobody"]))
        assert sorted(found) == ["billing", "mail"]
        assert found["billing"] <= 0
        assert 1_700_000 < found["mail"] <= 1_800_000


def _leases(rows: tuple[Row, ...]) -> list[tuple[int, str]]:
    return [(row.id, row.token) for row in rows]
