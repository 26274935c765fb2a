"""R1: a durable receiver is a row in the caller's own transaction, and is committed or rolled back with it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    insert,
    text,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis.relay import Relay
from tests.relay.programs.orders import Order, OrderShop, RolledBack
from tests.relay.programs.worker_program import SOON_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def shop(sqlite_url: str, make_engine: Any) -> OrderShop:
    return OrderShop(make_engine(sqlite_url, connect_args={"timeout": 0.1}))


@pytest.fixture
def any_shop(ready_url: str, make_engine: Any) -> OrderShop:
    patience = {"timeout": 60} if ready_url.startswith("sqlite") else {}
    return OrderShop(make_engine(ready_url, connect_args=patience))


# Ways to have a transaction: each yields the object that the program works with.


@contextmanager
def by_session(shop: OrderShop) -> Iterator[Any]:
    """Use a session that is made by hand."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        yield session


@contextmanager
def by_sessionmaker(shop: OrderShop) -> Iterator[Any]:
    maker = sessionmaker(shop.engine)
    shop.connect(Relay(maker))

    with maker() as session:
        yield session


@contextmanager
def by_registry(shop: OrderShop) -> Iterator[Any]:
    """Use a scoped_session that the relay was given."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    yield registry
    registry.remove()


@contextmanager
def by_registry_of_ones_own(shop: OrderShop) -> Iterator[Any]:
    """Use a scoped_session that the relay does not know; it knows the engine only."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(shop.engine))
    yield registry
    registry.remove()


@contextmanager
def beside_the_registry(shop: OrderShop) -> Iterator[Any]:
    """Use a session that is made by hand, while the relay's own registry has a session without a transaction."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    registry()

    with Session(shop.engine) as session:
        yield session

    registry.remove()


@contextmanager
def by_options(shop: OrderShop) -> Iterator[Any]:
    """Use a session of an engine that was made from the relay's engine with options."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine.execution_options(stream_results=False)) as session:
        yield session


@contextmanager
def by_binds(shop: OrderShop) -> Iterator[Any]:
    """Use a session that has an engine for each of the program's tables."""
    shop.connect(Relay(shop.engine))

    with Session(binds={Order: shop.engine}) as session:
        yield session


@contextmanager
def by_routing(shop: OrderShop) -> Iterator[Any]:
    """Use a session that chooses its engines itself."""
    shop.connect(Relay(shop.engine))

    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return shop.engine

    with Routing() as session:
        yield session


@contextmanager
def by_connection(shop: OrderShop) -> Iterator[Any]:
    """Use a connection that the relay is given by using()."""
    relay = shop.connect(Relay(shop.engine))

    with shop.engine.connect() as connection, relay.using(connection):
        yield connection


@contextmanager
def by_saying_so(shop: OrderShop) -> Iterator[Any]:
    """Use one of two sessions, which the relay is given by using()."""
    relay = shop.connect(Relay(shop.engine))

    with Session(shop.engine) as other, Session(shop.engine) as session, relay.using(session):
        other.begin()
        yield session


@contextmanager
def by_saying_so_of_a_registry(shop: OrderShop) -> Iterator[Any]:
    relay = shop.connect(Relay(shop.engine))
    registry = scoped_session(sessionmaker(shop.engine))

    with relay.using(registry):
        yield registry

    registry.remove()


@contextmanager
def by_flask(shop: OrderShop) -> Iterator[Any]:
    """Use the session of Flask-SQLAlchemy."""
    with flask_database(shop) as db:
        shop.connect(Relay(db))
        yield db.session


@contextmanager
def beside_flask(shop: OrderShop) -> Iterator[Any]:
    """Use a session that is made by hand, of Flask-SQLAlchemy's engine."""
    with flask_database(shop) as db:
        shop.connect(Relay(db))

        with Session(db.engine) as session:
            yield session


@contextmanager
def flask_database(shop: OrderShop) -> Iterator[SQLAlchemy]:
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = shop.engine.url
    db = SQLAlchemy(app)

    with app.app_context():
        yield db
        db.session.remove()
        db.engine.dispose()


WAYS = [
    by_session,
    by_sessionmaker,
    by_registry,
    by_registry_of_ones_own,
    beside_the_registry,
    by_options,
    by_binds,
    by_routing,
    by_connection,
    by_saying_so,
    by_saying_so_of_a_registry,
    by_flask,
    beside_flask,
]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
some_ways = pytest.mark.parametrize("way", [by_session, by_connection, by_flask], ids=lambda way: way.__name__)

# What happens in the transaction.


def commit(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    assert shop.fate == (0, 0)
    transaction.commit()
    return 1, 1


def roll_back(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.rollback()
    return 0, 0


def close(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.close()
    return 0, 0


def commit_twice(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.commit()
    shop.order(transaction)
    transaction.rollback()
    shop.order(transaction)
    shop.order(transaction)
    transaction.commit()
    return 3, 3


def roll_a_savepoint_back(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    transaction.execute(insert(Order), {"item": "milk"})
    savepoint = transaction.begin_nested()
    shop.order(transaction)
    savepoint.rollback()
    transaction.commit()
    return 1, 0


def send_after_a_savepoint(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    savepoint = transaction.begin_nested()
    shop.order(transaction)
    savepoint.rollback()
    shop.order(transaction)
    transaction.commit()
    return 2, 2


def release_a_savepoint(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)

    with transaction.begin_nested():
        shop.order(transaction)

    transaction.commit()
    return 2, 2


def release_a_savepoint_and_roll_back(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)

    with transaction.begin_nested():
        shop.order(transaction)

    transaction.rollback()
    return 0, 0


def fail_in_savepoints(shop: OrderShop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)

    with transaction.begin_nested():
        shop.order(transaction)

        with suppress(RolledBack), transaction.begin_nested():
            shop.order(transaction)
            raise RolledBack

        shop.order(transaction)

    transaction.commit()
    return 3, 3


PLAYS = [
    commit,
    roll_back,
    close,
    commit_twice,
    roll_a_savepoint_back,
    send_after_a_savepoint,
    release_a_savepoint,
    release_a_savepoint_and_roll_back,
    fail_in_savepoints,
]
plays = pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)


@ways
@plays
def test_the_message_shares_the_fate_of_the_transaction(shop: OrderShop, way: Any, play: Any) -> None:
    """R1: In every kind of transaction, business rows and messages are committed and rolled back together, savepoints
    included.
    """
    with way(shop) as transaction:
        expected = play(shop, transaction)

    assert shop.fate == expected


@some_ways
@plays
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_the_same_on_servers(
    request: pytest.FixtureRequest, make_engine: Any, server: str, way: Any, play: Any
) -> None:
    """R1: The same holds on PostgreSQL and MariaDB."""
    shop = OrderShop(make_engine(request.getfixturevalue(f"ready_{server}_url")))

    with way(shop) as transaction:
        expected = play(shop, transaction)

    assert shop.fate == expected


def test_blocks_that_begin_and_end(shop: OrderShop) -> None:
    """R1: Blocks of session.begin() and sessionmaker.begin() commit at their end, and roll back after an exception."""
    shop.connect(Relay(shop.engine))

    with sessionmaker(shop.engine).begin() as session:
        shop.order(session)

    with pytest.raises(RolledBack), Session(shop.engine) as session, session.begin():
        shop.order(session)
        raise RolledBack

    assert shop.fate == (1, 1)


# Outside of any transaction.


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
def test_a_send_outside_of_any_transaction(any_shop: OrderShop, names: list[str]) -> None:
    """R1: Rows of a send outside of any transaction are committed when send returns."""
    any_shop.connect(Relay(any_shop.engine), *names)
    any_shop.send()

    assert any_shop.fate == (0, len(names))


# Threads and tasks.


def in_thread(work: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join(SOON_S)
    assert failures == []


def test_another_thread_s_transaction_is_not_joined(shop: OrderShop) -> None:
    """R1: A send joins a transaction of its own thread, even if another thread has named one by using()."""
    relay = shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session, relay.using(session):
        session.execute(text("SELECT 1"))
        in_thread(shop.send)
        assert shop.fate == (0, 1)
        shop.send()
        session.rollback()

    assert shop.fate == (0, 1)


def test_threads_with_a_transaction_each(any_shop: OrderShop) -> None:
    """R1: When several threads order at the same time, each message is in the transaction of its own order."""
    any_shop.connect(Relay(any_shop.engine))

    def work(number: int) -> None:
        for _ in range(10):
            with suppress(RolledBack), Session(any_shop.engine) as session, session.begin():
                session.add(Order(item="tea"))
                any_shop.send()

                if number % 2:
                    raise RolledBack

    threads = [Thread(target=work, args=(number,)) for number in range(4)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(SOON_S)

    assert any_shop.fate == (20, 20)


def test_a_session_that_goes_to_another_thread(shop: OrderShop) -> None:
    """A session that began here and ended in another thread is no longer a transaction of this thread."""
    shop.connect(Relay(shop.engine))
    session = Session(shop.engine)
    session.begin()
    in_thread(session.close)
    shop.send()

    assert shop.fate == (0, 1)


def test_tasks_do_not_join_each_other_s(shop: OrderShop) -> None:
    """R1: In an event loop, a send joins a transaction of its own task."""
    relay = shop.connect(Relay(shop.engine))

    async def send() -> None:
        shop.send()

    async def main() -> None:
        with Session(shop.engine) as session, relay.using(session):
            session.execute(text("SELECT 1"))
            await asyncio.create_task(send())
            assert shop.fate == (0, 1)
            await send()
            session.rollback()

        with Session(shop.engine) as session:
            session.execute(text("SELECT 1"))
            await asyncio.create_task(send())
            assert shop.fate == (0, 2)
            shop.order(session)
            session.rollback()

    asyncio.run(main())
    assert shop.fate == (0, 2)
