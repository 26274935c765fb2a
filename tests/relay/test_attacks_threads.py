"""What receivers, and what is called beside them, do to the threads of a worker."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from .works import Works, soon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import MakeEngine

SAID: ContextVar[int | None] = ContextVar("SAID", default=None)


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


class Refusing(logging.Filter):
    """Raises for what is logged of attempts that fail."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:
            raise RuntimeError

        return True


@pytest.fixture
def refusing() -> Iterator[None]:
    """A filter of logs that raises."""
    logger, refusing = logging.getLogger("aldis.relay"), Refusing()
    logger.addFilter(refusing)
    yield
    logger.removeFilter(refusing)


def test_a_receivers_context_is_its_own(works: Works) -> None:
    """What a receiver puts into a context variable is not there for the next one in its thread."""
    found: list[int | None] = []

    def receive(number: int) -> None:
        found.append(SAID.get())
        SAID.set(number)

    works.connect(work=receive)
    works.send(1, 2)

    with works.working(concurrency=1):
        soon(lambda: works.rows() == 0)

    works.send(3)
    works.relay.drain()

    assert found == [None, None, None]
    assert SAID.get() is None


@pytest.mark.usefixtures("refusing")
def test_a_filter_of_logs_that_raises_costs_no_thread(works: Works) -> None:
    """When logging fails, the attempt has failed, and the thread goes on to the next message."""
    works.connect("fails", lambda _: 1 // 0)
    works.connect("works")
    works.send(1)
    works.send(2)

    with works.working(concurrency=1):
        soon(lambda: len(works.got) == 4 and not works.in_flight())
        failures = [status.failure for status in works.relay.status()]

    assert failures == ["the worker raised RuntimeError", None]
