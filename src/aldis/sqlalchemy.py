"""Receivers that run after the commit of the transaction: ``connect(via=after_commit(session))``.

.. code-block:: text

    send ──> waits with the innermost transaction or savepoint that is open
               │ savepoint released ──> waits with the transaction around it
               │ savepoint rolled back, transaction rolled back, session closed ──> forgotten
               │ the process dies ──> lost, also when the commit was made and the receiver has not run yet
               └ outermost transaction committed ──> runs, once

A receiver runs at most once. Receivers that must not be lost are durable: see :mod:`aldis.relay`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session
from sqlalchemy.util import await_only

from .exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core.call import Call
    from ._core.signal import Signal

    AnySession: TypeAlias = Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any]

__all__ = ["AfterCommit", "after_commit"]

_KEY: Final = "aldis.after_commit"


def after_commit(session: AnySession) -> AfterCommit:
    """Run receivers after the commit of the session's transaction.

    The receiver runs in the thread that commits, right after the outermost commit: the transaction has ended, and
    ``commit()`` has not returned. The receiver may use the session, which begins a new transaction. Receivers run in
    the order of the sends. A rollback of the transaction or of a savepoint drops the sends inside it. Two sessions do
    not mix. If the session has no transaction, the send runs the receiver at once.

    ``commit()`` does not raise the exceptions of a receiver, because the transaction is committed already. A callable
    failure policy is called with the failure; under every other policy, the logger ``aldis`` logs it.

    With an ``AsyncSession``, async receivers are awaited, and sync ones run in the event loop's thread. With a sync
    session, ``connect`` refuses async receivers.

    At most once: if the process dies in between, receivers that have not run are lost.

    The value in the results of ``send`` is ``None``; if the receiver ran at once, it is the receiver's result.

    :param session: a ``Session``, an ``AsyncSession``, or a registry of either such as Flask-SQLAlchemy's
        ``db.session``: of a registry, the session that is current when the signal is sent.
    :raises InvalidOptionError: when ``session`` is anything else.

    .. versionadded:: 0.1
    """
    return AfterCommit(session)


@final
class AfterCommit:
    """The delivery that :func:`after_commit` returns.

    .. versionadded:: 0.1
    """

    __slots__ = ("_is_async", "_is_registry", "_session")

    def __init__(self, session: AnySession) -> None:
        given: Any = session

        if not isinstance(given, (Session, scoped_session, AsyncSession, async_scoped_session)):
            raise InvalidOptionError(
                f"after_commit() takes a session of SQLAlchemy, or a registry such as db.session, not {given!r}."
            )

        self._session: Any = given
        self._is_async = isinstance(given, (AsyncSession, async_scoped_session))
        self._is_registry = isinstance(given, (scoped_session, async_scoped_session))

    def __repr__(self) -> str:
        return f"after_commit({type(self._session).__name__})"

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Raise for an async receiver if the session is sync, because no code awaits a sync commit.

        :raises InvalidOptionError: for an async receiver, unless the session is async.
        """
        if is_async and not self._is_async:
            raise InvalidOptionError(
                "after_commit() with a sync session cannot run async receivers, because no code awaits its commit."
            )

    def deliver(self, call: Call, /) -> object:
        """Keep the call until the commit; outside a transaction, run it now."""
        session = self._sync_session()
        transaction = _innermost(session)

        if transaction is None:
            return call()

        pending: _Pending = session.info.setdefault(_KEY, _Pending())
        pending.calls.setdefault(transaction, []).append(call)
        return None

    def _sync_session(self) -> Session:
        session: Any = self._session() if self._is_registry else self._session
        return session.sync_session if self._is_async else session  # type: ignore[no-any-return]


@final
class _Pending:
    """The calls that wait for the commits of one session."""

    __slots__ = ("calls", "committed")

    def __init__(self) -> None:
        self.calls: dict[SessionTransaction, list[Call]] = {}
        self.committed: set[SessionTransaction] = set()


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


@event.listens_for(Session, "after_commit")
def _note_commit(session: Session) -> None:
    pending: _Pending | None = session.info.get(_KEY)
    transaction = _innermost(session)  # SQLAlchemy calls this for savepoints too.

    if pending is not None and transaction is not None:
        pending.committed.add(transaction)


@event.listens_for(Session, "after_transaction_end")
def _end(session: Session, transaction: SessionTransaction) -> None:
    pending: _Pending | None = session.info.get(_KEY)

    if pending is None:
        return

    calls = pending.calls.pop(transaction, [])

    if transaction not in pending.committed:
        return

    pending.committed.remove(transaction)

    if transaction.nested:
        pending.calls.setdefault(_around(transaction), []).extend(calls)
        return

    for call in calls:
        _run(call)


def _around(savepoint: SessionTransaction) -> SessionTransaction:
    """Return the savepoint or the transaction around a savepoint. Skip the transaction of a flush."""
    transaction = savepoint.parent
    assert transaction is not None

    while not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent

    return transaction


def _run(call: Call) -> None:
    try:
        call(_awaited if call.is_async else None)
    except Exception:
        logging.getLogger("aldis").exception("%r, delivered after the commit, failed", call)


def _awaited(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an async receiver for the sync side of an ``AsyncSession``, which awaits it."""

    def run(*args: Any, **payload: Any) -> Any:
        return await_only(receiver(*args, **payload))

    return run
