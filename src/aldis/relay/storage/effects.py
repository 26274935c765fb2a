"""Effects: notes of the messages that had their effect already, written in the transaction that makes the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert

from .tables import effects, now_ms

if TYPE_CHECKING:
    from sqlalchemy import Connection


def note_effect(connection: Connection, message_id: str, receiver: str) -> bool:
    """Note an effect. Return ``True`` if this is the first note.

    Wait for another transaction that is about to note the same effect.
    """
    values = {"message_id": message_id, "receiver": receiver, "done_ms": now_ms()}
    dialect: Any = connection.dialect.name

    if dialect in ("mysql", "mariadb"):
        statement: Any = insert(effects).prefix_with("IGNORE")
    elif dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_there

        statement = insert_there(effects).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_here

        statement = insert_here(effects).on_conflict_do_nothing()

    # SQLAlchemy keeps the row count of an INSERT only on request.
    done = connection.execute(statement.values(**values), execution_options={"preserve_rowcount": True})
    return done.rowcount == 1


def purge(connection: Connection, age_ms: int) -> int:
    """Delete notes of effects that are older than a time. Return how many there were."""
    return connection.execute(delete(effects).where(effects.c.done_ms < now_ms() - age_ms)).rowcount
