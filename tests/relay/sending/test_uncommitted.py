"""Messages that are lost because the program did not commit: development mode warns of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

import aldis
from aldis import Namespace
from aldis.exceptions import UncommittedMessageWarning
from aldis.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).name


@pytest.fixture
def development() -> Iterator[None]:
    aldis.debug()
    yield
    aldis.debug(False)


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    made = create_engine(sqlite_url)
    yield made
    made.dispose()


@pytest.fixture
def send(engine: Engine) -> Callable[[], object]:
    """Send to a durable receiver."""
    relay, signals = Relay(engine), Namespace()
    relay.create_tables()

    @signals.declare
    def order_placed(sender: str, /, *, order_id: int) -> None: ...

    def invoice(sender: str, *, order_id: int) -> None: ...

    order_placed.connect(invoice, weak=False, via=relay.durable("invoice"))
    return lambda: order_placed.send("shop", order_id=7)


def begun(engine: Engine) -> Session:
    """Return a session that has read, and so is in a transaction."""
    session = Session(engine)
    session.execute(text("SELECT 1"))
    return session


@pytest.mark.usefixtures("development")
def test_a_close_without_a_commit_is_told_of(engine: Engine, send: Callable[[], object]) -> None:
    """The warning names the signal, and its place is that of the send."""
    session = begun(engine)
    send()
    send()

    with pytest.warns(UncommittedMessageWarning, match="'order-placed' was sent to durable") as caught:
        session.close()

    assert [Path(warning.filename).name for warning in caught] == [HERE]


@pytest.mark.usefixtures("development")
@pytest.mark.parametrize("end", [Session.commit, Session.rollback])
def test_what_was_asked_for_is_not(engine: Engine, send: Callable[[], object], end: Callable[[Session], None]) -> None:
    """After a commit or a rollback there is no warning."""
    with begun(engine) as session:
        send()
        end(session)


@pytest.mark.usefixtures("development")
def test_a_savepoint_is_no_commit(engine: Engine, send: Callable[[], object]) -> None:
    """A released savepoint is no commit, so there is a warning."""
    session = begun(engine)

    with session.begin_nested():
        send()

    with pytest.warns(UncommittedMessageWarning):
        session.close()


def test_it_is_told_in_development_only(engine: Engine, send: Callable[[], object]) -> None:
    """Outside of development mode there is no warning."""
    with warnings.catch_warnings(), begun(engine):
        warnings.simplefilter("error")
        send()
