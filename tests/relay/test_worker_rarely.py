"""What rarely happens to a worker, or to what looks at its relay."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine

from aldis.relay import Relay, otel
from aldis.relay.storage import database as _database
from aldis.relay.storage.rows import Row
from aldis.relay.worker.consumer import Disposition, Outcome
from aldis.relay.worker.worker import Exit, Settings, Worker

from .works import Works, soon

if TYPE_CHECKING:
    import pytest

    from .conftest import MakeEngine


def test_a_row_of_a_kind_that_nobody_foresaw(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R4: What cannot even be looked at is a dead letter, by the kind of the error."""
    works = Works(make_engine(sqlite_url))
    works.connect()
    many: Any = "many"
    row = Row(1, "m1", "number-sent", "work", 1, None, "{}", None, None, 0, many, 0, "token")
    found = works.relay._parts.consumer.prepare(row)
    assert isinstance(found, Outcome)
    assert (found.disposition, found.reason) == (Disposition.DEAD, "the row is malformed (TypeError)")


def test_a_drain_that_is_stopped(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A drain that is stopped by what it receives ends, and leaves the rest."""
    works = Works(make_engine(sqlite_url))
    worker = Worker(works.relay, Settings(concurrency=1, batch=1, drains=True), is_inline=True)
    works.connect(work=lambda _: worker.stop())
    works.send(1, 2, 3)
    assert worker.run() is Exit.STOPPED
    assert works.rows() == 3 - len(works.got) > 0


def test_a_lock_that_is_held_for_long_is_no_trouble(
    sqlite_url: str, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may write for longer than a worker's patience: nothing is wrong, and it goes on after them."""
    monkeypatch.setattr(_database, "_BUSY_IN_WORKERS_S", 0.05)
    works = Works(make_engine(sqlite_url, connect_args={"timeout": 0.01}))
    works.connect()
    works.send(1)

    with works.engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")

        with works.working(poll_s=0.02):
            began = time.monotonic()
            soon(lambda: time.monotonic() > began + 0.5)  # Several times its patience.
            assert works.got == []
            other.rollback()
            soon(lambda: works.rows() == 0)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_database_that_cannot_be_asked_for_the_backlog(caplog: pytest.LogCaptureFixture) -> None:
    """A gauge of a database that is away measures nothing, and says so once, without values."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    engine = create_engine("sqlite:////no/such/folder/shop.sqlite")
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    with otel.instrument(Relay(engine), meter_provider=provider):
        reader.collect()
        reader.collect()

    provider.shutdown()
    engine.dispose()
    assert caplog.text.count("The backlog cannot be measured") == 1
