"""Code that type checkers must accept, with the types that they must find. check.py checks it; it is never executed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, assert_type

from flask import Flask, Response
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis import ANY, Failure, NamedSignal, Namespace, Signal, default_namespace, signal
from aldis._core.delivery import Delivery, DeliveryGroup
from aldis.aio import Concurrent, async_to_sync, sync_to_async
from aldis.delivery import Call, ThreadDelivery, threads
from aldis.flask import Aldis, after_response, got_request_exception, request_finished, template_rendered
from aldis.observe import ConnectionRecord, connections, slow_receivers, watch
from aldis.relay import (
    DeadLetter,
    DrainCounts,
    Durable,
    Exponential,
    Forward,
    Message,
    ReceiverStatus,
    Relay,
    RelayError,
)
from aldis.testing import fake, isolate, record

Results: TypeAlias = list[tuple[Callable[..., Any], Any]]


class App:
    """Replacement for a Flask application."""


app = App()
signals = Namespace(
    errors="collect", async_wrapper=async_to_sync, sync_wrapper=sync_to_async, async_policy=Concurrent()
)

# A signal that is not declared accepts any receiver, any sender and any payload, as in Blinker.

saved = signals.signal("saved", "A row was saved.")
assert_type(saved.name, str)
assert_type(saved.send(), Results)
assert_type(saved.send(app, anything=1, at="all"), Results)
saved.send(None, _async_wrapper=async_to_sync, row=1)


@saved.connect
def audit(sender: App, *, row: int) -> str:
    return f"{sender} {row}"


@saved.connect(sender=app, weak=False, priority=10, once=True, via=threads(ThreadPoolExecutor()))
def index(sender: object, **payload: object) -> None: ...


@saved.connect_via(app)
def mail(sender: App, row: int = 0) -> float:
    return row / 2


# Decorators do not change the receivers' own types.
assert_type(audit(app, row=1), str)
assert_type(index(None, x=1), None)
assert_type(mail(app), float)
saved.connect(mail, app)(app, row=1).is_integer()
saved.connect(partial(audit, row=1), ANY, weak=False)
saved.connect(print)
saved.disconnect(audit)
saved.disconnect(audit, sender=app)

with saved.connected_to(mail, sender=app), saved.muted(), saved.muted(audit, mail):
    pass

# Signals made by hand, with and without type arguments.

bare = Signal("made by hand")
bare.connect(audit)
assert_type(bare.send(app, row=1), Results)
named = NamedSignal("by-hand", errors=print)
named.connect(audit)
named.send(app, row=1)
signal("default").send(1, x=2)
default_namespace.signal("default").send("sender")


def plugs_in(any_signal: Signal, any_named: NamedSignal) -> None:
    """Use annotations as code for Blinker has them, without type arguments."""
    any_signal.connect(audit)
    any_signal.send(app, row=1)
    any_signal.connect_via(app)(mail)
    any_named.send(app)
    any_named.connect(audit, sender=app)


plugs_in(bare, named)
plugs_in(saved, saved)

# A declared signal has the types of its declaration.


@signals.declare
def user_registered(sender: App, /, *, user_id: int, plan: str = "free") -> None:
    """Sent after a user row is written."""


@signals.declare(errors="propagate")
def price_asked(sender: App, /, *, item: str) -> int:
    raise NotImplementedError


@signals.declare
def anything_happened(sender: object, /, *, what: str, **extra: object) -> None: ...


plugs_in(user_registered, user_registered)

user_registered.send(app, user_id=7)
user_registered.send(app, user_id=7, plan="paid")
anything_happened.send("any sender", what="rain", where="here")
assert_type(price_asked.send(app, item="tea"), list[tuple[Callable[..., Any], int]])
assert_type(user_registered.send(app, user_id=1), list[tuple[Callable[..., Any], None]])


@user_registered.connect
def exact(sender: App, *, user_id: int, plan: str = "free") -> None: ...


@user_registered.connect
def wide(sender: object, *, user_id: float, **extra: object) -> None: ...


@user_registered.connect
def positional(sender: App, user_id: int, plan: str = "") -> None: ...


@user_registered.connect(sender=app, priority=1)
def with_options(sender: App, *, user_id: int, **extra: object) -> None: ...


@user_registered.connect_via(app)
def by_sender(sender: App, **payload: object) -> None: ...


@price_asked.connect
def price(sender: App, *, item: str) -> int:
    return len(item)


@price_asked.connect
async def price_later(sender: App, *, item: str) -> int:
    return len(item)


@user_registered.connect(weak=False)
async def later(sender: App, *, user_id: int, **extra: object) -> None: ...


class Mailer:
    """An object with a bound method as receiver, which is also a callable object."""

    def welcome(self, sender: App, *, user_id: int, **extra: object) -> None: ...

    def __call__(self, sender: App, *, user_id: int, **extra: object) -> None: ...


user_registered.connect(Mailer().welcome)
user_registered.connect(Mailer(), weak=False)


async def sends() -> None:
    assert_type(await price_asked.send_async(app, item="tea"), list[tuple[Callable[..., Any], int]])
    assert_type(await saved.send_async(app, row=1), Results)
    await saved.send_async(app, _sync_wrapper=sync_to_async, row=1)


# Custom policies and deliveries.


def note(failure: Failure) -> None:
    assert_type(failure.exception, Exception)
    failure.signal.send(failure.sender)


class Now:
    """A delivery."""

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None: ...

    def deliver(self, call: Call, /) -> object:
        return call()


class Backwards:
    """An async policy."""

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        for call in reversed(calls):
            await call()


def ensure_sync(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Copy the signature of a Flask application's ensure_sync."""
    return receiver


assert_type(threads(ThreadPoolExecutor()), ThreadDelivery)
now: Delivery = Now()
saved.connect(audit, via=now)
user_registered.connect(exact, via=Now())
user_registered.errors = "collect"
user_registered.errors = note
user_registered.async_policy = Backwards()
user_registered.async_wrapper = ensure_sync
policies = Namespace({"saved": saved}, errors=note, async_policy=Backwards())


class Outgoing:
    """A group of deliveries."""

    def open(
        self, signal: Signal[Any, ..., Any], sender: Any, payload: dict[str, Any], is_awaited: bool, /
    ) -> list[Call]:
        return []

    def close(self, opened: list[Call], /) -> None: ...


class Later(Now):
    """A delivery of a group."""

    group: DeliveryGroup = Outgoing()


saved.connect(audit, via=Later())

# Queries.

if saved.receivers and saved.has_receivers_for(app):
    assert_type(len(saved.receivers), int)
    assert_type(saved.receivers_for(app), Iterator[Callable[..., Any]])
    saved.receivers.clear()

saved.receiver_connected.connect(audit)
saved.is_muted = not saved.is_muted
assert_type(signals["saved"].name, str)
contract = user_registered.contract

if contract is not None:
    contract(app, user_id=7)

# Subclasses, as programs that use Blinker write them.


class Loud(Signal):
    """A subclass without type arguments."""

    def send(self, sender: Any = None, /, **payload: Any) -> Results:
        return super().send(sender, **payload)

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
        yield from super().receivers_for(sender)


S = TypeVar("S")


class Typed(NamedSignal[S, ..., str], Generic[S]):
    """A subclass with type arguments."""


class Plugins(Namespace):
    """A namespace with a method of its own."""

    def event(self, name: str) -> NamedSignal:
        return self.signal(f"event-{name}")


loud = Loud("says so")
loud.connect(audit)
loud.send(app, row=1)
plugs_in(loud, named)
assert_type(Typed[App]("typed").send(app), list[tuple[Callable[..., Any], str]])
plugins = Plugins(errors="collect")
plugins.event("login").send(app, user=1)
plugins.signal("logout").connect(audit)


@plugins.declare
def page_seen(sender: App, /, *, path: str) -> None: ...


page_seen.send(app, path="/")


# Flask's and Quart's own signals, and deliveries.


@request_finished.connect
def count_response(sender: Flask, *, response: Response) -> None: ...


@request_finished.connect(via=after_response)
def count_later(sender: Flask, **extra: object) -> None: ...


@got_request_exception.connect(priority=5)
def alert(sender: Flask, *, exception: Exception, **extra: object) -> None: ...


template_rendered.connect(index)
Aldis(Flask("shop"), show=[signals, user_registered])

# Tests.

with record(user_registered) as recording:
    user_registered.send(app, user_id=7)
    assert_type(recording.one().payload, dict[str, Any])
    assert_type(recording.last().payload, dict[str, Any])

with fake(user_registered), isolate(signals), watch(print):
    user_registered.send(app, user_id=7)

with record(), fake(), isolate(), watch(print):
    assert_type(connections()[0].place, str | None)

with record(user_registered, signals, [saved, signals], sender=app), fake([user_registered], {saved}, only=index):
    assert_type(connections(user_registered, signals, (saved, [signals])), list[ConnectionRecord])

with isolate(user_registered, [signals]), watch(print, user_registered, signals, {"saved": saved}, (saved,)):
    slow_receivers(1.0, signals, [saved], every_s=5)

# The relay.


def upgraded(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "plan": "free"}


@signals.declare(version=2, upgraders={1: upgraded}, errors="collect")
def order_placed(sender: App, /, *, order_id: int) -> None: ...


engine = create_engine("sqlite://")
relay = Relay(engine, notify=False, wait_s=5)
Relay(sessionmaker(engine))
Relay(scoped_session(sessionmaker(engine)))
Relay(create_async_engine("sqlite+aiosqlite://"))
queue = relay.durable(
    "billing.invoice", max_attempts=8, backoff=Exponential(0.5), timeout_s=2.5, key="order_id", aliases=["invoice"]
)
assert_type(queue, Durable)
assert_type(relay.durable("a", backoff=5).name, str)
relay.durable("b", backoff=lambda attempt: attempt * 2.0, aliases=("c", "d"))
relay.register_sender(app, "shop")


@order_placed.connect(via=queue)
def invoice(sender: App, *, order_id: int, **extra: object) -> None:
    message = relay.current()
    assert_type(message, Message)
    assert_type(message.attempt, int)

    with Session(engine) as session, session.begin():
        assert_type(relay.first_time(session), bool)


@order_placed.connect(via=relay.durable("ship"), sender=app, priority=3)
async def ship(sender: App, *, order_id: int) -> None:
    async with AsyncSession() as session:
        assert_type(await relay.first_time(session, "message"), bool)


# The decorators do not change the receivers' own types.
assert_type(invoice(app, order_id=7), None)


def places(connection: Connection, session: Session) -> None:
    with relay.using(connection), relay.using(session):
        order_placed.send(app, order_id=7)


def looks_after() -> None:
    route = relay.forward(order_placed, "elsewhere", sender=app, key="order_id")
    assert_type(route, Forward)
    order_placed.disconnect(route)
    assert_type(relay.drain(), DrainCounts)
    assert_type(relay.drain().done, int)
    assert_type(relay.status(), list[ReceiverStatus])
    assert_type(relay.dead_letters("mail", limit=5, after=3), list[DeadLetter])
    assert_type(relay.dead_payload(3), str | None)
    assert_type(relay.retry_dead(1, 2), int)
    assert_type(relay.purge_effects(older_than_s=3600), int)
    assert_type(relay.purge_dead_letters(older_than_s=3600), int)
    assert_type(relay.status()[0].failure, str | None)

    try:
        relay.create_tables()
    except RelayError:
        relay.check_tables()
