"""R5: senders cross as a name, never as a rebuilt object."""

from __future__ import annotations

import gc
import json
import weakref
from contextlib import contextmanager
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, current_app
from sqlalchemy import Engine, StaticPool, create_engine, insert, select
from werkzeug.local import LocalProxy

from aldis import ANY, InvalidOptionError, NamedSignal, Namespace, UnboundProxyError
from aldis.exceptions import AldisError, UnnamedSenderError
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage.tables import messages, now_ms
from tests.relay.programs.worker_program import SOON_S

if TYPE_CHECKING:
    from collections.abc import Iterator


def order_placed(sender: Any, /, *, order_id: int) -> object: ...


class App:
    """A sender."""


class Always:
    """A sender that says to be equal to any other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Slotted:
    """A sender that cannot be referenced weakly."""

    __slots__ = ()


class Text(str):
    """A sender that is a string, and more."""

    __slots__ = ("extra",)

    def __str__(self) -> str:
        return "something else"


class Process:
    """A relay with its receiver, as of one process of several that share a database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        self.placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
        self.senders: list[Any] = []
        self.connect()

    def connect(self, sender: Any = ANY) -> None:
        self.placed.connect(self.receive, sender, weak=False, via=self.relay.durable("billing"))

    def receive(self, sender: Any, *, order_id: int) -> None:
        self.senders.append(sender)

    def stored(self) -> Any:
        """The one sender that is stored."""
        with self.engine.connect() as connection:
            (found,) = connection.scalars(select(messages.c.sender))
            return found

    def write(self, sender: str | None) -> None:
        values = {"message_id": "m", "signal": "order-placed", "receiver": "billing", "version": 1, "sender": sender}

        with self.engine.begin() as connection:
            connection.execute(
                insert(messages).values(payload='{"order_id": 1}', sent_ms=now_ms(), due_ms=now_ms(), **values)
            )


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield made
    made.dispose()


@pytest.fixture
def process(engine: Engine) -> Process:
    return Process(engine)


# What crosses as it is.


@pytest.mark.parametrize(
    "sender",
    ["shop", "", "Löwe \x00 \U0001f981", "\ud800", '{"name": "x"}', "x" * 1000],
    ids=ascii,
)
def test_strings_cross_as_they_are(process: Process, sender: str) -> None:
    """R5: A string is its own name, whatever is in it."""
    process.placed.send(sender, order_id=1)

    assert process.relay.drain() == DrainCounts(done=1)
    assert process.senders == [sender]
    assert type(process.senders[0]) is str


def test_a_string_of_a_class_of_its_own_crosses_as_a_string(process: Process) -> None:
    """R5: Of a string of another class its text crosses, as signals match senders by it."""
    process.placed.send(Text("shop"), order_id=1)
    process.relay.drain()

    assert process.senders == ["shop"]
    assert type(process.senders[0]) is str


def test_nobody_crosses_as_nobody(process: Process) -> None:
    """R5: A send without a sender has none in the worker."""
    process.placed.send(None, order_id=1)
    assert process.stored() is None
    process.relay.drain()
    assert process.senders == [None]


# What crosses by a name.


@pytest.mark.parametrize("make", [App, Always, lambda: type("Made", (), {}), lambda: lambda: None, Namespace])
def test_a_registered_object_is_the_object_of_that_name_there(engine: Engine, make: Any) -> None:
    """R5: Each process has its own object by the name; nothing of it is stored but the name."""
    here, there = Process(engine), Process(engine)
    ours, theirs, another = make(), make(), make()
    here.relay.register_sender(ours, "shop")
    there.relay.register_sender(theirs, "shop")
    there.relay.register_sender(another, "another")
    here.placed.send(ours, order_id=1)
    assert json.loads(here.stored()) == {"name": "shop"}

    there.relay.drain()
    assert len(there.senders) == 1
    assert there.senders[0] is theirs


def test_a_name_is_not_taken_for_a_string(process: Process) -> None:
    """R5: The string "shop" and the object that is registered as "shop" are two senders."""
    app = App()
    process.relay.register_sender(app, "shop")
    process.placed.send("shop", order_id=1)
    process.placed.send(app, order_id=2)
    process.relay.drain()

    assert process.senders == ["shop", app]


def test_a_proxy_is_registered_as_what_it_stands_for(process: Process) -> None:
    """current_app can be registered and sent inside of the application's context: it is the application."""
    app = Flask("shop")

    with app.app_context():
        process.relay.register_sender(current_app, "shop")
        process.placed.send(current_app, order_id=1)

    process.relay.drain()
    assert process.senders == [app]
    assert process.senders[0] is app


def test_a_proxy_that_stands_for_nothing_is_refused(process: Process) -> None:
    """E12: Outside of the context there is nothing to register, and the error says so."""
    with pytest.raises(UnboundProxyError, match="points to no object"):
        process.relay.register_sender(current_app, "shop")

    unbound: Any = LocalProxy(raising)

    with pytest.raises(UnboundProxyError):
        process.relay.register_sender(unbound, "shop")


def raising() -> Any:
    raise RuntimeError


def test_receivers_of_one_sender_get_only_what_it_sent(process: Process) -> None:
    """R5, E6: A receiver that is connected for a registered sender has rows for that sender's sends alone."""
    process.placed.receivers.clear()
    app, other = App(), App()
    process.relay.register_sender(app, "app")
    process.relay.register_sender(other, "other")
    process.connect(app)
    process.placed.send(app, order_id=1)
    process.placed.send(other, order_id=2)
    process.placed.send("app", order_id=3)

    assert process.relay.drain() == DrainCounts(done=1)
    assert process.senders == [app]


# Names that change.


def test_an_object_of_several_names(engine: Engine) -> None:
    """An object that is registered again is sent by its newest name, and received by all that it had."""
    here, there = Process(engine), Process(engine)
    app, theirs = App(), App()
    here.relay.register_sender(app, "before")
    here.placed.send(app, order_id=1)
    here.relay.register_sender(app, "after")
    here.placed.send(app, order_id=2)

    for name in ("before", "after"):
        there.relay.register_sender(theirs, name)

    there.relay.drain()
    assert there.senders == [theirs, theirs]


def test_a_name_of_several_objects(process: Process) -> None:
    """Of several objects of a name, as of applications that a factory made, each is sent, and the last one received."""
    first, second = App(), App()
    process.relay.register_sender(first, "shop")
    process.relay.register_sender(second, "shop")
    process.placed.send(first, order_id=1)
    process.placed.send(second, order_id=2)
    process.relay.drain()

    assert process.senders == [second, second]


def test_the_name_of_an_object_that_is_gone_is_still_that_of_the_other(process: Process) -> None:
    """When one of several objects of a name dies, the other goes by it."""
    first, second = App(), App()
    process.relay.register_sender(first, "shop")
    process.relay.register_sender(second, "shop")
    del first
    gc.collect()
    process.placed.send(second, order_id=1)
    process.relay.drain()
    assert process.senders == [second]


def test_names_keep_nothing_alive(process: Process) -> None:
    """E5: A registered object dies when nobody else holds it, and nothing of it is left."""
    app = App()
    died = weakref.ref(app)

    for name in ("one", "two"):
        process.relay.register_sender(app, name)

    del app
    assert died() is None
    assert not process.relay._parts.senders._names
    assert not process.relay._parts.senders._objects


def test_an_address_that_is_used_again_is_another_object(process: Process) -> None:
    """E6: What lies where a registered object lay has no name."""
    for _ in range(200):
        app = App()
        process.relay.register_sender(app, "shop")
        del app
        stranger = App()

        with pytest.raises(UnnamedSenderError):
            process.placed.send(stranger, order_id=1)


def test_a_name_that_outlives_its_forgetting(process: Process) -> None:
    """An object that takes the address of another before that one is forgotten keeps its own name."""
    senders = process.relay._parts.senders
    app = App()
    process.relay.register_sender(app, "first")
    late, _ = senders._names[id(app)]
    process.relay.register_sender(app, "second")

    # The callback of a reference that was replaced, as it is called when the object had been dead before.
    callback = late.__callback__
    assert callback is not None
    callback(late)
    process.placed.send(app, order_id=1)
    assert json.loads(process.stored()) == {"name": "second"}


def test_senders_are_registered_from_any_thread(process: Process) -> None:
    """E4: Threads that register and send at the same time do not disturb each other."""
    barrier = Barrier(8)
    failures: list[Exception] = []

    def work(number: int) -> None:
        barrier.wait(SOON_S)

        try:
            for _ in range(200):
                app = App()
                process.relay.register_sender(app, f"app {number}")
                process.relay._parts.senders.write(app)
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(8)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(SOON_S)

    assert failures == []


# What is refused.


@contextmanager
def refused(process: Process) -> Iterator[list[Any]]:
    """The sends of a block are refused before any receiver runs, and nothing is written."""
    ran: list[Any] = []

    def at_once(sender: Any, **payload: Any) -> None:
        ran.append(sender)

    process.placed.connect(at_once, priority=1)
    yield ran
    assert ran == []

    with process.engine.connect() as connection:
        assert connection.scalars(select(messages.c.id)).all() == []


class Secretive:
    """A sender that shows what it must not."""

    def __repr__(self) -> str:
        return "hunter2"


@pytest.mark.parametrize("sender", [App(), App, Slotted(), Secretive(), 7, b"shop", ("shop",), print], ids=repr)
def test_a_sender_without_a_name_is_refused(process: Process, sender: Any) -> None:
    """R5: An object that was not registered cannot cross: no receiver runs, nothing is written, nothing is shown."""
    with refused(process), pytest.raises(UnnamedSenderError, match=r"relay\.register_sender\(sender, name\)") as raised:
        process.placed.send(sender, order_id=1)

    kind = sender if isinstance(sender, type) else type(sender)
    assert kind.__name__ in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert isinstance(raised.value, LookupError)
    assert isinstance(raised.value, AldisError)


def test_a_name_is_that_of_one_relay(process: Process) -> None:
    """What is registered with one relay has no name with another."""
    app = App()
    process.relay.register_sender(app, "shop")
    other = Relay(process.engine)
    process.placed.connect(lambda sender, **payload: None, weak=False, via=other.durable("other"))

    with refused(process), pytest.raises(UnnamedSenderError):
        process.placed.send(app, order_id=1)


@pytest.mark.parametrize("sender", ["shop", 7, None, Slotted(), ("a",)], ids=repr)
def test_what_cannot_be_registered(process: Process, sender: Any) -> None:
    """E12: What cannot be referenced weakly is refused: a registered object is not kept alive for it."""
    with pytest.raises(InvalidOptionError, match=f"A {type(sender).__name__} cannot be registered.*Send a string"):
        process.relay.register_sender(sender, "shop")

    assert not process.relay._parts.senders._names


@pytest.mark.parametrize("name", ["", "x" * 201, None, 3, b"shop"], ids=repr)
def test_a_bad_name_is_refused(process: Process, name: Any) -> None:
    """E12: A name is a text of up to 200 characters."""
    with pytest.raises(InvalidOptionError, match="name is a text of up to 200 characters"):
        process.relay.register_sender(App(), name)


# What is read.


def test_a_sender_that_is_not_registered_there_waits(process: Process) -> None:
    """R4, R5: A row whose sender has no object here waits, visible, for a deploy that has one."""
    process.write('{"name": "elsewhere"}')

    assert process.relay.drain() == DrainCounts(waiting=1)
    (status,) = process.relay.status()
    assert (status.backlog, status.failure) == (1, "no sender is registered as 'elsewhere' here")


@pytest.mark.parametrize(
    "stored", ["", "{", "[]", "3", "{}", '{"name": 3}', '{"text": null}', '{"Name": "shop"}', "[" * 100_000, "NaN"]
)
def test_a_malformed_sender_dies(process: Process, stored: str) -> None:
    """A row whose sender cannot be read is a dead letter with a reason; nothing is rebuilt of it."""
    process.write(stored)

    assert process.relay.drain() == DrainCounts(dead=1)
    assert [letter.reason for letter in process.relay.dead_letters()] == ["the sender is malformed"]
    assert process.senders == []
