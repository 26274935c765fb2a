"""The contract suite's tests of receiving: attempts, dead letters, effects that happen once, order."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import pytest

from aldis.exceptions import NoMessageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ._harness import Shop

SECRET = "s3cret"  # noqa: S105  # A secret of no real system.


class Broken(Exception):  # noqa: N818  # An exception as receivers raise it.
    """Raised by receivers that fail."""


class Failing:
    """Work that fails.

    :param times: how many times it fails before it succeeds; ``-1`` means always.
    :param only: fail with this order only.
    """

    def __init__(self, times: int = -1, *, only: int | None = None, error: type[BaseException] = Broken) -> None:
        self.left = times
        self._only = only
        self._error = error

    def __call__(self, number: int) -> None:
        if self.left and self._only in (None, number):
            self.left -= 1
            raise self._error


class ReceivingContract:
    """Messages are received, and messages whose receiver fails are tried again or become dead letters: R2 and R3."""

    def test_the_current_message(self, shop: Shop) -> None:
        """R2: A receiver can read the message that it receives, and code outside of the call cannot."""
        shop.connect()
        shop.place(7)
        shop.run()
        ((name, _, payload, message),) = shop.received

        assert (message.signal, message.receiver, message.attempt) == ("order-placed", name, 1)
        assert payload == {"order_id": 7, "customer": "Ada"}
        assert message.sent_at.tzinfo is UTC

        with pytest.raises(NoMessageError, match="durable receiver"):
            shop.relay.current()

    def test_an_async_receiver(self, shop: Shop) -> None:
        """R2: An async receiver is awaited."""
        from asyncio import sleep

        async def receive(sender: Any, **payload: Any) -> None:
            await sleep(0)
            shop.note("billing", sender, payload)

        shop.order_placed.connect(receive, weak=False, via=shop.relay.durable("billing"))
        shop.place(7)
        shop.run()

        assert (shop.numbers(), shop.attempts(), shop.rows()) == ([7], [1], {})

    def test_a_receiver_that_fails_is_tried_again(self, shop: Shop) -> None:
        """R3: After a failed attempt, the message comes again after a wait, with the number of the attempt."""
        shop.connect(work=Failing(2), backoff=3600)
        shop.place(7)

        for attempts in ([1], [1, 2], [1, 2, 3], [1, 2, 3]):
            shop.run()
            shop.run()  # It is not due yet.
            assert shop.attempts() == attempts
            shop.make_due()

        assert len({(received.message.id, received.message.sent_at) for received in shop.received}) == 1
        assert (shop.rows(), shop.relay.dead_letters()) == ({}, [])

    def test_a_backoff(self, shop: Shop) -> None:
        """R3: The backoff is called with the number of the failed attempt."""
        asked: list[int] = []

        def backoff(attempt: int) -> float:
            asked.append(attempt)
            return 0.0

        shop.connect(work=Failing(2), backoff=backoff)
        shop.place(7)
        shop.run()
        shop.make_due()
        shop.run()
        shop.make_due()
        shop.run()

        assert (asked, shop.attempts()) == ([1, 2], [1, 2, 3])

    @pytest.mark.parametrize("error", [Broken, SystemExit, TimeoutError])
    def test_a_receiver_that_never_succeeds(self, shop: Shop, error: type[BaseException]) -> None:
        """R3: After its last attempt, a message is a dead letter, whatever the receiver raises; other messages are
        received.
        """
        shop.connect(work=Failing(only=7, error=error), max_attempts=2, backoff=3600)
        shop.place(6, 7, 8)
        shop.run()
        shop.make_due()
        shop.run()
        shop.make_due()
        shop.run()
        (letter,) = shop.relay.dead_letters()

        assert (sorted(shop.numbers()), shop.rows()) == ([6, 7, 7, 8], {})
        assert (letter.signal, letter.receiver, letter.attempts) == ("order-placed", "billing", 2)
        assert letter.message_id in shop.ids()
        assert letter.sent_at <= letter.died_at
        assert error.__name__ in letter.reason

    def test_a_reason(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        """R3: Neither the reason of a dead letter nor the log contains the payload."""

        def receive(sender: Any, *, customer: str, **_: Any) -> None:
            raise ValueError

        shop.order_placed.connect(receive, weak=False, via=shop.relay.durable("billing", max_attempts=1))
        shop.harness.send(shop.order_placed, "shop", order_id=7, customer=SECRET)
        shop.run()
        (letter,) = shop.relay.dead_letters()

        assert "ValueError" in letter.reason
        assert SECRET not in f"{letter}{caplog.text}"

    def test_dead_letters_are_listed(self, shop: Shop) -> None:
        """R3: Dead letters are listed from the oldest on, for one receiver or all, in pages, and one can be shown."""
        shop.connect("billing", Failing(), max_attempts=1)
        shop.connect("mail", Failing(), max_attempts=1)

        for number in (1, 2):
            shop.place(number)
            shop.run()

        letters = shop.relay.dead_letters()
        billing = shop.relay.dead_letters("billing")
        assert [letter.id for letter in letters] == sorted(letter.id for letter in letters)
        assert (len(letters), [letter.receiver for letter in billing]) == (4, ["billing", "billing"])
        assert shop.relay.dead_letters("billing", limit=1) == billing[:1]
        assert shop.relay.dead_letters("billing", after=billing[0].id) == billing[1:]
        assert shop.relay.dead_payload(billing[1].id) == '{"order_id":2,"customer":"Ada"}'
        assert {status.receiver: status.dead for status in shop.relay.status()} == {"billing": 2, "mail": 2}

    def test_dead_letters_are_retried(self, shop: Shop) -> None:
        """R3: A retried dead letter is received as if it had just been sent, with the same id."""
        shop.connect(work=Failing(2), max_attempts=1)
        shop.place(1)
        shop.place(2)
        shop.run()
        first, second = shop.relay.dead_letters()

        assert shop.relay.retry_dead(first.id, -1) == 1
        assert shop.relay.dead_letters() == [second]
        shop.run()
        assert (shop.attempts(), shop.rows()) == ([1, 1, 1], {})
        assert shop.ids()[2] == first.message_id

    def test_dead_letters_are_dropped(self, shop: Shop) -> None:
        """R3: A dropped dead letter is deleted."""
        shop.connect(work=Failing(), max_attempts=1)
        shop.place(1, 2)
        shop.run()
        first, second = shop.relay.dead_letters()

        assert shop.relay.drop_dead(first.id, -1) == 1
        assert shop.relay.dead_letters() == [second]
        assert shop.relay.dead_payload(first.id) is None

    def test_a_single_effect(self, shop: Shop) -> None:
        """R2: A message that is received twice has its effect once for each of its receivers."""
        effects: list[str] = []

        def make(name: str) -> Any:
            fail = Failing(1)

            def work(number: int) -> None:
                if shop.harness.transact(shop.relay.first_time):
                    effects.append(name)

                fail(number)  # After the commit, as if the worker died before it acknowledged.

            return work

        for name in ("billing", "mail"):
            shop.connect(name, make(name), backoff=3600)

        shop.place(7)
        shop.run()
        shop.make_due()
        shop.run()

        assert (shop.attempts("billing"), shop.attempts("mail")) == ([1, 2], [1, 2])
        assert sorted(effects) == ["billing", "mail"]

    def test_an_effect_that_is_rolled_back(self, shop: Shop) -> None:
        """R2: An effect whose transaction was rolled back is made when the message is received again."""
        found: list[bool] = []
        fail = Failing(1)

        def effect(session: Session) -> None:
            found.append(shop.relay.first_time(session))
            fail(0)

        shop.connect(work=lambda _: shop.harness.transact(effect), backoff=3600)
        shop.place(7)
        shop.run()
        shop.make_due()
        shop.run()

        assert (found, shop.attempts(), shop.rows()) == ([True, True], [1, 2], {})

    def test_the_clock(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """R3: The database's clock decides: a worker whose clock is slow receives the message of a sender whose clock
        is fast.
        """
        shop.connect()

        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: datetime(2100, 1, 1, tzinfo=UTC).timestamp())
            shop.place(7)

        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: 0.0)
            shop.run()

        assert shop.numbers() == [7]
        assert 2020 < shop.received[0].message.sent_at.year < 2100


class OrderContract:
    """Messages are received in order if their receiver has a key: R3."""

    def test_order(self, shop: Shop) -> None:
        """R3: Messages of one key are received one after the other, in the order in which they were sent."""
        lock = Lock()
        under_way: dict[str, int] = {}
        most: dict[str, int] = {}
        found: dict[str, list[int]] = {}

        def receive(sender: Any, *, order_id: int, customer: str) -> None:
            with lock:
                under_way[customer] = under_way.get(customer, 0) + 1
                most[customer] = max(most.get(customer, 0), under_way[customer])

            found.setdefault(customer, []).append(order_id)

            with lock:
                under_way[customer] -= 1

        shop.order_placed.connect(receive, weak=False, via=shop.relay.durable("billing", key="customer"))
        sent = [(number, "AB"[number % 2]) for number in range(20)]

        for number, customer in sent:
            shop.harness.send(shop.order_placed, "shop", order_id=number, customer=customer)

        shop.run()
        assert found == {"A": [*range(0, 20, 2)], "B": [*range(1, 20, 2)]}
        assert (most, shop.rows()) == ({"A": 1, "B": 1}, {})

    def test_a_message_that_holds_up_its_key(self, shop: Shop) -> None:
        """R3: A message that fails delays the later messages of its key until it succeeds, and no other messages."""
        shop.connect(work=Failing(1, only=1), key="customer", backoff=3600)
        self._send_keyed(shop)
        shop.run()
        assert sorted(shop.numbers()) == [1, 2, 4]

        shop.make_due()
        shop.run()
        assert (shop.numbers()[3:], shop.rows()) == ([1, 3, 5], {})

    def test_a_dead_letter_holds_up_nothing(self, shop: Shop) -> None:
        """R3: When a message has become a dead letter, the next message of its key is received."""
        shop.connect(work=Failing(only=1), key="customer", max_attempts=1)
        self._send_keyed(shop)
        shop.run()

        numbers = shop.numbers()
        assert [number for number in numbers if number % 2] == [1, 3, 5]
        assert (sorted(numbers), shop.rows(), len(shop.reasons())) == ([1, 2, 3, 4, 5], {}, 1)

    def test_order_holds_over_a_new_name(self, shop: Shop) -> None:
        """R3, R4: Messages of one key are received in order, even if the receiver was renamed between them."""
        before = shop.connect("invoices", key="customer")
        shop.place(1)
        shop.order_placed.disconnect(before)
        shop.connect("billing", Failing(1, only=1), aliases=["invoices"], key="customer", backoff=3600)
        shop.place(2)
        shop.run()
        assert shop.numbers() == [1]

        shop.make_due()
        shop.run()
        assert shop.numbers() == [1, 1, 2]

    def _send_keyed(self, shop: Shop) -> None:
        for number in range(1, 6):
            shop.harness.send(shop.order_placed, "shop", order_id=number, customer="AB"[number % 2])
