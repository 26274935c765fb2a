"""The outcomes of attempts are written, each in spite of the others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import text

from aldis.relay import DrainCounts
from aldis.relay.storage import claims
from aldis.relay.worker.consumer import DONE, Disposition, Outcome
from aldis.relay.worker.executor import ReceiverJob
from aldis.relay.worker.outage import OutageHandler
from aldis.relay.worker.settler import Settler
from tests.relay.programs.worker_program import LONG_S, Program

if TYPE_CHECKING:
    import pytest

    from tests.relay.conftest import MakeEngine

REFUSAL = """
CREATE TRIGGER refuse BEFORE INSERT ON aldis_dead_letters WHEN NEW.receiver = 'broken'
BEGIN SELECT RAISE(ABORT, 'refused'); END
"""


def claim(program: Program, name: str) -> list[ReceiverJob]:
    """Claim all rows of a receiver."""
    known = program.relay._parts.receivers.known()[name]
    rows = program.relay._parts.database.run(lambda connection: claims.claim(connection, name, known, 100, 60_000))
    return [ReceiverJob(row, LONG_S, lambda: None) for row in rows]


def test_a_refused_outcome_costs_no_other(
    sqlite_url: str, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """R3: After an error outcomes are written one by one, so only the outcome that the database refuses is lost."""
    program = Program(make_engine(sqlite_url))
    program.connect("broken")
    program.connect("sound")
    program.send(1, 2)
    program.run(lambda connection: connection.execute(text(REFUSAL)))
    broken, sound = claim(program, "broken"), claim(program, "sound")

    for job in broken:
        job.outcome = Outcome(Disposition.DEAD, "it failed")

    for job in sound:
        job.outcome = DONE

    database, settled = program.relay._parts.database, list[list[ReceiverJob]]()
    outage = OutageHandler(database, lambda: None, is_fatal=False)
    outage.is_away = True  # As after an attempt to write all of them at once.
    settler = Settler(database, outage, notifies=False, on_settled=settled.append)
    settler.pending = [broken[0], sound[0], broken[1], sound[1]]

    with caplog.at_level(logging.CRITICAL, "aldis.relay"):
        settler.settle()

    assert settler.counts == DrainCounts(done=2, lost=2)
    assert settled == [[broken[0]], [sound[0]], [broken[1]], [sound[1]]]
    assert settler.pending == []
    assert program.rows() == 2
