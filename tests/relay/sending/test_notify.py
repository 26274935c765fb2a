"""R6: on PostgreSQL, each committed transaction notifies the workers once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import (
    Engine,
)
from sqlalchemy.orm import Session

from aldis.relay import Relay
from tests.relay.programs.orders import OrderShop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def listening(engine: Engine) -> Iterator[Callable[[], int]]:
    """Return a function that counts the notifications since its last call."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        driver.execute("LISTEN aldis_relay")

        def count() -> int:
            driver.execute("SELECT 1")
            return len(list(driver.notifies(timeout=0.2)))

        try:
            yield count
        finally:
            connection.invalidate()


@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one receiver", "two receivers"])
def test_workers_are_told_once_in_a_transaction(ready_postgresql_url: str, make_engine: Any, names: list[str]) -> None:
    """R6: On PostgreSQL, a committed transaction sends one NOTIFY, and a rolled back transaction sends no NOTIFY."""
    shop = OrderShop(make_engine(ready_postgresql_url))
    shop.connect(Relay(shop.engine), *names)

    with listening(shop.engine) as count:
        shop.send()
        assert count() == 1

        with Session(shop.engine) as session:
            shop.order(session)
            shop.order(session)
            session.rollback()
            assert count() == 0
            shop.order(session)
            shop.order(session)
            assert count() == 0
            session.commit()

        assert count() == 1


def test_workers_need_not_be_told(ready_postgresql_url: str, make_engine: Any) -> None:
    """R6: NOTIFY can be turned off."""
    shop = OrderShop(make_engine(ready_postgresql_url))
    shop.connect(Relay(shop.engine, notify=False))

    with listening(shop.engine) as count:
        shop.send()
        assert count() == 0

    assert shop.fate == (0, 1)
