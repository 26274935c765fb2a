"""Fixtures of the worker's tests: claims ahead, wake-ups, and an event that receivers wait for."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest

from aldis.relay.worker import scheduler, settler
from tests.relay.programs.worker_program import LONG_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[Event]:
    """Return the event that hanging receivers wait for."""
    found = Event()
    yield found
    found.set()


@pytest.fixture
def claims_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers claim a whole batch ahead, however long receivers take on this machine."""
    monkeypatch.setattr(scheduler, "_AHEAD_S", LONG_S)


@pytest.fixture
def unwoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are not woken by their log line of each minute."""
    monkeypatch.setattr(settler, "_REPORT_S", LONG_S)
