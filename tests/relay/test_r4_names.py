"""R4: names of receivers are explicit and stable, and each belongs to one receiver."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import StaticPool, create_engine

from aldis import InvalidOptionError, NamedSignal, Namespace
from aldis.relay import DrainCounts, Relay
from tests.relay.programs.shop import App, Shop, audit, bill, order_placed
from tests.relay.programs.worker_program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shop() -> Iterator[Shop]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield Shop(engine)
    engine.dispose()


def test_a_name_is_one_receivers(shop: Shop) -> None:
    """R4, E12: Another receiver with the same name is refused, on another signal too, and the message names it."""
    shop.connect(audit, via=shop.relay.durable("billing"))
    other: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)

    for signal in (shop.placed, other):
        with pytest.raises(
            InvalidOptionError, match=r"bill .*cannot be relay\.durable\('billing'\): .*audit .*has the name"
        ):
            signal.connect(bill, via=shop.relay.durable("billing"))

        assert not any(connection is bill for connection in signal.receivers.values())


@pytest.mark.parametrize(
    ("name", "aliases"), [("old", []), ("new", ["billing"]), ("new", ["old"]), ("new", ["else", "old"])]
)
def test_an_alias_is_one_receivers(shop: Shop, name: str, aliases: list[str]) -> None:
    """R4, E12: Neither a name nor an alias may be another receiver's name or alias, because rows could go to either."""
    shop.connect(audit, via=shop.relay.durable("billing", aliases=["old"]))

    with pytest.raises(InvalidOptionError, match="Give each receiver a name of its own"):
        shop.connect(bill, via=shop.relay.durable(name, aliases=aliases))


def test_a_name_is_free_when_its_receiver_is_gone(shop: Shop) -> None:
    """A receiver that was disconnected or collected frees its name."""
    queue = shop.relay.durable("billing")
    shop.connect(audit, via=queue)
    shop.placed.disconnect(audit)
    held = [shop.receiver("first")]
    shop.placed.connect(held[0], via=queue)
    held.clear()
    gc.collect()

    shop.connect(bill, via=queue)
    assert list(shop.placed.receivers.values()) == [bill]


def test_other_relays_have_names_of_their_own(shop: Shop) -> None:
    """Names of another relay do not count."""
    shop.connect(audit, via=shop.relay.durable("billing"))
    shop.connect(bill, via=Relay(shop.engine).durable("billing"))

    assert len(shop.placed.receivers) == 2


def test_one_receiver_may_have_several_names(shop: Shop) -> None:
    """A receiver that is connected to two signals may have a name for each."""
    other: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
    shop.connect(audit, via=shop.relay.durable("billing"))
    other.connect(audit, via=shop.relay.durable("shipping"))
    shop.placed.send("shop", order_id=1)
    other.send("shop", order_id=1)

    assert shop.values("receiver") == ["billing", "shipping"]


def test_one_queue_for_several_signals(shop: Shop) -> None:
    """A receiver of two signals may have one name, with one set of options."""

    @shop.signals.declare
    def order_cancelled(sender: Any, /, *, order_id: int) -> None: ...

    queue = shop.relay.durable("billing", max_attempts=3)
    receive = shop.receiver("receive")
    shop.connect(receive, via=queue)
    order_cancelled.connect(receive, via=shop.relay.durable("billing", max_attempts=3))
    shop.placed.send("shop", order_id=1)
    order_cancelled.send("shop", order_id=2)
    shop.relay.drain()
    assert shop.log == [("receive", 1), ("receive", 2)]

    with pytest.raises(InvalidOptionError, match=r"with other options.*Call relay\.durable\(\) once"):
        order_cancelled.connect(receive, via=shop.relay.durable("billing", max_attempts=4))


def test_connecting_again_changes_the_options(shop: Shop) -> None:
    """A second connect replaces the options and the name, at once."""
    shop.connect(audit, via=shop.relay.durable("billing", max_attempts=3))
    shop.connect(audit, via=shop.relay.durable("billing", max_attempts=4))
    shop.connect(audit, via=shop.relay.durable("invoices", aliases=["billing"]))
    shop.placed.send("shop", order_id=1)
    assert shop.values("receiver") == ["invoices"]

    shop.connect(audit)
    assert shop.placed.send("shop", order_id=2) == [(audit, None)]
    assert shop.values("receiver") == ["invoices"]


def test_a_module_that_is_loaded_again(shop: Shop) -> None:
    """A function of the same module and name replaces the earlier one, because it is the same receiver."""
    source = "def invoice(sender, *, order_id, **extra): log.append((word, order_id))"

    for word in ("before", "after"):
        space = {"__name__": "shop.receivers", "log": shop.log, "word": word}
        exec(source, space)
        shop.connect(space["invoice"], via=shop.relay.durable("billing"))

    shop.placed.send("shop", order_id=1)
    shop.relay.drain()
    assert shop.log == [("after", 1)]


def test_an_application_that_is_made_again(shop: Shop) -> None:
    """An application factory connects a receiver for each application, and each gets its own application's messages."""
    apps = [App(), App()]

    for number, app in enumerate(apps):
        shop.relay.register_sender(app, f"app {number}")
        shop.placed.connect(shop.receiver(f"of {number}"), app, weak=False, via=shop.relay.durable("billing"))

    shop.placed.send(apps[1], order_id=1)
    shop.placed.send(apps[0], order_id=2)
    shop.relay.drain()
    assert shop.log == [("of 1", 1), ("of 0", 2)]


def test_a_signal_that_is_declared_again(shop: Shop) -> None:
    """Of two signals of one name, as after a reload of a module, the one that was connected last receives."""
    other: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
    shop.connect(shop.receiver("first"), via=shop.relay.durable("billing"))
    other.connect(shop.receiver("second"), weak=False, via=shop.relay.durable("billing"))
    shop.placed.send("shop", order_id=1)
    shop.relay.drain()
    assert shop.log == [("second", 1)]

    shop.connect(shop.receiver("third"), via=shop.relay.durable("billing"))
    other.send("shop", order_id=2)
    shop.relay.drain()
    assert shop.log == [("second", 1), ("third", 2)]


def test_a_receiver_that_is_connected_for_another_sender(shop: Shop) -> None:
    """R4, R5: A row from a sender that its receiver is no longer connected for waits, visible."""

    @shop.signals.declare
    def order_cancelled(sender: Any, /, *, order_id: int) -> None: ...

    queue = shop.relay.durable("billing")
    shop.placed.connect(audit, "before", weak=False, via=queue)
    order_cancelled.connect(audit, "before", weak=False, via=queue)
    shop.placed.send("before", order_id=1)
    shop.placed.disconnect(audit)
    shop.placed.connect(audit, "after", weak=False, via=queue)
    shop.connect(bill, via=shop.relay.durable("shipping"))

    assert shop.relay.drain() == DrainCounts(waiting=1)
    assert shop.relay.status()[0].failure == "no receiver of that name is connected for that sender here"


def test_lambdas_are_told_apart(shop: Shop) -> None:
    """E12: Two lambdas of one module are two receivers, because they have no names."""
    shop.connect(lambda sender, **payload: None, via=shop.relay.durable("billing"))

    with pytest.raises(InvalidOptionError, match="Give each receiver a name of its own"):
        shop.connect(lambda sender, **payload: None, via=shop.relay.durable("billing"))


class Mailer:
    """A receiver, and its method another one."""

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def welcome(self, sender: Any, **payload: Any) -> None: ...


def test_objects_and_methods(shop: Shop) -> None:
    """Objects, methods and partials are the same receiver if they belong to the same object."""
    mailer = Mailer()
    part = partial(audit, extra=1)

    for name, receiver in (("object", mailer), ("method", mailer.welcome), ("partial", part)):
        shop.connect(receiver, via=shop.relay.durable(name))
        shop.connect(receiver, "shop", via=shop.relay.durable(name))

    shop.connect(mailer.welcome, via=shop.relay.durable("method"))

    for name, receiver in (("object", Mailer()), ("method", Mailer().welcome), ("partial", partial(audit, extra=1))):
        with pytest.raises(InvalidOptionError, match="Give each receiver a name of its own"):
            shop.connect(receiver, via=shop.relay.durable(name))


class Orders:
    """A module that declares signals."""

    @staticmethod
    def saved(sender: str, /, *, order_id: int) -> object: ...


class Users:
    """Another module that declares signals."""

    @staticmethod
    def saved(sender: str, /, *, name: str) -> object: ...


def test_one_queue_for_two_signals_of_a_name_is_refused(program: Program) -> None:
    """R4: One name for two signals of the same name is refused, because each would get the other's messages."""
    orders: NamedSignal[Any, ..., Any] = Namespace().declare(Orders.saved)
    users: NamedSignal[Any, ..., Any] = Namespace().declare(Users.saved)
    queue = program.relay.durable("search.index")

    def index(sender: str, **payload: object) -> None: ...

    orders.connect(index, via=queue)

    with pytest.raises(InvalidOptionError, match=r"another signal of the name 'saved'.*another relay"):
        users.connect(index, via=queue)


def test_each_of_two_signals_of_a_name_gets_its_own(program: Program) -> None:
    """R4: With a name for each, a receiver gets the messages of both signals of a name, as each declares them."""
    orders: NamedSignal[Any, ..., Any] = Namespace().declare(Orders.saved)
    users: NamedSignal[Any, ..., Any] = Namespace().declare(Users.saved)
    got: list[dict[str, object]] = []

    def index(sender: str, **payload: object) -> None:
        got.append(payload)

    orders.connect(index, via=program.relay.durable("index.orders"))
    users.connect(index, via=program.relay.durable("index.users"))
    orders.send("shop", order_id=7)
    users.send("shop", name="Ann")

    assert program.relay.drain() == DrainCounts(done=2)
    assert sorted(got, key=str) == [{"name": "Ann"}, {"order_id": 7}]


def test_a_signal_that_is_made_again_takes_the_queue(program: Program) -> None:
    """A namespace that is made again for each application declares the same signals, for the same receivers."""
    queue = program.relay.durable("search.index")
    got: list[dict[str, object]] = []

    def index(sender: str, **payload: object) -> None:
        got.append(payload)

    first, second = Namespace().declare(Orders.saved), Namespace().declare(Orders.saved)
    first.connect(index, via=queue)
    second.connect(index, via=queue)
    first.send("shop", order_id=7)

    assert program.relay.drain() == DrainCounts(done=1)
    assert got == [{"order_id": 7}]
