"""The Celery runner: which messages it publishes, and when a row may be deleted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from aldis.relay import DrainCounts
from aldis.relay.celery.envelope import MalformedEnvelopeError, NewerEnvelopeError, decode, encode
from aldis.relay.storage.tables import dead_letters, messages
from aldis.relay.worker.consumer import Disposition, Outcome
from tests.relay.celery.brokers import NOBODY, Gate, Place, a_row, run
from tests.relay.celery.shop_program import Shop, made

if TYPE_CHECKING:
    from tests.relay.conftest import MakeEngine


# Envelopes.


def test_an_envelope_is_json_and_comes_back() -> None:
    """An envelope of a row, with its attempts and crashes, is the same on the other side."""
    row = a_row(sender='{"text":"x"}', trace="{}", ordering_key="7", attempts=3, crashes=2)
    outcome = Outcome(Disposition.FAILED, "reason", 1.5)

    assert decode(encode(row)) == (row, None)
    assert decode(encode(row, outcome)) == (row, outcome)


@pytest.mark.parametrize("changes", [{"payload": b"{}"}, {"version": "1"}, {"sender": 5}, {"sent_ms": 0.5}])
def test_rows_of_other_types_have_no_envelope(changes: dict[str, Any]) -> None:
    """A row with wrong types, which SQLite allows, is not published."""
    with pytest.raises(MalformedEnvelopeError):
        encode(a_row(**changes))


@pytest.mark.parametrize(
    "found", [None, 5, [], {}, {"format": 1}, {"format": True}, {**encode(a_row()), "crashes": ""}]
)
def test_other_messages_are_no_envelopes(found: Any) -> None:
    """A message of another program in the queue is not taken for the relay's."""
    with pytest.raises(MalformedEnvelopeError):
        decode(found)


def test_newer_envelopes_are_told_from_malformed_ones() -> None:
    """The envelope of a newer Aldis is not taken for a malformed one."""
    with pytest.raises(NewerEnvelopeError):
        decode({"format": 2})


# Publishing, with RabbitMQ where it is needed.


def test_a_row_is_published_and_deleted(rabbitmq_place: Place) -> None:
    """The published message has the whole send, is persistent, and shows no payload in Celery's log."""
    shop = rabbitmq_place.shop
    [(_, message_id)] = shop.ordered.send("secret sender", do="secret")

    assert shop.relay.drain() == DrainCounts(done=1)
    assert rabbitmq_place.rows() == []

    [message] = rabbitmq_place.published()
    [envelope], _, _ = message.payload
    assert (envelope["message_id"], envelope["receiver"]) == (message_id, "shop.orders")
    assert (envelope["attempts"], envelope["payload"]) == (1, '{"do":"secret"}')
    assert message.content_type == "application/json"
    assert message.properties["delivery_mode"] == 2
    assert message.headers["shadow"] == "shop.orders"
    assert "secret" not in str(message.headers)


def test_rows_that_were_claimed_together_fail_apart(rabbitmq_place: Place) -> None:
    """Of rows that one claim has published, each that fails is a row of its own again."""
    shop = rabbitmq_place.shop
    ids = [shop.ordered.send("x", do="fail")[0][1] for _ in range(2)]
    assert shop.relay.drain() == DrainCounts(done=2)

    for message in rabbitmq_place.published():
        run(rabbitmq_place, message.payload[0][0])

    assert [row.message_id for row in rabbitmq_place.rows()] == ids


def test_connections_are_kept_until_the_worker_ends(rabbitmq_place: Place) -> None:
    """Rows of one worker share connections, and another process's connections are not used."""
    shop, broker = rabbitmq_place.shop, rabbitmq_place.shop.engine._broker
    row = a_row()
    shop.engine.handle(row, rabbitmq_place.no_guard)
    [(pid, connection)] = broker._idle
    assert pid == os.getpid()

    shop.engine.handle(row, rabbitmq_place.no_guard)
    assert broker._idle == [(pid, connection)]

    broker._idle[0] = (pid + 1, connection)
    shop.engine.handle(row, rabbitmq_place.no_guard)
    [(pid, another)] = broker._idle
    assert another is not connection

    connection.release()
    shop.engine.stop()
    assert not another.connected
    assert len(rabbitmq_place.published()) == 3


def test_a_queue_that_is_gone_is_made_again(rabbitmq_place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """If the broker has no queue for a message, the message does not count as published."""
    shop = rabbitmq_place.shop
    shop.engine.handle(a_row(), rabbitmq_place.no_guard)
    rabbitmq_place.delete_queue()
    first = shop.engine.handle(a_row(), rabbitmq_place.no_guard)
    second = shop.engine.handle(a_row(), rabbitmq_place.no_guard)

    assert (first.disposition, second.disposition) == (Disposition.WAITS, Disposition.DONE)
    assert "NO_ROUTE" in caplog.text
    assert len(rabbitmq_place.published()) == 1


def test_rows_wait_for_the_broker(tmp_path: Path, rabbitmq: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the broker is away, rows wait without an attempt, and they are published when it is back."""
    with Gate(rabbitmq) as gate, Place(tmp_path, gate.url) as place:
        gate.shut()
        place.shop.ordered.send("x", do="")
        place.shop.shipped.send("x", do="")

        assert place.shop.relay.drain() == DrainCounts(waiting=2)
        assert [(row.attempts, row.token) for row in place.rows()] == [(0, None)] * 2
        assert all(row.failure.startswith("the broker did not confirm it (") for row in place.rows())
        assert caplog.text.count("The broker does not accept messages") == 1

        gate.open()
        place.hurry()
        assert place.shop.relay.drain() == DrainCounts(done=2)
        assert "The broker is back" in caplog.text
        assert len(place.published()) == 2


def test_what_is_not_confirmed_is_published_again(
    tmp_path: Path, rabbitmq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that cannot confirm a message gets it again with the same id: a duplicate, and no loss."""
    with Gate(rabbitmq) as gate, Place(tmp_path, gate.url) as place:
        place.shop.engine.handle(a_row(message_id="before"), place.no_guard)
        monkeypatch.setattr(place.shop.engine._broker, "_timeout_s", 0.2)
        [(_, message_id)] = place.shop.ordered.send("x", do="")
        gate.keep_answers()

        assert place.shop.relay.drain() == DrainCounts(waiting=1)

        gate.open()
        monkeypatch.setattr(place.shop.engine._broker, "_timeout_s", 10.0)
        place.hurry()
        assert place.shop.relay.drain() == DrainCounts(done=1)
        ids = [message.payload[0][0]["message_id"] for message in place.published()]
        assert ids == ["before", message_id, message_id]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"payload": b"{}"}, "the row is malformed: Expected `str`"), ({"payload": None}, "larger than a send may write")],
)
def test_rows_that_cannot_be_published_are_dead(lonely: Place, changes: dict[str, Any], why: str) -> None:
    """A malformed row becomes a dead letter at once, instead of being published."""
    outcome = lonely.shop.engine.handle(a_row(**changes), lonely.no_guard)

    assert outcome.disposition is Disposition.DEAD
    assert why in outcome.reason


def test_eager_tasks_are_received_where_they_are_published(lonely: Place) -> None:
    """With task_always_eager, as in programs' tests, a drain runs receivers and needs no broker."""
    lonely.shop.celery.conf.task_always_eager = True
    [(_, message_id)] = lonely.shop.ordered.send("x", do="")

    assert lonely.shop.relay.drain() == DrainCounts(done=1)
    assert lonely.ids(made) == [message_id]


# Rows that are made again, in all databases.


def test_rows_are_made_again_in_every_database(ready_url: str, make_engine: MakeEngine, make_app: Any) -> None:
    """In every database, a deleted row and a dead letter can be written from the published message."""
    shop = Shop(ready_url, NOBODY, "q")
    shop.create_tables()
    shop.engine._run(encode(a_row(payload='{"do":"fail"}', token="1")), False)
    shop.engine._run(encode(a_row(payload="no JSON", token="2")), False)
    engine = make_engine(ready_url)
    shop.close()

    with engine.connect() as connection:
        row = connection.execute(select(messages)).one()
        letter = connection.execute(select(dead_letters)).one()

    assert 50_000 < row.due_ms - time.time() * 1000 < 70_000
    assert (row.attempts, row.sent_ms) == (1, 5)
    assert abs(letter.died_ms - time.time() * 1000) < 10_000
    assert letter.payload == "no JSON"
