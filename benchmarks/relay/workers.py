"""The speed of several worker processes on one backlog, with receivers that do nothing and with receivers that wait."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from aldis.relay.storage.tables import messages
from aldis.relay.worker.worker import Settings, Worker
from benchmarks.harness.report import Table, ratio
from benchmarks.relay.databases import database, make_engine
from benchmarks.relay.processes import SPAWN, process, wait_until
from benchmarks.relay.shop import Shop, fill, nothing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Semaphore

    from benchmarks.relay.databases import Database

PEERS = ("sqlalchemy", "psycopg")
COUNTS: Final = (1, 2, 4)
WAITS_S: Final = {"nothing": 0.0, "wait 5 ms": 0.005}


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("database", "receivers", *(f"{count} process{'es' if count > 1 else ''}" for count in COUNTS))
    title = f"Messages a second with so many worker processes of 4 threads, to one of them; {_cores()} cores"
    table = Table(title, head)

    for name in ("SQLite", "PostgreSQL"):
        with database(name) as found:
            if found is not None:
                print(found.settings())
                _add(table, found, quick)

    yield table


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _add(table: Table, found: Database, quick: bool) -> None:
    shop = Shop(found.engine())
    shop.make()

    for what, wait_s in WAITS_S.items():
        number = (4000 if quick else 20_000) // (4 if wait_s else 1)
        times: dict[int, list[float]] = {count: [] for count in COUNTS}

        for _ in range(1 if quick else 5):
            for count in COUNTS:
                times[count].append(_time(shop, found.url, count, wait_s, number))

        ratios = [
            median(one / its for one, its in zip(times[1], times[count], strict=True)) for count in COUNTS if count > 1
        ]
        table.rows.append((found.name, what, f"{number / median(times[1]):,.0f}", *(ratio(found) for found in ratios)))

    shop.engine.dispose()


def _time(shop: Shop, url: str, count: int, wait_s: float, number: int) -> float:
    ready = SPAWN.Semaphore(0)

    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(process(work, url, wait_s, ready))

        for _ in range(count):
            ready.acquire()

        fill(shop.engine, number)
        start = time.perf_counter()
        wait_until(lambda: _is_empty(shop))
        return time.perf_counter() - start


def _is_empty(shop: Shop) -> bool:
    with shop.engine.connect() as connection:
        return connection.execute(select(messages.c.id).limit(1)).first() is None


def work(url: str, wait_s: float, ready: Semaphore) -> None:
    """Run a worker that reports when it is ready."""
    is_said: list[bool] = []

    def beat(_: Worker) -> None:
        if not is_said:
            is_said.append(True)
            ready.release()

    def wait(sender: str, **payload: Any) -> None:
        time.sleep(wait_s)

    shop = Shop(make_engine(url), wait if wait_s else nothing)
    Worker(shop.relay, Settings(), beat=beat).run()
