"""Dialects: everything that the relay does differently in SQLite, PostgreSQL, MariaDB and MySQL."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary
from zlib import crc32

from sqlalchemy import ARRAY, BigInteger, String, any_, bindparam, event, func, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import ColumnElement, Connection, Engine

T = TypeVar("T")

CHANNEL: Final = "aldis_relay"

_NAME_IN_MYSQL: Final = "VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_LIST_IN_MYSQL: Final = f"JSON_TABLE(:names, '$[*]' COLUMNS (value {_NAME_IN_MYSQL} PATH '$')) AS known"
LISTS: Final = {
    "sqlite": "json_each(:names) AS known",
    "postgresql": "json_array_elements_text(CAST(:names AS JSON)) AS known(value)",
    "mysql": _LIST_IN_MYSQL,
    "mariadb": _LIST_IN_MYSQL,
}
"""SQL for a table of one column, ``known.value``, with the names of a JSON list."""

# One parameter for a list of ids, where the driver can: SQLAlchemy takes longer to compile a statement that grows with
# the list than the database takes to execute it.
_ARRAY: Final = bindparam("ids", type_=ARRAY(BigInteger))
_IN_JSON: Final = select(func.json_each(bindparam("ids", type_=String)).table_valued("value").c.value)

_KNOWN: Final = ("sqlite", "postgresql", "mysql", "mariadb")
_BUSY: Final = ("database is locked", "database table is locked", "database schema is locked")

_AWAY_IN_SQLITE: Final = frozenset({8, 10, 14})  # SQLITE_READONLY, SQLITE_IOERR, SQLITE_CANTOPEN

# SQLSTATEs of PostgreSQL: no connection; it stops, or starts; it takes no changes.
_AWAY_IN_POSTGRESQL: Final = ("08", "57P0", "25006")

# The database ended a transaction in favour of another one: a new try may succeed.
_VICTIM: Final = frozenset({"40001", "40P01", "55P03"})
_VICTIM_OF_MYSQL: Final = frozenset({(1205,), (1213,)})

# Whether the transactions of an engine have the isolation level that ours need, by default.
_engines: Final[WeakKeyDictionary[Engine, bool]] = WeakKeyDictionary()


def check_dialect(name: str) -> None:
    """Raise if the relay does not run on this database.

    :raises InvalidOptionError: when it does not.
    """
    if name not in _KNOWN:
        raise InvalidOptionError(f"The relay runs on SQLite, PostgreSQL, MariaDB and MySQL, not on {name}.")


def is_among(number: ColumnElement[int], dialect: str) -> ColumnElement[bool]:
    """Return the condition that a number is one of ``:ids``, see :func:`as_ids`."""
    if dialect == "postgresql":
        return number == any_(_ARRAY)

    return number.in_(_IN_JSON if dialect == "sqlite" else bindparam("ids", expanding=True))


def as_ids(numbers: list[int], dialect: str) -> Any:
    """Return numbers as the value of ``:ids`` in :func:`is_among`."""
    return json.dumps(numbers) if dialect == "sqlite" else numbers


def begin(connection: Connection) -> None:
    """Begin a transaction of our own, which is short and will write.

    The engine is the user's: its driver may commit each statement by itself, or begin transactions of another isolation
    level. Without a transaction, two claims could take the same row; with a stricter level, one of two claims would
    fail.
    """
    if connection.dialect.name == "postgresql":
        if not _reads_committed(connection):
            connection.execution_options(isolation_level="READ COMMITTED")

        connection.begin()
        return

    connection.begin()

    if connection.dialect.name == "sqlite":
        _begin_sqlite(connection)
    else:
        # By default, MySQL locks more than the rows that a statement finds. SQLAlchemy would set the level for the
        # session and set it back, by four statements.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql("START TRANSACTION")


def _begin_sqlite(connection: Connection) -> None:
    """Begin with the lock of a writer. A transaction that reads first and writes later fails if another one wrote in
    between.
    """
    driver: Any = connection.connection.driver_connection

    if driver.in_transaction:
        connection.exec_driver_sql("ROLLBACK")

    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reads_committed(connection: Connection) -> bool:
    """Whether transactions of a PostgreSQL engine are READ COMMITTED. The answer is kept, because setting the level
    takes time.
    """
    engine = connection.engine

    if engine not in _engines:
        is_autocommitting = getattr(connection.connection.dbapi_connection, "autocommit", False)
        _engines[engine] = not is_autocommitting and connection.get_isolation_level() == "READ COMMITTED"

    return _engines[engine]


def take_turns(connection: Connection, receiver: str) -> None:
    """Wait until no other worker claims ordered rows of this receiver, and keep others waiting until the commit.

    Without it, two workers could each claim a row of the same key, because neither sees the claim of the other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(0x416C64, crc32(receiver.encode()) - 2**31)))
    elif connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(text("SELECT value FROM aldis_relay WHERE name = 'schema' FOR UPDATE"))


def limit_wait(engine: Engine, seconds: float) -> None:
    """Limit how many seconds new connections to SQLite wait for another writer."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_set_busy_timeout, seconds))


def _set_busy_timeout(seconds: float, connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    cursor.close()


def use_wal(connection: Connection) -> str | None:
    """Turn SQLite's write-ahead log on, so that readers and the writer do not wait for each other.

    :return: the journal mode of the file now; ``None`` for another database.
    """
    if connection.dialect.name != "sqlite":
        return None

    driver: Any = connection.connection.driver_connection

    # Since Python 3.12, a connection can be in a transaction all the time. In one, SQLite does not change the mode.
    if getattr(driver, "autocommit", None) is False:  # pragma: no cover  # Tested there; 3.11 is what is measured.
        driver.autocommit = True

        try:
            return connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
        finally:
            driver.autocommit = False

    return connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()


def is_busy(error: DBAPIError) -> bool:
    """Whether another transaction was in the way, so that another try may succeed."""
    original: Any = error.orig
    words = str(original)

    if any(busy in words for busy in _BUSY) or _sqlstate(error) in _VICTIM:
        return True

    arguments: tuple[Any, ...] = getattr(original, "args", ())
    return arguments[:1] in _VICTIM_OF_MYSQL


def is_no_text(error: DBAPIError) -> bool:
    """Whether SQLite found a text that is not UTF-8. No send writes such a text."""
    return "Could not decode to UTF-8" in str(error.orig)


def reading_any_text(work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    r"""Return work that can also read texts that are not UTF-8. It sees their wrong bytes as ``\xff``.

    Such a text is not JSON, so it is never taken for another payload. Without this, SQLite's driver would raise for all
    rows of a claim because of one text.
    """

    def do(connection: Connection) -> T:
        driver: Any = connection.connection.driver_connection
        given, driver.text_factory = driver.text_factory, _as_text

        try:
            return work(connection)
        finally:
            driver.text_factory = given

    return do


def _as_text(stored: bytes) -> str:
    return stored.decode(errors="backslashreplace")


@contextmanager
def as_dbapi_error() -> Generator[None, None, None]:
    """Turn the network errors of asyncpg at connect into errors of SQLAlchemy, because SQLAlchemy itself does not.

    :raises OperationalError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise OperationalError(None, None, error, connection_invalidated=True) from error


def is_away(error: DBAPIError) -> bool:
    """Whether the database cannot be reached now, or refuses changes, like a server that has become a replica."""
    if error.connection_invalidated or (_sqlstate(error) or "").startswith(_AWAY_IN_POSTGRESQL):
        return True

    code = getattr(error.orig, "sqlite_errorcode", None)

    if code is not None:
        return code & 0xFF in _AWAY_IN_SQLITE  # Its other operational errors are about tables and statements.

    return isinstance(error, (OperationalError, InterfaceError)) and not is_full(error)


def is_full(error: DBAPIError) -> bool:
    """Whether the disk is full."""
    return "disk is full" in str(error.orig) or _sqlstate(error) == "53100"


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)  # psycopg2's name.
