"""Calls and commands of the relay say what is wrong with its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from aldis.exceptions import RelaySchemaError
from aldis.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.relay.conftest import MakeEngine

VERBS: list[Callable[[Relay], Any]] = [
    lambda relay: relay.status(),
    lambda relay: relay.dead_letters(),
    lambda relay: relay.dead_payload(7),
    lambda relay: relay.retry_dead(7),
    lambda relay: relay.drop_dead(7),
    lambda relay: relay.drop_messages("mail.welcome"),
    lambda relay: relay.purge_effects(older_than_s=1),
]


def test_tables_that_are_not_there(make_engine: MakeEngine, any_url: str) -> None:
    """Without the relay's tables, each call says which are missing and how to make them, in every database."""
    relay = Relay(make_engine(any_url))

    for verb in VERBS:
        with pytest.raises(RelaySchemaError, match=r"no table aldis_messages, .* relay\.create_tables\(\)"):
            verb(relay)


def test_some_tables_that_are_not_there(make_engine: MakeEngine, any_url: str) -> None:
    """create_tables makes the missing tables, and leaves the others as they are."""
    engine = make_engine(any_url)
    relay = Relay(engine)
    relay.create_tables()

    with engine.begin() as connection:
        connection.execute(text("DROP TABLE aldis_messages"))
        connection.execute(text("INSERT INTO aldis_effects VALUES ('7', 'mail.welcome', 0)"))

    with pytest.raises(RelaySchemaError, match="no table aldis_messages"):
        relay.check_tables()

    relay.create_tables()
    relay.check_tables()
    assert relay.status() == []
    assert relay.purge_effects(older_than_s=0) == 1


def test_tables_of_another_version(make_engine: MakeEngine, any_url: str) -> None:
    """Beside tables of another version, no table is made or changed."""
    engine = make_engine(any_url)
    relay = Relay(engine)
    relay.create_tables()

    with engine.begin() as connection:
        connection.execute(text("DROP TABLE aldis_messages"))
        connection.execute(text("UPDATE aldis_relay SET value = '99'"))

    with pytest.raises(RelaySchemaError, match="of version 99"):
        relay.create_tables()

    with pytest.raises(RelaySchemaError, match="no table aldis_messages"):
        relay.check_tables()


def test_tables_that_are_of_another_shape(make_engine: MakeEngine, sqlite_url: str) -> None:
    """An error about existing tables of another shape is raised as the database raises it."""
    engine = make_engine(sqlite_url)
    relay = Relay(engine)
    relay.create_tables()

    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE aldis_messages RENAME COLUMN failure TO other"))

    with pytest.raises(OperationalError, match="no such column"):
        relay.status()


def test_a_database_that_is_not_there(make_engine: MakeEngine) -> None:
    """If the database is away, the error does not mention tables."""
    relay = Relay(make_engine("sqlite:////nowhere/at/all.sqlite"))

    with pytest.raises(OperationalError, match="unable to open"):
        relay.status()
