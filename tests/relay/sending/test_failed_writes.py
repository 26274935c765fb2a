"""R1: rows that cannot be written fail the send as a whole, and the error says why."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    event,
    insert,
    text,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from aldis import NamedSignal, Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages
from tests.relay.programs.orders import SECRET, Order, OrderShop, order_placed


@pytest.fixture
def shop(sqlite_url: str, make_engine: Any) -> OrderShop:
    return OrderShop(make_engine(sqlite_url, connect_args={"timeout": 0.1}))


def full(engine: Engine) -> None:
    """Let the file grow by a few pages only."""
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages + 30}")

    engine.dispose()


def assert_explained(error: DBAPIError, *words: str) -> None:
    """The error says what is lost and what to do, and nothing of the payload."""
    (note,) = error.__notes__
    assert "No row was written" in note
    assert all(word in note for word in words)
    assert SECRET not in f"{error}{error.orig}{note}"
    assert error.hide_parameters


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
def test_a_full_disk_outside_of_any_transaction(shop: OrderShop, names: list[str]) -> None:
    """Whole or nothing: when the disk is full no row is written, and the error says why."""
    shop.connect(Relay(shop.engine), *names)
    full(shop.engine)

    with pytest.raises(OperationalError, match="full") as raised:
        shop.placed.send("shop", note=SECRET * 20_000)

    assert_explained(raised.value, "the disk is full")
    assert shop.fate == (0, 0)
    shop.send()
    assert shop.fate == (0, len(names))


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]], ids=["one receiver", "three receivers"])
@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_a_full_disk_in_a_transaction(shop: OrderShop, names: list[str], is_rolled_back: bool) -> None:
    """Whole or nothing: no message is left of it, not even when the program commits what it should roll back."""
    shop.connect(Relay(shop.engine), *names)
    full(shop.engine)

    with Session(shop.engine) as session:
        session.add(Order(item="tea"))
        session.flush()

        with pytest.raises(OperationalError, match="full") as raised:
            shop.placed.send("shop", note=SECRET * 20_000)

        assert_explained(raised.value, "the disk is full")

        if is_rolled_back:
            session.rollback()
        else:
            session.commit()

    assert shop.fate[1] == 0
    assert not is_rolled_back or shop.fate == (0, 0)

    with Session(shop.engine) as session, session.begin():
        shop.order(session)

    assert shop.fate[1] == len(names)


@pytest.mark.parametrize("policy", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
def test_a_failed_write_fails_the_send_under_every_policy(any_url: str, make_engine: Any, policy: Any) -> None:
    """What cannot be written is the sender's failure, with a note on what to do about tables that are not there."""
    engine = make_engine(any_url)
    placed: NamedSignal[Any, ..., Any] = Namespace(errors=policy).declare(order_placed)
    log: list[Any] = []
    placed.connect(lambda sender, note: log.append(sender), weak=False)
    placed.connect(lambda sender, note: None, weak=False, via=Relay(engine).durable("billing"))

    with pytest.raises(DBAPIError) as raised:
        placed.send("shop", note=SECRET)

    assert_explained(raised.value, "relay.create_tables()")
    assert log == ["shop"]

    with Session(engine) as session, session.begin(), pytest.raises(DBAPIError) as raised:
        session.execute(text("SELECT 1"))
        placed.send("shop", note=SECRET)

    assert_explained(raised.value, "relay.create_tables()")


def test_a_failed_write_beside_a_failed_receiver(shop: OrderShop) -> None:
    """The receiver's exception stays the one that is raised; its note says that nothing was delivered."""
    shop.connect(Relay(shop.engine))
    error = LookupError("of the receiver")

    @shop.placed.connect
    def fail(sender: Any, note: str) -> None:
        raise error

    with shop.engine.begin() as connection:
        messages.drop(connection)

    with pytest.raises(LookupError) as raised:
        shop.send()

    assert raised.value is error
    assert error.__notes__ == ["The deliveries of this send failed, too: OperationalError."]


def test_a_transaction_of_which_the_relay_knows_nothing(shop: OrderShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has one writer. A send beside a connection's own transaction fails after a while, and says what to do."""
    monkeypatch.setattr("aldis.relay.storage.database._BUSY_S", 0.2)
    shop.connect(Relay(shop.engine))

    with shop.engine.connect() as connection:
        connection.execute(insert(Order), {"item": "tea"})

        with pytest.raises(OperationalError, match="locked") as raised:
            shop.send()

        assert_explained(raised.value, "relay.using()")
        connection.commit()

    assert shop.fate == (1, 0)
