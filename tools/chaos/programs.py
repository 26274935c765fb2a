"""The programs of chaos, which run in their own processes: a shop that sells, and workers that receive.

Each row of ``orders`` has a message. Each message has an ``effect``, which is made with ``relay.first_time``; the table
itself would accept a second one. ``deliveries`` has one row for each attempt, without any protection.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy import Boolean, Column, Integer, MetaData, Table, create_engine, insert
from sqlalchemy.orm import sessionmaker

from aldis import NamedSignal, Namespace
from aldis.relay import Relay
from aldis.relay.worker.process import run_worker
from tools.chaos.processes import say, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

metadata: Final = MetaData()
orders: Final = Table(
    "orders",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("is_kept", Boolean, nullable=False),
)
effects: Final = Table(
    "effects", metadata, Column("id", Integer, primary_key=True), Column("number", Integer, nullable=False)
)
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
)

RECEIVERS: Final = ("billing", "mail")


def order_placed(sender: str, /, *, number: int) -> object:
    """Sent with each order."""


@final
class Shop:
    """A program's database, relay and signal.

    :param patience_s: how long to wait for other writers, in SQLite.
    """

    def __init__(self, url: str, patience_s: float = 60.0) -> None:
        patience: dict[str, Any] = {"timeout": patience_s} if url.startswith("sqlite") else {}
        self.engine = create_engine(url, connect_args=patience)
        self.sessions = sessionmaker(self.engine)
        self.relay = Relay(self.engine)
        self.signal: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)

    def make(self) -> None:
        """Make the tables."""
        metadata.create_all(self.engine)
        self.relay.create_tables()

    def connect(self, name: str, work: Callable[[int], object] = lambda _: None, **options: Any) -> None:
        """Connect a durable receiver."""

        def receive(_: str, *, number: int) -> None:
            work(number)

        self.signal.connect(receive, weak=False, via=self.relay.durable(name, **options))

    def place(self, session: Session, number: int, chance: Random, *, is_kept: bool) -> None:
        """Place an order in a transaction: first the row and then the message, or the other way round."""
        steps: list[Callable[[], object]] = [
            lambda: session.execute(insert(orders), {"number": number, "is_kept": is_kept}),
            lambda: self.signal.send("shop", number=number),
        ]
        chance.shuffle(steps)

        for step in steps:
            step()

    def deliver(self, number: int) -> None:
        """Record an attempt in its own transaction, which is committed even if the attempt fails."""
        with self.sessions.begin() as session:
            attempt = self.relay.current().attempt
            session.execute(insert(deliveries), {"number": number, "attempt": attempt})

    def have_effect(self, session: Session, number: int) -> None:
        """Make the effect of the current message, once."""
        if self.relay.first_time(session):
            session.execute(insert(effects), {"number": number})


# Senders.


def sell(url: str, seed: str, first: int) -> None:
    """Run one business transaction after the other, until the process is killed."""
    shop = Shop(url)
    chance = Random(seed)

    for name in RECEIVERS:
        shop.connect(name)

    for number in count(first, 2):
        _sell_one(shop, chance, number)

        if number == first:
            say("sells")


def _sell_one(shop: Shop, chance: Random, number: int) -> None:
    kind = chance.choice(("commit", "commit", "rollback", "savepoint", "outer"))

    with shop.sessions() as session:
        session.begin()
        shop.place(session, number, chance, is_kept=kind in ("commit", "savepoint"))

        if kind in ("savepoint", "outer"):
            nested = session.begin_nested()
            shop.place(session, number + 1, chance, is_kept=False)
            nested.commit() if kind == "outer" else nested.rollback()

        session.commit() if kind in ("commit", "savepoint") else session.rollback()


# Workers.


def work(url: str, lease: float, aim: str = "", at: int = 1, pause: float = 0.0, **settings: Any) -> None:
    """Run a worker whose receiver has an effect.

    :param aim: the point at which it reports and waits for its kill, when the receiver gets there for the ``at``-th
        time:
        ``before``, ``inside`` or ``after`` the effect's transaction.
    :param pause: how many more seconds the receiver takes.
    """
    shop = Shop(url)
    times = count(1)

    def receive(number: int) -> None:
        is_target = next(times) == at
        shop.deliver(number)
        _wait_at("before", aim if is_target else "", number)

        with shop.sessions.begin() as session:
            shop.have_effect(session, number)
            _wait_at("inside", aim if is_target else "", number)

        _wait_at("after", aim if is_target else "", number)
        time.sleep(pause)

    shop.connect("billing", receive, max_attempts=1000, backoff=0.01)
    shop.connect("mail", max_attempts=1000)
    _run(shop, lease=lease, **settings)


def _wait_at(place: str, aim: str, number: int) -> None:
    if place == aim:
        say("here", number=number)
        time.sleep(60)  # It is killed during this time.


def die(url: str, lease: float, poison: list[int], max_attempts: int) -> None:
    """Run a worker whose receiver kills the process, for some of the messages."""
    shop = Shop(url)

    def receive(number: int) -> None:
        shop.deliver(number)

        if number in poison:
            os.kill(os.getpid(), signal.SIGKILL)

        with shop.sessions.begin() as session:
            shop.have_effect(session, number)

    shop.connect("billing", receive, max_attempts=max_attempts, backoff=0.01)
    _run(shop, lease=lease)


def linger(url: str, lease: float, gate: str) -> None:
    """Run a worker whose receiver reports that it has begun, and makes its effect when a file exists."""
    shop = Shop(url)

    def receive(number: int) -> None:
        shop.deliver(number)
        say("begun", number=number)

        while not Path(gate).exists():
            time.sleep(0.005)

        with shop.sessions.begin() as session:
            shop.have_effect(session, number)

        say("ended")

    shop.connect("billing", receive)
    _run(shop, lease=lease, concurrency=1)


def _run(shop: Shop, *, lease: float, concurrency: int = 2, batch: int = 20) -> None:
    run_worker(shop.relay, concurrency=concurrency, batch=batch, lease_s=lease, poll_s=0.05, grace_s=30.0)


PROGRAMS: Final[dict[str, Callable[..., object]]] = {"sell": sell, "work": work, "die": die, "linger": linger}

if __name__ == "__main__":
    serve(PROGRAMS)
