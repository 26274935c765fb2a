"""The time from the commit to the start of the receiver, in a worker that is otherwise idle."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from aldis.relay.worker.worker import Settings, Worker
from benchmarks.harness.report import Goal, Table, duration
from benchmarks.relay.databases import database, make_engine
from benchmarks.relay.processes import LONG_S, SPAWN, process
from benchmarks.relay.shop import Shop, orders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from benchmarks.relay.databases import Database

PEERS = ("sqlalchemy", "psycopg", "pymysql")
MOST_S: Final = 0.01
IDLE_S: Final = (0.5, 1.0)


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("database", "told of it by", "p50", "p99", "most", "goal")
    title = "From just before the commit to the receiver, in a worker that has been idle for half a second to a second"
    table = Table(title, head)

    with ExitStack() as stack:
        places = [
            _Place(stack, found, how, options)
            for name, how, options in (
                ("SQLite", "a look at the file's version", {}),
                ("PostgreSQL", "NOTIFY", {}),
                ("PostgreSQL", "a look a second", {"notify": False}),
                ("MariaDB", "a look a second", {}),
                ("MariaDB", "ten looks a second", {"poll_s": 0.1}),
            )
            if (found := stack.enter_context(database(name))) is not None
        ]
        chance = random.Random(4)

        for _ in range(8 if quick else 120):
            for place in places:
                place.send()

            time.sleep(chance.uniform(*IDLE_S))

        for place in places:
            place.add(table)

    yield table


class _Place:
    """A database with a worker."""

    def __init__(self, stack: ExitStack, found: Database, how: str, options: dict[str, Any]) -> None:
        print(found.settings())
        self.name, self.how = found.name, how
        poll_s = options.pop("poll_s", 1.0)
        shop = Shop(found.engine(), **options)
        shop.make()
        stack.callback(shop.engine.dispose)
        self.shop = shop
        self.ears, mouth = SPAWN.Pipe(duplex=False)
        stack.enter_context(process(work, found.url, mouth, poll_s))
        self.times: list[float] = []
        self.send()  # Until then the worker starts.
        self.times.clear()

    def send(self) -> None:
        with Session(self.shop.engine) as session:
            session.execute(insert(orders), {"customer": "c", "total": 3})
            self.shop.send("shop", order_id=7, total=3)
            began = time.monotonic()
            session.commit()

        if not self.ears.poll(LONG_S):
            raise TimeoutError("no receiver was called")

        self.times.append(self.ears.recv() - began)

    def add(self, table: Table) -> None:
        times = sorted(self.times)
        p50, p99 = median(times), times[int(len(times) * 0.99)]
        goal = Goal(f"{self.name}: p50 of the latency is {duration(p50)}, under {duration(MOST_S)}", p50 < MOST_S)
        is_goal = self.how in ("NOTIFY", "a look at the file's version")
        cell = f"p50 < {duration(MOST_S)}: {'met' if goal.is_met else 'not met'}" if is_goal else "-"
        table.rows.append((self.name, self.how, duration(p50), duration(p99), duration(times[-1]), cell))
        table.goals += [goal] if is_goal else []


def work(url: str, mouth: Connection, poll_s: float) -> None:
    """Run a worker that reports when its receiver is called."""

    def receive(sender: str, **payload: Any) -> None:
        mouth.send(time.monotonic())

    shop = Shop(make_engine(url), receive)
    Worker(shop.relay, Settings(concurrency=1, poll_s=poll_s)).run()
