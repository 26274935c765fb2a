"""Signals of the same name, in several namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aldis import InvalidOptionError, NamedSignal, Namespace
from aldis.relay import DrainCounts

from .works import Works

if TYPE_CHECKING:
    from .conftest import MakeEngine


class Orders:
    """Stands for a module that declares signals."""

    @staticmethod
    def saved(sender: str, /, *, order_id: int) -> object: ...


class Users:
    """Stands for another."""

    @staticmethod
    def saved(sender: str, /, *, name: str) -> object: ...


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


def test_one_queue_for_two_signals_of_a_name_is_refused(works: Works) -> None:
    """R4: A row knows its signal by the name, so one queue cannot be for two: each would get what is the other's."""
    orders: NamedSignal[Any, ..., Any] = Namespace().declare(Orders.saved)
    users: NamedSignal[Any, ..., Any] = Namespace().declare(Users.saved)
    queue = works.relay.durable("search.index")

    def index(sender: str, **payload: object) -> None: ...

    orders.connect(index, via=queue)

    with pytest.raises(InvalidOptionError, match=r"another signal of the name 'saved'.*another relay"):
        users.connect(index, via=queue)


def test_each_of_two_signals_of_a_name_gets_its_own(works: Works) -> None:
    """R4: With a queue for each, a receiver gets the messages of both signals of a name, as each declares them."""
    orders: NamedSignal[Any, ..., Any] = Namespace().declare(Orders.saved)
    users: NamedSignal[Any, ..., Any] = Namespace().declare(Users.saved)
    got: list[dict[str, object]] = []

    def index(sender: str, **payload: object) -> None:
        got.append(payload)

    orders.connect(index, via=works.relay.durable("index.orders"))
    users.connect(index, via=works.relay.durable("index.users"))
    orders.send("shop", order_id=7)
    users.send("shop", name="Ann")

    assert works.relay.drain() == DrainCounts(done=2)
    assert sorted(got, key=str) == [{"name": "Ann"}, {"order_id": 7}]


def test_a_signal_that_is_made_again_takes_the_queue(works: Works) -> None:
    """A namespace that is made anew for each application declares the same signals, for the same receivers."""
    queue = works.relay.durable("search.index")
    got: list[dict[str, object]] = []

    def index(sender: str, **payload: object) -> None:
        got.append(payload)

    first, second = Namespace().declare(Orders.saved), Namespace().declare(Orders.saved)
    first.connect(index, via=queue)
    second.connect(index, via=queue)
    first.send("shop", order_id=7)

    assert works.relay.drain() == DrainCounts(done=1)
    assert got == [{"order_id": 7}]
