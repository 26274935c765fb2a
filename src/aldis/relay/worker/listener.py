"""Wake a worker when rows are written, before its next poll. A thread listens for this.

PostgreSQL notifies by ``NOTIFY``, if the driver can receive that. For a file of SQLite, the thread reads the version of
the data some hundred times a second, which costs a few microseconds each time. With other databases the worker only
polls. The worker also polls with these two databases: behind a pooler, notifications may not arrive.
"""

from __future__ import annotations

import logging
import select
import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, final

from aldis.relay.storage.dialects import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

logger: Final = logging.getLogger("aldis.relay")

_SQLITE_S: Final = 0.005
_AGAIN_S: Final = 5.0


@final
class Listener:
    """Wakes a worker. It holds its own connection as long as it lives.

    :param engine: the database.
    :param listens: whether to listen for the notifications of PostgreSQL.
    :param wake: called when new rows may be due.
    """

    def __init__(self, engine: Engine, *, listens: bool, wake: Callable[[], object]) -> None:
        self._engine = engine
        self._listens = listens
        self._wake = wake
        self._stopped = Event()
        watch = self._watch()

        if watch is not None:
            Thread(target=self._run, args=(watch,), name="aldis-listener", daemon=True).start()

    def _watch(self) -> Any:
        name, driver = self._engine.dialect.name, self._engine.dialect.driver

        if self._engine.dialect.is_async:
            return None

        if name == "sqlite" and driver == "pysqlite" and self._engine.url.database not in (None, "", ":memory:"):
            return self._watch_sqlite

        return self._listen if self._listens and name == "postgresql" and driver in ("psycopg", "psycopg2") else None

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()

    def _run(self, watch: Any) -> None:
        while not self._stopped.is_set():
            try:
                # Detached from the pool, because the pool is emptied after the database was away.
                pooled = self._engine.raw_connection()
                connection: Any = pooled.driver_connection
                pooled.detach()

                try:
                    watch(connection)
                finally:
                    connection.close()  # Close it without a reset, because the connection may be lost.
            except Exception as error:  # Each driver has exceptions of its own.
                logger.debug("The listener pauses for %g s: %s", _AGAIN_S, type(error).__qualname__)
                self._stopped.wait(_AGAIN_S)

    def _watch_sqlite(self, connection: Any) -> None:
        version = None

        while not self._stopped.is_set():
            connection.rollback()  # Since Python 3.12, it may be in a transaction, in which it sees no changes.
            (found,) = connection.execute("PRAGMA data_version").fetchone()

            if found != version:
                version = found
                self._wake()

            time.sleep(_SQLITE_S)

    def _listen(self, connection: Any) -> None:
        connection.autocommit = True

        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

        self._wake()  # Rows that were written before send no notification.

        while not self._stopped.is_set():
            readable, _, _ = select.select([connection.fileno()], [], [], 1.0)

            if readable:
                _take_notifications(connection)
                self._wake()


def _take_notifications(connection: Any) -> None:
    if hasattr(connection, "pgconn"):
        connection.pgconn.consume_input()

        while connection.pgconn.notifies() is not None:
            pass
    else:
        connection.poll()
        connection.notifies.clear()
