"""Long backlogs of receivers with a key: rows behind the front are found too, and the order is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, update

from aldis.relay.storage import claims, ordered_claims
from aldis.relay.storage.tables import messages, now_ms
from tests.relay.programs.worker_program import Program

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aldis.relay.storage.rows import Row
    from tests.relay.conftest import MakeEngine

LONG = ordered_claims.FRONT + 100
HOUR_MS = 3_600_000


class Backlog:
    """Rows of a receiver with a key, sent one after the other."""

    def __init__(self, program: Program) -> None:
        self.program = program
        program.connect(key="number", aliases=["before"])
        self._count = 0

    def add(self, keys: Iterable[str | None], receiver: str = "work") -> None:
        """Send rows with these keys."""
        rows: list[dict[str, Any]] = []

        for key in keys:
            self._count += 1
            rows.append({"id": self._count, "message_id": f"m{self._count}", "ordering_key": key})

        shared = {"signal": "number-sent", "receiver": receiver, "version": 1, "payload": '{"number": 1}'}
        statement = insert(messages).values(**shared, sender='{"text": "sender"}', sent_ms=0, due_ms=now_ms() - HOUR_MS)
        self.program.run(lambda connection: connection.execute(statement, rows))

    def delay(self, *ids: int) -> None:
        """Let rows wait for their next attempts."""
        statement = update(messages).where(messages.c.id.in_(ids)).values(due_ms=now_ms() + HOUR_MS)
        self.program.run(lambda connection: connection.execute(statement))

    def claim(self, most: int = 100) -> list[Row]:
        """Claim rows, as a worker does."""
        known = self.program.relay._parts.receivers.known()["work"]
        return self.program.run(lambda connection: claims.claim(connection, "work", known, most, HOUR_MS))

    def claimed(self, most: int = 100) -> list[int]:
        """Claim rows, and return their ids."""
        return [row.id for row in self.claim(most)]


@pytest.fixture
def backlog(ready_url: str, make_engine: MakeEngine) -> Backlog:
    return Backlog(Program(make_engine(ready_url)))


def test_the_first_of_each_value(backlog: Backlog) -> None:
    """R3: In a long backlog, the first row of each key is claimed, also behind the front."""
    backlog.add(["hot"] * LONG + ["b", "a", "b"])
    assert sorted(backlog.claimed()) == [1, LONG + 1, LONG + 2]
    assert backlog.claimed() == []


def test_the_next_of_each_value(backlog: Backlog) -> None:
    """R3: The next row of a key can be claimed after the first is gone, and not earlier."""
    backlog.add(["hot"] * LONG + ["a", "a"])
    first = backlog.claim()
    assert [row.id for row in first] == [1, LONG + 1]
    backlog.program.run(lambda connection: claims.acknowledge(connection, [(row.id, row.token) for row in first]))
    assert sorted(backlog.claimed()) == [2, LONG + 2]


def test_a_value_whose_first_waits_holds_up_no_other(backlog: Backlog) -> None:
    """R3: When all rows at the front wait for a row in its backoff, rows of other keys behind it are received."""
    backlog.add(["hot"] * LONG + ["a"])
    backlog.delay(1)
    assert backlog.claimed() == [LONG + 1]


def test_a_value_whose_younger_row_is_received(backlog: Backlog) -> None:
    """R3: Behind the front too, no row is claimed while another row of its key is being received."""
    backlog.add(["hot"] * LONG + ["a", "a"])
    backlog.delay(1, LONG + 1)
    backlog.program.run(lambda db: db.execute(update(messages).where(messages.c.id == LONG + 2).values(token="other")))
    backlog.delay(LONG + 2)
    backlog.program.run(
        lambda db: db.execute(update(messages).where(messages.c.id == LONG + 1).values(due_ms=now_ms() - 1))
    )
    assert backlog.claimed() == []


def test_a_value_that_has_older_rows_by_another_name(backlog: Backlog) -> None:
    """R3, R4: Rows of an earlier name of the receiver have the same keys."""
    backlog.add(["a"], receiver="before")
    backlog.add(["hot"] * LONG + ["a", "b"])
    assert backlog.claimed() == [2, LONG + 3]


def test_no_value(backlog: Backlog) -> None:
    """R3: Rows without a key wait for no other row, wherever they are."""
    backlog.add(["hot"] * LONG + [None, None])
    backlog.delay(1)
    assert backlog.claimed() == [LONG + 1, LONG + 2]


def test_more_values_than_are_looked_for(backlog: Backlog) -> None:
    """R3: When the first rows of very many keys wait, rows of other keys are still found."""
    many = [f"{number:05}" for number in range(ordered_claims.MOST_KEYS)]
    backlog.add(many)
    backlog.add(many)
    backlog.add(["last"])
    backlog.delay(*range(1, len(many) + 1))
    assert backlog.claimed() == [2 * len(many) + 1]


def test_so_many_and_no_more(backlog: Backlog) -> None:
    """R3: A row that is found in several places is claimed once, and no more rows are claimed than the limit."""
    some = [f"{number:03}" for number in range(99)]
    backlog.add([*some[:50], *[None] * 5, *["hot"] * LONG, *some[50:]])
    assert backlog.claimed(20) == [*range(1, 21)]
    claimed = backlog.claimed(60)
    assert len(claimed) == len({*claimed}) == 60
    assert not {*claimed} & {*range(1, 21)}
    assert len(backlog.claimed()) == 25


def test_it_reads_little(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A claim of a few keys among many rows does not read all rows, by SQLite's own count of its work."""
    backlog = Backlog(Program(make_engine(sqlite_url)))
    backlog.add([f"{number % 10}" for number in range(20 * LONG)])
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    with backlog.program.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 1000)  # Once in a thousand instructions.

    assert len(backlog.claimed()) == 10
    assert 0 < steps[0] < 20 * LONG * 10 / 1000
