"""Which connections a test has left behind."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

from aldis._core import registry
from aldis._core.callables import describe
from aldis.observe import describe_sender

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import FunctionType

    from aldis._core.connections import Connection, ConnectionKey
    from aldis._core.registry import ConnectionRegistry


@final
class LeakCheck:
    """Knows who was connected when a test began, to any signal of Aldis in the process.

    Not held against a test is what somebody else connected: a fixture of wider scope, for which there is
    :meth:`excusing`; and a module that was imported meanwhile, whose functions stay connected as long as it is there.
    """

    __slots__ = ("_known", "_modules")

    def __init__(self) -> None:
        self._modules = frozenset(sys.modules)
        self._known: WeakKeyDictionary[ConnectionRegistry, set[ConnectionKey]] = WeakKeyDictionary()
        self._excuse(frozenset())

    @contextmanager
    def excusing(self) -> Generator[None, None, None]:
        """Hold nothing against the test that is connected in the ``with`` block."""
        before = frozenset(connection for _, connection in _all())

        try:
            yield
        finally:
            self._excuse(before)

    def found(self) -> list[str]:
        """What was left behind, in words, one line for each connection."""
        return [_told(*left) for left in _all() if not self._is_excused(*left)]

    def _excuse(self, before: frozenset[Connection]) -> None:
        for table, connection in _all():
            if connection not in before:
                self._known.setdefault(table, set()).add((connection.key, connection.filter_key))

    def _is_excused(self, table: ConnectionRegistry, connection: Connection) -> bool:
        key = (connection.key, connection.filter_key)
        return key in self._known.get(table, ()) or self._is_imported_since(connection.ref())

    def _is_imported_since(self, receiver: Any) -> bool:
        function: FunctionType = getattr(receiver, "__func__", receiver)
        module = getattr(function, "__module__", None)
        return module not in self._modules and "<locals>" not in getattr(function, "__qualname__", "<locals>")


def _all() -> Iterator[tuple[ConnectionRegistry, Connection]]:
    """All connections of the process whose receivers are alive."""
    tables = [table for ref in list(registry._tables) if (table := ref()) is not None]

    for table in tables:
        for connection in table.connections():
            yield table, connection


def _told(table: ConnectionRegistry, connection: Connection) -> str:
    sender = describe_sender(table.sender_of(connection))
    how = "weakly" if connection.strong_ref is None else "strongly"
    return f"{describe(connection.ref())}, connected {how} to {table.title}, sender {sender}"
