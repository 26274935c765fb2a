"""relay.durable() and relay.forward(): options, backoffs, keys, and what a send writes (R2, R4, E12)."""

from __future__ import annotations

import asyncio
import gc
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import StaticPool, create_engine

from aldis import InvalidOptionError, InvalidReceiverError, Namespace
from aldis.relay import DrainCounts, Durable, Exponential, Forward, Relay
from tests.relay.programs.shop import Shop, audit, bill, failing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shop() -> Iterator[Shop]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield Shop(engine)
    engine.dispose()


# Options.

BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "max_attempts must be 1 or more, an int, not 0"),
    ({"max_attempts": -1}, "max_attempts must"),
    ({"max_attempts": 1.0}, r"max_attempts must .* not 1\.0"),
    ({"max_attempts": True}, "max_attempts must .* not True"),
    ({"max_attempts": "3"}, "max_attempts must .* not '3'"),
    ({"max_attempts": None}, "max_attempts must .* not None"),
    ({"timeout_s": 0}, r"timeout_s must be a number, 0\.001 or more, not 0"),
    ({"timeout_s": -1}, "timeout_s must"),
    ({"timeout_s": math.nan}, "timeout_s must .* not nan"),
    ({"timeout_s": math.inf}, "timeout_s must .* not inf"),
    ({"timeout_s": "5"}, "timeout_s must .* not '5'"),
    ({"timeout_s": True}, "timeout_s must .* not True"),
    ({"backoff": -1}, "backoff must be seconds, or a callable.*not -1"),
    ({"backoff": "5"}, "backoff must .* not '5'"),
    ({"backoff": math.nan}, "backoff must .* not nan"),
    ({"backoff": math.inf}, "backoff must .* not inf"),
    ({"backoff": True}, "backoff must .* not True"),
    ({"backoff": Exponential}, r"such as Exponential\(\), not .*Exponential"),
    ({"backoff": [1, 2]}, "backoff must"),
    ({"key": 3}, "key must be the name of a keyword, not 3"),
    ({"key": ["order_id"]}, "key must be the name of a keyword"),
    ({"aliases": 3}, "aliases must be names that the receiver had before, not 3"),
    ({"aliases": None}, "aliases must be names"),
    ({"aliases": [3]}, "not 3"),
    ({"aliases": ["a", ""]}, "not ''"),
    ({"aliases": " a"}, "not ' a'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_a_bad_option_is_refused(shop: Shop, options: dict[str, Any], message: str) -> None:
    """E12: An option that is not of its kind is refused when the queue is made, with what it must be."""
    with pytest.raises(InvalidOptionError, match=message):
        shop.relay.durable("billing", **options)


def test_an_async_backoff_is_refused(shop: Shop) -> None:
    """E12: Nobody would await it."""

    async def wait(attempt: int) -> float:
        return 1.0

    with pytest.raises(InvalidOptionError, match=r"backoff must .* not .*wait"):
        shop.relay.durable("billing", backoff=wait)  # type: ignore[arg-type]


NO_NAMES: list[Any] = ["", " ", " billing", "billing\n", "a\x00b", "a\tb", "\ud800", "x" * 201, 3, None, b"billing"]


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_a_bad_name_is_refused(shop: Shop, name: Any) -> None:
    """E12: A name is a text that any database keeps as it is."""
    for make in (shop.relay.durable, partial(shop.relay.forward, shop.placed)):
        with pytest.raises(InvalidOptionError, match=r"name is a text of up to 200 characters.*do not derive it"):
            make(name)

    assert not shop.placed.receivers


@pytest.mark.parametrize("name", ["billing", "mail.welcome", "a b", "Rechnung für Löwen", "\U0001f981", "x" * 200])
def test_a_good_name_stands_in_the_row(shop: Shop, name: str) -> None:
    """R4: The name that was given is what the row has."""
    shop.connect(audit, via=shop.relay.durable(name))
    shop.placed.send("shop", order_id=1)

    assert shop.values("receiver") == [name]


def test_what_a_queue_shows(shop: Shop) -> None:
    """A queue has its options as attributes, and a repr that names it."""
    queue = shop.relay.durable("billing", max_attempts=3, timeout_s=5, key="order_id", aliases="invoices", backoff=2)

    assert isinstance(queue, Durable)
    assert repr(queue) == "relay.durable('billing')"
    assert (queue.name, queue.names, queue.aliases) == ("billing", ("billing", "invoices"), ("invoices",))
    assert (queue.max_attempts, queue.timeout_s, queue.key) == (3, 5, "order_id")
    assert [queue.backoff(attempt) for attempt in (1, 5)] == [2.0, 2.0]
    assert shop.relay.durable("a", aliases=iter(["b", "c"])).aliases == ("b", "c")
    assert shop.relay.durable("a").timeout_s is None


# Backoffs.


def test_the_usual_backoff_doubles() -> None:
    """R3: The usual wait is a second, then twice as long each time, up to an hour, give or take a quarter."""
    backoff = Exponential()
    usual = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]

    for attempt, seconds in enumerate(usual, start=1):
        waits = [backoff(attempt) for _ in range(200)]
        assert all(0.75 * seconds <= wait <= 1.25 * seconds for wait in waits)
        assert max(waits) - min(waits) > 0.25 * seconds  # By chance: what failed together does not come back together.

    assert backoff(10**6) <= 4500


def test_an_exponential_of_ones_own() -> None:
    """Its two limits are settings, which it shows."""
    backoff = Exponential(0.5, 3)

    assert repr(backoff) == "Exponential(first_s=0.5, longest_s=3)"
    assert (backoff.first_s, backoff.longest_s) == (0.5, 3)
    assert 0.375 <= backoff(1) <= 0.625
    assert 2.25 <= backoff(9) <= 3.75


NO_LIMITS: list[tuple[Any, Any]] = [(0, 1), (-1, 1), (2, 1), (math.nan, 1), (1, math.nan), (1, math.inf), ("1", 2)]


@pytest.mark.parametrize(("first_s", "longest_s"), [*NO_LIMITS, (1, None), (True, 2), (1, 1e9)])
def test_an_exponential_without_sense_is_refused(first_s: Any, longest_s: Any) -> None:
    """E12: Its limits are positive seconds in their order."""
    with pytest.raises(InvalidOptionError, match=r"Exponential\(\) takes seconds"):
        Exponential(first_s, longest_s)


@pytest.mark.parametrize(
    ("backoff", "expected_s"),
    [
        (90, 90),
        (lambda attempt: 100 * attempt, 100),
        (lambda attempt: -5, 0),
        (lambda attempt: math.inf, 366 * 86400),
        (lambda attempt: math.nan, 60),
        (lambda attempt: None, 60),
        (lambda attempt: 1 / 0, 60),
    ],
    ids=["seconds", "callable", "negative", "endless", "NaN", "nothing", "raises"],
)
def test_how_long_a_message_waits(shop: Shop, backoff: Any, expected_s: float) -> None:
    """R3: A message that failed waits for as long as the backoff says; a minute if that makes no sense."""
    shop.connect(failing, via=shop.relay.durable("billing", backoff=backoff))
    shop.placed.send("shop", order_id=1)
    ended = shop.relay.drain()

    if expected_s == 0:
        assert ended == DrainCounts(failed=19, dead=1)
        return

    assert ended == DrainCounts(failed=1)
    (due_ms,), (sent_ms,) = shop.values("due_ms"), shop.values("sent_ms")
    assert expected_s * 1000 <= due_ms - sent_ms < (expected_s + 30) * 1000


# What a send gives and writes.


def test_what_a_send_gives(shop: Shop) -> None:
    """The result has the message's id for each durable receiver: the same for all of one send; another for each."""
    shop.connect(audit, via=shop.relay.durable("a"))
    shop.connect(bill, via=shop.relay.durable("b"))
    shop.connect(shop.receiver("at once"))
    results = [dict(shop.placed.send("shop", order_id=number)) for number in (1, 2)]

    assert [results[0][audit], results[0][audit], results[1][audit], results[1][audit]] == shop.values("message_id")
    assert results[0][audit] == results[0][bill] != results[1][audit]
    assert str(UUID(results[0][audit])) == results[0][audit]


def test_one_row_for_each_receiver(shop: Shop) -> None:
    """R2: Who is connected for a sender and for any, or twice by one name, has one row of a send."""
    shop.connect(audit, via=shop.relay.durable("a"))
    shop.connect(audit, "shop", via=shop.relay.durable("a"))
    shop.connect(shop.receiver("one"), via=shop.relay.durable("b"))
    shop.connect(shop.receiver("two"), via=shop.relay.durable("b"))
    shop.placed.send("shop", order_id=1)

    assert shop.values("receiver") == ["a", "b"]


def test_a_send_without_durable_receivers_writes_nothing(shop: Shop) -> None:
    """Receivers of another sender, muted ones, and those that were disconnected before their turn have no row."""
    shop.placed.connect(audit, "other", weak=False, via=shop.relay.durable("a"))
    shop.placed.send("shop", order_id=1)

    with shop.placed.muted(audit):
        shop.placed.send("other", order_id=1)

    def disconnect(sender: Any, **payload: Any) -> None:
        shop.placed.disconnect(audit)

    shop.connect(disconnect, priority=1)
    shop.placed.send("other", order_id=1)
    assert shop.values("receiver") == []


def test_a_once_receiver(shop: Shop) -> None:
    """once=True is for sends: the first writes a row. Whoever receives it needs a connection that lasts."""
    shop.connect(audit, once=True, via=shop.relay.durable("a"))
    shop.placed.send("shop", order_id=1)
    shop.placed.send("shop", order_id=2)

    assert shop.values("receiver") == ["a"]


def test_receivers_of_several_relays(shop: Shop) -> None:
    """Each relay writes its own message."""
    other = Relay(shop.engine)
    shop.connect(audit, via=shop.relay.durable("a"))
    shop.connect(bill, via=other.durable("b"))
    results = dict(shop.placed.send("shop", order_id=1))

    assert results[audit] != results[bill]
    assert shop.values("message_id") == [results[audit], results[bill]]


def test_send_async_writes_too(shop: Shop) -> None:
    """send_async writes what send does, with a relay whose database is sync."""
    shop.connect(audit, via=shop.relay.durable("a"))
    ((_, message_id),) = asyncio.run(shop.placed.send_async("shop", order_id=1))

    assert shop.values("message_id") == [message_id]


def test_a_receiver_that_stops_the_send(shop: Shop) -> None:
    """Rows are written for those whose turn came before a receiver's exception stopped the send."""
    shop.connect(audit, priority=2, via=shop.relay.durable("before"))
    shop.connect(failing, priority=1)
    shop.connect(bill, via=shop.relay.durable("after"))

    with pytest.raises(LookupError):
        shop.placed.send("shop", order_id=1)

    assert shop.values("receiver") == ["before"]


# Keys.


class Size(Enum):
    SMALL = "small"


KEYS: dict[str, tuple[Any, Any, str | None]] = {
    "int": (int, 7, "7"),
    "str": (str, "Ada", "Ada"),
    "UUID": (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "Decimal": (Decimal, Decimal("1.50"), "1.50"),
    "datetime": (datetime, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    "Enum": (Size, Size.SMALL, "Size.SMALL"),
    "nothing": (int | None, None, None),
    "empty": (str, "", ""),
    "zero": (int, 0, "0"),
    "long": (str, "x" * 200, "x" * 200),
    "too long": (str, "x" * 201, sha256(b"x" * 201).hexdigest()),
    "not printable": (str, "a\x00", sha256(b"a\x00").hexdigest()),
}


@pytest.mark.parametrize(("annotation", "value", "expected"), KEYS.values(), ids=KEYS.keys())
def test_the_key_of_a_row(shop: Shop, annotation: Any, value: Any, expected: str | None) -> None:
    """A row has the key's value as a text that every database keeps; None is no value."""

    def order_placed(sender: Any, /, *, customer: Any) -> None: ...

    order_placed.__annotations__["customer"] = annotation
    signal = shop.signals["of keys"] = Namespace().declare(order_placed)
    signal.connect(audit, via=shop.relay.durable("billing", key="customer"))
    signal.send("shop", customer=value)

    assert shop.values("ordering_key") == [expected]


def test_a_key_that_not_every_database_takes(ready_postgresql_url: str, make_engine: Any) -> None:
    """A key with a zero byte, which PostgreSQL does not take, is written as another text that stands for it."""
    relay = Relay(make_engine(ready_postgresql_url))
    relay.create_tables()

    @(signals := Namespace()).declare
    def order_placed(sender: Any, /, *, customer: str) -> None: ...

    order_placed.connect(audit, via=relay.durable("billing", key="customer"))
    order_placed.send("shop", customer="a\x00")

    assert relay.drain() == DrainCounts(done=1)
    assert signals


@pytest.mark.parametrize("make", ["queue", "route"])
def test_a_key_that_is_no_keyword_is_refused(shop: Shop, make: str) -> None:
    """E12: The key must be one of the declared keywords; the message names them."""
    with pytest.raises(InvalidOptionError, match=r"key='order' is not a keyword of .*: order_id, note"):
        if make == "queue":
            shop.connect(audit, via=shop.relay.durable("billing", key="order"))
        else:
            shop.relay.forward(shop.placed, "billing", key="order")

    @shop.signals.declare
    def shop_closed(sender: Any, /) -> None: ...

    with pytest.raises(InvalidOptionError, match="It has: none"):
        shop_closed.connect(lambda sender: None, weak=False, via=shop.relay.durable("billing", key="order"))


def test_a_signal_whose_name_is_too_long(shop: Shop) -> None:
    """E12: A signal whose name the rows could not have is refused at connect."""
    space: dict[str, Any] = {}
    name = "x" * 201
    exec(f"def {name}(sender, /): ...", space)
    signal = shop.signals.declare(space[name])

    with pytest.raises(InvalidReceiverError, match="is longer than 200 characters"):
        signal.connect(audit, via=shop.relay.durable("billing"))


# Routes.


def test_a_route_writes_for_another_service(shop: Shop) -> None:
    """R4: A route writes rows for a receiver that is not connected here; it is received where it is."""
    route = shop.relay.forward(shop.placed, "elsewhere", key="order_id")
    ((found, message_id),) = shop.placed.send("shop", order_id=7)
    assert found is route
    assert (shop.values("message_id"), shop.values("ordering_key")) == ([message_id], ["7"])
    assert shop.relay.drain() == DrainCounts()

    there = Shop(shop.engine)
    there.connect(there.receiver("there"), via=there.relay.durable("elsewhere", key="order_id"))
    assert there.relay.drain() == DrainCounts(done=1)
    assert there.log == [("there", 7)]


def test_a_route_of_one_sender_and_its_end(shop: Shop) -> None:
    """A route takes a sender filter, is kept by the signal, and ends when it is disconnected."""
    shop.relay.forward(shop.placed, "elsewhere", sender="shop")
    gc.collect()
    shop.placed.send("other", order_id=1)
    shop.placed.send("shop", order_id=2)
    assert shop.values("receiver") == ["elsewhere"]

    (route,) = shop.placed.receivers.values()
    assert isinstance(route, Forward)
    assert repr(route) == "relay.forward('elsewhere')"
    shop.placed.disconnect(route)
    shop.placed.send("shop", order_id=3)
    assert shop.values("receiver") == ["elsewhere"]


def test_a_route_beside_the_receiver_writes_one_row(shop: Shop) -> None:
    """A route by a name that is connected here too, as in a service that was merged, adds no second row."""
    shop.relay.forward(shop.placed, "billing")
    shop.connect(audit, via=shop.relay.durable("billing"))
    shop.placed.send("shop", order_id=1)

    assert shop.values("receiver") == ["billing"]
    assert shop.relay.drain() == DrainCounts(done=1)


def test_a_route_of_any_payload(shop: Shop) -> None:
    """A route fits every declaration, also one with keywords named as its own parameters."""

    @shop.signals.declare
    def odd(s: Any, /, *, self: int, sender: int) -> None: ...

    shop.relay.forward(odd, "elsewhere")
    odd.send(None, self=1, sender=2)

    assert shop.values("receiver") == ["elsewhere"]


def test_a_route_is_checked_as_a_queue_is(shop: Shop) -> None:
    """E12: Signals that are not declared are refused for routes too."""
    with pytest.raises(InvalidReceiverError, match="not declared"):
        shop.relay.forward(shop.signals.signal("bare"), "elsewhere")
