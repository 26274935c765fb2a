"""R1: a durable receiver is a row in the caller's own transaction, and shares its fate."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    Engine,
    String,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from aldis import NamedSignal, Namespace
from aldis.exceptions import AldisError, TransactionError
from aldis.relay import Relay
from aldis.relay.sending import transactions
from aldis.relay.storage.tables import messages
from aldis.sqlalchemy import after_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "hunter2"


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(String(50))


class RolledBack(Exception):
    """Rolls a transaction back."""


def order_placed(sender: Any, /, *, note: str) -> object: ...


class Shop:
    """A program on a database: an engine, a signal, and what is committed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
        Base.metadata.create_all(engine)
        Relay(engine).create_tables()

    def connect(self, relay: Relay, *names: str) -> Relay:
        """Connect durable receivers."""
        for name in names or ("billing",):
            self.placed.connect(self.receiver(name), weak=False, via=relay.durable(name))

        return relay

    def receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: Any, **payload: Any) -> None: ...

        receive.__qualname__ = name
        return receive

    def send(self) -> None:
        self.placed.send("shop", note=SECRET)

    def order(self, transaction: Any) -> None:
        """Place an order in a transaction: a business row, and a message."""
        transaction.execute(insert(Order), {"item": "tea"})
        self.send()

    @property
    def fate(self) -> tuple[int, int]:
        """How many business rows and how many messages are committed."""
        with self.engine.connect() as connection:
            orders = connection.scalar(select(func.count()).select_from(Order))
            return orders or 0, connection.scalar(select(func.count()).select_from(messages)) or 0


@pytest.fixture
def shop(sqlite_url: str, make_engine: Any) -> Shop:
    return Shop(make_engine(sqlite_url, connect_args={"timeout": 0.1}))


@pytest.fixture
def any_shop(any_url: str, make_engine: Any) -> Shop:
    return Shop(make_engine(any_url))


# Ways to have a transaction: each gives what the program does its work with.


@contextmanager
def by_session(shop: Shop) -> Iterator[Any]:
    """A session that is made by hand."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        yield session


@contextmanager
def by_sessionmaker(shop: Shop) -> Iterator[Any]:
    maker = sessionmaker(shop.engine)
    shop.connect(Relay(maker))

    with maker() as session:
        yield session


@contextmanager
def by_registry(shop: Shop) -> Iterator[Any]:
    """A scoped_session that the relay was given."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    yield registry
    registry.remove()


@contextmanager
def by_registry_of_ones_own(shop: Shop) -> Iterator[Any]:
    """A scoped_session of which the relay knows nothing but the engine."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(shop.engine))
    yield registry
    registry.remove()


@contextmanager
def beside_the_registry(shop: Shop) -> Iterator[Any]:
    """A session that is made by hand, where the relay was given a registry whose session has no transaction."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    registry()

    with Session(shop.engine) as session:
        yield session

    registry.remove()


@contextmanager
def by_options(shop: Shop) -> Iterator[Any]:
    """A session of an engine that was made of the relay's, for options."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine.execution_options(stream_results=False)) as session:
        yield session


@contextmanager
def by_binds(shop: Shop) -> Iterator[Any]:
    """A session that has an engine for each of the program's tables."""
    shop.connect(Relay(shop.engine))

    with Session(binds={Order: shop.engine}) as session:
        yield session


@contextmanager
def by_routing(shop: Shop) -> Iterator[Any]:
    """A session that chooses engines by itself."""
    shop.connect(Relay(shop.engine))

    class Routing(Session):
        def get_bind(self, *args: Any, **kwargs: Any) -> Any:
            return shop.engine

    with Routing() as session:
        yield session


@contextmanager
def by_connection(shop: Shop) -> Iterator[Any]:
    """A connection, of which the relay is told."""
    relay = shop.connect(Relay(shop.engine))

    with shop.engine.connect() as connection, relay.using(connection):
        yield connection


@contextmanager
def by_saying_so(shop: Shop) -> Iterator[Any]:
    """One of two sessions, of which the relay is told."""
    relay = shop.connect(Relay(shop.engine))

    with Session(shop.engine) as other, Session(shop.engine) as session, relay.using(session):
        other.begin()
        yield session


@contextmanager
def by_saying_so_of_a_registry(shop: Shop) -> Iterator[Any]:
    relay = shop.connect(Relay(shop.engine))
    registry = scoped_session(sessionmaker(shop.engine))

    with relay.using(registry):
        yield registry

    registry.remove()


@contextmanager
def by_flask(shop: Shop) -> Iterator[Any]:
    """The session of Flask-SQLAlchemy."""
    with flask_database(shop) as db:
        shop.connect(Relay(db))
        yield db.session


@contextmanager
def beside_flask(shop: Shop) -> Iterator[Any]:
    """A session that is made by hand of Flask-SQLAlchemy's engine."""
    with flask_database(shop) as db:
        shop.connect(Relay(db))

        with Session(db.engine) as session:
            yield session


@contextmanager
def flask_database(shop: Shop) -> Iterator[SQLAlchemy]:
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

# What becomes of it.


def commit(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    assert shop.fate == (0, 0)
    transaction.commit()
    return 1, 1


def roll_back(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.rollback()
    return 0, 0


def close(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.close()
    return 0, 0


def commit_twice(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    transaction.commit()
    shop.order(transaction)
    transaction.rollback()
    shop.order(transaction)
    shop.order(transaction)
    transaction.commit()
    return 3, 3


def roll_a_savepoint_back(shop: Shop, transaction: Any) -> tuple[int, int]:
    transaction.execute(insert(Order), {"item": "milk"})
    savepoint = transaction.begin_nested()
    shop.order(transaction)
    savepoint.rollback()
    transaction.commit()
    return 1, 0


def send_after_a_savepoint(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)
    savepoint = transaction.begin_nested()
    shop.order(transaction)
    savepoint.rollback()
    shop.order(transaction)
    transaction.commit()
    return 2, 2


def release_a_savepoint(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)

    with transaction.begin_nested():
        shop.order(transaction)

    transaction.commit()
    return 2, 2


def release_a_savepoint_and_roll_back(shop: Shop, transaction: Any) -> tuple[int, int]:
    shop.order(transaction)

    with transaction.begin_nested():
        shop.order(transaction)

    transaction.rollback()
    return 0, 0


def fail_in_savepoints(shop: Shop, transaction: Any) -> tuple[int, int]:
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
def test_the_message_shares_the_fate_of_the_transaction(shop: Shop, way: Any, play: Any) -> None:
    """R1: However the program has its transaction: business rows and messages are committed and rolled back together,
    savepoints included."""
    with way(shop) as transaction:
        expected = play(shop, transaction)

    assert shop.fate == expected


@some_ways
@plays
def test_the_same_on_every_database(any_shop: Shop, way: Any, play: Any) -> None:
    """R1: The same on SQLite, PostgreSQL and MariaDB."""
    with way(any_shop) as transaction:
        expected = play(any_shop, transaction)

    assert any_shop.fate == expected


def test_blocks_that_begin_and_end(shop: Shop) -> None:
    """R1: with session.begin() and sessionmaker.begin() commit at their end, and roll back what an exception leaves."""
    shop.connect(Relay(shop.engine))

    with sessionmaker(shop.engine).begin() as session:
        shop.order(session)

    with pytest.raises(RolledBack), Session(shop.engine) as session, session.begin():
        shop.order(session)
        raise RolledBack

    assert shop.fate == (1, 1)


# When a session is in a transaction.


@contextmanager
def rolled_back(shop: Shop) -> Iterator[Session]:
    """A session with a committed order, all else of which is rolled back. What it wrote by then, no other can write."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine, expire_on_commit=False) as session:
        session.add(Order(item="tea"))
        session.commit()
        yield session
        session.rollback()

    assert shop.fate == (1, 0)


def test_what_was_added_and_not_flushed(shop: Shop) -> None:
    """R1: A session has a transaction as soon as something was added to it."""
    with rolled_back(shop) as session:
        session.add(Order(item="milk"))
        shop.send()


def test_what_was_changed_and_not_flushed(shop: Shop) -> None:
    """R1: The same when an object of it was changed."""
    with rolled_back(shop) as session:
        order = session.scalars(select(Order)).one()
        session.commit()
        order.item = "milk"
        shop.send()


def test_what_was_deleted_and_not_flushed(shop: Shop) -> None:
    """R1: The same when an object of it was deleted."""
    with rolled_back(shop) as session:
        order = session.scalars(select(Order)).one()
        session.commit()
        session.delete(order)
        shop.send()


def test_what_was_read(shop: Shop) -> None:
    """R1: To read begins a transaction too. A send joins it, so somebody has to commit it."""
    with rolled_back(shop) as session:
        session.scalars(select(Order)).all()
        shop.send()


@pytest.mark.parametrize("hook", ["before_commit", "before_flush", "after_flush", "after_flush_postexec"])
def test_hooks_of_the_session(shop: Shop, hook: str) -> None:
    """R1: A send in a hook of the session that comes before the commit joins the transaction."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        event.listen(session, hook, lambda *_: shop.send(), once=True)
        session.add(Order(item="tea"))
        session.flush()
        assert shop.fate == (0, 0)
        session.commit()

    assert shop.fate == (1, 1)


def test_hooks_of_the_mapper(shop: Shop) -> None:
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


def test_a_receiver_that_runs_after_the_commit(shop: Shop) -> None:
    """A send after the commit is outside of the transaction that is over: it has its own."""
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


def test_a_session_that_has_to_be_rolled_back(shop: Shop) -> None:
    """A send in a transaction that already failed fails as well, and nothing is written."""
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
def test_a_session_that_joins_an_outer_transaction(shop: Shop, mode: Any, is_committed: bool) -> None:
    """R1: SQLAlchemy's recipe for test suites: what the session commits is gone with the connection's rollback."""
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


# Outside of any.


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
def test_a_send_outside_of_any_transaction(any_shop: Shop, names: list[str]) -> None:
    """R1: Its rows are committed when send returns."""
    any_shop.connect(Relay(any_shop.engine), *names)
    any_shop.send()

    assert any_shop.fate == (0, len(names))


def test_sessions_without_a_transaction_are_none(shop: Shop) -> None:
    """A session that was committed, closed, or has not begun yet has no transaction to join."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as used, Session(shop.engine):
        used.add(Order(item="tea"))
        used.commit()
        shop.send()

    shop.send()

    with Session(shop.engine, autobegin=False):
        shop.send()

    assert shop.fate == (1, 3)


def test_a_registry_without_a_session(shop: Shop) -> None:
    """A registry that has no session here is not asked to make one."""
    registry = scoped_session(sessionmaker(shop.engine))
    shop.connect(Relay(registry))
    shop.send()

    assert not registry.registry.has()
    assert shop.fate == (0, 1)


def test_flask_sqlalchemy_outside_of_an_application_s_context(shop: Shop) -> None:
    """Where there is no application there is no database, and what Flask-SQLAlchemy says of that is raised."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)
    shop.connect(Relay(db))

    with pytest.raises(RuntimeError, match="application context"):
        shop.send()

    with app.app_context():
        db.engine.dispose()


def test_a_database_of_another_engine_is_another(shop: Shop, tmp_path: Path, make_engine: Any) -> None:
    """A session that is in a transaction with another database is none that the rows could join."""
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


# Several.


def test_two_sessions_at_once(shop: Shop) -> None:
    """Which of two sessions a send belongs to nobody can know: it is refused, and nothing is written."""
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


def test_using_is_over_with_its_block(shop: Shop) -> None:
    """E7: Blocks nest, the innermost counts, and each takes away exactly what it said, also by an exception."""
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


def test_using_is_for_one_relay(shop: Shop, tmp_path: Path, make_engine: Any) -> None:
    """Each relay has a transaction of its own to join, at the same time."""
    other = Shop(make_engine(f"sqlite:///{tmp_path / 'other.sqlite'}"))
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


def test_using_beats_what_is_open(shop: Shop) -> None:
    """What a block says counts, whatever else has a transaction."""
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
    """An object that has a registry, as mapped ones do, and is no registry of sessions."""

    __tablename__ = "mapped"

    id: Mapped[int] = mapped_column(primary_key=True)


NONE: list[Any] = [None, 3, "session", Session, Base, Mapped_(), create_engine("sqlite://"), sessionmaker(), object()]


@pytest.mark.parametrize("given", NONE, ids=repr)
def test_what_has_no_transaction_is_refused(shop: Shop, given: Any) -> None:
    """E12: using and once take a session or a connection, and say so."""
    relay = shop.connect(Relay(shop.engine))

    with pytest.raises(TransactionError, match="of a Session or of a Connection of SQLAlchemy, not of"):
        relay.using(given).__enter__()

    with pytest.raises(TransactionError, match="of a Session or of a Connection of SQLAlchemy, not of"):
        relay.first_time(given, "m")

    shop.send()
    assert shop.fate == (0, 1)


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
    thread.join(30)
    assert failures == []


def test_another_thread_s_transaction_is_not_joined(shop: Shop) -> None:
    """R1: A send joins what its own thread has begun, also where a block said so in another."""
    relay = shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session, relay.using(session):
        session.execute(text("SELECT 1"))
        in_thread(shop.send)
        assert shop.fate == (0, 1)
        shop.send()
        session.rollback()

    assert shop.fate == (0, 1)


def test_threads_with_a_transaction_each(any_shop: Shop) -> None:
    """R1: Of several threads that order at the same time, each message is in the transaction of its own order."""
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
        thread.join(60)

    assert any_shop.fate == (20, 20)


def test_a_session_that_goes_to_another_thread(shop: Shop) -> None:
    """A session that was begun here and ended in another thread is no transaction of this thread any more."""
    shop.connect(Relay(shop.engine))
    session = Session(shop.engine)
    session.begin()
    in_thread(session.close)
    shop.send()

    assert shop.fate == (0, 1)


def test_tasks_do_not_join_each_other_s(shop: Shop) -> None:
    """R1: In an event loop, a send joins what its own task has begun."""
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


# What fails.


def full(engine: Engine) -> None:
    """Let the file grow by a few pages only."""
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages + 30}")

    engine.dispose()


def assert_explained(error: DBAPIError, *words: str) -> None:
    """The error says what is lost and what to do, and nothing of the payload."""
    (note,) = error.__notes__
    assert "None was written" in note
    assert all(word in note for word in words)
    assert SECRET not in f"{error}{error.orig}{note}"
    assert error.hide_parameters


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
def test_a_full_disk_outside_of_any_transaction(shop: Shop, names: list[str]) -> None:
    """Whole or nothing: when the disk is full no row is written, and the error says why."""
    shop.connect(Relay(shop.engine), *names)
    full(shop.engine)

    with pytest.raises(OperationalError, match="full") as raised:
        shop.placed.send("shop", note=SECRET * 20_000)

    assert_explained(raised.value, "the disk is full")
    assert shop.fate == (0, 0)
    shop.send()
    assert shop.fate == (0, len(names))


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_a_full_disk_in_a_transaction(shop: Shop, names: list[str], is_rolled_back: bool) -> None:
    """Whole or nothing: no message is left of it, not even when the program commits what it should roll back."""
    shop.connect(Relay(shop.engine), *names)
    full(shop.engine)

    with Session(shop.engine) as session:
        session.add(Order(item="tea"))
        session.flush()

        with pytest.raises(OperationalError, match="full") as raised:
            shop.placed.send("shop", note=SECRET * 20_000)

        assert_explained(raised.value, "the disk is full")

        if is_rolled_back:
            session.rollback()
        else:
            session.commit()

    assert shop.fate[1] == 0
    assert not is_rolled_back or shop.fate == (0, 0)

    with Session(shop.engine) as session, session.begin():
        shop.order(session)

    assert shop.fate[1] == len(names)


@pytest.mark.parametrize("policy", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
def test_a_failed_write_fails_the_send_under_every_policy(any_url: str, make_engine: Any, policy: Any) -> None:
    """What cannot be written is the sender's failure, with a note on what to do about tables that are not there."""
    engine = make_engine(any_url)
    placed: NamedSignal[Any, ..., Any] = Namespace(errors=policy).declare(order_placed)
    log: list[Any] = []
    placed.connect(lambda sender, note: log.append(sender), weak=False)
    placed.connect(lambda sender, note: None, weak=False, via=Relay(engine).queue("billing"))

    with pytest.raises(DBAPIError) as raised:
        placed.send("shop", note=SECRET)

    assert_explained(raised.value, "relay.create_tables()")
    assert log == ["shop"]

    with Session(engine) as session, session.begin(), pytest.raises(DBAPIError) as raised:
        session.execute(text("SELECT 1"))
        placed.send("shop", note=SECRET)

    assert_explained(raised.value, "relay.create_tables()")


def test_a_failed_write_beside_a_failed_receiver(shop: Shop) -> None:
    """The receiver's exception stays the one that is raised; its note says that nothing was delivered."""
    shop.connect(Relay(shop.engine))
    error = LookupError("of the receiver")

    @shop.placed.connect
    def fail(sender: Any, note: str) -> None:
        raise error

    with shop.engine.begin() as connection:
        messages.drop(connection)

    with pytest.raises(LookupError) as raised:
        shop.send()

    assert raised.value is error
    assert error.__notes__ == ["Besides, the deliveries of this send failed: OperationalError."]


def test_a_transaction_of_which_the_relay_knows_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has one writer. A send beside a connection's own transaction fails after a while, and says what to do."""
    monkeypatch.setattr("aldis.relay.storage.database._BUSY_S", 0.2)
    shop.connect(Relay(shop.engine))

    with shop.engine.connect() as connection:
        connection.execute(insert(Order), {"item": "tea"})

        with pytest.raises(OperationalError, match="locked") as raised:
            shop.send()

        assert_explained(raised.value, "relay.using()")
        connection.commit()

    assert shop.fate == (1, 0)


# NOTIFY.


@contextmanager
def listening(engine: Engine) -> Iterator[Callable[[], int]]:
    """Counts the notifications that have come since it was asked last."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        driver.execute("LISTEN aldis_relay")

        def count() -> int:
            driver.execute("SELECT 1")
            return len(list(driver.notifies(timeout=0.2)))

        try:
            yield count
        finally:
            connection.invalidate()


@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one receiver", "two receivers"])
def test_workers_are_told_once_in_a_transaction(postgresql_url: str, make_engine: Any, names: list[str]) -> None:
    """R6: On PostgreSQL, one NOTIFY for each transaction that was committed, and none for one that was not."""
    shop = Shop(make_engine(postgresql_url))
    shop.connect(Relay(shop.engine), *names)

    with listening(shop.engine) as count:
        shop.send()
        assert count() == 1

        with Session(shop.engine) as session:
            shop.order(session)
            shop.order(session)
            session.rollback()
            assert count() == 0
            shop.order(session)
            shop.order(session)
            assert count() == 0
            session.commit()

        assert count() == 1


def test_workers_need_not_be_told(postgresql_url: str, make_engine: Any) -> None:
    """R6: NOTIFY can be turned off."""
    shop = Shop(make_engine(postgresql_url))
    shop.connect(Relay(shop.engine, notify=False))

    with listening(shop.engine) as count:
        shop.send()
        assert count() == 0

    assert shop.fate == (0, 1)


# E5: nothing is kept.


def open_sessions() -> int:
    """How many sessions are noted here."""
    return sum(begun.session() is not None for begun in transactions._begun.get())


def test_sessions_leave_nothing(shop: Shop) -> None:
    """E5: What has ended, and what was dropped without being ended, is noted no more."""
    shop.connect(Relay(shop.engine))
    gc.collect()
    before = open_sessions()

    with Session(shop.engine) as session:
        session.begin()
        assert open_sessions() == before + 1

    assert open_sessions() == before

    dropped = Session(shop.engine)
    dropped.begin()
    died = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert died() is None
    assert open_sessions() == before
    shop.send()


def test_tasks_leave_nothing(shop: Shop) -> None:
    """E5: A task that dropped a session without ending it is not kept."""
    shop.connect(Relay(shop.engine))
    dropped: list[Any] = []

    async def drop() -> None:
        session = Session(shop.engine)
        session.begin()
        dropped.append(weakref.ref(session))
        dropped.append(weakref.ref(asyncio.current_task()))
        shop.send()

    async def main() -> None:
        await asyncio.create_task(drop())

    asyncio.run(main())
    gc.collect()
    assert [each() for each in dropped] == [None, None]


def test_a_context_keeps_no_transaction(shop: Shop) -> None:
    """E5: A task that was started in a block of using(), and lives on, keeps neither the session nor the relay."""
    died: list[Any] = []

    async def main() -> None:
        go_on = asyncio.Event()

        def start() -> Any:
            relay, session = Relay(shop.engine), Session(shop.engine)
            died.extend([weakref.ref(session), weakref.ref(relay)])

            with relay.using(session):
                return asyncio.create_task(go_on.wait())

        task = start()
        gc.collect()
        assert [each() for each in died] == [None, None]
        go_on.set()
        await task

    asyncio.run(main())


def test_a_session_whose_info_was_cleared(shop: Shop) -> None:
    """A program that clears what others noted on its session does not fail for it."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        session.begin()
        session.info.clear()
        session.commit()

    shop.send()
    assert shop.fate == (0, 1)
