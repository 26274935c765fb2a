"""E5: the relay keeps no session, no task and no transaction alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from sqlalchemy.orm import Session

from aldis.relay import Relay
from aldis.relay.sending import transactions
from tests.relay.programs.orders import OrderShop


@pytest.fixture
def shop(sqlite_url: str, make_engine: Any) -> OrderShop:
    return OrderShop(make_engine(sqlite_url, connect_args={"timeout": 0.1}))


def open_sessions() -> int:
    """Return the number of sessions that the relay has noted here."""
    return sum(begun.session() is not None for begun in transactions._begun.get())


def test_sessions_leave_nothing(shop: OrderShop) -> None:
    """E5: A session that has ended, or was dropped without an end, is no longer noted."""
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


def test_tasks_leave_nothing(shop: OrderShop) -> None:
    """E5: A task that dropped a session without ending it is not kept alive."""
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


def test_a_context_keeps_no_transaction(shop: OrderShop) -> None:
    """E5: A task that was started in a block of using(), and outlives it, keeps neither the session nor the relay
    alive.
    """
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


def test_a_session_whose_info_was_cleared(shop: OrderShop) -> None:
    """A program that clears the info of its session gets no error from the relay."""
    shop.connect(Relay(shop.engine))

    with Session(shop.engine) as session:
        session.begin()
        session.info.clear()
        session.commit()

    shop.send()
    assert shop.fate == (0, 1)
