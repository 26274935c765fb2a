"""Durable receivers of a Quart application."""

from __future__ import annotations

import asyncio
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from quart import Quart, current_app
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from aldis import InvalidOptionError, Namespace
from aldis.quart import Aldis
from aldis.relay import DrainCounts, Relay
from aldis.relay.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

signals = Namespace()


@signals.declare
def order_placed(sender: Quart, /, *, order_id: int) -> None: ...


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[AsyncEngine]:
    made = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.sqlite'}")
    yield made
    asyncio.run(made.dispose())


@pytest.fixture
def relay(engine: AsyncEngine) -> Iterator[Relay]:
    made = Relay(async_sessionmaker(engine))
    made.create_tables()
    yield made
    made._parts.database.close_portal()


def test_receivers_run_in_an_app_context_of_their_own(relay: Relay) -> None:
    """Async and sync receivers get the application as the sender, and have it as current_app."""
    app = Quart("shop")
    Aldis(app, relay=relay)
    received: list[object] = []

    async def invoice(sender: Quart, *, order_id: int) -> None:
        received.append(("invoice", sender is app, current_app.name, order_id, relay.current().attempt))

    def mail(sender: Quart, *, order_id: int) -> None:
        received.append(("mail", sender is app, current_app.name, order_id, relay.current().attempt))

    @app.post("/order")
    async def order() -> str:
        await order_placed.send_async(app, order_id=7)
        return "thank you"

    async def visit() -> None:
        assert await (await app.test_client().post("/order")).get_data(as_text=True) == "thank you"

    order_placed.connect(invoice, app, via=relay.durable("invoice"))
    order_placed.connect(mail, app, via=relay.durable("mail"))
    asyncio.run(visit())
    assert received == []
    assert relay.drain() == DrainCounts(done=2)
    assert received == [("invoice", True, "shop", 7, 1), ("mail", True, "shop", 7, 1)]


def test_sync_receivers_run_as_many_at_once_as_the_worker_has_threads(relay: Relay) -> None:
    """Sync receivers run in as many threads as the worker has, not in the event loop's own threads, which are four more
    than the cores.
    """
    app = Quart("shop")
    Aldis(app, relay=relay)
    together = Barrier(40)

    def wait(sender: Quart, *, order_id: int) -> None:
        together.wait(120)

    async def send() -> None:
        for number in range(40):
            await order_placed.send_async(app, order_id=number)

    order_placed.connect(wait, app, via=relay.durable("wait"))
    asyncio.run(send())
    worker = Worker(relay, Settings(concurrency=40, drains=True))
    worker.run()
    assert worker.counts.done == 40


def test_an_application_is_set_up_once(relay: Relay) -> None:
    """A second extension for the same application is refused, with a relay too."""
    app = Quart("shop")
    Aldis(app, relay=relay)

    with pytest.raises(InvalidOptionError, match="has Aldis already"):
        Aldis(app, relay=relay)
