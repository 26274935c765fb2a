"""Fixtures of the tests with real processes: the nursery of the programs, and their database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.relay.whole_programs.places import PROGRAMS, placed
from tools.chaos.processes import Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.chaos.scenarios import Place


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Return the nursery that runs the programs."""
    with Nursery(PROGRAMS, tmp_path_factory.mktemp("nursery") / "log") as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[Place]:
    """Return a place in each database."""
    with placed(request.getfixturevalue(f"{request.param}_url"), tmp_path, nursery) as found:
        yield found


@pytest.fixture
def postgresql_place(postgresql_url: str, tmp_path: Path, nursery: Nursery) -> Iterator[Place]:
    """Return a place in PostgreSQL."""
    with placed(postgresql_url, tmp_path, nursery) as found:
        yield found
