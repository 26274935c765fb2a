"""Whether a claim takes longer if a million rows wait, and whether the memory of a worker that drains them grows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, event, text

from aldis.relay.storage import claims as _claims
from aldis.relay.storage.tables import messages
from aldis.relay.worker.worker import Settings, Worker
from benchmarks.harness.report import Goal, Table, duration, ratio
from benchmarks.relay.databases import database, make_engine
from benchmarks.relay.processes import SPAWN, process
from benchmarks.relay.shop import RECEIVER, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from sqlalchemy import Engine

    from benchmarks.relay.databases import Database

PEERS = ("sqlalchemy", "psycopg")
KEYED: Final = "billing.account"
BATCH: Final = 100
MOST_GROWTH: Final = 2.0
MOST_MEMORY: Final = 1.1

# Each backlog: a name, the receiver, key and version of row i, the rows before the claimable ones, and whether it is a
# goal.
PLAIN: Final = (RECEIVER, "NULL", 1)
BACKLOGS: Final = {
    "rows of one receiver": (PLAIN, None, True),
    "with a key, each its own": ((KEYED, "CAST(i AS VARCHAR(20))", 1), None, True),
    "with a key, ten rows each": ((KEYED, "CAST(i / 10 AS VARCHAR(20))", 1), None, True),
    "with a key, ten keys in all": ((KEYED, "CAST(i % 10 AS VARCHAR(20))", 1), None, True),
    "behind rows of an unknown receiver": (PLAIN, ("gone", "NULL", 1), True),
    "behind rows of a newer version": (PLAIN, (RECEIVER, "NULL", 2), False),
}
ROW: Final = """
    INSERT INTO aldis_messages (
        message_id, signal, receiver, version, sender, payload, ordering_key, sent_ms, due_ms, attempts, crashes
    )
    SELECT 'message', 'order-placed', '{receiver}', {version}, '{{"text": "shop"}}', '{{"order_id":7,"total":3}}',
        {key}, {begin} + i, {begin} + i, 0, 0
    FROM {numbers}
"""
NUMBERS: Final = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) SELECT i FROM n) AS s",
    "postgresql": "generate_series(1, {0}) AS s(i)",
}


def measure(quick: bool) -> Iterator[Table]:
    """Measure two tables: claims and memory."""
    sizes = (1000, 50_000) if quick else (1000, 100_000, 1_000_000)
    head = ("database", "backlog", *(f"{size:,}" for size in sizes), "growth", "a look", "by", "goal")
    claims = Table(f"A claim of {BATCH} rows, when so many wait; and a look for what is due, at the most", head)
    memory = Table(
        "Memory of a worker that drains", ("database", "rows", "at 1 %", "at 50 %", "at 99 %", "growth", "goal")
    )

    for name in ("SQLite", "PostgreSQL"):
        with database(name) as found:
            if found is not None:
                _add_claims(claims, found, sizes)
                _add_memory(memory, found, 10_000 if quick else 100_000)

    yield claims
    yield memory


# Claims.


def _add_claims(table: Table, found: Database, sizes: tuple[int, ...]) -> None:
    engine = found.engine()
    shop = Shop(engine)
    shop.make()
    shop.connect(KEYED, key="order_id")

    for what, (rows, before, is_goal) in BACKLOGS.items():
        times: list[float] = []

        for size in sizes:
            _empty(engine)
            fill_many(engine, size if before is None else BATCH, *rows, begin=size)

            if before is not None:
                fill_many(engine, size, *before)

            prepare(engine)
            times.append(_time_of_claim(shop, rows[0]))

        growth = times[-1] / times[0]
        goal = Goal(f"{found.name}, {what}: a claim among {sizes[-1]:,} takes {growth:.2f} of that among {sizes[0]:,},"
                    f" at most {MOST_GROWTH:g}", growth <= MOST_GROWTH)  # fmt: skip
        table.goals += [goal] if is_goal else []
        cell = f"growth ≤ {MOST_GROWTH:g}: {'met' if goal.is_met else 'not met'}" if is_goal else "-"
        look = duration(_time_of_look(shop))
        row = (*map(duration, times), ratio(growth), look, _plan(shop, rows[0]), cell)
        table.rows.append((found.name, what, *row))

    engine.dispose()


def fill_many(engine: Engine, number: int, receiver: str, key: str, version: int, *, begin: int = 0) -> None:
    """Write the given number of rows with one statement; each is due after the one before it."""
    numbers = NUMBERS[engine.dialect.name].format(number)

    with engine.begin() as connection:
        statement = ROW.format(receiver=receiver, key=key, version=version, begin=begin, numbers=numbers)
        connection.execute(text(statement.replace(":", r"\:")))


def prepare(engine: Engine) -> None:
    """Do the work of autovacuum now."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE aldis_messages")


def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(messages))

    prepare(engine)


def _time_of_claim(shop: Shop, receiver: str) -> float:
    """Return the median time of some claims on one connection, made as a worker makes them and not committed."""
    known = shop.relay._parts.receivers.known()[receiver]
    times: list[float] = []
    end = time.perf_counter() + 5.0

    with shop.engine.connect() as connection:
        while len(times) < 20 and (len(times) < 3 or time.perf_counter() < end):
            connection.begin()
            start = time.perf_counter()
            found = _claims.claim(connection, receiver, known, BATCH, 60_000)
            times.append(time.perf_counter() - start)
            connection.rollback()
            assert found

    return median(times)


def _time_of_look(shop: Shop) -> float:
    known = shop.relay._parts.receivers.known()
    times: list[float] = []

    with shop.engine.connect() as connection:
        for _ in range(10):
            start = time.perf_counter()
            _claims.next_due(connection, known)
            times.append(time.perf_counter() - start)

    return median(times)


def _plan(shop: Shop, receiver: str) -> str:
    """Return the database's query plan for a claim."""
    known = shop.relay._parts.receivers.known()[receiver]
    said: list[tuple[str, Any]] = []

    with shop.engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *call: said.append((call[2], call[3])))
        connection.begin()
        _claims.claim(connection, receiver, known, BATCH, 60_000)
        connection.rollback()

    explain = "EXPLAIN QUERY PLAN" if shop.engine.dialect.name == "sqlite" else "EXPLAIN"
    statement, parameters = next(call for call in said if "due_ms <= " in call[0])

    with shop.engine.connect() as connection:
        lines = "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))

    found = re.findall(r"aldis_messages_\w+|Seq Scan|SCAN|Sort|TEMP B-TREE", lines)
    return ", ".join(f"`{name}`" for name in dict.fromkeys(found))


# Memory.


def _add_memory(table: Table, found: Database, number: int) -> None:
    engine = found.engine()
    _empty(engine)
    fill_many(engine, number, *PLAIN)
    prepare(engine)
    engine.dispose()
    ears, mouth = SPAWN.Pipe(duplex=False)
    marks = [number // 100, number // 2, number - number // 100]

    with process(work, found.url, mouth, marks):
        sizes: list[int] = [ears.recv() for _ in marks]

    growth = sizes[-1] / sizes[0]
    goal = Goal(f"{found.name}: a worker that drains {number:,} rows grows to {growth:.2f}, at most {MOST_MEMORY}",
                growth <= MOST_MEMORY)  # fmt: skip
    cell = f"≤ {MOST_MEMORY}: {'met' if goal.is_met else 'not met'}"
    table.rows.append((found.name, f"{number:,}", *(f"{size / 1e6:.1f} MB" for size in sizes), ratio(growth), cell))
    table.goals.append(goal)


def work(url: str, mouth: Connection, marks: list[int]) -> None:
    """Run a worker that reports its memory after given numbers of messages."""
    count = 0

    def receive(sender: str, **payload: Any) -> None:
        nonlocal count
        count += 1

        if count in marks:
            mouth.send(resident_bytes())

    shop = Shop(make_engine(url), receive)
    Worker(shop.relay, Settings(concurrency=1, drains=True)).run()


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
