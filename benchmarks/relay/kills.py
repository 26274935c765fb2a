"""The number of jobs that are lost and done twice when senders and workers are killed with kill -9."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from benchmarks.harness.report import Goal, Table
from benchmarks.relay.contestants import AFTER, BEFORE, Aldis, Celery, Contestant, Dbos, Huey, Procrastinate
from benchmarks.relay.databases import Database, database
from benchmarks.relay.job import Task
from benchmarks.relay.peers import RABBITMQ, answers
from benchmarks.relay.processes import LONG_S
from benchmarks.relay.redis import durable_redis
from benchmarks.relay.shop import done, orders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

PEERS = ("celery", "huey", "procrastinate", "dbos", "redis", "psycopg", "sqlalchemy")
FAR: Final = 1_000_000
SOON_S: Final = 0.05
START_S: Final = 15.0

# Processes begin as copies of one process that has imported all of this, because there are hundreds of them.
FORK: Final = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["benchmarks.relay.contestants", "celery.apps.worker", "huey.api", "procrastinate", "dbos", "psycopg"]
)


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("", "the job is handed over", "senders killed", "orders", "jobs lost", "jobs without an order")
    table = Table(
        "Killed by kill -9, and what became of the jobs",
        (*head, "workers killed in a job", "jobs", "lost", "done twice"),
    )
    senders, workers, jobs = (2, 1, 20) if quick else (30, 20, 200)

    with ExitStack() as stack:
        redis = stack.enter_context(durable_redis())
        rabbitmq = RABBITMQ if answers(RABBITMQ) else None

        for kind, make in _contestants(redis, rabbitmq, quick):
            with database(kind) as found:
                if found is not None:
                    _add(table, make(found), senders, workers, jobs)

    yield table


def _contestants(
    redis: str | None, rabbitmq: str | None, quick: bool
) -> Iterator[tuple[str, Callable[[Database], Contestant]]]:
    yield "SQLite", lambda found: Aldis("Aldis, SQLite", found)
    yield "SQLite", lambda found: Huey("Huey, SQLite", found, found.url.removeprefix("sqlite:///") + ".huey")

    if quick:
        return

    yield "PostgreSQL", lambda found: Aldis("Aldis, PostgreSQL", found)
    yield "PostgreSQL", lambda found: Aldis("Aldis, PostgreSQL, `relay.first_time`", found, is_once=True)
    yield "PostgreSQL", lambda found: Procrastinate("Procrastinate", found)
    yield "PostgreSQL", lambda found: Dbos("DBOS", found)

    if rabbitmq is not None:
        yield "PostgreSQL", lambda found: Celery("Celery, RabbitMQ", found, AFTER, rabbitmq)
        yield "PostgreSQL", lambda found: Celery("Celery, RabbitMQ", found, BEFORE, rabbitmq)

    if redis is not None:
        yield "PostgreSQL", lambda found: Celery("Celery, Redis", found, AFTER, redis)
        yield "PostgreSQL", lambda found: Huey("Huey, Redis", found, redis)


def _add(table: Table, one: Contestant, senders: int, workers: int, jobs: int) -> None:
    chance = random.Random(4)
    print(f"{one.name}, {one.when}", flush=True)
    one.make()

    try:
        _kill_senders(one, senders, chance)
        _work_until_quiet(one, Task(Path(), url=one.database.url))
        ordered, had = _orders(one), _done(one)
        lost, ghosts = len(ordered - set(had)), len(set(had) - ordered)
        numbers = range(-jobs, 0)
        one.hand_all_over(numbers)
        deaths = {number: chance.choice(("before", "after")) for number in chance.sample(numbers, workers)}
        killed = _work_until_quiet(one, Task(Path(), url=one.database.url, deaths=deaths))
        had = _done(one)
        missing, twice = (sum(had[number] < 1 for number in numbers), sum(had[number] > 1 for number in numbers))
    finally:
        one.clear()

    table.rows.append((one.name, one.when, senders, len(ordered), lost, ghosts, killed, jobs, missing, twice))

    if isinstance(one, Aldis):
        found = f"{lost + missing} jobs lost and {ghosts} without an order by {senders + killed} kills, at most none"
        table.goals.append(Goal(f"{one.name}: {found}", lost + missing + ghosts == 0))


def _kill_senders(one: Contestant, kills: int, chance: random.Random) -> None:
    for kill in range(1, kills + 1):
        ears, mouth = FORK.Pipe(duplex=False)
        child = FORK.Process(target=order_on, args=(one, kill * FAR, mouth), daemon=True)
        child.start()

        if not ears.poll(LONG_S):
            raise TimeoutError("the sender did not begin")

        time.sleep(chance.uniform(0, SOON_S))
        child.kill()
        child.join()


def order_on(one: Contestant, first: int, mouth: Connection) -> None:
    """Write orders, one after the other, until the process is killed."""
    for number in count(first):
        one.order(number)

        if number == first:
            mouth.send(True)


def _work_until_quiet(one: Contestant, task: Task) -> int:
    """Run workers until nothing happens any more. Return how many of them died."""
    died = 0

    with tempfile.TemporaryDirectory(prefix="aldis-bench-") as folder:
        own = Task(Path(folder), url=task.url, deaths=task.deaths)

        while True:
            one.requeue()
            child = FORK.Process(target=one.work, args=(own,), daemon=True)
            child.start()
            is_dead = _dies(child, own, one.quiet_s)
            child.kill()
            child.join()
            died += is_dead

            if not is_dead and not (one.must_requeue and _has_more(one, own)):
                return died


def _dies(child: BaseProcess, task: Task, quiet_s: float) -> bool:
    """Wait until a worker has died, or has done nothing for a while. Return whether it died."""
    size, since = -1, time.monotonic()
    allowed_s = START_S

    while time.monotonic() - since < allowed_s:
        child.join(0.05)

        if not child.is_alive():
            return True

        if (now := _size(task)) != size:
            allowed_s = quiet_s if size >= 0 else START_S
            size, since = now, time.monotonic()

    return False


def _has_more(one: Contestant, task: Task) -> bool:
    """Return whether a worker runs further jobs after the program has handed over again the jobs of dead workers."""
    before = _size(task)
    one.requeue()
    child = FORK.Process(target=one.work, args=(task,), daemon=True)
    child.start()
    child.join(one.quiet_s)
    child.kill()
    child.join()
    return _size(task) != before


def _size(task: Task) -> int:
    return task.began.stat().st_size if task.began.exists() else 0


def _orders(one: Contestant) -> set[int]:
    with one.engine.connect() as connection:
        return set(connection.scalars(select(orders.c.id)))


def _done(one: Contestant) -> Counter[int]:
    with one.engine.connect() as connection:
        numbers: Iterable[int] = connection.scalars(select(done.c.number))
        return Counter(numbers)
