"""In development mode, warn of messages that are gone because their transaction was not committed.

A session begins a transaction when it reads. A later send joins it. If the program never commits, because it wrote
nothing else, the rows are rolled back when the session is closed. A rollback that the program asked for is not a
mistake, so there is no warning.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from aldis._core import devmode
from aldis._core.callables import caller_place
from aldis.exceptions import UncommittedMessageWarning

if TYPE_CHECKING:
    from typing import TypeAlias

    Place: TypeAlias = tuple[str, int]

_KEY: Final = "aldis.relay.uncommitted"


def note(session: Session, signal_name: str) -> None:
    """Note that rows were written in the session's transaction."""
    if devmode.enabled:
        session.info.setdefault(_KEY, (signal_name, caller_place()))


@event.listens_for(Session, "after_commit")
def _committed(session: Session) -> None:
    if session.get_nested_transaction() is None:  # SQLAlchemy sends the event for savepoints too.
        session.info.pop(_KEY, None)


@event.listens_for(Session, "after_rollback")
def _rolled_back(session: Session) -> None:
    session.info.pop(_KEY, None)


@event.listens_for(Session, "after_transaction_end")
def _ended(session: Session, transaction: SessionTransaction) -> None:
    left: Any = session.info.pop(_KEY, None) if transaction.parent is None else None

    if left is None:
        return

    signal_name, (file, line) = cast("tuple[str, Place]", left)
    warnings.warn_explicit(
        f"The signal {signal_name!r} was sent to durable receivers in a transaction that was closed without a commit,"
        " so its messages are gone. Commit after the send.",
        UncommittedMessageWarning,
        file,
        line,
    )
