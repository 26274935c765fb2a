"""The relay, as users know it: a transactional outbox for durable receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from sqlalchemy import Connection
from sqlalchemy.util.concurrency import greenlet_spawn

from aldis._core.identity import ANY
from aldis.exceptions import InvalidOptionError, NoMessageError

from ._administration import Administration
from ._backoff import Exponential, check_backoff, check_number
from ._durable import Durable, Forward
from ._parts import RelayParts
from ._registry import ReceiverRegistry
from ._sender_names import SenderNames
from .sending import transactions
from .sending.outbox import Outbox
from .storage.database import Database
from .storage.effects import note_effect
from .storage.rows import DrainCounts, Message, current
from .worker.consumer import Consumer
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
_LONGEST_ID: Final = 36  # As the column has it.


@final
class Relay(Administration):
    """The room of durable receivers: rows in the user's own database.

    ::

        relay = Relay(engine)

        @order_placed.connect(via=relay.durable("billing.invoice"))
        def invoice(sender, *, order_id, **extra): ...

        order_placed.send("shop", order_id=7)  # Writes a row. A worker calls invoice.

    A send joins the transaction of the caller: that of Flask-SQLAlchemy's ``db.session`` or of another registry that
    the relay was given; else that of the one session that is in a transaction with the relay's database in this thread
    and task; or that of :meth:`using`. The row is committed or rolled back with it, savepoints included. Outside of
    any, all rows of the send are written in one transaction of its own. Rows are written when the receivers of the
    send had their turns, also of one that was stopped by a receiver's exception: for those whose turn came before.

    Every method may be called from any thread. None starts a thread, unless the database is async: what is not
    awaited then runs in the loop of a thread of its own.

    :param database: an ``Engine``, a ``sessionmaker`` or a ``scoped_session`` of SQLAlchemy, their async likes, or the
        ``SQLAlchemy()`` of Flask-SQLAlchemy.
    :param notify: with PostgreSQL, tell workers of what is committed by ``NOTIFY``, so that they need not wait for
        their next look, and have them listen. Turn it off where thousands of sends are committed in a second, or behind
        a pooler without it.
    :param wait_s: for how many seconds a send outside of any transaction waits for a database that is away.
    :param runner: what runs the receivers: by default the threads of the worker; or a
        :class:`aldis.relay.celery.CeleryRunner`.
    :raises InvalidOptionError: when the database is none, or of a kind that the relay does not run on.

    .. versionadded:: 0.1
    """

    def __init__(
        self, database: Target, *, notify: bool = True, wait_s: float = 0.0, runner: Runner | None = None
    ) -> None:
        found = Database(database, check_number("wait_s", wait_s, least=0))
        senders = SenderNames()
        receivers = ReceiverRegistry()
        consumer = Consumer(receivers, senders)
        used = InProcessRunner() if runner is None else runner
        used.attach(consumer, found)
        outbox = Outbox(self, found, senders, bool(notify))
        self._parts = RelayParts(found, senders, receivers, outbox, consumer, used, bool(notify))

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
        """What makes a receiver durable, for ``connect(via=...)``.

        The result of ``send`` has the message's id for such a receiver.

        :param name: the receiver's name in the database. It must stay the same when the code is renamed.
        :param max_attempts: how often a message is tried before it becomes a dead letter. An attempt counts when it
            begins, so one that ends with the worker's death counts.
        :param backoff: seconds to wait after a failed attempt, or a callable that gives them for the number of the
            attempt. By default :class:`Exponential`: 1 second, then twice as long each time, up to an hour. With the
            20 attempts that are the default, the last is some eight hours after the first; with 10, nine minutes.
        :param timeout_s: how many seconds an attempt may take. Then :class:`~aldis.exceptions.ReceiverTimeoutError` is
            raised in it: as soon as it runs Python, for what waits outside of it cannot be interrupted.
        :param key: a keyword. Messages of the same value are received one after the other, in the order in which they
            were sent; a message that fails holds up those of its value until it succeeds or is a dead letter. ``None``
            is no value.
        :param aliases: names that the receiver had before, by which there may still be rows.
        :raises InvalidOptionError: when an option is not of its kind.
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
        """Have sends write rows for a receiver whose code lives in another service, which uses the same database.

        There, a signal of the same name is declared, and the receiver is connected by ``relay.durable(name)``.

        :param signal: a declared signal.
        :param name: the receiver's name.
        :param sender: as for :meth:`aldis.Signal.connect`.
        :param key: as for :meth:`durable`.
        :return: what is connected: ``signal.disconnect(route)`` ends it.
        :raises InvalidReceiverError: when the signal is not declared, or its payload cannot be written.
        :raises InvalidOptionError: when an option is not of its kind.
        """
        route = Forward(name, _check_key(key), self._parts.outbox)
        signal.connect(route, sender, weak=False, via=route)
        return route

    def register_sender(self, sender: Any, name: str) -> None:
        """Have an object cross as a sender, by a name that is the same in all processes.

        Strings and ``None`` cross as they are. The Flask extension registers the application, by its name. The object
        is not kept alive for it.

        :param sender: the object, or a proxy for it.
        :param name: its name. An object that had the name before is still sent by it, and received no more.
        :raises InvalidOptionError: when the name is none, or the object cannot be referenced weakly.
        :raises UnboundProxyError: when it is a proxy that stands for nothing here.
        """
        self._parts.senders.register(sender, name)

    # Sending.

    def using(
        self, transaction: Session | scoped_session[Any] | Connection | AsyncSession | AsyncConnection
    ) -> AbstractContextManager[None]:
        """Have sends of a ``with`` block join this transaction, in the thread and the task that runs the block.

        For a ``Connection``; where several sessions are in a transaction at once; and where the session began in
        another thread or task than that of the send: one that FastAPI has made for a request may have, and what is
        inside of ``asyncio.wait_for()`` is a task of its own in Python 3.11.

        :param transaction: a session or a connection.
        :raises TransactionError: when it is neither.
        """
        return transactions.using(self, transaction)

    # Receiving.

    def current(self) -> Message:
        """The message that is being received here.

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
        """Whether a message has its effect for the first time. For receivers, which may get a message several times.

        ::

            def invoice(sender, *, order_id, **extra):
                with Session() as session, session.begin():
                    if relay.first_time(session):
                        session.add(Invoice(order_id=order_id))

        The effect is noted in the session's own transaction: it is made when that is committed, together with what else
        is in it, and not made when it is rolled back. Another transaction that asks at the same time waits.

        :param session: a session or a connection, in the transaction that makes the effect. The relay's tables must be
            in its database. With an async one, the result is to be awaited.
        :param message_id: of another message than the one that is being received, or what else tells effects apart, of
            up to 36 characters.
        :raises NoMessageError: without ``message_id``, outside of a durable receiver.
        :raises TransactionError: when it is no session and no connection.
        :raises InvalidOptionError: when ``message_id`` is no such text. Databases would cut it, or refuse it.
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
        """Receive all that is due, in this thread, and what receivers send meanwhile. For tests and scripts.

        What fails waits for its next attempt, which is not waited for here; nothing limits the time of receivers. What
        the database raises is raised. Nothing extends a lease: a receiver that takes longer than ten minutes may be
        called by a worker, too.

        :return: how many messages came to which end.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        from .worker.worker import Settings, Worker

        # One at a time: the second of a batch would wait for the first, and its lease run out.
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
