"""Queue rows, below the contract suite: concurrent claims, dead letters, counts, purges."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select, text, update
from sqlalchemy.orm import sessionmaker

from aldis.relay import Relay
from aldis.relay.storage import claims as _claims, dead_letters as _dead_letters, effects as _effects
from aldis.relay.storage.dialects import begin
from aldis.relay.storage.tables import dead_letters, effects, messages, now_ms
from aldis.relay.testing._claims import Claims
from aldis.relay.testing._harness import Harness, Shop
from tests.relay.programs.worker_program import SOON_S, Program, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.relay.conftest import MakeEngine


CLAIMER = Path(__file__).parents[1] / "programs" / "claiming.py"
WAITING = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ),
    "mariadb": (  # MariaDB does not renew its list of locks when it is read often.
        "SELECT count(*) FROM information_schema.processlist"
        " WHERE db = database() AND command = 'Query' AND id <> connection_id() AND time_ms > 50"
    ),
}


@pytest.fixture
def engine(ready_url: str, make_engine: MakeEngine) -> Engine:
    return make_engine(ready_url)


@pytest.fixture
def shop(engine: Engine) -> Shop:
    return shop_of(engine)


@pytest.fixture
def claims(shop: Shop) -> Claims:
    return Claims(shop)


def shop_of(engine: Engine) -> Shop:
    relay = Relay(engine)
    relay.create_tables()
    return Shop(Harness(relay, sessionmaker(engine)))


def send(shop: Shop, *numbers: int, customers: str = "ABC") -> None:
    """Send orders of customers in turn, each in its own transaction."""
    for number in numbers:
        shop.order_placed.send("shop", order_id=number, customer=customers[number % len(customers)])


# Concurrent claims.


def test_processes_that_claim_at_the_same_time(ready_url: str, make_engine: MakeEngine) -> None:
    """R3: Processes that claim at the same time never get the same row, nor two rows of one key, and no row is lost."""
    shop = shop_of(make_engine(ready_url))
    shop.connect("billing")
    shop.connect("mail", key="customer")
    send(shop, *range(60))
    claimed = [json.loads(line) for line in claim_in_processes(ready_url, 3)]
    held = [(tuple(row), each["began"], each["ended"]) for each in claimed for row in each["held"]]

    assert sorted(row for row, _, _ in held) == sorted((name, 1, n) for name in ("billing", "mail") for n in range(60))
    assert sum(each["count"] for each in claimed) == 120
    assert shop.rows() == {}

    for customer in range(3):
        mine = sorted((n, began, ended) for (name, _, n), began, ended in held if name == "mail" and n % 3 == customer)
        assert all(ended <= began for (_, _, ended), (_, began, _) in pairwise(mine))


def claim_in_processes(url: str, count: int) -> list[str]:
    """Run programs that claim until there are no rows, and return what they print."""
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    programs = [subprocess.Popen([sys.executable, str(CLAIMER), url], **options) for _ in range(count)]

    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"

        for program in programs:
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()

        found = [line for program in programs for line in program.communicate(timeout=SOON_S)[0].splitlines()]
    finally:
        for program in programs:
            program.kill()
            program.communicate()

    assert [program.returncode for program in programs] == [0] * count
    return found


@contextmanager
def in_transaction(shop: Shop, work: Callable[[Connection], Any]) -> Iterator[Connection]:
    """Do some work in another transaction, which is committed at the end of the block."""
    with shop.relay._parts.database.engine().connect() as connection:
        begin(connection)
        work(connection)
        yield connection
        connection.commit()


@contextmanager
def beside(shop: Shop, work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Do some work in another thread until it is done or waits for a lock. It has ended after the block."""
    engine = shop.relay._parts.database.engine()
    waiting = WAITING.get(engine.dialect.name)
    future: Future[Any] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=do, daemon=True).start()

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # SQLite does not say who waits. There, the thread may not have come this far.
        soon(lambda: future.done() or waiting is None or connection.scalar(text(waiting)))

    yield future
    future.exception(SOON_S)


def test_a_claim_beside_a_claim_of_its_key(shop: Shop, claims: Claims, engine: Engine) -> None:
    """R3: A row that was committed late is not claimed while a later row of its key is being claimed."""
    shop.connect(key="customer")
    send(shop, 1, 2, customers="A")
    (row,) = claims.claim()
    claims.acknowledge(row)
    known = shop.relay._parts.receivers.known()["billing"]
    older = insert(messages).values(id=row.id, due_ms=0, attempts=0, crashes=0, **row.sent())

    with in_transaction(shop, lambda connection: _claims.claim(connection, "billing", known, 1, 60_000)) as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(older)  # In SQLite there is no other writer meanwhile.
        else:
            claims.run(lambda other: other.execute(older))

        with beside(shop, claims.claim) as found:
            connection.commit()

    assert found.result() == []


def test_rows_of_a_newer_version_are_not_claimed(shop: Shop, claims: Claims) -> None:
    """R4: Rows of a newer version, or of a signal that is not declared here, stay as they are for workers that know
    them.
    """
    shop.connect()
    send(shop, 1, 2, 3)
    newer, other, mine = claims.run(lambda db: db.scalars(select(messages.c.id).order_by(messages.c.id)).all())
    claims.run(lambda db: db.execute(update(messages).where(messages.c.id == newer).values(version=2)))
    claims.run(lambda db: db.execute(update(messages).where(messages.c.id == other).values(signal="other")))

    assert [row.id for row in claims.claim()] == [mine]
    assert max(claims.wait_ms()[:2]) <= 0


def test_a_claim_beside_what_is_said_too_late(shop: Shop, claims: Claims) -> None:
    """R3: A row that one worker makes a dead letter too late, while another claims it, stays a row."""
    shop.connect()
    send(shop, 1)
    (late,) = claims.claim()
    shop.make_due()
    known = shop.relay._parts.receivers.known()["billing"]

    with (
        in_transaction(shop, lambda connection: _claims.claim(connection, "billing", known, 1, 60_000)) as connection,
        beside(shop, lambda: claims.dead_letter(late)) as is_held,
    ):
        connection.commit()

    assert (is_held.result(), shop.reasons(), shop.rows()) == (False, [], {"billing": 1})


def test_a_dead_letter_that_is_retried_twice(shop: Shop, claims: Claims) -> None:
    """R3: A dead letter that two transactions retry at the same time is one message."""
    shop.connect()
    send(shop, 1)
    claims.dead_letter(*claims.claim())
    (letter,) = shop.relay.dead_letters()

    with (
        in_transaction(shop, lambda connection: _dead_letters.requeue(connection, [letter.id])) as connection,
        beside(shop, lambda: shop.relay.retry_dead(letter.id)) as count,
    ):
        connection.commit()

    assert (count.result(), shop.rows()) == (0, {"billing": 1})


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_effect_that_two_make(shop: Shop, end: str) -> None:
    """R2: A caller that asks while another transaction makes the effect waits, and makes it after the rollback."""
    with (
        in_transaction(shop, lambda connection: _effects.note_effect(connection, "id", "")) as connection,
        beside(shop, lambda: shop.harness.transact(lambda session: shop.relay.first_time(session, "id"))) as other,
    ):
        getattr(connection, end)()

    assert other.result() is (end == "rollback")


def test_reasons(shop: Shop, claims: Claims) -> None:
    """R3: A reason is cut to its length, and has no characters that a database refuses."""
    shop.connect()
    send(shop, 1, 2)
    first, second = claims.claim()
    reason = "\x00\n\ud800" + "é" * 600
    claims.run(lambda connection: _dead_letters.dead_letter(connection, first, reason))
    claims.run(lambda connection: _claims.release(connection, second, 0, reason))

    assert shop.reasons() == ["???" + "é" * 497]
    assert [status.failure for status in shop.relay.status()] == shop.reasons()


# The database's clock.


def test_the_clock_stands_still_in_a_statement(engine: Engine) -> None:
    """R3: All rows of a statement get the same time."""
    program = Program(engine)
    program.pile_up("work", 500)
    program.run(lambda connection: connection.execute(update(messages).values(due_ms=now_ms())))

    assert len(program.run(lambda connection: connection.scalars(select(messages.c.due_ms).distinct()).all())) == 1


# Counts and purges.


def test_counts(shop: Shop, claims: Claims) -> None:
    """R3: Waiting, claimed and retried messages, and their age, are counted by receiver."""
    shop.connect("billing")
    shop.connect("mail")
    send(shop, *range(4))
    claims.run(lambda connection: connection.execute(update(messages).values(sent_ms=messages.c.sent_ms - 90_000)))
    first, second, _, _ = claims.claim("billing")
    claims.fail(first, wait_ms=60_000)
    claims.release(second)
    billing, mail = shop.relay.status()

    assert (billing.receiver, billing.backlog, billing.in_flight, billing.retrying) == ("billing", 2, 2, 1)
    assert billing.failure == "it failed"
    assert 90 <= billing.oldest_age_s < 150
    assert (mail.backlog, mail.in_flight, mail.retrying, mail.failure) == (4, 0, 0, None)


def test_a_lease_that_ran_out_is_not_in_flight(shop: Shop, claims: Claims) -> None:
    """R3: A row whose lease has ended is counted as waiting."""
    shop.connect()
    send(shop, 1)
    claims.claim()
    assert [(status.backlog, status.in_flight) for status in shop.relay.status()] == [(0, 1)]

    shop.make_due()
    assert [(status.backlog, status.in_flight) for status in shop.relay.status()] == [(1, 0)]


def test_messages_are_dropped(shop: Shop, claims: Claims) -> None:
    """R4: The rows of a receiver are deleted on request, except for those that a worker has claimed."""
    shop.connect("billing")
    shop.connect("mail")
    send(shop, *range(3))
    claims.claim("billing", limit=1)

    assert shop.relay.drop_messages("billing") == 2
    assert shop.rows() == {"billing": 1, "mail": 3}
    shop.make_due()
    assert shop.relay.drop_messages("billing") == 1


def test_a_purge(shop: Shop, claims: Claims) -> None:
    """R3: Dead letters and notes of effects are deleted on request if they are old enough."""
    shop.connect()
    send(shop, 1, 2)
    first, second = claims.claim()
    claims.dead_letter(first)
    shop.harness.transact(lambda session: shop.relay.first_time(session, "first"))
    claims.run(lambda db: db.execute(update(dead_letters).values(died_ms=dead_letters.c.died_ms - 3_600_000)))
    claims.run(lambda db: db.execute(update(effects).values(done_ms=effects.c.done_ms - 3_600_000)))
    claims.dead_letter(second)
    shop.harness.transact(lambda session: shop.relay.first_time(session, "second"))

    for purge in (shop.relay.purge_dead_letters, shop.relay.purge_effects):
        assert [purge(older_than_s=age_s) for age_s in (3700, 3500, 3500)] == [0, 1, 0]

    assert [letter.message_id for letter in shop.relay.dead_letters()] == [second.message_id]
    assert not shop.harness.transact(lambda session: shop.relay.first_time(session, "second"))
    assert shop.harness.transact(lambda session: shop.relay.first_time(session, "first"))


def test_nothing_to_look_for(shop: Shop, claims: Claims) -> None:
    """R3: Without receivers, or with a limit of zero rows, a claim returns no rows."""
    shop.connect()

    assert claims.run(lambda connection: _claims.next_due(connection, [])) == {}
    assert claims.claim() == []
    assert claims.renew() == set()
    assert claims.acknowledge() == 0


def test_workers_are_told(shop: Shop, claims: Claims, engine: Engine) -> None:
    """R6: PostgreSQL notifies workers on request; other databases do nothing."""
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    claims.run(_claims.notify_workers)

    assert any("pg_notify" in statement for statement in statements) is (engine.dialect.name == "postgresql")


def test_a_row_that_was_deleted(shop: Shop, claims: Claims) -> None:
    """R6: A row that was published and deleted can be made again, with its attempts, or become a dead letter."""
    shop.connect()
    send(shop, 1, 2)
    first, second = claims.claim()
    claims.acknowledge(first, second)
    claims.run(lambda connection: _claims.reinsert(connection, first, 0, "it failed"))
    claims.run(lambda connection: _dead_letters.dead_letter_deleted(connection, second, "it died"))
    (again,) = claims.claim()
    (letter,) = shop.relay.dead_letters()

    assert (again.sent(), again.attempts) == (first.sent(), 2)
    assert (letter.message_id, letter.attempts, letter.reason) == (second.message_id, 1, "it died")
    assert shop.relay.dead_payload(letter.id) == second.payload
