"""The short form of ``make chaos``: senders and workers are killed with ``kill -9``, and the results are counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.chaos import __main__ as chaos, scenarios
from tools.chaos.processes import made_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.relay.conftest import Server
    from tools.chaos.processes import Nursery

pytestmark = pytest.mark.program

SEED = 4
TIMES = {
    "senders killed": 8,
    "workers killed": 8,
    "all killed": 8,
    "killed by messages": 5,
    "workers frozen": 1,
    "workers stopped": 1,
}


DATABASES = dict.fromkeys(["senders killed", "workers killed", "all killed"], ("sqlite", "postgresql"))
"""The databases of a scenario, if not PostgreSQL alone: those in which a process may die within a write."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Return the nursery that runs the programs of chaos."""
    with scenarios.nursery() as found:
        yield found


@pytest.mark.parametrize(
    ("scenario", "database"),
    [
        pytest.param(scenario, database, id=f"{scenario} {database}".replace(" ", "-"))
        for scenario in scenarios.SCENARIOS
        for database in DATABASES.get(scenario, ("postgresql",))
    ],
)
def test_no_promise_is_broken(
    request: pytest.FixtureRequest, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, scenario: str, database: str
) -> None:
    """R1, R2, R3: Whichever process dies, each order has its messages, and each message has one effect."""
    monkeypatch.setattr(scenarios, "LEASE_S", 1.0)  # On a busy machine, a worker may wait.

    if database == "postgresql":
        request.getfixturevalue("postgresql")  # It skips or fails if the server is missing.

    tally = scenarios.run(scenario, database, TIMES[scenario], SEED, nursery)

    assert tally.broken == []
    assert tally.counts.keys() >= {"messages", "lost", "doubled"}
    assert tally.counts["kills"] + tally.counts["freezes"] + tally.counts["stops"] == TIMES[scenario]


def test_what_is_broken_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Chaos prints its seed and a table, and names a broken promise and exits with 1."""

    def lose(place: scenarios.Place, kills: int, tally: scenarios.Tally) -> None:
        tally.counts.update(kills=kills)
        tally.expect("R2: no message is lost", [7], [])

    monkeypatch.setattr(scenarios, "SCENARIOS", {"nothing": lose})
    monkeypatch.setattr(chaos, "shares", lambda kills: {"nothing": kills})
    monkeypatch.setattr(sys, "argv", ["chaos", "--kills", "3", "--seed", "11", "--database", "sqlite"])

    assert chaos.main() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("Seed 11\n")
    assert "nothing, sqlite: R2: no message is lost: [7], expected []" in printed


@pytest.mark.parametrize("kills", [1000, 500, 333, 60])
def test_the_kills_are_shared_out(kills: int) -> None:
    """The kills of all scenarios add up to the number of kills, and each scenario has some."""
    found = scenarios.shares(kills)

    assert sum([*found.values()][:4]) == kills
    assert min(found.values()) >= 1


def test_a_database_is_dropped(tmp_path: Path, postgresql: Server) -> None:
    """Chaos leaves no database on a server."""
    with made_database("postgresql", tmp_path) as url:
        name = url.rpartition("/")[2]

    assert name.startswith("aldis_chaos_")
    assert name not in postgresql.execute("SELECT datname FROM pg_database")
