"""R2: an effect that a receiver writes through the relay happens once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis import InvalidOptionError, NamedSignal, Namespace
from aldis.exceptions import NoMessageError, TransactionError
from aldis.relay import Relay
from aldis.relay.storage.tables import effects
from tests.relay.programs.worker_program import Program


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection"])
def test_a_single_effect(program: Program, kind: str) -> None:
    """R2: once() is true for the first time, in the transaction that it is given: a session's or a connection's."""
    found: list[bool] = []

    def effect(end: str) -> None:
        registry = scoped_session(sessionmaker(program.engine))
        session: Any = {"session": registry(), "scoped_session": registry}.get(kind) or registry.connection()
        found.append(program.relay.first_time(session, "id"))
        found.append(program.relay.first_time(session, "id"))
        getattr(registry, end)()
        registry.remove()

    for end in ("rollback", "commit", "commit"):
        effect(end)

    assert found == [True, False, True, False, False, False]
    rows = program.run(lambda db: db.execute(select(effects.c.message_id, effects.c.receiver)).all())
    assert rows == [("id", "")]


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection", "run_sync"])
def test_a_single_effect_of_an_async_program(sqlite_url: str, kind: str) -> None:
    """R2: With an async session, registry or connection, what once() gives is awaited; inside of run_sync it is not."""

    async def effect(engine: AsyncEngine, relay: Relay) -> bool:
        if kind == "connection":
            async with engine.connect() as connection, connection.begin():
                return await relay.first_time(connection)

        registry = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        session: AsyncSession = registry()

        try:
            async with session.begin():
                if kind == "run_sync":
                    return await session.run_sync(relay.first_time)

                return await relay.first_time(registry if kind == "scoped_session" else session)
        finally:
            await registry.remove()

    async def main() -> list[bool]:
        engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
        relay = Relay(engine)
        found: list[bool] = []
        signal: NamedSignal[Any, ..., Any] = Namespace().declare(number_sent)

        async def receive(sender: Any, *, number: int) -> None:
            effect_engine = create_async_engine(engine.url)  # The loop of receivers is another.
            found.append(await effect(effect_engine, relay))
            await effect_engine.dispose()

            if relay.current().attempt == 1:
                raise ZeroDivisionError

        signal.connect(receive, weak=False, via=relay.durable("work", backoff=0))
        await asyncio.to_thread(relay.create_tables)
        await signal.send_async("sender", number=1)
        await asyncio.to_thread(relay.drain)
        await asyncio.to_thread(relay.drain)
        await asyncio.to_thread(relay._parts.database.close_portal)
        await engine.dispose()
        return found

    assert asyncio.run(main()) == [True, False]


def number_sent(sender: str, /, *, number: int) -> object: ...


def test_effects_are_of_a_receiver(program: Program) -> None:
    """R2: What two receivers note of one id are two effects, and what is noted outside of a receiver is a third."""
    found: list[bool] = []

    def work(_: int) -> None:
        with Session(program.engine) as session, session.begin():
            found.extend(program.relay.first_time(session, id) for id in (None, "shared", "shared"))

    program.connect("first", work)
    program.connect("second", work)
    program.send(1)
    program.relay.drain()

    with Session(program.engine) as session, session.begin():
        found.append(program.relay.first_time(session, "shared"))

    assert found == [True, True, False, True, True, False, True]


@pytest.mark.parametrize("given", [None, "session", Session, 7])
def test_an_effect_without_a_transaction(program: Program, given: Any) -> None:
    """once() takes what has a transaction."""
    with pytest.raises(TransactionError, match="Pass a Session or a Connection"):
        program.relay.first_time(given, "id")


def test_an_effect_of_no_message(program: Program) -> None:
    """Outside of a receiver, once() wants an id."""
    with Session(program.engine) as session, pytest.raises(NoMessageError):
        program.relay.first_time(session)


@pytest.mark.parametrize("id", ["", "x" * 37, 7, b"id", "a\0b"])
def test_an_effect_of_a_strange_id(program: Program, id: Any) -> None:
    """An id that a database would cut or refuse is refused everywhere: two that are cut to the same would be one."""
    with Session(program.engine) as session, pytest.raises(InvalidOptionError, match="up to 36 characters"):
        program.relay.first_time(session, id)
