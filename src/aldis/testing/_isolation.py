"""Put connections back as they were when a block began.

A backup refers to receivers and senders as the connections do: an object that is held weakly may die meanwhile, and
stays dead.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, final

from aldis._core.mutations import changes
from aldis._core.options import Options
from aldis._core.registry import registry_of
from aldis.observe._selection import select

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from aldis._core.connections import Connection, Receiver, SenderFilter
    from aldis._core.registry import ConnectionRegistry
    from aldis.observe._selection import AldisSignals


@contextmanager
def isolate(*signals: AldisSignals) -> Generator[None, None, None]:
    """Put connections back as they were when a ``with`` block ends, also after an exception.

    Then the same receivers are connected to the same senders, with the same options and in the same order. Receivers
    that were connected inside are disconnected, and those that were disconnected or used up are back. An object that
    is held weakly and died inside stays away, and so do the receivers of ``connected_to`` blocks that have ended. The
    connections of all signals are put back in one step: a send that begins meanwhile waits for it.
    ``receiver_connected`` and ``receiver_disconnected`` are not sent.

    Also a decorator, for functions that are not async.

    :param signals: signals of Aldis; namespaces or other mappings of names to signals; or lists, tuples and sets of
        these. Without ``signals``, the block isolates all signals of Aldis in the process, and keeps them alive until
        it ends. Signals that are new at the end of the block, in a namespace or in the process, lose their receivers.
        Signals of Blinker are refused: nothing public tells which senders their receivers are connected to.
    :raises InvalidOptionError: when one of ``signals`` is something else.

    .. versionadded:: 0.1
    """
    before = select("isolate", signals)
    registries = [registry_of(signal) for signal in before]
    backups = changes.read(lambda _: [RegistryBackup(registry) for registry in registries])

    try:
        yield
    finally:
        known = {id(signal) for signal in before}
        new = [registry_of(signal) for signal in select("isolate", signals) if id(signal) not in known]
        changes.apply(partial(_restore, backups, new))


def _restore(backups: list[RegistryBackup], new: list[ConnectionRegistry]) -> None:
    for backup in backups:
        backup.restore()

    for registry in new:
        registry.drop_all()


@final
class RegistryBackup:
    """The connections of one signal. Made and restored inside a change, or inside ``changes.read``."""

    __slots__ = ("_connections", "_registry")

    def __init__(self, registry: ConnectionRegistry) -> None:
        self._registry = registry
        self._connections = {
            connection: ConnectionBackup(connection, filter)
            for connection in registry.all_connections()
            if (filter := registry.filter_with(connection.filter_key)) is not None
        }

    def restore(self) -> None:
        """Put these connections back, and drop all others."""
        for connection in list(self._registry.all_connections()):
            if connection not in self._connections:
                self._registry.drop(connection)

        for backup in self._connections.values():
            backup.restore(self._registry)


@final
class ConnectionBackup:
    """One connection.

    The connection object itself is put back, not an equal one, because a ``connected_to`` block that began before may
    still refer to it. Such blocks count themselves in ``open_scopes``, which is not changed here.
    """

    __slots__ = (
        "_connected_at",
        "_connected_directly",
        "_connection",
        "_filter",
        "_is_strong",
        "_options",
        "_ref",
        "_serial",
        "_strong_ref",
    )

    def __init__(self, connection: Connection, filter: SenderFilter) -> None:
        self._connection = connection
        self._filter = filter
        self._connected_directly = connection.connected_directly
        self._is_strong = connection.is_strong
        self._options = connection.options
        self._connected_at = connection.connected_at
        self._ref: Callable[[], Receiver | None] = connection.ref
        self._serial = connection.serial
        self._strong_ref = connection.strong_ref if connection.is_strong else None

    def restore(self, registry: ConnectionRegistry) -> None:
        """Put the connection back, unless its receiver or sender has died, or its ``connected_to`` block has ended."""
        connection, receiver, target = self._connection, self._ref(), self._filter.ref()
        is_there = registry.find(connection.key, connection.filter_key) is connection
        is_wanted = self._connected_directly or connection.open_scopes > 0

        # These may be the last references to the objects. The change queue releases them without the lock.
        changes.add_garbage(receiver, target, connection.ref, connection.strong_ref, connection.options)

        if receiver is None or target is None or not is_wanted:
            if is_there:
                registry.drop(connection)

            return

        connection.ref = self._ref
        connection.strong_ref = receiver if self._is_strong or connection.open_scopes > 0 else None
        connection.options = self._fresh_options()
        connection.connected_directly = self._connected_directly
        connection.is_strong = self._is_strong
        connection.connected_at = self._connected_at

        if not is_there:
            registry.insert(connection, self._filter.sender)

        connection.serial = self._serial
        registry.invalidate_connection(connection)

    def _fresh_options(self) -> Options:
        """Return the options. A ``once`` connection that was called meanwhile may be called once again."""
        options = self._options

        if not options.once or options.claims:
            return options

        return Options(options.priority, options.once, options.via)
