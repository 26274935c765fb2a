"""R1, by a state machine: whatever a program does in its transactions, each order has its message, and each message has
its order.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.orm import Session, SessionTransaction

from aldis import NamedSignal, Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages

metadata = MetaData()
orders = Table("orders", metadata, Column("number", Integer, primary_key=True))


def order_placed(sender: Any, /, *, number: int) -> object: ...


def receive(sender: Any, **payload: Any) -> None: ...


class Program(RuleBasedStateMachine):
    """Places orders in a session, in and out of savepoints, and sends each order to two receivers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = create_engine(f"sqlite:///{Path(self.folder.name) / 'test.sqlite'}")
        metadata.create_all(self.engine)
        relay = Relay(self.engine)
        relay.create_tables()
        self.placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
        self.placed.connect(receive, via=relay.durable("billing", key="number"))
        relay.forward(self.placed, "shipping", key="number")
        self.session = Session(self.engine)
        self.savepoints: list[SessionTransaction] = []
        self.number = 0
        self.alone: set[int] = set()

    @rule()
    def order(self) -> None:
        """Place an order: first the business row, then the message."""
        self.number += 1
        self.session.execute(insert(orders), {"number": self.number})
        self.placed.send("shop", number=self.number)

    @rule()
    def order_after_the_send(self) -> None:
        """Place an order: first the message. A session that has not begun has no transaction to join."""
        self.number += 1

        if not self.session.in_transaction():
            self.session.begin()

        self.placed.send("shop", number=self.number)
        self.session.execute(insert(orders), {"number": self.number})

    @precondition(lambda self: not self.session.in_transaction())
    @rule()
    def send_alone(self) -> None:
        """Send outside of any transaction, without an order."""
        self.number += 1
        self.alone.add(self.number)
        self.placed.send("shop", number=self.number)

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def begin_savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    @precondition(lambda self: self.savepoints)
    @rule(is_kept=st.booleans(), depth=st.integers(1, 3))
    def end_savepoint(self, is_kept: bool, depth: int) -> None:
        """End a savepoint and the savepoints inside it."""
        ended = self.savepoints[-depth:]
        del self.savepoints[-depth:]
        ended[0].commit() if is_kept else ended[0].rollback()

    @rule(end=st.sampled_from(["commit", "rollback", "close"]))
    def end_transaction(self, end: str) -> None:
        getattr(self.session, end)()
        self.savepoints.clear()

    @invariant()
    def fate_is_shared(self) -> None:
        """Check that the committed orders and the committed messages are the same."""
        with self.engine.connect() as connection:
            placed = {str(number) for number in connection.scalars(select(orders.c.number))}
            found = connection.execute(select(messages.c.receiver, messages.c.ordering_key)).all()

        expected = placed | {str(number) for number in self.alone}
        assert sorted(map(tuple, found)) == sorted((name, key) for name in ("billing", "shipping") for key in expected)

    def teardown(self) -> None:
        self.session.close()
        self.engine.dispose()
        self.folder.cleanup()


TestFate = Program.TestCase
TestFate.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
