"""What all tests share."""

from __future__ import annotations

import gc
import re
from typing import Any


def pytest_collection_finish() -> None:
    """Leave what was imported out of the many collections that tests ask for: these would look at it each time."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: Any) -> str:
    """Name a case by its value, without the address, which is another in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(val))
