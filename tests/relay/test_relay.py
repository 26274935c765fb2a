"""The relay itself: its tables, what it tells of itself, dead letters, single effects, draining."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import MetaData, create_mock_engine, insert, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis import InvalidOptionError, NamedSignal, Namespace
from aldis.exceptions import NoMessageError, RelaySchemaError, TransactionError
from aldis.relay import DrainCounts, Message, ReceiverStatus, Relay
from aldis.relay.storage.tables import dead_letters, effects, messages, now_ms

from .works import Works

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import MakeEngine

MAKE_TABLES = """
import sys
from sqlalchemy import create_engine
from aldis.relay import Relay

relay = Relay(create_engine(sys.argv[1]))
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
relay.create_tables()
relay.check_tables()
"""


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    return Works(make_engine(sqlite_url))


# What it is given.


@pytest.mark.parametrize("given", [None, "sqlite://", Session, object(), create_mock_engine("sqlite://", print)])
def test_what_is_no_database(given: Any) -> None:
    """What is neither an engine nor something that has one is refused, by what it is."""
    with pytest.raises(InvalidOptionError, match=r"takes a database: an Engine.*; not (a|the class) \w+\."):
        Relay(given)


@pytest.mark.parametrize("wait_s", [-1, "1", None, float("nan"), True])
def test_what_is_no_time(sqlite_url: str, make_engine: MakeEngine, wait_s: Any) -> None:
    """How long a send waits is a number of seconds, 0 or more."""
    with pytest.raises(InvalidOptionError, match="wait_s must be a number"):
        Relay(make_engine(sqlite_url), wait_s=wait_s)


@pytest.mark.parametrize("maker", [sessionmaker, lambda: scoped_session(sessionmaker()), async_sessionmaker])
def test_a_maker_without_an_engine(maker: Callable[[], Any]) -> None:
    """A sessionmaker without a bind is taken, for it may get one later, and refused when it is to be used."""
    relay = Relay(maker())

    with pytest.raises(InvalidOptionError, match=r"The \w*sessionmaker of the relay has no bind"):
        relay.check_tables()


def test_a_maker_that_gets_its_engine_later(sqlite_url: str, make_engine: MakeEngine) -> None:
    """A sessionmaker that is configured after the relay was made will do."""
    maker = sessionmaker()
    relay = Relay(maker)
    maker.configure(bind=make_engine(sqlite_url))
    relay.create_tables()

    assert relay.status() == []


# Its tables.


def test_processes_that_make_the_tables_at_once(any_url: str) -> None:
    """Processes that all begin by making the tables do not disturb each other."""
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    programs = [subprocess.Popen([sys.executable, "-c", MAKE_TABLES, any_url], text=True, **options) for _ in range(3)]

    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"

        for program in programs:
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()

        errors = [program.communicate(timeout=60)[1] for program in programs]
    finally:
        for program in programs:
            program.kill()
            program.communicate()

    assert errors == ["", "", ""]


def test_tables_are_looked_at(sqlite_url: str, make_engine: MakeEngine) -> None:
    """check_tables says that there are none until they are made."""
    relay = Relay(make_engine(sqlite_url))

    with pytest.raises(RelaySchemaError, match=r"create_tables\(\)"):
        relay.check_tables()

    relay.create_tables()
    relay.check_tables()


def test_tables_for_a_migration(sqlite_url: str, make_engine: MakeEngine) -> None:
    """relay.metadata has all tables of the relay, and of nobody else, and does not need a relay to make them."""
    engine = make_engine(sqlite_url)
    relay = Relay(engine)
    relay.metadata.create_all(engine)
    found = MetaData()
    found.reflect(engine)

    assert set(relay.metadata.tables) == set(found.tables)
    assert all(name.startswith("aldis_") for name in found.tables)
    relay.check_tables()


def test_the_write_ahead_log(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R6: In a file of SQLite, create_tables turns the write-ahead log on, and nothing else of the user's engine."""
    engine = make_engine(sqlite_url)

    with engine.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA synchronous").scalar()

    Relay(engine).create_tables()

    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == before
        assert connection.get_isolation_level() == engine.dialect.default_isolation_level


# What it tells of itself.


def test_status(works: Works) -> None:
    """Receivers are listed by name: those that are connected, that have rows, or that have dead letters."""
    works.connect("idle", aliases=["once"])
    works.connect("busy")
    works.connect("dead", fail, max_attempts=1)
    works.pile_up("unknown", 2)
    works.pile_up("busy", 1)
    works.run(lambda db: db.execute(text("UPDATE aldis_messages SET sent_ms = 0 WHERE receiver = 'busy'")))
    works.pile_up("dead", 3)
    works.pile_up("gone", 1)
    works.run(lambda db: db.execute(insert(dead_letters).from_select(DEAD, dead_rows())))
    works.run(lambda db: db.execute(text("DELETE FROM aldis_messages WHERE receiver = 'gone'")))
    status = {found.receiver: found for found in works.relay.status()}

    assert [*status] == ["busy", "dead", "gone", "idle", "once", "unknown"]
    assert status["idle"] == ReceiverStatus("idle", True, 0, 0, 0, 0.0, 0, None)
    assert status["gone"] == ReceiverStatus("gone", False, 0, 0, 0, 0.0, 1, None)
    assert status["unknown"]._replace(oldest_age_s=0.0) == ReceiverStatus("unknown", False, 2, 0, 0, 0.0, 0, None)
    assert status["busy"].oldest_age_s > 365 * 86400
    works.relay.drain()
    assert {found.receiver: (found.backlog, found.dead) for found in works.relay.status()} == {
        "busy": (0, 0),
        "dead": (0, 3),
        "gone": (0, 1),
        "idle": (0, 0),
        "once": (0, 0),
        "unknown": (2, 0),
    }


DEAD = ["message_id", "signal", "receiver", "version", "payload", "sent_ms", "died_ms", "attempts", "reason"]


def dead_rows() -> Any:
    """Rows for a receiver that is gone, as dead letters."""
    columns = [messages.c[name] for name in DEAD[:6]]
    return select(*columns, now_ms(), messages.c.attempts, text("'it died'")).where(messages.c.receiver == "gone")


def fail(_: int) -> None:
    raise ZeroDivisionError


def test_many_dead_letters(works: Works) -> None:
    """At most 1,000 dead letters are returned at once; the number of the last one leads to the next."""
    works.pile_up("gone", 1005)
    works.run(lambda db: db.execute(insert(dead_letters).from_select(DEAD, dead_rows())))
    first = works.relay.dead_letters(limit=1000)
    rest = works.relay.dead_letters(limit=1000, after=first[-1].id)

    assert (len(first), len(rest), len(works.relay.dead_letters())) == (1000, 5, 100)
    assert works.relay.retry_dead(*(letter.id for letter in first)) == 1000


def test_too_many_dead_letters_at_once(works: Works) -> None:
    """More than 1,000 dead letters are refused, and the message says how to page: nothing is left out in silence."""
    with pytest.raises(InvalidOptionError, match=r"not limit=1001\. .*after=page\[-1\]\.id"):
        works.relay.dead_letters(limit=1001)


def test_the_number_of_a_dead_letter_is_never_another_s(any_url: str, make_engine: MakeEngine) -> None:
    """What somebody has noted, to drop it or to retry it, does not mean another letter later."""
    works = Works(make_engine(any_url))
    works.connect(work=fail, max_attempts=1)
    numbers: list[int] = []

    for number in range(3):
        works.send(number)
        works.relay.drain()
        (letter,) = works.relay.dead_letters()
        numbers.append(letter.id)
        works.relay.drop_dead(letter.id)

    assert len({*numbers}) == 3


def test_a_drain_claims_one_at_a_time(works: Works) -> None:
    """R3: Nothing extends leases in a drain, so no message waits with a lease for those before it."""
    claimed: list[int] = []
    works.connect(work=lambda _: claimed.append(works.in_flight()))
    works.send(*range(9))

    assert works.relay.drain() == DrainCounts(done=9)
    assert claimed == [1] * 9


@pytest.mark.parametrize("limit", [0, -1, "all", None])
def test_so_many_dead_letters_cannot_be_asked_for(works: Works, limit: Any) -> None:
    """A limit that is none is refused, and is not taken for no limit, as SQLite would."""
    with pytest.raises(InvalidOptionError, match="limit must be a number, 1 or more"):
        works.relay.dead_letters(limit=limit)


def test_no_dead_letters(works: Works) -> None:
    """To list, show, retry or drop dead letters that are not there is no error."""
    assert works.relay.dead_letters() == works.relay.dead_letters("nobody") == []
    assert works.relay.dead_payload(1) is None
    assert (works.relay.retry_dead(), works.relay.drop_dead()) == (0, 0)
    assert (works.relay.retry_dead(1, 2), works.relay.drop_dead(1, 2)) == (0, 0)
    assert works.relay.drop_messages("nobody") == 0


@pytest.mark.parametrize(
    ("purge", "age_s"),
    [
        ("purge_dead_letters", -1),
        ("purge_dead_letters", float("nan")),
        ("purge_effects", float("inf")),
        ("purge_effects", 1e300),
    ],
)
def test_a_purge_of_an_impossible_age(works: Works, purge: str, age_s: float) -> None:
    """A purge is of an age that there can be."""
    with pytest.raises(InvalidOptionError, match=rf"{purge}\(\) takes older_than_s=, seconds of 0 or more"):
        getattr(works.relay, purge)(older_than_s=age_s)


# The current message.


def test_the_current_message(works: Works) -> None:
    """A receiver can ask for its message, on each attempt, and everything that it calls can."""
    found: list[Message] = []

    def work(_: int) -> None:
        found.append(works.relay.current())
        found.append(Relay(works.engine).current())  # Whichever relay is asked.

        if found[-1].attempt == 1:
            raise ZeroDivisionError

    works.connect("work", work, backoff=0)
    results = works.signal.send("sender", number=7)
    works.relay.drain()
    works.relay.drain()

    assert [message.attempt for message in found] == [1, 1, 2, 2]
    assert {(message.id, message.signal, message.receiver) for message in found} == {
        (results[0][1], "number-sent", "work")
    }

    with pytest.raises(NoMessageError, match="No message is being received here"):
        works.relay.current()


def test_messages_in_tasks(works: Works) -> None:
    """Async receivers, and the tasks that they begin, see their own message."""
    found: list[tuple[int, Message]] = []

    async def work(number: int) -> None:
        async def note() -> None:
            found.append((number, works.relay.current()))

        await asyncio.gather(note(), asyncio.create_task(note()))

    works.connect_async(work)
    ids = {number: works.signal.send("sender", number=number)[0][1] for number in range(3)}
    works.relay.drain()

    assert sorted((number, message.id) for number, message in found) == sorted([*ids.items(), *ids.items()])


# Single effects.


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection"])
def test_a_single_effect(works: Works, kind: str) -> None:
    """R2: once() is true for the first time, in the transaction that it is given: a session's or a connection's."""
    found: list[bool] = []

    def effect(end: str) -> None:
        registry = scoped_session(sessionmaker(works.engine))
        session: Any = {"session": registry(), "scoped_session": registry}.get(kind) or registry.connection()
        found.append(works.relay.first_time(session, "id"))
        found.append(works.relay.first_time(session, "id"))
        getattr(registry, end)()
        registry.remove()

    for end in ("rollback", "commit", "commit"):
        effect(end)

    assert found == [True, False, True, False, False, False]
    rows = works.run(lambda db: db.execute(select(effects.c.message_id, effects.c.receiver)).all())
    assert rows == [("id", "")]


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection", "run_sync"])
def test_a_single_effect_of_an_async_program(sqlite_url: str, kind: str) -> None:
    """R2: With an async session, registry or connection, what once() gives is awaited; inside of run_sync it is not."""

    async def effect(engine: AsyncEngine, relay: Relay) -> bool:
        if kind == "connection":
            async with engine.connect() as connection, connection.begin():
                return await relay.first_time(connection)

        registry = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        session: AsyncSession = registry()

        try:
            async with session.begin():
                if kind == "run_sync":
                    return await session.run_sync(relay.first_time)

                return await relay.first_time(registry if kind == "scoped_session" else session)
        finally:
            await registry.remove()

    async def program() -> list[bool]:
        engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
        works = Relay(engine)
        found: list[bool] = []
        signal: NamedSignal[Any, ..., Any] = Namespace().declare(number_sent)

        async def receive(sender: Any, *, number: int) -> None:
            effect_engine = create_async_engine(engine.url)  # The loop of receivers is another.
            found.append(await effect(effect_engine, works))
            await effect_engine.dispose()

            if works.current().attempt == 1:
                raise ZeroDivisionError

        signal.connect(receive, weak=False, via=works.durable("work", backoff=0))
        await asyncio.to_thread(works.create_tables)
        await signal.send_async("sender", number=1)
        await asyncio.to_thread(works.drain)
        await asyncio.to_thread(works.drain)
        await asyncio.to_thread(works._parts.database.close_portal)
        await engine.dispose()
        return found

    assert asyncio.run(program()) == [True, False]


def number_sent(sender: str, /, *, number: int) -> object: ...


def test_effects_are_of_a_receiver(works: Works) -> None:
    """R2: What two receivers note of one id are two effects, and what is noted outside of a receiver is a third."""
    found: list[bool] = []

    def work(_: int) -> None:
        with Session(works.engine) as session, session.begin():
            found.extend(works.relay.first_time(session, id) for id in (None, "shared", "shared"))

    works.connect("first", work)
    works.connect("second", work)
    works.send(1)
    works.relay.drain()

    with Session(works.engine) as session, session.begin():
        found.append(works.relay.first_time(session, "shared"))

    assert found == [True, True, False, True, True, False, True]


@pytest.mark.parametrize("given", [None, "session", Session, 7])
def test_an_effect_without_a_transaction(works: Works, given: Any) -> None:
    """once() takes what has a transaction."""
    with pytest.raises(TransactionError, match="A transaction is that of a Session"):
        works.relay.first_time(given, "id")


def test_an_effect_of_no_message(works: Works) -> None:
    """Outside of a receiver, once() wants an id."""
    with Session(works.engine) as session, pytest.raises(NoMessageError):
        works.relay.first_time(session)


@pytest.mark.parametrize("id", ["", "x" * 37, 7, b"id", "a\0b"])
def test_an_effect_of_a_strange_id(works: Works, id: Any) -> None:
    """An id that a database would cut or refuse is refused everywhere: two that are cut to the same would be one."""
    with Session(works.engine) as session, pytest.raises(InvalidOptionError, match="up to 36 characters"):
        works.relay.first_time(session, id)


# Draining.


def test_a_drain(works: Works) -> None:
    """What came of the messages is counted, by their ends."""
    works.connect("fine")
    works.connect("failing", fail, backoff=3600)
    works.connect("dying", fail, max_attempts=1)
    works.pile_up("fine", 2)
    works.pile_up("failing", 3)
    works.pile_up("dying", 4)
    works.pile_up("fine", 5, sender='{"name": "nobody"}')

    assert works.relay.drain() == DrainCounts(done=2, failed=3, dead=4, waiting=5)
    assert works.relay.drain() == DrainCounts()


def test_a_drain_is_in_this_thread(works: Works) -> None:
    """Receivers run in the thread that drains, also those that were sent to meanwhile."""
    from threading import get_ident

    threads: set[int] = set()

    def work(number: int) -> None:
        threads.add(get_ident())

        if number:
            works.send(number - 1)

    works.connect("work", work)
    works.send(5)

    assert works.relay.drain() == DrainCounts(done=6)
    assert threads == {get_ident()}


def test_a_drain_without_tables(sqlite_url: str, make_engine: MakeEngine) -> None:
    """Without tables, a drain says so."""
    with pytest.raises(RelaySchemaError, match="no table"):
        Relay(make_engine(sqlite_url)).drain()


def test_a_drain_that_is_interrupted(works: Works) -> None:
    """Ctrl-C ends a drain; the attempt that it ended counts, and the message comes again when its lease has run out."""
    works.connect("work", lambda _: signal.raise_signal(signal.SIGINT))
    works.send(1)

    with pytest.raises(KeyboardInterrupt):
        works.relay.drain()

    assert (works.in_flight(), works.attempts()) == (1, [1])
