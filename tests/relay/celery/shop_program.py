"""A program whose durable receivers run in Celery. The tests beside it start it in processes.

``celery -A shop_program worker`` runs its receivers. As a script, it publishes all due rows, and is killed before it
can delete a row.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-untyped, unused-ignore]
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, insert

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.celery import CeleryRunner

metadata = MetaData()


def table(name: str) -> Table:
    id, message_id = Column("id", Integer, primary_key=True), Column("message_id", String(36))
    return Table(name, metadata, id, message_id, Column("attempt", Integer), Column("pid", Integer))


attempts, made = table("attempts"), table("made")


class Shop:
    """A relay whose runner is Celery, two signals, and their receivers."""

    def __init__(self, database: str, broker: str, queue: str, timeout_s: float = 5.0, **settings: Any) -> None:
        self.database: Engine = create_engine(database)
        self.queue = queue
        self.celery: Any = Celery("shop", broker=broker, set_as_current=False)
        self.celery.conf.update(task_default_queue=queue, worker_enable_remote_control=False, **settings)
        self.celery.conf.worker_lost_wait = 0.5  # How long Celery waits for the result of a worker that died.
        self.engine = CeleryRunner(self.celery, timeout_s=timeout_s)
        self.relay = Relay(self.database, runner=self.engine)
        signals = Namespace()

        @signals.declare
        def ordered(sender: object, /, *, do: str) -> None: ...

        @signals.declare
        def packed(sender: object, /, *, do: str) -> None: ...

        @signals.declare
        def shipped(sender: object, /, *, do: str) -> None: ...

        self.ordered, self.packed, self.shipped = ordered, packed, shipped
        orders = self.relay.durable("shop.orders", max_attempts=2, backoff=60, timeout_s=0.5)
        ordered.connect(self.take_order, via=orders, weak=False)
        packed.connect(self.hang, via=self.relay.durable("shop.packing"), weak=False)
        shipped.connect(self.ship, via=self.relay.durable("shop.shipping", timeout_s=10), weak=False)

    def create_tables(self) -> None:
        self.relay.create_tables()
        metadata.create_all(self.database)

    def close(self) -> None:
        self.engine.stop()
        self.celery.close()
        self.database.dispose()

    def take_order(self, sender: object, *, do: str) -> None:
        """Record an attempt, do what the test asks for, and make an effect once."""
        self.note(attempts)
        getattr(self, do, lambda: None)()
        self.have_effect()

    async def ship(self, sender: object, *, do: str) -> None:
        self.note(attempts)
        self.have_effect()

    def have_effect(self) -> None:
        with self.database.begin() as connection:
            if self.relay.first_time(connection):
                self.note(made, connection)

    def note(self, where: Table, connection: Any = None) -> None:
        message = self.relay.current()
        noted = insert(where).values(message_id=message.id, attempt=message.attempt, pid=os.getpid())

        if connection is not None:
            connection.execute(noted)
            return

        with self.database.begin() as own:
            own.execute(noted)

    # What a test can ask for.

    def fail(self) -> None:
        raise OSError("secret")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self) -> None:
        marker = Path(str(self.database.url.database) + ".died")

        if not marker.exists():
            marker.touch()
            self.die()

    def linger(self) -> None:
        for _ in range(1000):
            time.sleep(0.01)

    def hang(self, sender: object, *, do: str) -> None:
        time.sleep(60)  # One call, which only a signal can interrupt.


class Dying:
    """The real runner, in a process that is killed as soon as a row is published."""

    def __init__(self, engine: CeleryRunner) -> None:
        self.start = engine.start
        self.stop = engine.stop
        self.check = engine.check
        self.attach = engine.attach
        self.engine = engine

    def handle(self, row: Any, guard: Any, /) -> Any:
        print(self.engine.handle(row, guard).disposition.value, flush=True)  # noqa: T201
        os.kill(os.getpid(), signal.SIGKILL)


if "SHOP" in os.environ:
    shop = Shop(**json.loads(os.environ["SHOP"]))
    app, relay = shop.celery, shop.relay

    if __name__ == "__main__":
        relay._parts = relay._parts._replace(runner=Dying(shop.engine))
        relay.drain()
