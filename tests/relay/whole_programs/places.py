"""Places of the tests with real processes: a database, and a nursery that starts programs."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.chaos.processes import Nursery
from tools.chaos.scenarios import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).with_name("programs.py")


@contextmanager
def placed(url: str, folder: Path, nursery: Nursery) -> Iterator[Place]:
    """Yield the programs' database."""
    place = Place(url, folder, nursery, random.Random(1))

    try:
        yield place
    finally:
        place.close()


def missing(what: str) -> None:
    """Skip a test because something is missing, or fail in CI."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)
