"""The relay beside Celery, Huey, Procrastinate and DBOS: an order with a job, and jobs that do nothing."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.harness.report import Table, duration, ratio
from benchmarks.relay.contestants import AFTER, Aldis, Celery, Contestant, Dbos, Huey, OrderAlone, Procrastinate
from benchmarks.relay.databases import database
from benchmarks.relay.job import Task
from benchmarks.relay.processes import process, wait_until
from benchmarks.relay.redis import durable_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = ("celery", "huey", "procrastinate", "dbos", "redis", "psycopg", "sqlalchemy")
RABBITMQ: Final = os.environ.get("ALDIS_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")


def measure(quick: bool) -> Iterator[Table]:
    """Measure two tables: senders and workers."""
    with contestants() as found:
        yield _ordering(found, 8.0 if quick else 120.0)
        single = [Aldis(f"{one.name}, batches of 1", one.database, batch=1) for one in found if isinstance(one, Aldis)]
        yield _draining([*(one for one in found if not isinstance(one, OrderAlone)), *single], quick)

        for one in single:
            one.clear()


@contextmanager
def contestants() -> Iterator[list[Contestant]]:
    """Return all contestants whose packages and servers are available."""
    with ExitStack() as stack:
        sqlite, postgresql = (stack.enter_context(database(name)) for name in ("SQLite", "PostgreSQL"))
        redis = stack.enter_context(durable_redis())
        found: list[Contestant] = []

        if sqlite is not None:
            print(sqlite.settings())
            file = sqlite.url.removeprefix("sqlite:///") + ".huey"
            found += [OrderAlone("SQLite, the order alone", sqlite, AFTER), Aldis("Aldis, SQLite", sqlite)]
            found += [Huey("Huey, SQLite", sqlite, file)]

        if postgresql is not None:
            print(postgresql.settings())
            found += [OrderAlone("PostgreSQL, the order alone", postgresql, AFTER)]
            found += [Aldis("Aldis, PostgreSQL", postgresql)]
            found += [Procrastinate("Procrastinate", postgresql), Dbos("DBOS", postgresql)]
            found += [Celery("Celery, RabbitMQ", postgresql, AFTER, RABBITMQ)] if answers(RABBITMQ) else []

        if postgresql is not None and redis is not None:
            print("Redis: appendonly = yes, appendfsync = always")
            found += [Celery("Celery, Redis", postgresql, AFTER, redis), Huey("Huey, Redis", postgresql, redis)]

        for one in found:
            one.make()
            stack.callback(one.clear)

        yield found


def answers(url: str) -> bool:
    """Return whether a server answers."""
    host, _, port = url.rpartition("@")[2].strip("/").partition(":")

    try:
        socket.create_connection((host, int(port)), timeout=2.0).close()
    except OSError:
        print("RabbitMQ does not answer")
        return False

    return True


def _ordering(found: list[Contestant], seconds: float) -> Table:
    """Measure orders; the contestants take turns after each order."""
    times: dict[str, list[float]] = {one.name: [] for one in found}
    order = list(found)
    end = time.perf_counter() + seconds
    number = 0

    for one in order:
        one.order(number := number + 1)  # This opens connections.

    while time.perf_counter() < end:
        for one in order:
            number += 1
            start = time.perf_counter()
            one.order(number)
            times[one.name].append(time.perf_counter() - start)

        order.append(order.pop(0))

    table = Table("An order and its job", ("", "the job is handed over", "an order", "to the order alone"))

    for one in found:
        alone = next(other for other in found if isinstance(other, OrderAlone) and other.database == one.database)
        took = median(times[one.name])
        when = "-" if one is alone else one.when
        table.rows.append((one.name, when, duration(took), ratio(took / median(times[alone.name]))))

    return table


def _draining(found: list[Contestant], quick: bool) -> Table:
    """Measure workers; the contestants take turns by workers that run some hundred jobs."""
    number = 200 if quick else 2000
    times: dict[str, list[float]] = {one.name: [] for one in found}

    for _ in range(1 if quick else 3):
        for one in found:
            times[one.name].append(_drain(one, number))

    base = median(times["Aldis, PostgreSQL"])
    table = Table("One worker, one thread: jobs that do nothing", ("", "jobs a second", "to Aldis, PostgreSQL"))

    for one in found:
        took = median(times[one.name])
        table.rows.append((one.name, f"{(number - 1) / took:,.0f}", ratio(base / took)))

    return table


def _drain(one: Contestant, number: int) -> float:
    # Only the time from the first job to the last is measured, without the jobs of the orders and the wake-up of an
    # idle worker.
    one.hand_all_over(range(number))
    one.database.tidy()

    with tempfile.TemporaryDirectory(prefix="aldis-bench-") as folder:
        task = Task(Path(folder), count=number)

        with process(one.work, task):
            wait_until(task.took.exists, seconds=300.0)
            return float(task.took.read_text("ascii"))
