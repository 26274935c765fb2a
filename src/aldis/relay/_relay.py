"""The relay that users make: a transactional outbox for durable receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy import Connection
from sqlalchemy.util.concurrency import greenlet_spawn

from aldis._core.identity import ANY
from aldis.exceptions import InvalidOptionError, NoMessageError

from ._administration import Administration
from ._backoff import Exponential, check_backoff, check_number
from ._durable import Durable, Forward
from ._registry import ReceiverRegistry
from ._sender_names import SenderNames
from .sending import transactions
from .sending.outbox import Outbox
from .storage.database import Database
from .storage.effects import note_effect
from .storage.rows import DrainCounts, Message, current
from .worker.consumer import Consumer
from .worker.parts import RelayParts
from .worker.runner import InProcessRunner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from contextlib import AbstractContextManager
    from typing import overload

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from aldis import Signal

    from ._backoff import Backoff
    from .storage.database import Target
    from .worker.runner import Runner

_DRAIN_S: Final = 600.0
_LONGEST_ID: Final = 36  # The length of the column.


@final
class Relay(Administration):
    """A transactional outbox: sends write rows in the user's own database, and workers call the durable receivers.

    ::

        relay = Relay(engine)

        @order_placed.connect(via=relay.durable("billing.invoice"))
        def invoice(sender, *, order_id, **extra): ...

        order_placed.send("shop", order_id=7)  # Writes a row. A worker calls invoice.

    A send joins the transaction of the caller. That is the transaction that :meth:`using` names; otherwise the
    transaction of Flask-SQLAlchemy's ``db.session``, or of another registry that was passed to the relay; otherwise the
    transaction of the one session that is in a transaction with the relay's database in this thread and task. The row
    is committed or rolled back with it, savepoints included. Outside of any transaction, the send writes all its rows
    in one transaction of its own. It writes them after the last receiver's turn. If a receiver's exception stops the
    send, it writes the rows of the receivers whose turn came before.

    Every method may be called from any thread. No method starts a thread, unless the database is async: then a call
    that is not awaited runs in an event loop in a thread of its own.

    :param database: an ``Engine``, a ``sessionmaker`` or a ``scoped_session`` of SQLAlchemy, one of their async
        counterparts, or the ``SQLAlchemy()`` of Flask-SQLAlchemy.
    :param notify: with PostgreSQL, notify workers of each commit by ``NOTIFY``, so that they do not wait for their next
        poll. Turn it off if thousands of sends are committed in a second, or behind a pooler that does not pass it on.
    :param wait_s: for how many seconds a send outside of any transaction waits for a database that is away.
    :param runner: where the receivers run: by default in the threads of the worker; with a
        :class:`aldis.relay.celery.CeleryRunner` in a fleet of Celery workers.
    :raises InvalidOptionError: when it is not a database, or the relay does not run on it.

    .. versionadded:: 0.1
    """

    def __init__(
        self, database: Target, *, notify: bool = True, wait_s: float = 0.0, runner: Runner | None = None
    ) -> None:
        target = Database(database, check_number("wait_s", wait_s, least=0))
        senders = SenderNames()
        receivers = ReceiverRegistry()
        consumer = Consumer(receivers, senders)
        used = InProcessRunner() if runner is None else runner
        used.attach(consumer, target)
        outbox = Outbox(target, senders, bool(notify))
        self._parts = RelayParts(target, senders, receivers, outbox, consumer, used, bool(notify))

    # Connecting.

    def durable(
        self,
        name: str,
        *,
        max_attempts: int = 20,
        backoff: float | Backoff | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
        aliases: Iterable[str] = (),
    ) -> Durable:
        """Return a delivery that makes a receiver durable, for ``connect(via=...)``.

        In the result of ``send``, the value of such a receiver is the message's id.

        :param name: the receiver's name in the database. It must stay the same when the code is renamed.
        :param max_attempts: how many attempts a message gets before it becomes a dead letter. An attempt counts when it
            begins, so an attempt in which the worker dies counts.
        :param backoff: seconds to wait after a failed attempt, or a callable that returns them for the number of the
            attempt. By default :class:`Exponential`: 1 second, then twice as long each time, up to an hour. With 20
            attempts, the default, the last attempt is about eight hours after the first; with 10, nine minutes.
        :param timeout_s: how many seconds an attempt may take. Then :class:`~aldis.exceptions.ReceiverTimeoutError` is
            raised in it, as soon as it runs Python: a call that waits outside of Python cannot be interrupted.
        :param key: a keyword. Messages with the same value of it are received one after the other, in the order in
            which they were sent. A message that fails holds up the later ones of its value, until it succeeds or is a
            dead letter. ``None`` does not count as a value.
        :param aliases: names that the receiver had before. There may still be rows with these names.
        :raises InvalidOptionError: when an option is of a wrong type, or out of its range.
        """
        if type(max_attempts) is not int or max_attempts < 1:
            raise InvalidOptionError(f"max_attempts must be 1 or more, an int, not {max_attempts!r}.")

        if timeout_s is not None:
            check_number("timeout_s", timeout_s, least=0.001)

        names = _check_aliases(aliases)
        durable = Durable(
            name,
            aliases=names,
            max_attempts=max_attempts,
            backoff=check_backoff(Exponential() if backoff is None else backoff),
            timeout_s=timeout_s,
            key=_check_key(key),
            settings=(name, names, max_attempts, repr(backoff), timeout_s, key),
            receivers=self._parts.receivers,
            group=self._parts.outbox,
        )
        self._parts.runner.check(durable)
        return durable

    def forward(
        self, signal: Signal[Any, ..., Any], name: str, *, sender: Any = ANY, key: str | None = None
    ) -> Forward:
        """Write rows for a receiver whose code lives in another service, which uses the same database.

        The other service declares a signal of the same name, and connects the receiver by ``relay.durable(name)``.

        :param signal: a declared signal.
        :param name: the receiver's name.
        :param sender: as for :meth:`aldis.Signal.connect`.
        :param key: as for :meth:`durable`.
        :return: the connected stand-in for the receiver: ``signal.disconnect(forward)`` ends the forwarding.
        :raises InvalidReceiverError: when the signal is not declared, or its payload cannot be written.
        :raises InvalidOptionError: when an option is of a wrong type.
        """
        forward = Forward(name, _check_key(key), self._parts.outbox)
        signal.connect(forward, sender, weak=False, via=forward)
        return forward

    def register_sender(self, sender: Any, name: str) -> None:
        """Register an object as a sender, by a name that is the same in all processes.

        Strings and ``None`` need no name. The Flask extension registers the application by its name. The relay does not
        keep the object alive.

        :param sender: the object, or a proxy for it.
        :param name: its name. An object that had the name before is still sent by it, but no longer received.
        :raises InvalidOptionError: when the name is not a text of an allowed length, or the object cannot be referenced
            weakly.
        :raises UnboundProxyError: when it is a proxy that is not bound to an object here.
        """
        self._parts.senders.register(sender, name)

    # Sending.

    def using(
        self, transaction: Session | scoped_session[Any] | Connection | AsyncSession | AsyncConnection
    ) -> AbstractContextManager[None]:
        """Join sends in a ``with`` block to this transaction, in the thread and the task that runs the block.

        You need this for a ``Connection``; if several sessions are in a transaction at once; and if the session began
        in another thread or task than the send. FastAPI may make a session for a request in another thread or task, and
        in Python 3.11 ``asyncio.wait_for()`` runs its argument in a task of its own.

        :param transaction: a session or a connection.
        :raises TransactionError: when it is neither.
        """
        return transactions.using(self._parts.database, transaction)

    # Receiving.

    def current(self) -> Message:
        """Return the message that this thread or task is receiving.

        :raises NoMessageError: outside of a durable receiver.
        """
        message = current.get()

        if message is None:
            raise NoMessageError("No message is being received here: relay.current() is for durable receivers.")

        return message

    if TYPE_CHECKING:

        @overload
        def first_time(
            self, session: Session | scoped_session[Any] | Connection, message_id: str | None = None
        ) -> bool: ...

        @overload
        def first_time(
            self,
            session: AsyncSession | async_scoped_session[Any] | AsyncConnection,
            message_id: str | None = None,
        ) -> Awaitable[bool]: ...

    def first_time(self, session: Any, message_id: str | None = None) -> Any:
        """Return whether a message has its effect for the first time.

        A receiver may get a message several times. It asks like this::

            def invoice(sender, *, order_id, **extra):
                with Session() as session, session.begin():
                    if relay.first_time(session):
                        session.add(Invoice(order_id=order_id))

        The effect is noted in the session's own transaction: it counts as made when the transaction is committed,
        together with everything else in it, and as not made when the transaction is rolled back. Another transaction
        that asks at the same time waits.

        :param session: a session or a connection, in the transaction that makes the effect. The relay's tables must be
            in its database. With an async session or connection, await the result.
        :param message_id: the id of another message than the current one, or another text that tells effects apart, of
            up to 36 characters.
        :raises NoMessageError: without ``message_id``, outside of a durable receiver.
        :raises TransactionError: when it is neither a session nor a connection.
        :raises InvalidOptionError: when ``message_id`` is not a text of this length. Databases would cut it, or refuse
            it.
        """
        message = current.get()
        receiver = "" if message is None else message.receiver
        found = self.current().id if message_id is None else _check_id(message_id)
        caller = transactions.as_sync(session)

        def note() -> bool:
            connection = caller if isinstance(caller, Connection) else caller.connection()
            return note_effect(connection, found, receiver)

        return greenlet_spawn(note) if caller is not session and _is_async(session) else note()

    def drain(self) -> DrainCounts:
        """Receive all messages that are due, in this thread, and messages that receivers send meanwhile.

        This is for tests and scripts. A message that fails waits for its next attempt, and the drain does not wait for
        that. The drain limits no receiver's time, and raises the errors of the database. It renews no lease: if a
        receiver takes longer than ten minutes, a worker may receive the message, too.

        :return: how many messages had which outcome.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        from .worker.worker import Settings, Worker

        # One at a time: the second message of a batch would wait for the first, and its lease could expire.
        worker = Worker(self, Settings(concurrency=1, batch=1, lease_s=_DRAIN_S, drains=True), is_inline=True)
        worker.run()
        return worker.counts


def _check_key(key: Any) -> str | None:
    if key is not None and not isinstance(key, str):
        raise InvalidOptionError(f"key must be the name of a keyword, not {key!r}.")

    return key


def _check_id(message_id: Any) -> str:
    if not isinstance(message_id, str) or not 0 < len(message_id) <= _LONGEST_ID or not message_id.isprintable():
        raise InvalidOptionError(f"message_id must be a text of up to {_LONGEST_ID} characters, not {message_id!r}.")

    return message_id


def _check_aliases(aliases: Any) -> tuple[Any, ...]:
    try:
        return (aliases,) if isinstance(aliases, str) else tuple(aliases)
    except TypeError:
        raise InvalidOptionError(f"aliases must be names that the receiver had before, not {aliases!r}.") from None


def _is_async(session: Any) -> bool:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    return isinstance(session, (AsyncSession, AsyncConnection, async_scoped_session))
