"""The time that one durable send adds to a request's transaction, beside the same row written by hand.

The contestants take turns after each transaction. The whole transaction is measured, and also the step in it that
writes the message; the additional time of the commit is the same for all.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.orm import Session

from benchmarks.harness.report import Goal, Table, duration, ratio
from benchmarks.harness.timing import Timing
from benchmarks.relay.databases import database
from benchmarks.relay.shop import INSERT_MESSAGE, Order, Shop, orders, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from benchmarks.relay.databases import Database

    Step = Callable[[Session, int], object]

PEERS = ("sqlalchemy", "psycopg", "msgspec")
MOST = 1.25
BASE = "bare INSERT"
HEAD = ("orders written by", "no message", BASE, "by hand", "Aldis", "Aldis, notify=False", "goal")
INSERT_ORDER = insert(orders)


def measure(quick: bool) -> Iterator[Table]:
    """Measure two tables for each database: whole transactions, and the step that writes the message."""
    for name in ("SQLite", "PostgreSQL"):
        with database(name) as found:
            if found is not None:
                yield from _of(found, 4.0 if quick else 40.0)


def _of(found: Database, seconds: float) -> Iterator[Table]:
    whole = Table(f"Transactions with an order and a message, to those with a bare INSERT. {found.settings()}", HEAD)
    added = Table(f"The message alone, in the same transactions. {found.name}", HEAD)
    engine = found.engine()
    shops = {"Aldis": Shop(engine), "Aldis, notify=False": Shop(engine, notify=False)}
    shops["Aldis"].make()
    writes: dict[str, Step] = {"Core": _by_core, "the ORM": _by_orm}
    messages: dict[str, Step] = {"no message": _nothing, BASE: _Bare(), "by hand": _by_hand}
    messages |= {name: _sending(shop) for name, shop in shops.items() if name == "Aldis" or found.name != "SQLite"}

    for how, write in writes.items():
        transactions, steps = _take_turns(engine, write, messages, seconds)
        _add(whole, how, transactions, f"{found.name}, orders by {how}: the transaction")
        _add(added, how, steps, f"{found.name}, orders by {how}: the message alone")

    engine.dispose()
    yield whole
    yield added


def _take_turns(
    engine: Engine, write: Step, messages: dict[str, Step], seconds: float
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    transactions = {name: Timing([]) for name in messages}
    steps = {name: Timing([]) for name in messages}
    order = list(messages)
    end = time.perf_counter() + seconds
    number = 0

    while time.perf_counter() < end:
        for name in order:
            whole, step = _transact(engine, write, messages[name], number)
            transactions[name].rounds.append(whole)
            steps[name].rounds.append(step)

        number += 1
        order.append(order.pop(0))  # So that no contestant always follows the same one.

    return transactions, steps


def _transact(engine: Engine, write: Step, message: Step, number: int) -> tuple[float, float]:
    start = time.perf_counter()

    with Session(engine) as session:
        write(session, number)
        before = time.perf_counter()
        message(session, number)
        after = time.perf_counter()
        session.commit()

    return time.perf_counter() - start, after - before


def _add(table: Table, how: str, timings: dict[str, Timing], what: str) -> None:
    base = median(timings[BASE].rounds)
    ratios = {name: median(timing.rounds) / base for name, timing in timings.items()}
    goal = Goal(f"{what}: {ratios['Aldis']:.2f} of that of a bare INSERT, at most {MOST}", ratios["Aldis"] <= MOST)
    cells = [duration(base) if column == BASE else ratio(ratios.get(column)) for column in HEAD[1:-1]]
    table.rows.append((how, *cells, f"≤ {MOST}: {'met' if goal.is_met else 'not met'}"))
    table.goals.append(goal)


def _by_core(session: Session, number: int) -> None:
    session.execute(INSERT_ORDER, {"customer": "c", "total": number})


def _by_orm(session: Session, number: int) -> None:
    session.add(Order(customer="c", total=number))
    session.flush()


def _nothing(session: Session, number: int) -> None:
    pass


class _Bare:
    """Execute only the statement, with a row that was made before."""

    def __init__(self) -> None:
        self.row = row()

    def __call__(self, session: Session, number: int) -> None:
        session.execute(INSERT_MESSAGE, self.row)


def _by_hand(session: Session, number: int) -> None:
    """Write a row with a new id and payload, as one would by hand."""
    own: dict[str, Any] = {
        "sender": json.dumps({"text": "shop"}),
        "payload": json.dumps({"order_id": number, "total": 3}),
    }
    session.execute(INSERT_MESSAGE, {**row(str(uuid4())), **own})


def _sending(shop: Shop) -> Step:
    def send(session: Session, number: int) -> None:
        shop.send("shop", order_id=number, total=3)

    return send
