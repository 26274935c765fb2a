"""The speed at which one worker drains a backlog, beside a loop that makes the same claims and deletes by hand."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from sqlalchemy import bindparam, case, delete, select, update

from aldis.relay.storage.tables import SENT_COLUMNS, messages, now_ms
from aldis.relay.worker.worker import Settings, Worker
from benchmarks.harness.report import Goal, Table, ratio
from benchmarks.relay.databases import database
from benchmarks.relay.shop import RECEIVER, Shop, fill, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from benchmarks.relay.databases import Database

PEERS = ("sqlalchemy", "psycopg", "pymysql")
LEAST: Final = {1: 0.8, 100: 0.6}
LEASE_MS: Final = 60_000

_m: Final = messages.c
_IDS: Final = _m.id.in_(bindparam("ids", expanding=True))
CHOOSE: Final = (
    select(*(_m[name] for name in ("id", *SENT_COLUMNS, "attempts", "crashes", "token")))
    .where(_m.receiver == RECEIVER, _m.due_ms <= now_ms())
    .order_by(_m.due_ms, _m.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
CLAIM: Final = (
    update(messages)
    .where(_IDS)
    .values(
        due_ms=now_ms() + LEASE_MS,
        attempts=_m.attempts + 1,
        crashes=_m.crashes + case((_m.token.is_not(None), 1), else_=0),
        token=bindparam("claim"),
    )
)
FINISH: Final = delete(messages).where(_IDS, _m.token == bindparam("claim"))


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    head = ("database", "batch", "by hand, messages a second", "Aldis", "goal")
    table = Table("One worker, one message at a time: messages a second, to the loop by hand", head)

    for name in ("SQLite", "PostgreSQL", "MariaDB"):
        with database(name) as found:
            if found is not None:
                print(found.settings())
                _add(table, found, quick)

    yield table


def _add(table: Table, found: Database, quick: bool) -> None:
    engine = found.engine()
    shop = Shop(engine)
    shop.make()

    for batch, least in LEAST.items():
        number = (100 if quick else 300) if batch == 1 else (1000 if quick else 5000)
        by_hand, aldis = _take_turns(shop, batch, number, rounds=5 if quick else 25)
        rate = median(hand / its for hand, its in zip(by_hand, aldis, strict=True))
        goal = Goal(f"{found.name}, batches of {batch}: {rate:.2f} of the loop, at least {least}", rate >= least)
        cell = f"≥ {least}: {'met' if goal.is_met else 'not met'}"
        table.rows.append((found.name, batch, f"{number / median(by_hand):,.0f}", ratio(rate), cell))
        table.goals.append(goal)

    engine.dispose()


def _take_turns(shop: Shop, batch: int, number: int, rounds: int) -> tuple[list[float], list[float]]:
    by_hand: list[float] = []
    aldis: list[float] = []

    for turn in range(rounds + 1):
        for times, drain in ((by_hand, _by_hand), (aldis, _by_aldis))[:: -1 if turn % 2 else 1]:
            fill(shop.engine, number)
            times.append(drain(shop, batch, number))

    return by_hand[1:], aldis[1:]


def _by_aldis(shop: Shop, batch: int, number: int) -> float:
    worker = Worker(shop.relay, Settings(concurrency=1, batch=batch, drains=True))
    start = time.perf_counter()
    worker.run()
    took = time.perf_counter() - start
    assert worker.counts.done == number
    return took


def _by_hand(shop: Shop, batch: int, number: int) -> float:
    begin = begin_at_once if shop.engine.dialect.name == "sqlite" else begin_plainly
    done = 0
    start = time.perf_counter()

    while received := _receive_some(shop.engine, batch, begin, nothing):
        done += received

    took = time.perf_counter() - start
    assert done == number
    return took


def _receive_some(
    engine: Engine, batch: int, begin: Callable[[Connection], object], receive: Callable[..., None]
) -> int:
    with transaction(engine, begin) as connection:
        rows = connection.execute(CHOOSE, {"most": batch}).all()

        if not rows:
            return 0

        claim = {"ids": [row.id for row in rows], "claim": uuid4().hex}
        connection.execute(CLAIM, claim)

    for row in rows:
        receive(json.loads(row.sender)["text"], **json.loads(row.payload))

    with transaction(engine, begin) as connection:
        return connection.execute(FINISH, claim).rowcount


@contextmanager
def transaction(engine: Engine, begin: Callable[[Connection], object]) -> Iterator[Connection]:
    with engine.connect() as connection:
        begin(connection)
        yield connection
        connection.commit()


def begin_plainly(connection: Connection) -> None:
    connection.begin()


def begin_at_once(connection: Connection) -> None:
    """Begin a writing transaction at once in SQLite, as the relay does."""
    connection.begin()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
