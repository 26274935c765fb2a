"""The tables of a relay, and the database's own clock.

All times are milliseconds since 1970 in UTC, by the database's clock: an integer means the same in every database, and
the clocks of web servers and workers do not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from aldis.exceptions import RelaySchemaError

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA_VERSION: Final = 1
LONGEST_NAME: Final = 200

LARGEST_PAYLOAD: Final = 1_000_000
"""How many characters of JSON a send may write."""

metadata: Final = MetaData()

_Id: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only with this type.
_Json: Final = Text().with_variant(mysql.LONGTEXT, "mysql", "mariadb")

# Rows come and go, so let PostgreSQL clean up after thousands of them, whatever the size of the table. This is an
# ALTER, because SQLAlchemy 2.0 cannot express it in CREATE. Migrations of Alembic do not contain it by themselves.
VACUUM: Final = (
    "ALTER TABLE aldis_messages SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,"
    " autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0,"
    " fillfactor = 70)"
)

# Whatever the server's defaults are, tables in MySQL and MariaDB need transactions, every character, and names that
# differ only in their case.
_OPTIONS: Final[Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("collate", "utf8mb4_bin"))
}


def _what_was_sent() -> list[Column[Any]]:
    return [
        Column("message_id", String(36), nullable=False),
        Column("signal", String(LONGEST_NAME), nullable=False),
        Column("receiver", String(LONGEST_NAME), nullable=False),
        Column("version", Integer, nullable=False),
        Column("sender", _Json),
        Column("payload", _Json, nullable=False),
        Column("trace", Text),
        Column("ordering_key", String(LONGEST_NAME)),
        Column("sent_ms", BigInteger, nullable=False),
    ]


# A row is for one receiver of one message. A worker can claim it when it is due. The claim writes a token, and sets
# `due_ms` to the end of the lease: so one index finds the rows that are new, those to try again, and those whose worker
# died. `crashes` comes before `token`: MySQL assigns from left to right.
messages: Final = Table(
    "aldis_messages",
    metadata,
    Column("id", _Id, primary_key=True),
    *_what_was_sent(),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    Column("token", String(32)),
    Column("failure", String(500)),
    **_OPTIONS,
)
_set_vacuum: Any = DDL(VACUUM)  # type: ignore[no-untyped-call, unused-ignore]
event.listen(messages, "after_create", _set_vacuum.execute_if(dialect="postgresql"))
Index("aldis_messages_due", messages.c.receiver, messages.c.due_ms, messages.c.id)
Index(
    "aldis_messages_order",
    messages.c.receiver,
    messages.c.ordering_key,
    messages.c.id,
    sqlite_where=messages.c.ordering_key.is_not(None),
    postgresql_where=messages.c.ordering_key.is_not(None),
)

dead_letters: Final = Table(
    "aldis_dead_letters",
    metadata,
    Column("id", _Id, primary_key=True),
    *_what_was_sent(),
    Column("died_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", String(500), nullable=False),
    sqlite_autoincrement=True,  # Never use a number twice: a user may have noted it.
    **_OPTIONS,
)
Index("aldis_dead_letters_receiver", dead_letters.c.receiver, dead_letters.c.id)
Index("aldis_dead_letters_message", dead_letters.c.message_id)

effects: Final = Table(
    "aldis_effects",
    metadata,
    Column("message_id", String(36), primary_key=True),
    Column("receiver", String(LONGEST_NAME), primary_key=True),
    Column("done_ms", BigInteger, nullable=False),
    **_OPTIONS,
)
Index("aldis_effects_done", effects.c.done_ms)

properties: Final = Table(
    "aldis_relay",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("value", String(LONGEST_NAME), nullable=False),
    **_OPTIONS,
)

TABLES: Final = (messages, dead_letters, effects, properties)
SENT_COLUMNS: Final = tuple(column.name for column in _what_was_sent())


class now_ms(FunctionElement[int]):  # noqa: N801  # A function of SQL.
    """The database's time. It is the same within a statement. Otherwise an index could not be searched by it."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms)  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _now_elsewhere(_: Any, compiler: Any, **__: Any) -> str:
    raise NotImplementedError(f"The relay does not know the clock of {compiler.dialect.name}.")


@compiles(now_ms, "sqlite")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _now_of_sqlite(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _now_of_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
@compiles(now_ms, "mariadb")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _now_of_mysql(*_: Any, **__: Any) -> str:
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"


def create(connection: Connection) -> None:
    """Create the tables that are missing.

    :raises RelaySchemaError: when the existing tables have another version.
    """
    if inspect(connection).has_table(properties.name):
        _check_version(connection)

    metadata.create_all(connection)
    _check_version(connection)


def check(connection: Connection) -> None:
    """Raise if a table is missing, or the tables are not of the version that this code knows.

    :raises RelaySchemaError: in these cases.
    """
    missing = [table.name for table in TABLES if not inspect(connection).has_table(table.name)]

    if missing:
        raise RelaySchemaError(
            f"The database has no table {', '.join(missing)}. Create the relay's tables with relay.create_tables(), or"
            " with a migration of Alembic, whose target_metadata has relay.metadata in it."
        )

    _check_version(connection)


def _check_version(connection: Connection) -> None:
    found = connection.scalar(select(properties.c.value).where(properties.c.name == "schema"))

    if found is None:
        # The tables are new, or Alembic created them and left them empty.
        connection.execute(insert(properties), {"name": "schema", "value": str(SCHEMA_VERSION)})
    elif found != str(SCHEMA_VERSION):
        raise RelaySchemaError(
            f"The relay's tables are of version {found}, and this version of Aldis knows {SCHEMA_VERSION}."
            f" {'Update Aldis here' if found.isdecimal() and int(found) > SCHEMA_VERSION else 'Migrate the tables'}."
        )
