"""Receivers that run after the transaction is committed."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, StaticPool, create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from aldis import AsyncReceiverError, Failure, InvalidOptionError, Signal
from aldis.sqlalchemy import after_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database in memory, which all connections of the test share."""
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    # SQLAlchemy's documentation says so for savepoints with this driver: the driver must not begin a transaction
    # itself.
    @event.listens_for(made, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(made, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(made)
    yield made
    made.dispose()


class Desk:
    """A session, a signal with a receiver that runs after the session's commits, and a log of the results."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.signal = Signal()
        self.log: list[Any] = []
        self.signal.connect(self.receive, weak=False, via=after_commit(session))

    def receive(self, sender: Any) -> Any:
        self.log.append(sender)
        return sender

    def send(self, sender: Any) -> None:
        """Send inside a transaction, and begin one if there is none."""
        self.session.execute(text("SELECT 1"))
        assert (self.receive, None) in self.signal.send(sender)


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    with Session(engine) as session:
        yield Desk(session)


def test_the_receiver_runs_after_the_commit(desk: Desk) -> None:
    """The receiver runs after the commit, and only once."""
    desk.send("a")
    desk.send("b")
    assert desk.log == []
    desk.session.commit()
    assert desk.log == ["a", "b"]
    desk.session.commit()
    desk.send("c")
    desk.session.rollback()
    assert desk.log == ["a", "b"]


def test_the_receiver_sees_the_committed_row(desk: Desk, engine: Engine) -> None:
    """In the receiver, the row is visible to every connection, and the session has no transaction."""

    def receiver(sender: Any) -> None:
        assert not desk.session.in_transaction()

        with engine.connect() as other:
            desk.log.append(other.scalar(text("SELECT item FROM orders")))

    desk.signal.connect(receiver, via=after_commit(desk.session))
    desk.session.add(Order(item="tea"))
    desk.signal.send("a")
    desk.session.commit()
    assert desk.log == ["a", "tea"]


@pytest.mark.parametrize("end", ["rollback", "close", "reset"])
def test_a_send_that_is_not_committed_is_forgotten(desk: Desk, end: str) -> None:
    """After a rollback, a close or a reset the receiver does not run, not even at the next commit."""
    desk.send("lost")
    getattr(desk.session, end)()
    desk.send("strong_ref")
    desk.session.commit()
    assert desk.log == ["strong_ref"]


def test_a_failed_commit_forgets_its_sends(desk: Desk) -> None:
    """When the database refuses the commit, no receiver runs."""
    desk.session.add_all([Order(item="tea"), Order(item="tea")])
    assert desk.signal.send("lost") == [(desk.receive, None)]

    with pytest.raises(IntegrityError):
        desk.session.commit()

    desk.session.rollback()
    assert desk.log == []


def test_blocks(desk: Desk) -> None:
    """session.begin() as a block commits at its end, and forgets its sends when it fails."""
    with desk.session.begin():
        desk.send("strong_ref")

    with pytest.raises(ZeroDivisionError), desk.session.begin():
        desk.send("lost")
        raise ZeroDivisionError

    assert desk.log == ["strong_ref"]


# Savepoints.


def test_a_released_savepoint_waits_for_the_transaction(desk: Desk) -> None:
    """Releasing a savepoint is no commit: its sends wait for the commit of the outermost transaction, in the order
    in which savepoints ended."""
    desk.send("outer")

    with desk.session.begin_nested():
        desk.send("inner")

        with desk.session.begin_nested():
            desk.send("innermost")

    assert desk.log == []
    desk.session.commit()
    assert desk.log == ["outer", "inner", "innermost"]


def test_a_rolled_back_savepoint_forgets_its_own_sends(desk: Desk) -> None:
    """The sends inside a rolled back savepoint are forgotten, also those in released savepoints inside it; other
    sends are not."""
    desk.send("before")
    savepoint = desk.session.begin_nested()
    desk.send("lost")

    with desk.session.begin_nested():
        desk.send("lost too")

    savepoint.rollback()
    desk.send("after")
    desk.session.commit()
    assert desk.log == ["before", "after"]


def test_a_released_savepoint_in_a_transaction_that_is_rolled_back(desk: Desk) -> None:
    """A rollback of the transaction also forgets the sends of a released savepoint."""
    with desk.session.begin_nested():
        desk.send("lost")

    desk.session.rollback()
    desk.session.commit()
    assert desk.log == []


def test_a_savepoint_alone(desk: Desk) -> None:
    """If all sends are in a savepoint, they still wait for the commit of the transaction."""
    with desk.session.begin(), desk.session.begin_nested():
        desk.signal.send("inner")

    assert desk.log == ["inner"]


def test_sent_during_a_flush(desk: Desk) -> None:
    """A send in a mapper event belongs to the transaction of the flush."""

    def on_insert(mapper: Any, connection: Any, order: Order) -> None:
        desk.signal.send(order.item)

    event.listen(Order, "after_insert", on_insert)

    try:
        desk.session.add(Order(item="tea"))

        with desk.session.begin_nested():
            desk.session.add(Order(item="milk"))

        assert desk.log == []
        desk.session.commit()
    finally:
        event.remove(Order, "after_insert", on_insert)

    assert sorted(desk.log) == ["milk", "tea"]


def test_sent_in_a_savepoint_of_a_flush(desk: Desk) -> None:
    """A savepoint that an event begins during a flush belongs to the transaction around the flush."""

    def on_insert(mapper: Any, connection: Any, order: Order) -> None:
        with desk.session.begin_nested():
            desk.signal.send(order.item)

    event.listen(Order, "after_insert", on_insert)

    try:
        desk.session.add(Order(item="tea"))
        desk.session.flush()
        assert desk.log == []
        desk.session.commit()
    finally:
        event.remove(Order, "after_insert", on_insert)

    assert desk.log == ["tea"]


# Outside a transaction, several sessions.


def test_outside_a_transaction_it_runs_at_once(desk: Desk) -> None:
    """Without a transaction the receiver runs during the send, and its result is in the results."""
    assert desk.signal.send("now") == [(desk.receive, "now")]
    assert desk.log == ["now"]


def test_sessions_do_not_mix(engine: Engine) -> None:
    """The commit of one session does not run receivers of sends for another session."""
    with Session(engine) as one, Session(engine) as two:
        first, second = Desk(one), Desk(two)
        one.begin()
        first.signal.send("first")
        assert second.signal.send("second") == [(second.receive, "second")]
        two.commit()
        assert (first.log, second.log) == ([], ["second"])
        one.commit()
        assert (first.log, second.log) == (["first"], ["second"])


def test_a_registry_uses_the_current_session(engine: Engine) -> None:
    """A scoped_session means the session that is current at the send; here, each thread has its own."""
    registry = scoped_session(sessionmaker(engine))
    desk = Desk(registry)
    registry.begin()
    desk.signal.send("here")

    def elsewhere() -> None:
        desk.signal.send("elsewhere, at once")
        registry.remove()

    thread = Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert desk.log == ["elsewhere, at once"]
    registry.commit()
    assert desk.log == ["elsewhere, at once", "here"]
    registry.remove()


def test_flask_sqlalchemy(tmp_path: Any) -> None:
    """db.session of Flask-SQLAlchemy works, and each request has its own session."""
    db: Any = SQLAlchemy()
    app = Flask("shop", instance_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    desk = Desk(db.session)

    @app.get("/<end>")
    def view(end: str) -> str:
        desk.send(end)
        getattr(db.session, end)()
        return "done"

    client = app.test_client()
    assert client.get("/commit").text == client.get("/rollback").text == "done"
    assert desk.log == ["commit"]

    with app.app_context():
        db.engine.dispose()


# Failures, and sends by receivers.


def test_a_failure_cannot_undo_the_commit(desk: Desk, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The caller of commit() does not get the exception of a receiver: it is logged, and the other receivers run."""

    def broken(sender: Any) -> None:
        raise OSError("disk full")

    desk.signal.connect(broken, priority=1, via=after_commit(desk.session))
    desk.session.add(Order(item="tea"))
    desk.signal.send("a")

    with caplog.at_level(logging.ERROR):
        desk.session.commit()

    assert desk.log == ["a"]
    (record,) = caplog.records
    assert record.name == "aldis"
    assert "broken" in record.message

    with engine.connect() as other:
        assert other.scalar(text("SELECT count(*) FROM orders")) == 1


def test_a_failure_goes_to_a_callable_policy(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """If the failure policy is a callable, it receives the failure, and the failure is not logged."""
    failures: list[Failure] = []
    desk.signal.errors = failures.append

    def broken(sender: Any) -> None:
        raise OSError("disk full")

    desk.signal.connect(broken, via=after_commit(desk.session))
    desk.send("a")
    desk.session.commit()
    assert [failure.receiver for failure in failures] == [broken]
    assert not caplog.records


def test_an_interrupt_is_raised_by_the_commit(desk: Desk) -> None:
    """KeyboardInterrupt and similar exceptions are raised by commit()."""

    def stop(sender: Any) -> None:
        raise KeyboardInterrupt

    desk.signal.connect(stop, via=after_commit(desk.session))
    desk.send("a")

    with pytest.raises(KeyboardInterrupt):
        desk.session.commit()


def test_a_receiver_may_send_and_commit(desk: Desk) -> None:
    """A receiver may use the session, in its own transaction, and send inside it."""

    def receiver(sender: Any) -> None:
        if sender == "a":
            desk.session.add(Order(item="invoice"))
            desk.signal.send("b")
            desk.log.append("before the inner commit")
            desk.session.commit()

    desk.signal.connect(receiver, via=after_commit(desk.session))
    desk.send("a")
    desk.session.commit()
    assert desk.log == ["a", "before the inner commit", "b"]


def test_nothing_is_left_behind(desk: Desk) -> None:
    """After commits, rollbacks and savepoints the session keeps nothing of them alive."""
    for end in ("commit", "rollback") * 3:
        desk.send("a")

        with desk.session.begin_nested():
            desk.send("b")

        desk.session.begin_nested().rollback()
        getattr(desk.session, end)()

    pending = desk.session.info["aldis.after_commit"]
    assert (pending.calls, pending.committed) == ({}, set())


# Async.


def awaited(check: Callable[[AsyncSession], Any]) -> None:
    """Run a check with an async session."""

    async def main() -> None:
        engine = create_async_engine("sqlite+aiosqlite://")

        async with AsyncSession(engine) as session:
            await check(session)

        await engine.dispose()

    asyncio.run(main())


def test_an_async_session() -> None:
    """With an AsyncSession, sync and async receivers run during the commit, which awaits the async ones."""

    async def check(session: AsyncSession) -> None:
        desk = Desk(session)

        async def receiver(sender: Any) -> None:
            await asyncio.sleep(0)
            desk.log.append(f"async {sender} {await session.scalar(text('SELECT 3'))}")
            await session.rollback()

        desk.signal.connect(receiver, via=after_commit(session))
        await session.execute(text("SELECT 1"))
        desk.signal.send("a")
        await desk.signal.send_async("b")
        assert desk.log == []
        await session.commit()
        assert desk.log == ["a", "async a 3", "b", "async b 3"]

    awaited(check)


def test_an_async_session_without_a_transaction() -> None:
    """Outside a transaction, send_async awaits an async receiver at once; send cannot, and raises an error that says
    so."""

    async def check(session: AsyncSession) -> None:
        signal = Signal()

        @signal.connect(via=after_commit(session))
        async def receiver(sender: Any) -> Any:
            await asyncio.sleep(0)
            return sender

        assert await signal.send_async("now") == [(receiver, "now")]

        with pytest.raises(AsyncReceiverError, match="send_async"):
            signal.send("now")

    awaited(check)


def test_an_async_registry() -> None:
    """An async_scoped_session means the session that is current at the send."""

    async def check(session: AsyncSession) -> None:
        registry = async_scoped_session(async_sessionmaker(session.bind), scopefunc=asyncio.current_task)
        desk = Desk(registry)
        await registry.execute(text("SELECT 1"))
        desk.signal.send("a")
        assert desk.log == []
        await registry.commit()
        assert desk.log == ["a"]
        await registry.remove()

    awaited(check)


# Refused arguments.


def test_async_receivers_need_an_async_session(desk: Desk) -> None:
    """connect refuses an async receiver for a sync session, because nothing could await it."""

    async def receiver(sender: Any) -> None: ...

    with pytest.raises(InvalidOptionError, match="async"):
        desk.signal.connect(receiver, via=after_commit(desk.session))


@pytest.mark.parametrize("wrong", [None, 3, Session, sessionmaker(), "session"])
def test_an_invalid_session_is_refused(wrong: Any) -> None:
    """An object that is no session is refused at once, with a message that says what to pass."""
    with pytest.raises(InvalidOptionError, match=r"db\.session"):
        after_commit(wrong)


def test_the_repr(desk: Desk) -> None:
    """The repr names the class of the session."""
    assert repr(after_commit(desk.session)) == "after_commit(Session)"
