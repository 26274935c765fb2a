"""The relay's engine for who has a fleet of Celery workers: they run the receivers.

::

    celery_app = Celery("shop", broker="amqp://guest@127.0.0.1")
    relay = Relay(engine, runner=CeleryRunner(celery_app))

A send writes rows in its own transaction, as ever. The relay's worker, which still has to run, publishes each row to
one task and deletes it when the broker has confirmed that it is safe. The workers of Celery run that task: it calls the
receiver.

.. code-block:: text

    (sent) ──> row ──published and confirmed──> message ──the receiver returned──> (acknowledged)
                ^  │                              │ │ │
                │  └── the broker is away: waits  │ │ └── attempts used up, or unreadable ──> dead letter
                ├──────── the receiver raised ────┘ │
                ├──────── unknown there ────────────┤
                └──────── its worker died ──────────┘ (the broker gives the message to another, which puts it back)

What each failure leaves:

- The relay's worker dies between the confirmation and the deletion: the row is published again, so there are two
  messages of one id. Receivers make their effect once by ``relay.first_time``.
- The broker is away, or does not confirm in time: the row waits, and no attempt is counted. If it had the message all
  the same, there are two of it.
- The receiver raises: the row is back in the relay's table, due after its backoff, with its attempts. Nothing waits in
  the broker or in the memory of Celery's workers (no ``countdown``), so neither a ``visibility_timeout`` of Redis nor
  the ``consumer_timeout`` of RabbitMQ is in the way of a long backoff.
- A Celery worker dies in the receiver: the broker gives the message to another, which puts the row back, notes that a
  worker died with it, and leaves it for a while. A message that this happens to ``max_attempts`` times, three times at
  the least, is a dead letter. The broker does not tell whether a worker had begun: messages that a worker had
  fetched when it was shut down are noted, too. No attempt is counted for it.
- The relay's database is away when a Celery worker is to put a row back: what came of it is published in its place,
  until it can be written.

What cannot be promised:

- A receiver may run twice at the same time, when a connection to the broker breaks, or with Redis when it runs for
  longer than the ``visibility_timeout``; with RabbitMQ when it runs for longer than the ``consumer_timeout``, 30
  minutes by default.
- Messages of one key in order: ``relay.durable(key=...)`` is refused.
- Who revokes the task or purges the queue loses messages. So does a Celery worker of another program on the same
  queue, for Celery discards the messages of tasks that a worker does not know, and logs them whole: route the task to
  a queue of its own, and deploy the Celery workers first.
- A worker with the ``gevent`` or ``eventlet`` pool does not hold receivers to their ``timeout_s``, for nothing can
  interrupt them there, unless they are async.
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
from aldis.relay.storage import claims
from aldis.relay.worker.consumer import DONE, Disposition, Outcome
from aldis.relay.worker.executor import Job

from .broker import Broker
from .envelope import MalformedEnvelopeError, NewerEnvelopeError, read, written

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from aldis.relay._durable import Durable
    from aldis.relay._relay import Relay
    from aldis.relay.storage.rows import Row
    from aldis.relay.worker.runner import Guard

__all__ = ["CeleryRunner"]

logger: Final = logging.getLogger("aldis.relay")

# For how long rows are left when the broker is away.
_AWAY_S: Final = 5.0

# For how long a thread rests when a server is away, so that it does not run through all that there is in vain.
_REST_S: Final = 1.0

_FEWEST_LOSSES: Final = 3

_taken: Final[WeakKeyDictionary[Any, set[str]]] = WeakKeyDictionary()
"""The names of tasks that are those of relays, by application."""


@final
class CeleryRunner:
    """Has Celery's workers run the receivers of a relay: ``Relay(db, runner=CeleryRunner(celery_app))``.

    The relay's workers publish rows in place of receiving them. Both kinds of workers need the relay's database, and
    the modules that connect the receivers: let ``celery -A`` name a module that imports them.

    The task is acknowledged late and given back when its worker is lost; messages are JSON, persistent and confirmed
    by the broker: for the relay's task, whatever the application's settings are. Its name can be used in
    ``task_routes``. With ``task_always_eager``, receivers run in the relay's worker, as without an engine.

    :param app: the Celery application.
    :param name: the name of its task. Two relays on one application need two.
    :param timeout_s: for how many seconds the broker may leave a message unconfirmed. Then the row waits and is
        published again.
    :raises InvalidOptionError: when an option is not of its kind, or the application has a relay's task of that name.

    .. versionadded:: 0.1
    """

    def __init__(self, app: Celery, *, name: str = "aldis.relay.receive", timeout_s: float = 10.0) -> None:
        given: tuple[Any, Any] = (app, name)

        if not isinstance(given[0], Celery):
            raise InvalidOptionError(f"CeleryRunner() takes a Celery application, not a {type(given[0]).__qualname__}.")

        if not isinstance(given[1], str) or not name:
            raise InvalidOptionError(f"The name of a task is a text, not {name!r}.")

        self._app: Any = app
        self._name = name
        self._broker = Broker(app, name, check_number("timeout_s", timeout_s, least=0.001))
        self._relay: Any = None
        self._is_away = False

    def __repr__(self) -> str:
        return f"CeleryRunner({self._app!r}, name={self._name!r})"

    # In the programs that send, and in the relay's workers.

    def attach(self, relay: Relay, /) -> None:
        """Be the engine of this relay. Called by ``Relay()``.

        :raises InvalidOptionError: when it is another's, or the application has a relay's task of that name.
        """
        names = _taken.setdefault(self._app, set())

        if self._relay is not None or self._name in names:
            raise InvalidOptionError(
                f"The Celery application has a relay's task {self._name!r} already. Each relay needs an engine of its"
                ' own, with a name of its own: CeleryRunner(app, name="...").'
            )

        names.add(self._name)
        self._relay = relay

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

    def check(self, queue: Durable, /) -> None:
        """Refuse what a fleet cannot do. Called by ``relay.durable()``.

        :raises InvalidOptionError: when it cannot.
        """
        if queue.key is not None:
            raise InvalidOptionError(
                f"{queue!r} cannot have key={queue.key!r}: a relay with a CeleryRunner keeps no order, for any Celery"
                " worker takes any message. Use a second relay without one for what must be received in order."
            )

    def start(self) -> None:
        """See that the settings keep messages safe. Called when a worker of the relay begins.

        :raises InvalidOptionError: when they would be lost.
        """
        if not self._broker.is_eager:
            self._broker.check()

    def stop(self) -> None:
        """Close the connections to the broker. Called when a worker of the relay ends."""
        self._broker.close()

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Publish a row. Called in a thread of a relay's worker, which deletes it then.

        :return: whether the broker has confirmed it.
        """
        if self._broker.is_eager:
            found: Outcome = self._relay._receiving.receive(row, guard)
            return found

        if row.payload is None:
            return Outcome(Disposition.DEAD, "the payload is larger than a send may write", is_begun=False)

        try:
            envelope = written(row._replace(token=str(uuid4())))
        except MalformedEnvelopeError as error:
            return Outcome(Disposition.DEAD, f"the row is malformed: {error}", is_begun=False)

        try:
            self._broker.publish(envelope, row.receiver)
        except Exception as error:  # Transports raise what they like.
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
            logger.warning("The broker does not take messages. Trying again: %s", error)

    # In Celery's workers.

    def _run(self, envelope: Any, is_again: bool) -> None:
        """The task. What it raises tells Celery to give the message back to the broker."""
        try:
            row, outcome = read(envelope)
        except NewerEnvelopeError:
            time.sleep(_REST_S)
            raise exceptions.Reject("written by a newer Aldis than the one here", requeue=True) from None
        except MalformedEnvelopeError as error:
            logger.error("A message for the task %s is not the relay's: %s", self._name, error)  # noqa: TRY400
            raise exceptions.Reject("malformed", requeue=False) from None

        if outcome is None and is_again:
            row = row._replace(losses=row.losses + 1)
            outcome = self._lost(row)
        elif outcome is None:
            outcome = self._relay._receiving.receive(row, partial(_limited, Job(row, float("inf"), lambda: None)))

        if outcome.what is not Disposition.DONE:
            self._put_back(row, outcome)

    def _lost(self, row: Row) -> Outcome:
        """What to do with a message that a worker had before."""
        prepared = self._relay._receiving.prepare(row)

        if isinstance(prepared, Outcome):
            return prepared

        if row.losses >= max(prepared[0].queue.max_attempts, _FEWEST_LOSSES):
            return Outcome(Disposition.DEAD, f"its workers died, or lost it, {row.losses} times")

        return Outcome(Disposition.WAITS, "its worker died, or lost it", Exponential()(row.losses))

    def _put_back(self, row: Row, outcome: Outcome) -> None:
        """Write what came of a message that is not to be forgotten. If that cannot be, publish it.

        It is written once for what was published once: a process that Celery kills may have written it, and still the
        broker gives its message to another.
        """
        try:
            self._relay._database.run(partial(_write, row, outcome))
        except SQLAlchemyError as error:
            logger.warning("Message %s cannot be put back into the relay's table yet: %s", row.message_id, _said(error))
            time.sleep(_REST_S)
        else:
            return

        try:
            self._broker.publish(written(row, outcome), row.receiver)
        except Exception as error:
            raise exceptions.Reject(f"neither the database nor the broker takes it: {error}", requeue=True) from error


def _write(row: Row, outcome: Outcome, connection: Connection) -> None:
    if not claims.do_once(connection, row.token, row.receiver):
        return

    if outcome.what is Disposition.DEAD:
        logger.error("Message %s for %s is a dead letter: %s", row.message_id, row.receiver, outcome.why)
        claims.bury_sent(connection, row._replace(attempts=row.attempts - (not outcome.is_begun)), outcome.why)
    elif outcome.what is Disposition.WAITS:
        not_counted = row._replace(attempts=row.attempts - 1)
        claims.add_again(connection, not_counted, int(outcome.wait_s * 1000), outcome.why)
    else:
        claims.add_again(connection, row._replace(losses=0), int(outcome.wait_s * 1000), outcome.why)


def _said(error: SQLAlchemyError) -> str:
    """What an error of the database says, without the values of the statement."""
    return str(getattr(error, "orig", None) or type(error).__qualname__)


@contextmanager
def _limited(job: Job, timeout_s: float | None) -> Generator[None, None, None]:
    """Limit the time of a ``with`` block.

    Not by Celery's soft time limit: that begins with the task and ends with it, so it may hit what is done with a
    message after its receiver; and most pools have none.
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
