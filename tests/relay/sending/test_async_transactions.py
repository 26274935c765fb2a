"""R1 in an event loop: messages are committed and rolled back with their task's transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import String, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from aldis import AsyncReceiverError, NamedSignal, Namespace
from aldis.aio import Concurrent
from aldis.exceptions import TransactionError
from aldis.relay import Relay
from aldis.relay.storage.tables import messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SECRET = "hunter2"


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(String(50))


def order_placed(sender: Any, /, *, note: str) -> object: ...


def assert_explained(error: DBAPIError, *words: str) -> None:
    """Check that the error says what is lost and what to do, and shows no payload."""
    (note,) = error.__notes__
    assert "No row was written" in note
    assert all(word in note for word in words)
    assert SECRET not in f"{error}{error.orig}{note}"


@pytest.fixture(params=["sqlite", "postgresql"])
def async_engine(request: pytest.FixtureRequest, make_engine: Any) -> Callable[[], AsyncEngine]:
    """Return a function that makes the async engine, with the tables, in the loop that uses it."""
    url: str = request.getfixturevalue(f"ready_{request.param}_url")
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    Relay(engine).create_tables()
    return lambda: create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))


class AsyncShop:
    """A program on an async database: an engine, a signal, and the committed rows."""

    def __init__(self, engine: AsyncEngine, relay: Relay, **settings: Any) -> None:
        self.engine = engine
        self.relay = relay
        self.placed: NamedSignal[Any, ..., Any] = Namespace(**settings).declare(order_placed)
        self.placed.connect(self.receive, weak=False, via=relay.durable("billing"))

    async def receive(self, sender: Any, **payload: Any) -> None: ...

    async def order(self, transaction: Any) -> None:
        await transaction.execute(insert(Order), {"item": "tea"})
        await self.placed.send_async("shop", note=SECRET)

    async def fate(self) -> tuple[int, int]:
        async with self.engine.connect() as connection:
            orders = await connection.scalar(select(func.count()).select_from(Order))
            return orders or 0, await connection.scalar(select(func.count()).select_from(messages)) or 0


def run(engine: Callable[[], AsyncEngine], play: Callable[[AsyncEngine], Any]) -> None:
    async def main() -> None:
        made = engine()

        try:
            await play(made)
        finally:
            await made.dispose()

    asyncio.run(main())


async def by_async_session(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncShop, Any]]:
    async with AsyncSession(engine) as session:
        yield AsyncShop(engine, Relay(engine)), session


async def by_async_sessionmaker(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncShop, Any]]:
    maker = async_sessionmaker(engine)

    async with maker() as session:
        yield AsyncShop(engine, Relay(maker)), session


async def by_async_registry(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncShop, Any]]:
    registry = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    yield AsyncShop(engine, Relay(registry)), registry
    await registry.remove()


async def by_async_connection(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncShop, Any]]:
    shop = AsyncShop(engine, Relay(engine))

    async with engine.connect() as connection:
        with shop.relay.using(connection):
            yield shop, connection


async def by_async_saying_so(engine: AsyncEngine) -> AsyncIterator[tuple[AsyncShop, Any]]:
    shop = AsyncShop(engine, Relay(engine))

    async with AsyncSession(engine) as other, AsyncSession(engine) as session:
        await other.begin()

        with shop.relay.using(session):
            yield shop, session


@pytest.mark.parametrize(
    "way",
    [by_async_session, by_async_sessionmaker, by_async_registry, by_async_connection, by_async_saying_so],
    ids=lambda way: way.__name__,
)
@pytest.mark.parametrize("is_committed", [False, True])
def test_async_transactions(async_engine: Any, way: Any, is_committed: bool) -> None:
    """R1: send_async joins the task's transaction, with savepoints, as send joins the thread's."""

    async def play(engine: AsyncEngine) -> None:
        found = way(engine)
        shop, transaction = await anext(found)
        await shop.order(transaction)
        savepoint = await transaction.begin_nested()
        await shop.order(transaction)
        await savepoint.rollback()

        async with transaction.begin_nested():
            await shop.order(transaction)

        assert await shop.fate() == (0, 0)
        await (transaction.commit() if is_committed else transaction.rollback())
        assert await shop.fate() == ((2, 2) if is_committed else (0, 0))

        with suppress(StopAsyncIteration):
            await anext(found)

    run(async_engine, play)


def test_an_async_send_outside_of_any_transaction(async_engine: Any) -> None:
    """R1: Outside of any transaction, send_async has its own, with the async engine."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine))
        await shop.placed.send_async("shop", note=SECRET)
        assert await shop.fate() == (0, 1)

        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            await asyncio.create_task(shop.placed.send_async("shop", note=SECRET))
            assert await shop.fate() == (0, 2)

    run(async_engine, play)


def test_a_sync_send_in_an_async_session(async_engine: Any) -> None:
    """R1: In AsyncSession.run_sync(), and so in hooks of the session, send joins the transaction, or has its own."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine))

        def order(session: Session) -> None:
            session.execute(insert(Order), {"item": "tea"})
            shop.placed.send("shop", note=SECRET)

        async with AsyncSession(engine) as session:
            await session.run_sync(order)
            await session.rollback()
            await session.run_sync(order)
            await session.commit()
            assert await shop.fate() == (1, 1)
            await session.run_sync(lambda _: shop.placed.send("shop", note=SECRET))

        assert await shop.fate() == (1, 2)

        async with AsyncSession(engine) as session:
            event.listen(session.sync_session, "before_commit", lambda _: shop.placed.send("shop", note=SECRET))
            session.add(Order(item="tea"))
            await session.commit()

        assert await shop.fate() == (2, 3)

    run(async_engine, play)


def test_a_sync_send_to_an_async_database_is_refused(async_engine: Any) -> None:
    """E9: send cannot await the database, so it raises before any receiver runs and says what to do."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine))
        log: list[Any] = []
        shop.placed.connect(lambda sender, note: log.append(sender), weak=False, priority=1)

        with pytest.raises(AsyncReceiverError, match=r"Use send_async\(\), or send inside of AsyncSession\.run_sync"):
            shop.placed.send("shop", note=SECRET)

        assert (log, await shop.fate()) == ([], (0, 0))

    run(async_engine, play)


def test_an_async_write_that_fails_is_explained(async_engine: Any) -> None:
    """The error of a failed write to an async database has the same note, and shows no payload."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine))

        async with engine.begin() as connection:
            await connection.run_sync(messages.drop)

        with pytest.raises(DBAPIError) as raised:
            await shop.placed.send_async("shop", note=SECRET)

        assert_explained(raised.value, "relay.create_tables()")

        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))

            with pytest.raises(DBAPIError) as raised:
                await shop.placed.send_async("shop", note=SECRET)

            assert_explained(raised.value, "relay.create_tables()")

    run(async_engine, play)


def test_a_connection_that_was_not_started_is_refused(async_engine: Any) -> None:
    """E12: An AsyncConnection that was not awaited yet is refused, and the message names it."""

    async def play(engine: AsyncEngine) -> None:
        with pytest.raises(TransactionError, match="an AsyncConnection that was not started"):
            Relay(engine).using(engine.connect()).__enter__()

    run(async_engine, play)


def test_receivers_that_run_side_by_side(async_engine: Any) -> None:
    """R1: If receivers run in their own tasks, the rows join the transaction of the task that sends."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine), async_policy=Concurrent())

        async def at_once(sender: Any, **payload: Any) -> None:
            await asyncio.sleep(0)

        shop.placed.connect(at_once)

        async with AsyncSession(engine) as session:
            await shop.order(session)
            await session.rollback()
            await shop.order(session)
            await session.commit()

        assert await shop.fate() == (1, 1)

    run(async_engine, play)


def test_tasks_with_a_transaction_each(async_engine: Any) -> None:
    """R1: When many tasks order at the same time, each message is in the transaction of its own order."""

    async def play(engine: AsyncEngine) -> None:
        shop = AsyncShop(engine, Relay(engine))
        turn = asyncio.Lock() if engine.dialect.name == "sqlite" else asyncio.Semaphore(4)  # SQLite has one writer.

        async def work(number: int) -> None:
            async with turn, AsyncSession(engine) as session:
                await shop.order(session)
                await asyncio.sleep(0)
                await (session.rollback() if number % 2 else session.commit())

        await asyncio.gather(*(work(number) for number in range(20)))
        assert await shop.fate() == (10, 10)

    run(async_engine, play)
