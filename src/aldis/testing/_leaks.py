"""Find the connections that a test has left behind."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

from aldis._core.callables import describe
from aldis._core.registry import all_registries
from aldis.observe import describe_sender

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import FunctionType

    from aldis._core.connections import Connection
    from aldis._core.identity import ConnectionKey
    from aldis._core.registry import ConnectionRegistry


@final
class LeakCheck:
    """Knows the connections of all signals of Aldis in the process when a test began.

    A test is not blamed for two kinds of connections: connections that a fixture of wider scope makes, inside
    :meth:`excusing`; and connections of functions of a module that was imported meanwhile, which stay connected.
    """

    __slots__ = ("_known", "_modules")

    def __init__(self) -> None:
        self._modules = frozenset(sys.modules)
        self._known: WeakKeyDictionary[ConnectionRegistry, set[ConnectionKey]] = WeakKeyDictionary()
        self._excuse(frozenset())

    @contextmanager
    def excusing(self) -> Generator[None, None, None]:
        """Do not blame the test for connections that are made in the ``with`` block."""
        before = frozenset(connection for _, connection in _all_connections())

        try:
            yield
        finally:
            self._excuse(before)

    def found(self) -> list[str]:
        """Return one line of text for each connection that the test left behind."""
        return [_describe(*left) for left in _all_connections() if not self._is_excused(*left)]

    def _excuse(self, before: frozenset[Connection]) -> None:
        for registry, connection in _all_connections():
            if connection not in before:
                self._known.setdefault(registry, set()).add((connection.key, connection.filter_key))

    def _is_excused(self, registry: ConnectionRegistry, connection: Connection) -> bool:
        key = (connection.key, connection.filter_key)
        return key in self._known.get(registry, ()) or self._is_imported_since(connection.ref())

    def _is_imported_since(self, receiver: Any) -> bool:
        function: FunctionType = getattr(receiver, "__func__", receiver)
        module = getattr(function, "__module__", None)
        return module not in self._modules and "<locals>" not in getattr(function, "__qualname__", "<locals>")


def _all_connections() -> Iterator[tuple[ConnectionRegistry, Connection]]:
    """Return all connections of the process whose receivers are alive."""
    for registry in all_registries():
        for connection in registry.connections():
            yield registry, connection


def _describe(registry: ConnectionRegistry, connection: Connection) -> str:
    sender = describe_sender(registry.sender_of(connection))
    how = "weakly" if connection.strong_ref is None else "strongly"
    return f"{describe(connection.ref())}, connected {how} to {registry.title}, sender {sender}"
