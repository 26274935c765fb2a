"""The outbox: it writes the rows of a send, one for each durable receiver, in the caller's own transaction.

The relay's deliveries share an :class:`Outbox`, their group. It checks the payload before any receiver runs, and writes
all rows of the send by one statement after the last receiver's turn. Outside of any transaction, it writes them in one
transaction of its own: all rows, or no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from uuid import uuid4

from sqlalchemy import Connection, Integer, func, insert, literal_column, select
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.util.concurrency import await_only, greenlet_spawn, in_greenlet

from aldis._core.registry import registry_of
from aldis.exceptions import AsyncReceiverError, PayloadError
from aldis.relay._payload import schema_of
from aldis.relay._trace import inject
from aldis.relay.storage.dialects import CHANNEL, is_busy, is_full
from aldis.relay.storage.tables import LARGEST_PAYLOAD, messages, now_ms

from .transactions import callers_transaction
from .uncommitted import note

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sqlalchemy.orm import Session

    from aldis._core.types import AnySignal
    from aldis.relay._sender_names import SenderNames
    from aldis.relay.storage.database import Database

    from .transactions import Caller

# Inline: the ids of the rows are not used, and fetching them from the database takes time.
_ZERO: Final = literal_column("0", Integer)
_INSERT: Final = insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), attempts=_ZERO, crashes=_ZERO).inline()
_NOTIFY: Final = func.pg_notify(CHANNEL, "")
_INSERT_AND_NOTIFY: Final = _INSERT.returning(_NOTIFY)


@final
class Outgoing:
    """One send, shared by its durable receivers.

    :ivar is_awaited: whether it is a ``send_async``.
    :ivar message_id: the id of the message.
    :ivar rows: the rows to write, for the receivers that had their turn.
    :ivar shared: the columns that are the same in all rows.
    """

    __slots__ = ("is_awaited", "message_id", "rows", "shared")

    is_awaited: bool
    message_id: str
    rows: list[dict[str, Any]]
    shared: dict[str, Any]

    def __init__(self, shared: dict[str, Any], is_awaited: bool) -> None:
        self.message_id = str(uuid4())
        self.shared = {"message_id": self.message_id, **shared}
        self.rows = []
        self.is_awaited = is_awaited

    def add(self, receiver: str, ordering_key: str | None) -> str:
        """Add a row for a receiver, unless it has a row already: it may be connected twice. Return the message's id."""
        if all(row["receiver"] != receiver for row in self.rows):
            self.rows.append({**self.shared, "receiver": receiver, "ordering_key": ordering_key})

        return self.message_id


@final
class Outbox:
    """Writes the sends of one relay: the group of its deliveries."""

    def __init__(self, database: Database, senders: SenderNames, notifies: bool) -> None:
        self._database = database
        self._senders = senders
        self._notifies = notifies

    def open(self, signal: AnySignal, sender: Any, payload: dict[str, Any], is_awaited: bool, /) -> Outgoing:
        """Prepare the rows of a send, before any receiver runs.

        :raises PayloadError: when the payload does not fit its declaration, or is too large.
        :raises UnnamedSenderError: when the sender has no name.
        :raises AsyncReceiverError: when this is a ``send``, and the relay's database is async.
        """
        if self._database.is_async and not is_awaited and not in_greenlet():
            raise AsyncReceiverError(
                f"send() cannot write for the durable receivers of {signal!r}: the relay's database is async. Use"
                " send_async(), or send inside of AsyncSession.run_sync()."
            )

        contract: Any = registry_of(signal).contract
        schema = schema_of(contract, signal)
        text = schema.encode(payload)

        if len(text) > LARGEST_PAYLOAD:
            raise PayloadError(
                f"The payload of {signal!r} is too large for durable receivers: {len(text)} characters of JSON, and"
                f" {LARGEST_PAYLOAD} are allowed. Store what is large, and send its id."
            )

        shared = {
            "signal": getattr(signal, "name", ""),
            "version": schema.version,
            "sender": self._senders.write(sender),
            "payload": text,
            "trace": inject(),
        }
        return Outgoing(shared, is_awaited)

    def close(self, opened: Outgoing, /) -> Coroutine[Any, Any, None] | None:
        """Write the rows, after the last receiver's turn."""
        if not opened.rows:
            return None

        if self._database.is_async and opened.is_awaited:
            return self._write_async(opened.rows)

        try:
            caller = callers_transaction(self._database)

            if caller is not None:
                self._join(caller, opened.rows)
            elif self._database.is_async:
                await_only(self._database.run_async(lambda connection: self._write(connection, opened.rows)))
            else:
                self._database.run(lambda connection: self._write(connection, opened.rows))
        except DBAPIError as error:
            _explain(error)
            raise

        return None

    async def _write_async(self, rows: list[dict[str, Any]]) -> None:
        try:
            caller = callers_transaction(self._database)

            if caller is None:
                await self._database.run_async(lambda connection: self._write(connection, rows))
            else:
                await greenlet_spawn(self._join, caller, rows)
        except DBAPIError as error:
            _explain(error)
            raise

    def _join(self, caller: Caller, rows: list[dict[str, Any]]) -> None:
        self._write(_connection_of(caller, self._database), rows)

        if not isinstance(caller, Connection):
            note(caller, rows[0]["signal"])

    def _write(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        if not self._notifies or connection.dialect.name != "postgresql":
            connection.execute(_INSERT, rows)
        elif len(rows) == 1:
            connection.execute(_INSERT_AND_NOTIFY, rows[0])  # One round trip to the server for all rows.
        else:
            connection.execute(_INSERT, rows)
            connection.execute(select(_NOTIFY))


def _connection_of(caller: Caller, database: Database) -> Connection:
    """Return the connection of the caller's transaction. If a savepoint is open, the rows are inside it."""
    if isinstance(caller, Connection):
        return caller

    session: Session = caller

    try:
        return session.connection(bind_arguments={"clause": _INSERT})
    except UnboundExecutionError:  # The session has a bind for each of the user's tables, but no bind for our tables.
        return session.connection(bind_arguments={"bind": database.engine()})


def _explain(error: DBAPIError) -> None:
    """Make an error of the database say what is lost, and hide the payload."""
    error.hide_parameters = True
    error.add_note(
        f"Aldis could not write the rows of durable receivers{_why(error)}. No row was written: roll the transaction"
        " back, or send again. If the tables are missing, create them with relay.create_tables()."
    )


def _why(error: DBAPIError) -> str:
    if is_full(error):
        return ": the disk is full"

    if is_busy(error):
        return ": another transaction is in the way. If it is the sender's own, say so, with relay.using()"

    return ""
