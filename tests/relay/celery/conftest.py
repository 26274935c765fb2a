"""Fixtures of the Celery runner's tests: Celery applications, and shops with or without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery  # type: ignore[import-untyped, unused-ignore]

from tests.relay.celery.brokers import NOBODY, RABBITMQ, Place, answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.relay.conftest import MakeEngine


@pytest.fixture
def engine(make_engine: MakeEngine, sqlite_url: str) -> Any:
    return make_engine(sqlite_url)


@pytest.fixture
def make_app() -> Iterator[Callable[..., Any]]:
    apps: list[Any] = []

    def make(broker: str = NOBODY, **settings: Any) -> Any:
        app = Celery("shop", broker=broker, set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield make

    for app in apps:
        app.close()


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aldis.relay.celery._REST_S", 0.01)


@pytest.fixture(scope="session")
def rabbitmq() -> str:
    return answering(RABBITMQ)


@pytest.fixture
def rabbitmq_place(rabbitmq: str, tmp_path: Path) -> Iterator[Place]:
    """Return a shop with RabbitMQ, whose queue has no consumer."""
    with Place(tmp_path, rabbitmq) as place:
        yield place


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Place]:
    """Return a shop whose broker is away."""
    with Place(tmp_path, NOBODY) as place:
        yield place
