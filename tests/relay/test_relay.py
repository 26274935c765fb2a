"""The relay itself: its arguments, its status, dead letters, the current message."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from flask import Flask
from quart import Quart
from sqlalchemy import create_engine, create_mock_engine, insert, select, text
from sqlalchemy.ext.asyncio import (
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

import aldis.flask
import aldis.quart
from aldis import InvalidOptionError
from aldis.exceptions import NoMessageError
from aldis.relay import DrainCounts, Message, ReceiverStatus, Relay
from aldis.relay.storage.tables import dead_letters, messages, now_ms
from tests.relay.programs.worker_program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.relay.conftest import MakeEngine


# Arguments.


@pytest.mark.parametrize("given", [None, "sqlite://", Session, object(), create_mock_engine("sqlite://", print)])
def test_what_is_no_database(given: Any) -> None:
    """An object that neither is an engine nor has one is refused, by its type."""
    with pytest.raises(InvalidOptionError, match=r"takes a database: an Engine.*; not (a|the class) \w+\."):
        Relay(given)


@pytest.mark.parametrize("wait_s", [-1, "1", None, float("nan"), True])
def test_what_is_no_time(sqlite_url: str, make_engine: MakeEngine, wait_s: Any) -> None:
    """A send's waiting time is a number of seconds, 0 or more."""
    with pytest.raises(InvalidOptionError, match="wait_s must be a number"):
        Relay(make_engine(sqlite_url), wait_s=wait_s)


@pytest.mark.parametrize("maker", [sessionmaker, lambda: scoped_session(sessionmaker()), async_sessionmaker])
def test_a_maker_without_an_engine(maker: Callable[[], Any]) -> None:
    """A sessionmaker without a bind is accepted, because it may get one later, and refused at its first use."""
    relay = Relay(maker())

    with pytest.raises(InvalidOptionError, match=r"The \w*sessionmaker of the relay has no bind"):
        relay.check_tables()


def test_a_maker_that_gets_its_engine_later(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A sessionmaker may be configured after the relay was made."""
    maker = sessionmaker()
    relay = Relay(maker)
    maker.configure(bind=make_engine(sqlite_url))
    relay.create_tables()

    assert relay.status() == []


# Status and dead letters.


def test_status(program: Program) -> None:
    """Receivers are listed by name if they are connected, have rows, or have dead letters."""
    program.connect("idle", aliases=["once"])
    program.connect("busy")
    program.connect("dead", fail, max_attempts=1)
    program.pile_up("unknown", 2)
    program.pile_up("busy", 1)
    program.run(lambda db: db.execute(text("UPDATE aldis_messages SET sent_ms = 0 WHERE receiver = 'busy'")))
    program.pile_up("dead", 3)
    program.pile_up("gone", 1)
    program.run(lambda db: db.execute(insert(dead_letters).from_select(DEAD, dead_rows())))
    program.run(lambda db: db.execute(text("DELETE FROM aldis_messages WHERE receiver = 'gone'")))
    status = {found.receiver: found for found in program.relay.status()}

    assert [*status] == ["busy", "dead", "gone", "idle", "once", "unknown"]
    assert status["idle"] == ReceiverStatus("idle", True, 0, 0, 0, 0.0, 0, None)
    assert status["gone"] == ReceiverStatus("gone", False, 0, 0, 0, 0.0, 1, None)
    assert status["unknown"]._replace(oldest_age_s=0.0) == ReceiverStatus("unknown", False, 2, 0, 0, 0.0, 0, None)
    assert status["busy"].oldest_age_s > 365 * 86400
    program.relay.drain()
    assert {found.receiver: (found.backlog, found.dead) for found in program.relay.status()} == {
        "busy": (0, 0),
        "dead": (0, 3),
        "gone": (0, 1),
        "idle": (0, 0),
        "once": (0, 0),
        "unknown": (2, 0),
    }


DEAD = ["message_id", "signal", "receiver", "version", "payload", "sent_ms", "died_ms", "attempts", "reason"]


def dead_rows() -> Any:
    """Make dead letters of a receiver that no longer exists."""
    columns = [messages.c[name] for name in DEAD[:6]]
    return select(*columns, now_ms(), messages.c.attempts, text("'it died'")).where(messages.c.receiver == "gone")


def fail(_: int) -> None:
    raise ZeroDivisionError


def test_many_dead_letters(program: Program) -> None:
    """At most 1,000 dead letters are returned at once; the number of the last one leads to the next page."""
    program.pile_up("gone", 1005)
    program.run(lambda db: db.execute(insert(dead_letters).from_select(DEAD, dead_rows())))
    first = program.relay.dead_letters(limit=1000)
    rest = program.relay.dead_letters(limit=1000, after=first[-1].id)

    assert (len(first), len(rest), len(program.relay.dead_letters())) == (1000, 5, 100)
    assert program.relay.retry_dead(*(letter.id for letter in first)) == 1000


def test_the_number_of_a_dead_letter_is_never_another_s(ready_url: str, make_engine: MakeEngine) -> None:
    """The number of a dead letter never means another dead letter later."""
    program = Program(make_engine(ready_url))
    program.connect(work=fail, max_attempts=1)
    numbers: list[int] = []

    for number in range(3):
        program.send(number)
        program.relay.drain()
        (letter,) = program.relay.dead_letters()
        numbers.append(letter.id)
        program.relay.drop_dead(letter.id)

    assert len({*numbers}) == 3


@pytest.mark.parametrize("limit", [0, -1, "all", None])
def test_so_many_dead_letters_cannot_be_asked_for(program: Program, limit: Any) -> None:
    """An invalid limit is refused, and does not mean no limit, as in SQLite."""
    with pytest.raises(InvalidOptionError, match="limit must be a number, 1 or more"):
        program.relay.dead_letters(limit=limit)


def test_too_many_dead_letters_at_once(program: Program) -> None:
    """A limit above 1,000 is refused, and the message says how to page."""
    with pytest.raises(InvalidOptionError, match=r"not limit=1001\. .*after=page\[-1\]\.id"):
        program.relay.dead_letters(limit=1001)


def test_no_dead_letters(program: Program) -> None:
    """Listing, showing, retrying or dropping dead letters that do not exist is no error."""
    assert program.relay.dead_letters() == program.relay.dead_letters("nobody") == []
    assert program.relay.dead_payload(1) is None
    assert (program.relay.retry_dead(), program.relay.drop_dead()) == (0, 0)
    assert (program.relay.retry_dead(1, 2), program.relay.drop_dead(1, 2)) == (0, 0)
    assert program.relay.drop_messages("nobody") == 0


@pytest.mark.parametrize(
    ("purge", "age_s"),
    [
        ("purge_dead_letters", -1),
        ("purge_dead_letters", float("nan")),
        ("purge_effects", float("inf")),
        ("purge_effects", 1e300),
    ],
)
def test_a_purge_of_an_impossible_age(program: Program, purge: str, age_s: float) -> None:
    """A purge needs a possible age."""
    with pytest.raises(InvalidOptionError, match=rf"{purge}\(\) takes older_than_s=, seconds of 0 or more"):
        getattr(program.relay, purge)(older_than_s=age_s)


# The current message.


def test_the_current_message(program: Program) -> None:
    """In each attempt, a receiver and all code that it calls can read the current message."""
    found: list[Message] = []

    def work(_: int) -> None:
        found.append(program.relay.current())
        found.append(Relay(program.engine).current())  # Any relay can be asked.

        if found[-1].attempt == 1:
            raise ZeroDivisionError

    program.connect("work", work, backoff=0)
    results = program.signal.send("sender", number=7)
    program.relay.drain()
    program.relay.drain()

    assert [message.attempt for message in found] == [1, 1, 2, 2]
    assert {(message.id, message.signal, message.receiver) for message in found} == {
        (results[0][1], "number-sent", "work")
    }

    with pytest.raises(NoMessageError, match="No message is being received here"):
        program.relay.current()


def test_messages_in_tasks(program: Program) -> None:
    """Async receivers, and the tasks that they start, see their own message."""
    found: list[tuple[int, Message]] = []

    async def work(number: int) -> None:
        async def note() -> None:
            found.append((number, program.relay.current()))

        await asyncio.gather(note(), asyncio.create_task(note()))

    program.connect_async(work)
    ids = {number: program.signal.send("sender", number=number)[0][1] for number in range(3)}
    program.relay.drain()

    assert sorted((number, message.id) for number, message in found) == sorted([*ids.items(), *ids.items()])


@pytest.mark.parametrize("kind", [Flask, Quart])
def test_an_application_is_not_kept_alive(kind: type[Flask | Quart]) -> None:
    """E5: When a test makes many applications of one module's relay, each is freed with its last reference."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    relay = Relay(engine)
    relay.create_tables()
    app = kind("shop")
    extension: type[aldis.flask.Aldis | aldis.quart.Aldis] = aldis.flask.Aldis if kind is Flask else aldis.quart.Aldis
    extension(app, relay=relay)  # type: ignore[arg-type]
    assert relay.status() == []

    known = ref(app)
    del app
    gc.collect()
    assert known() is None
    assert (relay.status(), relay.drain()) == ([], DrainCounts())
    engine.dispose()
