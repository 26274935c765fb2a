"""The Celery runner: what the task does with a message, and what happens to the message if the task fails."""

from __future__ import annotations

import json
import time
from typing import Any

import flask
import pytest
from celery import exceptions  # type: ignore[import-untyped, unused-ignore]
from opentelemetry import trace

import aldis.flask
from aldis.relay.celery.envelope import encode
from aldis.relay.celery.request import Request
from aldis.relay.storage.tables import dead_letters, messages
from aldis.relay.worker.consumer import Disposition, Outcome
from tests.relay.celery.brokers import Place, a_row, run
from tests.relay.celery.shop_program import attempts, made

TASK = "aldis.relay.receive"


def test_the_task_runs_the_receiver(lonely: Place) -> None:
    """A published message is received with its sender and payload, and nothing of it is left."""
    lonely.shop.celery.tasks[TASK].apply((encode(a_row()),), throw=True)

    assert lonely.ids(made) == ["a"]
    assert lonely.rows() == []


def test_receivers_run_in_the_context_of_their_application(lonely: Place) -> None:
    """A receiver runs in Flask's app context, and in the trace context of the send."""
    seen: list[Any] = []

    def look(sender: Any, *, do: str) -> None:
        seen.extend([flask.current_app.name, sender, trace.get_current_span().get_span_context().trace_id])

    app = flask.Flask("shop")
    aldis.flask.Aldis(app, relay=lonely.shop.relay)
    lonely.shop.ordered.connect(look, via=lonely.shop.relay.durable("shop.look"))
    parent = json.dumps({"traceparent": f"00-{7:032x}-{8:016x}-01"})
    run(lonely, encode(a_row(receiver="shop.look", sender='{"name":"shop"}', trace=parent)))

    assert seen == ["shop", app, 7]


def test_what_is_no_message_of_the_relay_is_rejected(lonely: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A message of another program is rejected, not returned to the queue, and the log does not show it."""
    with pytest.raises(exceptions.Reject) as raised:
        run(lonely, {"format": 1, "payload": "secret"})

    assert raised.value.requeue is False
    assert "is not the relay's" in caplog.text
    assert "secret" not in caplog.text


def test_what_a_newer_aldis_has_published_is_left_for_it(lonely: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of a newer Aldis is returned to the queue, after a pause."""

    with pytest.raises(exceptions.Reject) as raised:
        run(lonely, {"format": 2})

    assert raised.value.requeue is True


def test_a_failed_attempt_is_a_row_again(lonely: Place) -> None:
    """A message of a failed attempt is a row again, due after the receiver's backoff, with its crashes reset."""
    run(lonely, encode(a_row(payload='{"do":"fail"}', crashes=1)))

    [row] = lonely.rows()
    assert (row.message_id, row.attempts, row.crashes, row.token) == ("a", 1, 0, None)
    assert row.failure.endswith(") raised OSError")
    assert row.sent_ms == 5
    assert 50_000 < row.due_ms - time.time() * 1000 < 70_000


def test_the_last_failed_attempt_is_a_dead_letter(lonely: Place) -> None:
    """After the last failed attempt, the dead letter has the whole message and the reason."""
    run(lonely, encode(a_row(payload='{"do":"fail"}', attempts=2)))

    [letter] = lonely.shop.relay.dead_letters()
    assert (letter.message_id, letter.receiver, letter.attempts) == ("a", "shop.orders", 2)
    assert letter.reason.endswith(") raised OSError, in the last of 2 attempts")
    assert lonely.shop.relay.dead_payload(letter.id) == '{"do":"fail"}'


def test_what_was_not_begun_is_not_counted(lonely: Place) -> None:
    """A malformed dead letter has the attempts that were made, whether it was written at once or later."""
    row = a_row(payload="{", attempts=2)
    run(lonely, encode(row))
    run(lonely, encode(row._replace(token="other"), Outcome(Disposition.DEAD, "reason", is_begun=False)))

    assert [letter.attempts for letter in lonely.shop.relay.dead_letters()] == [1, 1]


def test_a_receiver_that_takes_too_long_is_interrupted(lonely: Place) -> None:
    """timeout_s holds in Celery's workers."""
    run(lonely, encode(a_row(payload='{"do":"linger"}')))

    [row] = lonely.rows()
    assert row.failure.endswith(") raised ReceiverTimeoutError")


def test_a_receiver_without_a_limit_takes_its_time(lonely: Place) -> None:
    """A receiver without timeout_s has no limit."""
    signal, calls = lonely.shop.ordered, []

    def slow(sender: object, *, do: str) -> None:
        calls.append(do)

    signal.connect(slow, via=lonely.shop.relay.durable("shop.slow"))
    run(lonely, encode(a_row(receiver="shop.slow", payload='{"do":"x"}')))

    assert calls == ["x"]


@pytest.mark.parametrize("changes", [{"receiver": "unknown"}, {"version": 2}, {"sender": '{"name":"unknown"}'}])
def test_what_is_not_known_here_is_a_row_again(lonely: Place, changes: dict[str, Any]) -> None:
    """A message of an unknown receiver is a row again, for another deploy, and uses no attempt."""
    run(lonely, encode(a_row(**changes)))

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (0, 0)
    assert row.due_ms > time.time() * 1000 + 10_000


def test_a_message_whose_worker_died_is_a_row_again(lonely: Place) -> None:
    """A message whose worker died is a row again, because it may have killed the worker; a crash is counted, no
    attempt.
    """
    run(lonely, encode(a_row()), is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes, row.failure) == (0, 1, "its worker died, or lost its connection")
    assert lonely.ids(attempts) == []


def test_what_was_published_once_is_a_row_once(lonely: Place) -> None:
    """A worker that is killed after it released a message, and before the broker knows, makes no second row."""
    envelope = encode(a_row(payload='{"do":"fail"}'))
    run(lonely, envelope)
    run(lonely, envelope, is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (1, 0)


def test_a_message_whose_workers_die_is_a_dead_letter(lonely: Place) -> None:
    """A message whose workers die is a dead letter after three times, or after max_attempts if that is more."""
    run(lonely, encode(a_row(crashes=1, token="1")), is_again=True)
    assert lonely.shop.relay.dead_letters() == []

    run(lonely, encode(a_row(crashes=2, token="2")), is_again=True)
    [letter] = lonely.shop.relay.dead_letters()
    assert letter.reason == "its workers died, or lost their connection, 3 times"


def test_a_message_that_comes_again_and_is_not_known_waits(lonely: Place) -> None:
    """A message of an unknown receiver whose worker died waits for workers that know the receiver."""
    run(lonely, encode(a_row(receiver="unknown", crashes=7)), is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (0, 8)


@pytest.mark.parametrize("is_again", [False, True])
def test_what_cannot_be_written_yet_is_published(
    rabbitmq_place: Place, monkeypatch: pytest.MonkeyPatch, is_again: bool
) -> None:
    """While the database is away, the outcome of an attempt is a message, and the receiver does not run again."""
    rabbitmq_place.rename(messages, "away")
    run(rabbitmq_place, encode(a_row(payload='{"do":"fail"}')))

    [message] = rabbitmq_place.published()
    [envelope], _, _ = message.payload
    rabbitmq_place.rename("away", messages)
    run(rabbitmq_place, envelope, is_again=is_again)

    [row] = rabbitmq_place.rows()
    assert (row.attempts, row.crashes) == (1, 0)
    assert row.failure.endswith(") raised OSError")
    assert rabbitmq_place.ids(attempts) == ["a"]


def test_without_database_and_broker_the_message_is_given_back(
    lonely: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a database and a broker, the outcome of an attempt is lost, and the message is not."""
    lonely.rename(dead_letters, "away")

    with pytest.raises(exceptions.Reject, match="neither the database nor the broker") as raised:
        run(lonely, encode(a_row(payload='{"do":"fail"}', attempts=2)))

    assert raised.value.requeue is True
    assert "cannot be written to the database yet: no such table" in caplog.text


# Celery's handling of messages whose task failed.


class Message:
    """A message in a Celery worker, and the answers about it."""

    def __init__(self, app: Any) -> None:
        self.headers = {"id": "1", "task": TASK}
        self.body = b""
        self.payload: list[Any] = [[{}], {}, {}]
        self.delivery_info = self.properties = None
        self.content_type = self.content_encoding = ""
        self.said: list[Any] = []
        made: Any = Request
        self.request = made(
            self,
            app=app,
            on_ack=lambda *_: self.said.append("acknowledged"),
            on_reject=lambda _logger, _errors, requeue: self.said.append("back" if requeue else "rejected"),
        )


class Trouble:
    """What Celery tells a request about its failure."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.traceback, self.exc_info = "", None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(), "back"),
        (exceptions.SoftTimeLimitExceeded(), "back"),
        (exceptions.TimeLimitExceeded(), "back"),
        (exceptions.WorkerLostError(), "back"),
        (exceptions.Reject(requeue=False), "rejected"),
        (exceptions.Reject(requeue=True), "back"),
        (exceptions.Ignore(), "acknowledged"),
    ],
)
def test_a_failed_task_is_given_back(lonely: Place, error: BaseException, said: str) -> None:
    """A message is returned to the queue unless the task itself has decided about it."""
    message = Message(lonely.shop.celery)
    message.request.on_failure(Trouble(error))

    assert message.said == [said]


@pytest.mark.parametrize(("is_soft", "said"), [(True, []), (False, ["back"])])
def test_a_task_that_celery_kills_is_given_back(lonely: Place, is_soft: bool, said: list[str]) -> None:
    """After a hard time limit, the message is returned to the queue; a soft limit is the receiver's to handle."""
    message = Message(lonely.shop.celery)
    message.request.on_timeout(is_soft, 1)

    assert message.said == said
