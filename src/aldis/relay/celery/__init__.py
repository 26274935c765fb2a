"""Run durable receivers in a fleet of Celery workers.

::

    celery_app = Celery("shop", broker="amqp://guest@127.0.0.1")
    relay = Relay(engine, runner=CeleryRunner(celery_app))

A send writes rows in its own transaction, as always. The relay's worker must still run. It publishes each row to one
task, and deletes the row when the broker has confirmed that the message is safe. The workers of Celery run that task,
which calls the receiver.

.. code-block:: text

    (sent) ──> row ──published and confirmed──> message ──the receiver returned──> (acknowledged)
                ^  │                              │ │ │
                │  └── the broker is away: waits  │ │ └── attempts used up, or unreadable ──> dead letter
                ├──────── the receiver raised ────┘ │
                ├──────── unknown there ────────────┤
                └──────── its worker died ──────────┘ (the broker delivers it to another worker, which writes the row)

What each failure leaves:

- The relay's worker dies between the confirmation and the deletion: the row is published again, so there are two
  messages with one id. Receivers write their effect once by ``relay.first_time``.
- The broker is away, or does not confirm in time: the row waits, and no attempt is counted. If the broker has the
  message nevertheless, there are two messages with one id.
- The receiver raises: the row is back in the relay's table, due after its backoff, with its count of attempts. No
  message waits in the broker or in the memory of Celery's workers (no ``countdown``), so neither a
  ``visibility_timeout`` of Redis nor the ``consumer_timeout`` of RabbitMQ limits the backoff.
- A Celery worker dies while the receiver runs: the broker delivers the message to another worker, which writes the row
  again, counts a crash, and lets the row wait for a while. A message that crashed ``max_attempts`` workers, but at
  least three, is a dead letter. The broker does not say whether a worker had begun: messages that a worker had only
  fetched when it was shut down count a crash, too. They do not count an attempt.
- The relay's database is away when a Celery worker has to write a row: the worker publishes the outcome instead, until
  it can be written.

What cannot be promised:

- A receiver may run twice at the same time: when a connection to the broker breaks; with Redis when it runs for longer
  than the ``visibility_timeout``; with RabbitMQ when it runs for longer than the ``consumer_timeout``, which is 30
  minutes by default.
- Messages with one key in order: ``relay.durable(key=...)`` is refused.
- Revoking the task or purging the queue loses messages. So does a Celery worker of another program on the same queue:
  Celery discards the messages of tasks that a worker does not know, and logs them with their payload. Route the task to
  a queue of its own, and deploy the Celery workers first.
- A worker with the ``gevent`` or ``eventlet`` pool does not limit receivers by their ``timeout_s``, except async
  receivers: nothing can interrupt sync receivers there.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import partial
from threading import Timer
from typing import TYPE_CHECKING, Any, Final, final
from uuid import uuid4
from weakref import WeakKeyDictionary

from celery import Celery, exceptions  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy.exc import SQLAlchemyError

from aldis.exceptions import InvalidOptionError
from aldis.relay._backoff import Exponential, check_number
from aldis.relay.storage import claims, dead_letters
from aldis.relay.storage.effects import note_effect
from aldis.relay.worker.consumer import DONE, Disposition, Outcome
from aldis.relay.worker.executor import ReceiverJob

from .broker import Broker
from .envelope import MalformedEnvelopeError, NewerEnvelopeError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from aldis.relay._durable import Durable
    from aldis.relay.storage.database import Database
    from aldis.relay.storage.rows import Row
    from aldis.relay.worker.consumer import Consumer, Guard

__all__ = ["CeleryRunner"]

logger: Final = logging.getLogger("aldis.relay")

# For how many seconds a row waits when the broker is away.
_AWAY_S: Final = 5.0

# For how many seconds a thread pauses when a server is away. Otherwise it would fetch all messages in vain.
_REST_S: Final = 1.0

_FEWEST_CRASHES: Final = 3

_task_names: Final[WeakKeyDictionary[Any, set[str]]] = WeakKeyDictionary()
"""The names of the tasks of relays, by Celery application."""


@final
class CeleryRunner:
    """Runs the receivers of a relay in Celery's workers: ``Relay(db, runner=CeleryRunner(celery_app))``.

    The relay's workers publish rows instead of receiving them. Both kinds of workers need the relay's database, and the
    modules that connect the receivers: let ``celery -A`` name a module that imports them.

    The task is acknowledged late, and returned to the broker when its worker is lost. Messages are JSON, persistent,
    and confirmed by the broker. This is true for the relay's task with any settings of the application. The task's name
    can be used in ``task_routes``. With ``task_always_eager``, receivers run in the relay's worker, as without a
    runner.

    :param app: the Celery application.
    :param name: the name of the task. Two relays on one application need two names.
    :param timeout_s: how many seconds the broker has to confirm a message. After that the row waits, and is published
        again.
    :raises InvalidOptionError: when an option has a wrong type or value.

    .. versionadded:: 0.1
    """

    def __init__(self, app: Celery, *, name: str = "aldis.relay.receive", timeout_s: float = 10.0) -> None:
        given: tuple[Any, Any] = (app, name)

        if not isinstance(given[0], Celery):
            raise InvalidOptionError(f"CeleryRunner() takes a Celery application, not a {type(given[0]).__qualname__}.")

        if not isinstance(given[1], str) or not name:
            raise InvalidOptionError(f"The name of a task must be a text, not {name!r}.")

        self._app: Any = app
        self._name = name
        self._broker = Broker(app, name, check_number("timeout_s", timeout_s, least=0.001))
        self._consumer: Any = None
        self._database: Any = None
        self._is_away = False

    def __repr__(self) -> str:
        return f"CeleryRunner({self._app!r}, name={self._name!r})"

    # In the programs that send, and in the relay's workers.

    def attach(self, consumer: Consumer, database: Database, /) -> None:
        """Attach the runner to a relay, whose receivers it runs. ``Relay()`` calls this.

        :param consumer: receives the relay's rows.
        :param database: the relay's database.
        :raises InvalidOptionError: when the runner already belongs to a relay, or the application has a relay's task of
            that name.
        """
        names = _task_names.setdefault(self._app, set())

        if self._consumer is not None or self._name in names:
            raise InvalidOptionError(
                f"The Celery application has a relay's task {self._name!r} already. Each relay needs a runner of its"
                ' own, with a name of its own: CeleryRunner(app, name="...").'
            )

        names.add(self._name)
        self._consumer = consumer
        self._database = database

        def receive(task: Any, envelope: Any) -> None:
            """Receive a message of the relay."""
            self._run(envelope, is_again=bool(task.request.delivery_info.get("redelivered")))

        self._app.task(
            receive,
            name=self._name,
            bind=True,
            shared=False,
            Request="aldis.relay.celery.request:Request",
            acks_late=True,
            reject_on_worker_lost=True,
            retry_on_worker_lost=False,
            ignore_result=True,
            store_errors_even_if_ignored=False,
            track_started=False,
            serializer="json",
        )

    def check(self, durable: Durable, /) -> None:
        """Refuse options that a fleet cannot keep. ``relay.durable()`` calls this.

        :raises InvalidOptionError: when ``key`` is set.
        """
        if durable.key is not None:
            raise InvalidOptionError(
                f"{durable!r} cannot have key={durable.key!r}: a relay with a CeleryRunner keeps no order, because any"
                " Celery worker takes any message. Use a second relay, without a runner, for receivers that need a key."
            )

    def start(self) -> None:
        """Check that the settings keep messages safe. A worker of the relay calls this when it begins.

        :raises InvalidOptionError: when messages would be lost.
        """
        if not self._broker.is_eager:
            self._broker.check()

    def stop(self) -> None:
        """Close the connections to the broker. A worker of the relay calls this when it ends."""
        self._broker.close()

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Publish a row. A worker of the relay calls this in one of its threads.

        :return: what the worker does with the row. It deletes the row if the broker has confirmed the message.
        """
        if self._broker.is_eager:
            found: Outcome = self._consumer.receive(row, guard)
            return found

        if row.payload is None:
            return Outcome(Disposition.DEAD, "the payload is larger than a send may write", is_begun=False)

        try:
            envelope = encode(row._replace(token=str(uuid4())))
        except MalformedEnvelopeError as error:
            return Outcome(Disposition.DEAD, f"the row is malformed: {error}", is_begun=False)

        try:
            self._broker.publish(envelope, row.receiver)
        except Exception as error:  # Each transport has exceptions of its own.
            self._note_trouble(error)
            time.sleep(_REST_S)
            return Outcome(Disposition.WAITS, f"the broker did not confirm it ({type(error).__qualname__})", _AWAY_S)

        if self._is_away:
            self._is_away = False
            logger.warning("The broker is back")

        return DONE

    def _note_trouble(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("The broker does not accept messages. Trying again: %s", error)

    # In Celery's workers.

    def _run(self, envelope: Any, is_again: bool) -> None:
        """Receive a message: the task. An exception tells Celery to return the message to the broker."""
        try:
            row, outcome = decode(envelope)
        except NewerEnvelopeError:
            time.sleep(_REST_S)
            raise exceptions.Reject("written by a newer Aldis than the one here", requeue=True) from None
        except MalformedEnvelopeError as error:
            logger.error("A message for the task %s is not the relay's: %s", self._name, error)  # noqa: TRY400
            raise exceptions.Reject("malformed", requeue=False) from None

        if outcome is None and is_again:
            row = row._replace(crashes=row.crashes + 1)
            outcome = self._after_crash(row)
        elif outcome is None:
            outcome = self._consumer.receive(row, partial(_limited, ReceiverJob(row, float("inf"), lambda: None)))

        if outcome.disposition is not Disposition.DONE:
            self._write_outcome(row, outcome)

    def _after_crash(self, row: Row) -> Outcome:
        """Return the outcome of a message that another worker had fetched before and not acknowledged."""
        prepared = self._consumer.prepare(row)

        if isinstance(prepared, Outcome):
            return prepared

        if row.crashes >= max(prepared[0].durable.max_attempts, _FEWEST_CRASHES):
            return Outcome(Disposition.DEAD, f"its workers died, or lost their connection, {row.crashes} times")

        return Outcome(Disposition.WAITS, "its worker died, or lost its connection", Exponential()(row.crashes))

    def _write_outcome(self, row: Row, outcome: Outcome) -> None:
        """Write the outcome of a message that was not received. If the database is away, publish the outcome.

        The outcome of each publication is written once. A process that Celery kills may have written it already, and
        the broker still delivers its message to another worker.
        """
        try:
            self._database.run(partial(_write, row, outcome))
        except SQLAlchemyError as error:
            logger.warning(
                "The outcome of message %s cannot be written to the database yet: %s",
                row.message_id,
                _without_values(error),
            )
            time.sleep(_REST_S)
        else:
            return

        try:
            self._broker.publish(encode(row, outcome), row.receiver)
        except Exception as error:
            raise exceptions.Reject(f"neither the database nor the broker accepts it: {error}", requeue=True) from error


def _write(row: Row, outcome: Outcome, connection: Connection) -> None:
    if not note_effect(connection, row.token, row.receiver):
        return

    if outcome.disposition is Disposition.DEAD:
        logger.error("Message %s for %s is a dead letter: %s", row.message_id, row.receiver, outcome.reason)
        dead_letters.dead_letter_deleted(
            connection, row._replace(attempts=row.attempts - (not outcome.is_begun)), outcome.reason
        )
    elif outcome.disposition is Disposition.WAITS:
        not_counted = row._replace(attempts=row.attempts - 1)
        claims.reinsert(connection, not_counted, int(outcome.wait_s * 1000), outcome.reason)
    else:
        claims.reinsert(connection, row._replace(crashes=0), int(outcome.wait_s * 1000), outcome.reason)


def _without_values(error: SQLAlchemyError) -> str:
    """Return the text of an error of the database, without the values of the statement."""
    return str(getattr(error, "orig", None) or type(error).__qualname__)


@contextmanager
def _limited(job: ReceiverJob, timeout_s: float | None) -> Generator[None, None, None]:
    """Limit the time of a ``with`` block.

    Rejected: Celery's soft time limit. It holds from the beginning of the task to its end, so it may interrupt the code
    that writes the outcome after the receiver; and most pools do not have it.
    """
    with job.guard(timeout_s):
        if timeout_s is None:
            yield
            return

        timer = Timer(timeout_s, job.interrupt, (float("inf"),))
        timer.daemon = True
        timer.start()

        try:
            yield
        finally:
            timer.cancel()
