"""R1: which transaction a send joins: when a session has begun, with several sessions, and with ``using``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session, sessionmaker

from aldis import NamedSignal, Namespace
from aldis.exceptions import AldisError, TransactionError
from aldis.relay import Relay
from aldis.relay.sending import transactions
from aldis.sqlalchemy import after_commit
from tests.relay.programs.orders import Base, Order, OrderShop, RolledBack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(sqlite_url: str, make_engine: Any) -> OrderShop:
    return OrderShop(make_engine(sqlite_url, connect_args={"timeout": 0.1}))


# When a session is in a transaction.


@contextmanager
def rolled_back(shop: OrderShop) -> Iterator[Session]:
    """Yield a session with one committed order. The rest is rolled back. After its first write, no other can write."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine, expire_on_commit=False) as session:
        session.add(Order(item="tea"))
        session.commit()
        yield session
        session.rollback()

    assert shop.fate == (1, 0)


def test_what_was_added_and_not_flushed(shop: OrderShop) -> None:
    """R1: A session has a transaction as soon as an object was added to it."""
    with rolled_back(shop) as session:
        session.add(Order(item="milk"))
        shop.send()


def test_what_was_changed_and_not_flushed(shop: OrderShop) -> None:
    """R1: A session has a transaction as soon as one of its objects was changed."""
    with rolled_back(shop) as session:
        order = session.scalars(select(Order)).one()
        session.commit()
        order.item = "milk"
        shop.send()


def test_what_was_deleted_and_not_flushed(shop: OrderShop) -> None:
    """R1: A session has a transaction as soon as one of its objects was deleted."""
    with rolled_back(shop) as session:
        order = session.scalars(select(Order)).one()
        session.commit()
        session.delete(order)
        shop.send()


def test_what_was_read(shop: OrderShop) -> None:
    """R1: A read begins a transaction too, and a send joins it, so the program must commit it."""
    with rolled_back(shop) as session:
        session.scalars(select(Order)).all()
        shop.send()


@pytest.mark.parametrize("hook", ["before_commit", "before_flush", "after_flush", "after_flush_postexec"])
def test_hooks_of_the_session(shop: OrderShop, hook: str) -> None:
    """R1: A send in a hook of the session before the commit joins the transaction."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        event.listen(session, hook, lambda *_: shop.send(), once=True)
        session.add(Order(item="tea"))
        session.flush()
        assert shop.fate == (0, 0)
        session.commit()

    assert shop.fate == (1, 1)


def test_hooks_of_the_mapper(shop: OrderShop) -> None:
    """R1: A send while a row is inserted joins the transaction."""
    shop.connect(Relay(shop.engine))
    listen: Any = lambda *_: shop.send()  # noqa: E731
    event.listen(Order, "after_insert", listen)

    try:
        with Session(shop.engine) as session:
            session.add(Order(item="tea"))
            session.flush()
            session.rollback()
            session.add(Order(item="tea"))
            session.commit()
    finally:
        event.remove(Order, "after_insert", listen)

    assert shop.fate == (1, 1)


def test_a_receiver_that_runs_after_the_commit(shop: OrderShop) -> None:
    """A send after the commit has its own transaction."""
    shop.connect(Relay(shop.engine))
    committed: NamedSignal[Any, ..., Any] = Namespace().signal("committed")

    with Session(shop.engine) as session:

        @committed.connect(via=after_commit(session))
        def send(sender: Any) -> None:
            shop.send()

        session.add(Order(item="tea"))
        committed.send("shop")
        session.commit()

    assert shop.fate == (1, 1)


def test_a_session_that_has_to_be_rolled_back(shop: OrderShop) -> None:
    """A send in a transaction that already failed fails too, and nothing is written."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        session.add(Order(id=1, item="tea"))
        session.commit()
        session.add(Order(id=1, item="milk"))

        with pytest.raises(IntegrityError):
            session.flush()

        with pytest.raises(PendingRollbackError):
            shop.send()

        session.rollback()
        shop.order(session)
        session.commit()

    assert shop.fate == (2, 1)


@pytest.mark.parametrize("mode", ["create_savepoint", "conditional_savepoint", "control_fully"])
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_session_that_joins_an_outer_transaction(shop: OrderShop, mode: Any, is_committed: bool) -> None:
    """R1: SQLAlchemy's recipe for test suites works: the connection's rollback removes what the session commits."""
    shop.connect(Relay(shop.engine))

    with shop.engine.connect() as connection:
        outer = connection.begin()
        connection.execute(insert(Order), {"item": "milk"})

        with Session(connection, join_transaction_mode=mode) as session:
            shop.order(session)
            session.commit()
            shop.order(session)
            session.commit()

        if outer.is_active and not is_committed:
            outer.rollback()
        elif outer.is_active:
            outer.commit()

    if mode == "control_fully" or is_committed:
        assert shop.fate == (3, 2)
    else:
        assert shop.fate == (0, 0)


def test_sessions_without_a_transaction_are_none(shop: OrderShop) -> None:
    """A session that was committed or closed, or has not begun, has no transaction to join."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as used, Session(shop.engine):
        used.add(Order(item="tea"))
        used.commit()
        shop.send()

    shop.send()

    with Session(shop.engine, autobegin=False):
        shop.send()

    assert shop.fate == (1, 3)


def test_a_registry_without_a_session(shop: OrderShop) -> None:
    """The relay does not make the session of a registry that has none here."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    shop.send()

    assert not registry.registry.has()
    assert shop.fate == (0, 1)


def test_flask_sqlalchemy_outside_of_an_application_s_context(shop: OrderShop) -> None:
    """Outside of an application's context there is no database, and Flask-SQLAlchemy's error is raised."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)
    shop.connect(Relay(db))

    with pytest.raises(RuntimeError, match="application context"):
        shop.send()

    with app.app_context():
        db.engine.dispose()


def test_a_database_of_another_engine_is_another(shop: OrderShop, tmp_path: Path, make_engine: Any) -> None:
    """A send cannot join a session whose transaction is in another database."""
    shop.connect(Relay(shop.engine))
    other = make_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")

    with Session(other) as there, Session() as nowhere:
        there.execute(text("SELECT 1"))
        nowhere.begin()
        shop.send()
        assert shop.fate == (0, 1)

        with Session(shop.engine) as here:
            shop.order(here)
            here.commit()

    assert shop.fate == (1, 2)


# Several transactions.


def test_two_sessions_at_once(shop: OrderShop) -> None:
    """With two sessions, the right transaction is unknown: the send is refused, and nothing is written."""
    relay = shop.connect(Relay(shop.engine))

    with Session(shop.engine) as one, Session(shop.engine) as two:
        one.begin()
        two.begin()

        with pytest.raises(TransactionError, match=r"2 sessions .*relay\.using\(session\)") as raised:
            shop.send()

        assert isinstance(raised.value, AldisError)
        assert isinstance(raised.value, RuntimeError)

        with relay.using(two):
            shop.order(two)

        two.commit()
        one.commit()

    assert shop.fate == (1, 1)


def test_using_is_over_with_its_block(shop: OrderShop) -> None:
    """E7: Blocks nest, the innermost counts, and each restores what it found, also after an exception."""
    relay = shop.connect(Relay(shop.engine))

    with shop.engine.connect() as outer, relay.using(outer):
        with pytest.raises(RolledBack), Session(shop.engine) as inner, relay.using(inner):
            shop.send()
            inner.commit()
            raise RolledBack

        shop.order(outer)
        outer.rollback()

    assert shop.fate == (0, 1)
    shop.send()
    assert shop.fate == (0, 2)
    assert transactions._using.get() == ()


def test_using_is_for_one_relay(shop: OrderShop, tmp_path: Path, make_engine: Any) -> None:
    """Two relays can each have their own transaction to join at the same time."""
    other = OrderShop(make_engine(f"sqlite:///{tmp_path / 'other.sqlite'}"))
    here, there = shop.connect(Relay(shop.engine)), Relay(other.engine)
    shop.placed.connect(shop.receiver("there"), weak=False, via=there.durable("there"))

    with shop.engine.connect() as one, other.engine.connect() as two, here.using(one), there.using(two):
        shop.send()
        one.commit()
        two.rollback()
        shop.send()
        one.rollback()
        two.commit()

    assert (shop.fate, other.fate) == ((0, 1), (0, 1))


def test_using_beats_what_is_open(shop: OrderShop) -> None:
    """The transaction of a using() block counts, whatever other transactions are open."""
    registry = scoped_session(sessionmaker(shop.engine))
    relay = shop.connect(Relay(registry))
    registry.begin()

    with Session(shop.engine) as session, relay.using(session):
        shop.order(session)
        session.commit()

    registry.rollback()
    registry.remove()
    assert shop.fate == (1, 1)


class Mapped_(Base):
    """An object that has a registry, like a mapped object, and is no registry of sessions."""

    __tablename__ = "mapped"

    id: Mapped[int] = mapped_column(primary_key=True)


NONE: list[Any] = [None, 3, "session", Session, Base, Mapped_(), create_engine("sqlite://"), sessionmaker(), object()]


@pytest.mark.parametrize("given", NONE, ids=repr)
def test_what_has_no_transaction_is_refused(shop: OrderShop, given: Any) -> None:
    """E12: using() and first_time() take a session or a connection, and their errors say so."""
    relay = shop.connect(Relay(shop.engine))

    with pytest.raises(TransactionError, match="a Session or a Connection of SQLAlchemy, not"):
        relay.using(given).__enter__()

    with pytest.raises(TransactionError, match="a Session or a Connection of SQLAlchemy, not"):
        relay.first_time(given, "m")

    shop.send()
    assert shop.fate == (0, 1)
