"""The contract suite, what the database must do for claims: leases, fencing, order, its clock.

This is below the runners: workers claim rows by these functions, whichever runner they have.
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
    """The claims of a shop, each call in a transaction of its own, as workers make them."""

    def __init__(self, shop: Shop) -> None:
        self._parts = parts_of(shop.relay)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction."""
        return self._parts.database.run(work)

    def claim(self, name: str = "billing", limit: int = 100, lease_ms: int = _LEASE_MS) -> list[Row]:
        """Claim rows of a receiver, as a worker does."""
        known = self._parts.receivers.known()[name]
        return self.run(lambda connection: _claims.claim(connection, name, known, limit, lease_ms))

    def renew(self, *rows: Row, lease_ms: int = _LEASE_MS) -> set[int]:
        """Extend leases. Gives the ids of those that are still held."""
        held = self.run(lambda connection: _claims.renew_leases(connection, _leases(rows), lease_ms))
        return {id for id, _ in held}

    def acknowledge(self, *rows: Row) -> int:
        """Say that rows were received. Gives how many leases were still held."""
        return self.run(lambda connection: _claims.acknowledge(connection, _leases(rows)))

    def fail(self, row: Row, wait_ms: int = 0) -> bool:
        """Say that a row is to be tried again. Gives whether the lease was still held."""
        return self.run(lambda connection: _claims.retry(connection, row, wait_ms, "it failed"))

    def release(self, row: Row, wait_ms: int = 0) -> bool:
        """Give a row back. Gives whether the lease was still held."""
        return self.run(lambda connection: _claims.release(connection, row, wait_ms))

    def dead_letter(self, row: Row) -> bool:
        """Say that a row is dead. Gives whether the lease was still held."""
        return self.run(lambda connection: dead_letters.dead_letter(connection, row, "it died"))

    def wait_ms(self) -> list[int]:
        """In how many milliseconds rows are due, or their leases end, in the order in which they were sent."""
        statement = select(messages.c.due_ms - now_ms()).order_by(messages.c.id)
        return self.run(lambda connection: list(connection.scalars(statement)))


class CompetingContract:
    """What workers that claim at the same time can rely on: R3."""

    @pytest.fixture
    def claims(self, shop: Shop) -> Claims:
        """The claims of the shop."""
        return Claims(shop)

    def test_who_claims_at_the_same_time(self, shop: Shop, claims: Claims) -> None:
        """R3: However many claim at the same time, each row is claimed once, and none is left."""
        shop.connect()
        shop.place(*range(40))

        assert sorted(self._claim_all(shop, claims)) == [*range(40)]

    def test_who_claims_ordered_rows_at_the_same_time(self, shop: Shop, claims: Claims) -> None:
        """R3: However many claim at the same time, the rows of one key are claimed one after the other, in order."""
        shop.connect(key="customer")
        self._send(shop, *((number, "ABC"[number % 3]) for number in range(30)))
        found = self._claim_all(shop, claims)

        assert sorted(found) == [*range(30)]

        for key in range(3):
            assert [number for number in found if number % 3 == key] == [*range(key, 30, 3)]

    def _claim_all(self, shop: Shop, claims: Claims) -> list[int]:
        """Have all rows claimed and finished. Gives the numbers of the orders, as they were claimed."""
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
    """What a worker that claims can rely on, and what others can when it is late: R3."""

    def test_a_claim(self, shop: Shop, claims: Claims) -> None:
        """R3: A claimed row is nobody else's, and the first that were due are claimed first."""
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
        """R3: A claim takes rows of one receiver, and leaves the others' to others."""
        shop.connect("billing")
        shop.connect("mail")
        shop.place(7)
        (row,) = claims.claim("mail")

        assert row.receiver == "mail"
        assert len(claims.claim("billing")) == 1

    def test_a_lease(self, shop: Shop, claims: Claims) -> None:
        """R3: A lease ends as many milliseconds after the claim as it was claimed for, by the database's clock."""
        shop.connect()
        shop.place(1)
        claims.claim(lease_ms=3_600_000)

        (wait_ms,) = claims.wait_ms()
        assert 3_500_000 < wait_ms <= 3_600_000

    def test_what_was_received(self, shop: Shop, claims: Claims) -> None:
        """R3: Rows that were received are deleted, and no others."""
        shop.connect()
        shop.place(1, 2, 3)
        rows = claims.claim(limit=2)

        assert claims.acknowledge(*rows) == 2
        assert shop.rows() == {"billing": 1}
        assert claims.acknowledge(*rows) == 0

    def test_what_failed(self, shop: Shop, claims: Claims) -> None:
        """R3: A row that failed is not claimed before its wait is over; then the next attempt counts."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()
        assert claims.fail(row, wait_ms=3_600_000)
        assert claims.claim() == []
        assert claims.wait_ms()[0] > 3_500_000

        shop.make_due()
        assert [(row.attempts, row.crashes) for row in claims.claim()] == [(2, 0)]

    def test_what_was_not_begun(self, shop: Shop, claims: Claims) -> None:
        """R3: An attempt that was not begun does not count."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()

        assert claims.release(row)
        assert [(row.attempts, row.crashes) for row in claims.claim()] == [(1, 0)]

    def test_a_lease_that_ran_out(self, shop: Shop, claims: Claims) -> None:
        """R3: A row whose worker died is claimed again, and the attempt in which it died counts."""
        shop.connect()
        shop.place(1)
        (first,) = claims.claim()
        shop.make_due()
        (second,) = claims.claim()

        assert (second.id, second.message_id, second.attempts, second.crashes) == (first.id, first.message_id, 2, 1)
        assert second.token != first.token

    @pytest.mark.parametrize("late", ["acknowledge", "fail", "release", "dead_letter"])
    def test_what_is_said_too_late(self, shop: Shop, claims: Claims, late: str) -> None:
        """R3: Whatever a worker says of a row that another has claimed meanwhile changes nothing."""
        shop.connect()
        shop.place(1)
        (first,) = claims.claim()
        shop.make_due()
        (second,) = claims.claim()

        assert not getattr(claims, late)(first)
        assert (shop.rows(), shop.reasons(), claims.claim()) == ({"billing": 1}, [], [])
        assert claims.acknowledge(second) == 1

    def test_what_is_said_late_of_a_row_that_nobody_claimed(self, shop: Shop, claims: Claims) -> None:
        """R3: A lease that ran out without another's claim still counts: the row was received."""
        shop.connect()
        shop.place(1)
        (row,) = claims.claim()
        shop.make_due()

        assert claims.acknowledge(row) == 1

    def test_leases_that_are_extended(self, shop: Shop, claims: Claims) -> None:
        """R3: A lease that is extended in time holds."""
        shop.connect()
        shop.place(1, 2)
        first, second = claims.claim()
        shop.make_due()

        assert claims.renew(first) == {first.id}
        assert [row.id for row in claims.claim()] == [second.id]

    def test_leases_that_are_extended_too_late(self, shop: Shop, claims: Claims) -> None:
        """R3: To extend a lease that was lost to another gives nothing, and does not touch the other's."""
        shop.connect()
        shop.place(1, 2)
        first, second = claims.claim()
        shop.make_due()
        claims.claim(limit=1)

        assert claims.renew(first, second, lease_ms=3_600_000) == {second.id}
        assert claims.wait_ms()[0] <= _LEASE_MS

    def test_what_is_dead(self, shop: Shop, claims: Claims) -> None:
        """R3: A row that was given up is a dead letter with all that was sent, and no longer a row."""
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
        """R3: A row that was lost with two workers is claimed alone, so that it takes no others with it."""
        shop.connect()
        shop.place(1, 2, 3)
        ids = [row.id for row in claims.claim()]

        for _ in range(2):
            self._lose(shop, claims, ids[1])

        assert [row.id for row in claims.claim()] == ids[:1]
        assert [(row.id, row.crashes, row.attempts) for row in claims.claim()] == [(ids[1], 2, 3)]
        assert [row.id for row in claims.claim()] == ids[2:]

    def _lose(self, shop: Shop, claims: Claims, suspect: int) -> None:
        """Have all leases run out, and claim the rows again; all but one of the workers live."""
        shop.make_due()

        for row in claims.claim():
            if row.id != suspect:
                claims.release(row)

        shop.make_due()

    def test_ordered_rows(self, shop: Shop, claims: Claims) -> None:
        """R3: Of one key only the first row is claimed, whether it is due or not; other keys and no key go on."""
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
        """R3: Keys are the same only if each of their letters is, and any text can be one."""
        shop.connect(key="customer")
        customers = ["a", "A", "á", "a\x00", "a\x00b", "\x00", "🪔", "a" * 201, "a" * 202, "a" * 201]
        self._send(shop, *enumerate(customers))

        assert len(claims.claim()) == len(customers) - 1

    def test_ordered_rows_that_come_late(self, shop: Shop, claims: Claims) -> None:
        """R3: A row whose transaction took longer than that of a younger one waits while that is being received."""
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
        """R3: When rows will be due is told by the database's clock, for each receiver that has some."""
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
