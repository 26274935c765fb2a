"""The Celery engine: what it refuses and warns of, what is published, and what the task does with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
import pytest
from celery import Celery, exceptions  # type: ignore[import-untyped, unused-ignore]
from kombu import entity
from opentelemetry import trace
from sqlalchemy import select

import aldis.flask
from aldis.exceptions import AldisWarning, InvalidOptionError, RelayWarning
from aldis.relay import DrainCounts, Relay
from aldis.relay.celery import CeleryRunner
from aldis.relay.celery.envelope import MalformedEnvelopeError, NewerEnvelopeError, decode, encode
from aldis.relay.celery.request import Request
from aldis.relay.storage.rows import Row
from aldis.relay.storage.tables import dead_letters, messages
from aldis.relay.worker.consumer import Disposition, Outcome

from .celery_program import Shop, attempts, made
from .celery_servers import RABBITMQ, Gate, Place, answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.relay.conftest import MakeEngine

NOBODY = "amqp://127.0.0.1:1//"
TASK = "aldis.relay.receive"

# kombu's are not typed.
a_queue: Any = entity.Queue
an_exchange: Any = entity.Exchange


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
    """A shop with RabbitMQ, whose queue nobody consumes."""
    with Place(tmp_path, rabbitmq) as place:
        yield place


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Place]:
    """A shop whose broker is away."""
    with Place(tmp_path, NOBODY) as place:
        yield place


def a_row(**changes: Any) -> Row:
    return Row(0, "a", "ordered", "shop.orders", 1, None, '{"do":""}', None, None, 5, 1, 0, "")._replace(**changes)


# What is refused and warned of.


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((None,), "takes a Celery application, not a NoneType"),
        ((Celery("x", set_as_current=False), {"name": ""}), "name of a task"),
        ((Celery("x", set_as_current=False), {"name": 5}), "name of a task"),
        ((Celery("x", set_as_current=False), {"timeout_s": 0}), "timeout_s must be a number"),
    ],
)
def test_options_that_could_not_work_are_refused(arguments: Any, match: str) -> None:
    """An engine is made of an application, a name and a positive number of seconds."""
    app: Any = arguments[0]
    options: dict[str, Any] = arguments[1] if len(arguments) > 1 else {}

    with pytest.raises(InvalidOptionError, match=match):
        CeleryRunner(app, **options)


def test_order_is_refused(make_app: Callable[..., Any], engine: Any) -> None:
    """A queue with a key is refused where it is made, for a fleet keeps no order."""
    relay = Relay(engine, runner=CeleryRunner(make_app()))

    with pytest.raises(InvalidOptionError, match=r"relay.durable\('mail'\) cannot have key='user_id'.*keeps no order"):
        relay.durable("mail", key="user_id")


def test_an_engine_is_of_one_relay(make_app: Callable[..., Any], engine: Any) -> None:
    """Two relays cannot share an engine, nor the name of a task."""
    app = make_app()
    shared = CeleryRunner(app)
    Relay(engine, runner=shared)

    for taken in (shared, CeleryRunner(app)):
        with pytest.raises(InvalidOptionError, match=rf"has a relay's task '{TASK}' already"):
            Relay(engine, runner=taken)

    Relay(engine, runner=CeleryRunner(app, name="shop.relay"))
    assert {"shop.relay", TASK} <= set(app.tasks)
    assert repr(CeleryRunner(app, name="shop.relay")).endswith(", name='shop.relay')")


def test_a_relay_is_of_its_own_application(make_app: Callable[..., Any], engine: Any) -> None:
    """The task is not registered with other applications of the process."""
    Relay(engine, runner=CeleryRunner(make_app()))
    other = make_app()
    other.finalize()

    assert TASK not in other.tasks


def test_the_task_is_safe_whatever_the_settings_are(make_app: Callable[..., Any], engine: Any) -> None:
    """Late acknowledgements, no results and JSON are the task's own settings."""
    app = make_app(task_acks_late=False, task_reject_on_worker_lost=False, task_serializer="pickle")
    Relay(engine, runner=CeleryRunner(app))
    task = app.tasks[TASK]

    assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, True, True)
    assert task.serializer == "json"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"broker_url": "memory://"}, "memory transport: it keeps no message safe"),
        ({"broker_url": "filesystem://"}, "filesystem transport"),
        ({"task_annotations": {TASK: {"acks_late": False}}}, f"task_annotations turn acks_late off for {TASK}"),
        ({"task_annotations": {"*": {"acks_late": False, "reject_on_worker_lost": False}}}, "acks_late and reject_on_"),
        ({"accept_content": ["yaml"]}, "accept_content has no 'json'"),
        ({"task_queues": [a_queue("q", durable=False)]}, "'q' loses messages: it has durable=False"),
        ({"task_queues": [a_queue("q", auto_delete=True, no_ack=True)]}, "auto_delete=True, no_ack=True.*task_routes"),
    ],
)
def test_settings_that_lose_messages_are_refused(
    make_app: Callable[..., Any], engine: Any, settings: dict[str, Any], match: str
) -> None:
    """No worker of the relay begins with them."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    with pytest.raises(InvalidOptionError, match=match):
        relay.drain()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"broker_url": "redis://127.0.0.1:1"}, "Redis does not confirm.*only 3600 seconds after"),
        (
            {"broker_url": "redis://127.0.0.1:1", "broker_transport_options": {"visibility_timeout": 7}},
            r"only 7 seconds after.*\(visibility_timeout\)",
        ),
        ({"broker_url": "sqla+sqlite://"}, "tested with RabbitMQ and Redis, and not with sql"),
        ({"task_queues": [a_queue("q", message_ttl=5)]}, "'q' has x-message-ttl: it may drop messages"),
        ({"task_queues": [a_queue("q", queue_arguments={"x-max-length": 5})]}, "'q' has x-max-length"),
    ],
)
def test_settings_that_could_lose_messages_are_warned_of(
    make_app: Callable[..., Any], engine: Any, settings: dict[str, Any], match: str
) -> None:
    """A worker of the relay that begins with them says what can be lost."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    with pytest.warns(RelayWarning, match=match):
        relay.drain()

    assert issubclass(RelayWarning, AldisWarning)
    assert issubclass(RelayWarning, RuntimeWarning)


@pytest.mark.parametrize(
    "settings",
    [
        {"accept_content": ["application/json"]},
        {"task_queues": [a_queue("q", queue_arguments={"x-queue-type": "quorum"})]},
        {"task_routes": {TASK: {"exchange": an_exchange("orders", type="topic"), "routing_key": "relay"}}},
        {"task_always_eager": True, "broker_url": "memory://"},
    ],
)
def test_other_settings_are_fine(make_app: Callable[..., Any], engine: Any, settings: dict[str, Any]) -> None:
    """A worker of the relay begins, with no warning."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    assert relay.drain() == DrainCounts()


def test_a_misconfigured_worker_says_so(tmp_path: Path) -> None:
    """On the command line, the worker ends with the code for what no new start will mend."""
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\nfrom sqlalchemy import create_engine\nfrom aldis.relay import Relay\n"
        "from aldis.relay.celery import CeleryRunner\n"
        "app = Celery('shop', broker='memory://')\n"
        "relay = Relay(create_engine('sqlite:///shop.sqlite'), runner=CeleryRunner(app))\n"
    )
    command = [sys.executable, "-m", "aldis", "relay", "worker", "shop:relay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 78, done.stderr
    assert "Error: CeleryRunner cannot use the memory transport" in done.stderr


# Envelopes.


def test_an_envelope_is_json_and_comes_back() -> None:
    """What was sent of a row is the same on the other side, with its attempts and crashes."""
    row = a_row(sender='{"text":"x"}', trace="{}", ordering_key="7", attempts=3, crashes=2)
    outcome = Outcome(Disposition.FAILED, "reason", 1.5)

    assert decode(encode(row)) == (row, None)
    assert decode(encode(row, outcome)) == (row, outcome)


@pytest.mark.parametrize("changes", [{"payload": b"{}"}, {"version": "1"}, {"sender": 5}, {"sent_ms": 0.5}])
def test_rows_of_other_types_have_no_envelope(changes: dict[str, Any]) -> None:
    """What SQLite lets into a column is not published."""
    with pytest.raises(MalformedEnvelopeError):
        encode(a_row(**changes))


@pytest.mark.parametrize(
    "found", [None, 5, [], {}, {"format": 1}, {"format": True}, {**encode(a_row()), "crashes": ""}]
)
def test_other_messages_are_no_envelopes(found: Any) -> None:
    """A message that somebody else put into the queue is told from the relay's."""
    with pytest.raises(MalformedEnvelopeError):
        decode(found)


def test_newer_envelopes_are_told_from_malformed_ones() -> None:
    """What a newer Aldis has written is not thrown away."""
    with pytest.raises(NewerEnvelopeError):
        decode({"format": 2})


# Publishing, with RabbitMQ where it is needed.


def test_a_row_is_published_and_deleted(rabbitmq_place: Place) -> None:
    """The message has what was sent, is persistent, and shows nothing of the payload where Celery logs it."""
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
    """Each message is a row again, though one claim had published both."""
    shop = rabbitmq_place.shop
    ids = [shop.ordered.send("x", do="fail")[0][1] for _ in range(2)]
    assert shop.relay.drain() == DrainCounts(done=2)

    for message in rabbitmq_place.published():
        run(rabbitmq_place, message.payload[0][0])

    assert [row.message_id for row in rabbitmq_place.rows()] == ids


def test_connections_are_kept_until_the_worker_ends(rabbitmq_place: Place) -> None:
    """Rows of one worker share connections; what another process had made is not used."""
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
    """A message that the broker has no queue for is not taken for published."""
    shop = rabbitmq_place.shop
    shop.engine.handle(a_row(), rabbitmq_place.no_guard)
    rabbitmq_place.delete_queue()
    first = shop.engine.handle(a_row(), rabbitmq_place.no_guard)
    second = shop.engine.handle(a_row(), rabbitmq_place.no_guard)

    assert (first.disposition, second.disposition) == (Disposition.WAITS, Disposition.DONE)
    assert "NO_ROUTE" in caplog.text
    assert len(rabbitmq_place.published()) == 1


def test_rows_wait_for_the_broker(tmp_path: Path, rabbitmq: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the broker is away, rows wait without an attempt being counted, and are published when it is back."""
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


def test_what_is_not_confirmed_is_published_again(tmp_path: Path, rabbitmq: str) -> None:
    """A broker that has a message and cannot say so gets it again, by the same id: a duplicate, and no loss."""
    with Gate(rabbitmq) as gate, Place(tmp_path, gate.url, timeout_s=0.3) as place:
        place.shop.engine.handle(a_row(message_id="before"), place.no_guard)
        [(_, message_id)] = place.shop.ordered.send("x", do="")
        gate.keep_answers()

        assert place.shop.relay.drain() == DrainCounts(waiting=1)

        gate.open()
        place.hurry()
        assert place.shop.relay.drain() == DrainCounts(done=1)
        ids = [message.payload[0][0]["message_id"] for message in place.published()]
        assert ids == ["before", message_id, message_id]


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"payload": b"{}"}, "the row is malformed: Expected `str`"), ({"payload": None}, "larger than a send may write")],
)
def test_rows_that_cannot_be_published_are_dead(lonely: Place, changes: dict[str, Any], why: str) -> None:
    """A row that nobody could read is a dead letter at once."""
    outcome = lonely.shop.engine.handle(a_row(**changes), lonely.no_guard)

    assert outcome.disposition is Disposition.DEAD
    assert why in outcome.reason


def test_eager_tasks_are_received_where_they_are_published(lonely: Place) -> None:
    """With task_always_eager, as programs' tests have it, a drain runs receivers, and needs no broker."""
    lonely.shop.celery.conf.task_always_eager = True
    [(_, message_id)] = lonely.shop.ordered.send("x", do="")

    assert lonely.shop.relay.drain() == DrainCounts(done=1)
    assert lonely.ids(made) == [message_id]


# The task.


def run(place: Place, envelope: Any, *, is_again: bool = False) -> None:
    place.shop.engine._run(envelope, is_again)


def test_the_task_runs_the_receiver(lonely: Place) -> None:
    """What was published is received with the message, its sender and its payload, and leaves nothing."""
    lonely.shop.celery.tasks[TASK].apply((encode(a_row()),), throw=True)

    assert lonely.ids(made) == ["a"]
    assert lonely.rows() == []


def test_receivers_run_in_the_context_of_their_application(lonely: Place) -> None:
    """In Flask, and with the trace context of the send."""
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
    """It is not given back to the queue, and said to be there without showing it."""
    with pytest.raises(exceptions.Reject) as raised:
        run(lonely, {"format": 1, "payload": "secret"})

    assert raised.value.requeue is False
    assert "is not the relay's" in caplog.text
    assert "secret" not in caplog.text


def test_what_a_newer_aldis_has_published_is_left_for_it(lonely: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back to the queue, after a rest."""

    with pytest.raises(exceptions.Reject) as raised:
        run(lonely, {"format": 2})

    assert raised.value.requeue is True


def test_a_failed_attempt_is_a_row_again(lonely: Place) -> None:
    """It is due after the receiver's backoff, and its crashes are forgotten."""
    run(lonely, encode(a_row(payload='{"do":"fail"}', crashes=1)))

    [row] = lonely.rows()
    assert (row.message_id, row.attempts, row.crashes, row.token) == ("a", 1, 0, None)
    assert row.failure.endswith(") raised OSError")
    assert row.sent_ms == 5
    assert 50_000 < row.due_ms - time.time() * 1000 < 70_000


def test_the_last_failed_attempt_is_a_dead_letter(lonely: Place) -> None:
    """It has what was sent, and why it was given up."""
    run(lonely, encode(a_row(payload='{"do":"fail"}', attempts=2)))

    [letter] = lonely.shop.relay.dead_letters()
    assert (letter.message_id, letter.receiver, letter.attempts) == ("a", "shop.orders", 2)
    assert letter.reason.endswith(") raised OSError, in the last of 2 attempts")
    assert lonely.shop.relay.dead_payload(letter.id) == '{"do":"fail"}'


def test_what_was_not_begun_is_not_counted(lonely: Place) -> None:
    """A dead letter that nobody could read has the attempts that were made, whether it was written at once or later."""
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
    """No limit is set where none was asked for."""
    signal, calls = lonely.shop.ordered, []

    def slow(sender: object, *, do: str) -> None:
        calls.append(do)

    signal.connect(slow, via=lonely.shop.relay.durable("shop.slow"))
    run(lonely, encode(a_row(receiver="shop.slow", payload='{"do":"x"}')))

    assert calls == ["x"]


@pytest.mark.parametrize("changes", [{"receiver": "unknown"}, {"version": 2}, {"sender": '{"name":"unknown"}'}])
def test_what_is_not_known_here_is_a_row_again(lonely: Place, changes: dict[str, Any]) -> None:
    """It waits for another deploy, and the attempt does not count."""
    run(lonely, encode(a_row(**changes)))

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (0, 0)
    assert row.due_ms > time.time() * 1000 + 10_000


def test_a_message_whose_worker_died_is_a_row_again(lonely: Place) -> None:
    """It does not run at once, for it may be what killed the worker; the attempt does not count, and the loss does."""
    run(lonely, encode(a_row()), is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes, row.failure) == (0, 1, "its worker died, or lost its connection")
    assert lonely.ids(attempts) == []


def test_what_was_published_once_is_a_row_once(lonely: Place) -> None:
    """A worker that is killed when it has put a row back, and before the broker knows, makes no second one."""
    envelope = encode(a_row(payload='{"do":"fail"}'))
    run(lonely, envelope)
    run(lonely, envelope, is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (1, 0)


def test_a_message_whose_workers_die_is_a_dead_letter(lonely: Place) -> None:
    """Three times, or as often as it may be tried if that is more."""
    run(lonely, encode(a_row(crashes=1, token="1")), is_again=True)
    assert lonely.shop.relay.dead_letters() == []

    run(lonely, encode(a_row(crashes=2, token="2")), is_again=True)
    [letter] = lonely.shop.relay.dead_letters()
    assert letter.reason == "its workers died, or lost their connection, 3 times"


def test_a_message_that_comes_again_and_is_not_known_waits(lonely: Place) -> None:
    """Whether its workers died too often is for those to say that know its receiver."""
    run(lonely, encode(a_row(receiver="unknown", crashes=7)), is_again=True)

    [row] = lonely.rows()
    assert (row.attempts, row.crashes) == (0, 8)


@pytest.mark.parametrize("is_again", [False, True])
def test_what_cannot_be_written_yet_is_published(
    rabbitmq_place: Place, monkeypatch: pytest.MonkeyPatch, is_again: bool
) -> None:
    """While the database is away, the end of an attempt is a message; its receiver does not run again for it."""
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
    """What came of an attempt is lost then, and the message is not."""
    lonely.rename(dead_letters, "away")

    with pytest.raises(exceptions.Reject, match="neither the database nor the broker") as raised:
        run(lonely, encode(a_row(payload='{"do":"fail"}', attempts=2)))

    assert raised.value.requeue is True
    assert "cannot be written to the database yet: no such table" in caplog.text


# What Celery's workers do with messages whose task went wrong.


class Message:
    """A message as a Celery worker has it, and what was said of it."""

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
    """What Celery tells a request of its failure."""

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
    """Whatever ended it, if it was not the task itself that said what to do."""
    message = Message(lonely.shop.celery)
    message.request.on_failure(Trouble(error))

    assert message.said == [said]


@pytest.mark.parametrize(("is_soft", "said"), [(True, []), (False, ["back"])])
def test_a_task_that_celery_kills_is_given_back(lonely: Place, is_soft: bool, said: list[str]) -> None:
    """A hard time limit does not lose a message; a soft one is the receiver's to deal with."""
    message = Message(lonely.shop.celery)
    message.request.on_timeout(is_soft, 1)

    assert message.said == said


# The rows that are made again, in all databases.


def test_rows_are_made_again_in_every_database(any_url: str, make_engine: MakeEngine, make_app: Any) -> None:
    """A row that was deleted, and a dead letter, can be written from what was published."""
    shop = Shop(any_url, NOBODY, "q")
    shop.create_tables()
    shop.engine._run(encode(a_row(payload='{"do":"fail"}', token="1")), False)
    shop.engine._run(encode(a_row(payload="no JSON", token="2")), False)
    engine = make_engine(any_url)
    shop.close()

    with engine.connect() as connection:
        row = connection.execute(select(messages)).one()
        letter = connection.execute(select(dead_letters)).one()

    assert 50_000 < row.due_ms - time.time() * 1000 < 70_000
    assert (row.attempts, row.sent_ms) == (1, 5)
    assert abs(letter.died_ms - time.time() * 1000) < 10_000
    assert letter.payload == "no JSON"
