"""The relay: what users hold in their hands."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from weakref import WeakMethod

from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util.concurrency import greenlet_spawn

from aldis._core.identity import ANY
from aldis.exceptions import InvalidOptionError, NoMessageError

from ._backoff import Exponential, check_backoff, check_number
from ._durable import Durable, Forward
from ._registry import Registry
from ._sender_names import Senders
from .sending import transactions
from .sending.outbox import Outbox
from .storage import claims, tables as _tables
from .storage.database import Database
from .storage.dialects import is_away, is_busy, use_wal
from .storage.rows import DeadLetter, Message, current
from .worker.consumer import Consumer
from .worker.runner import InProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Literal, TypeVar, overload

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from aldis import Signal

    from ._backoff import Backoff
    from .storage.database import Target
    from .worker.runner import Engine

    T = TypeVar("T")

_MOST: Final = 1000
_DRAIN_S: Final = 600.0

# In MySQL each table, and what is put in it, is made for itself: so often another process may have been first.
_TRIES: Final = len(_tables.TABLES) + 1
_LONGEST_ID: Final = 36  # As the column has it.
_LONGEST_AGE_S: Final = 1e11


class ReceiverStatus(NamedTuple):
    """How one receiver's messages are doing, see :meth:`Relay.status`.

    .. versionadded:: 0.1
    """

    receiver: str
    """The receiver's name, as it stands in the rows."""

    is_known: bool
    """Whether a receiver of that name is connected in this process. Rows for one that is not wait."""

    backlog: int
    """Rows that wait, those to be tried again among them."""

    in_flight: int
    """Rows that a worker has claimed."""

    retrying: int
    """Rows of the backlog that were tried before."""

    oldest_age_s: float
    """For how long the oldest row has been there."""

    dead: int
    """Dead letters."""

    failure: str | None
    """What one of the rows that failed did so with."""


@final
class Relay:
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
    :param engine: what runs the receivers: by default the threads of the worker; or a
        :class:`aldis.relay.celery.CeleryRunner`.
    :raises InvalidOptionError: when the database is none, or of a kind that the relay does not run on.

    .. versionadded:: 0.1
    """

    def __init__(
        self, database: Target, *, notify: bool = True, wait_s: float = 0.0, engine: Engine | None = None
    ) -> None:
        self._database = Database(database, check_number("wait_s", wait_s, least=0))
        self._senders = Senders()
        self._registry = Registry()
        self._notifies = bool(notify)
        self._outbox = Outbox(self, self._database, self._senders, self._notifies)
        self._receiving = Consumer(self._registry, self._senders)
        self._engine: Engine = InProcess() if engine is None else engine
        self._engine.attach(self)

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
        queue = Durable(
            name,
            aliases=names,
            max_attempts=max_attempts,
            backoff=check_backoff(Exponential() if backoff is None else backoff),
            timeout_s=timeout_s,
            key=_check_key(key),
            settings=(name, names, max_attempts, repr(backoff), timeout_s, key),
            registry=self._registry,
            group=self._outbox,
        )
        self._engine.check(queue)
        return queue

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
        route = Forward(name, _check_key(key), self._registry, self._outbox)
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
        self._senders.register(sender, name)

    def _serve(
        self,
        app: Any,
        name: str,
        context: Callable[[], AbstractContextManager[Any]],
        has_context: Callable[[], bool],
    ) -> None:
        """Be the relay of a web application: its receivers and, where no context is there, its database want one.

        :param context: a method of the application, which is not kept alive for it.
        """
        scope = _while_alive(context)
        self.register_sender(app, name)
        self._receiving.scope = scope
        self._database.scope = lambda: nullcontext() if has_context() else scope()

    def _serve_async(self, app: Any, name: str, context: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        """As :meth:`_serve`, for an application whose context is entered in an event loop."""
        self.register_sender(app, name)
        self._receiving.async_scope = _while_alive(context)

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
            return claims.do_once(connection, found, receiver)

        return greenlet_spawn(note) if caller is not session and _is_async(session) else note()

    def drain(self) -> dict[str, int]:
        """Receive all that is due, in this thread, and what receivers send meanwhile. For tests and scripts.

        What fails waits for its next attempt, which is not waited for here; nothing limits the time of receivers. What
        the database raises is raised. Nothing extends a lease: a receiver that takes longer than ten minutes may be
        called by a worker, too.

        :return: how many messages came to which end: ``done``, ``failed``, ``dead``, ``waits``; and ``lost``, if a
            receiver took longer than that.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        from .worker.worker import Settings, Worker

        # One at a time: the second of a batch would wait for the first, and its lease run out.
        worker = Worker(self, Settings(concurrency=1, batch=1, lease_s=_DRAIN_S, drains=True), is_inline=True)
        worker.run()
        return {end: count for end, count in worker.tally.items() if count}

    # Looking after it.

    @property
    def metadata(self) -> MetaData:
        """The relay's tables, for Alembic: ``target_metadata = [db.metadata, relay.metadata]``."""
        return _tables.metadata

    def create_tables(self) -> None:
        """Make the relay's tables, if they are not there. In SQLite, turn the write-ahead log on.

        :raises RelaySchemaError: when there are some of another version.
        """
        for _ in range(_TRIES):
            try:
                self._database.run(_tables.create)
                break
            except DBAPIError:
                continue  # Another process made them at the same time.
        else:
            self._database.run(_tables.create)

        self._database.run_plain(use_wal)

    def check_tables(self) -> None:
        """See that the relay's tables are there, and that this code knows their version.

        :raises RelaySchemaError: when not.
        """
        self._database.run(_tables.check)

    def status(self) -> list[ReceiverStatus]:
        """How all receivers' messages are doing, by name. Counts all rows, so it takes a while when there are many.

        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        counts, dead = self._tend(self._database.look, lambda db: (claims.counts(db), claims.dead_counts(db)))
        known = self._registry.known()
        rows = {str(row.receiver): row for row in counts}
        names = sorted({*rows, *dead, *known})
        return [self._status(name, rows.get(name), dead.get(name, 0), name in known) for name in names]

    def _status(self, name: str, row: Any, dead: int, is_known: bool) -> ReceiverStatus:
        if row is None:
            return ReceiverStatus(name, is_known, 0, 0, 0, 0.0, dead, None)

        waiting, in_flight = int(row.rows) - int(row.in_flight), int(row.in_flight)
        age_s = max(int(row.oldest_ms), 0) / 1000
        return ReceiverStatus(name, is_known, waiting, in_flight, int(row.retrying), age_s, dead, row.failure)

    def dead_letters(self, receiver: str | None = None, *, most: int = 100, after: int = 0) -> list[DeadLetter]:
        """Messages that were given up, the oldest first.

        :param receiver: only those of this receiver.
        :param most: how many, up to 1,000.
        :param after: only those with a larger number: that of the last one, to page on.
        :raises InvalidOptionError: when ``most`` is less than one.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        limit = min(int(check_number("most", most, least=1)), _MOST)
        return self._tend(self._database.look, lambda connection: claims.dead(connection, receiver, limit, after))

    def dead_payload(self, number: int) -> str | None:
        """The payload of a dead letter, as JSON; ``None`` if there is no such letter.

        :param number: the letter's number, :attr:`aldis.relay.DeadLetter.id`.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        return self._tend(self._database.look, lambda connection: claims.payload_of(connection, number))

    def retry_dead(self, *numbers: int) -> int:
        """Have dead letters received again, with all their attempts, by the same ids. They keep the time of their send.

        :param numbers: the letters'.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        return self._tend(self._database.run, lambda connection: claims.revive(connection, numbers))

    def drop_dead(self, *numbers: int) -> int:
        """Delete dead letters.

        :param numbers: the letters'.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        return self._tend(self._database.run, lambda connection: claims.drop(connection, numbers))

    def drop_messages(self, receiver: str) -> int:
        """Delete the messages that wait for a receiver, for one that will never be known again.

        Those that a worker has claimed are left.

        :param receiver: the receiver's name.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        """
        return self._tend(self._database.run, lambda connection: claims.drop_messages(connection, receiver))

    def purge(self, what: Literal["effects", "dead"], *, older_than_s: float) -> int:
        """Delete what is older: notes of effects, see :meth:`first_time`, or dead letters.

        :param what: which of the two.
        :param older_than_s: seconds. An effect whose note is gone is made again if its message comes again, which it
            can until its row is deleted, and its dead letter. Keep notes for longer than dead letters.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are not there, or of another version.
        :raises InvalidOptionError: when it is something else.
        """
        purges: dict[str, Callable[[Connection, int], int]] = {
            "effects": claims.purge_effects,
            "dead": claims.purge_dead,
        }

        if what not in purges or not 0 <= older_than_s <= _LONGEST_AGE_S:
            raise InvalidOptionError('purge() takes "effects" or "dead", and older_than_s=, seconds of 0 or more.')

        return self._tend(self._database.run, lambda connection: purges[what](connection, int(older_than_s * 1000)))

    def _tend(self, run: Callable[[Callable[[Connection], T]], T], work: Callable[[Connection], T]) -> T:
        """Do some work with the tables. Where that fails because they are missing, say so."""
        try:
            return run(work)
        except DBAPIError as error:
            if not is_away(error) and not is_busy(error):
                self.check_tables()

            raise


def _while_alive(method: Callable[[], T]) -> Callable[[], T | nullcontext[None]]:
    """A method that does not keep its object alive, and gives a context of nothing when that is gone."""
    known = WeakMethod(method)

    def call() -> T | nullcontext[None]:
        found = known()
        return nullcontext() if found is None else found()

    return call


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
