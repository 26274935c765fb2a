"""What receivers, and single messages, cannot do to a worker."""

from __future__ import annotations

import logging
import time
from threading import Event
from typing import TYPE_CHECKING

from sqlalchemy import text

from .works import Works, soon

if TYPE_CHECKING:
    import pytest

    from .conftest import MakeEngine

REFUSAL = """
CREATE TRIGGER refuse BEFORE INSERT ON aldis_dead_letters WHEN NEW.receiver = 'broken'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""


def test_receivers_that_use_up_the_pool_keep_their_leases(any_url: str, make_engine: MakeEngine) -> None:
    """A worker has connections of its own: it extends leases while receivers hold all of the program's."""
    engine = make_engine(any_url, pool_size=1, max_overflow=0)
    looker = Works(make_engine(any_url))
    works = Works(engine)
    is_held, may_end = Event(), Event()

    def hold(_: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
            is_held.set()
            may_end.wait(30)

    works.connect(work=hold)
    works.send(1)

    with works.working(lease_s=0.5) as found:
        assert is_held.wait(10)
        deadline = time.monotonic() + 1.5

        while time.monotonic() < deadline:
            assert looker.in_flight() == 1
            time.sleep(0.05)

        may_end.set()
        soon(lambda: looker.rows() == 0)

    assert found.worker.tally["done"] == 1
    assert works.numbers() == [1]


def test_an_outcome_that_is_refused_holds_up_no_other(
    sqlite_url: str, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """What the database does not take of one message is reported, and what came of the others is written."""
    works = Works(make_engine(sqlite_url))

    def fail(_: int) -> None:
        raise LookupError

    works.connect("broken", fail, max_attempts=1)
    works.connect("sound")
    works.run(lambda connection: connection.execute(text(REFUSAL)))
    works.send(1, 2)

    with works.working(lease_s=0.5), caplog.at_level(logging.ERROR, "aldis.relay"):
        soon(lambda: sorted(works.numbers("sound")) == [1, 2] and works.rows() == 2, "the sound ones' end")
        soon(lambda: "is refused. It comes again" in caplog.text, "the report")
        works.run(lambda connection: connection.execute(text("DROP TRIGGER refuse")))
        soon(lambda: len(works.relay.dead_letters()) == 2, "the deaths")

    assert '"number"' not in caplog.text
