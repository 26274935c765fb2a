"""Who is connected, kept for later, and put back.

What is kept refers to receivers and senders as the connections do: what is held weakly may die meanwhile, and
stays dead.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.mutations import changes
from aldis._core.options import Options
from aldis._core.registry import registry_of

from ._recording import is_aldis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis._core.connections import Connection, Receiver, SenderFilter
    from aldis._core.registry import ConnectionRegistry


@final
class Saved:
    """The connections of some signals."""

    __slots__ = ("_blinkers", "_tables")

    def __init__(self, signals: Iterable[Any]) -> None:
        signals = list(signals)
        tables = [registry_of(signal) for signal in signals if is_aldis(signal)]
        self._tables = changes.read(lambda _: [SavedTable(table) for table in tables])
        self._blinkers = [SavedBlinker(signal) for signal in signals if not is_aldis(signal)]

    def put_back(self, strangers: Iterable[Any]) -> None:
        """Put them back, in one change for all signals of Aldis.

        :param strangers: signals that are new. Nobody stays connected to them.
        """
        strangers = list(strangers)
        changes.apply(partial(self._change, [registry_of(signal) for signal in strangers if is_aldis(signal)]))

        for saved in self._blinkers:
            saved.put_back()

        for signal in strangers:
            if not is_aldis(signal):
                signal._clear_state()

    def _change(self, strangers: list[ConnectionRegistry]) -> None:
        for saved in self._tables:
            saved.put_back()

        for table in strangers:
            table._clear()


@final
class SavedTable:
    """The connections of one signal of Aldis. Made and put back with the lock of the tables held."""

    __slots__ = ("_connections", "_registry")

    def __init__(self, table: ConnectionRegistry) -> None:
        self._registry = table
        self._connections = {
            connection: SavedConnection(connection, filter)
            for connection in table._all()
            if (filter := table._filter(connection.filter_key)) is not None
        }

    def put_back(self) -> None:
        """Put them back, and no others."""
        for connection in list(self._registry._all()):
            if connection not in self._connections:
                self._registry._drop(connection)

        for saved in self._connections.values():
            saved.put_back(self._registry)


@final
class SavedConnection:
    """One connection.

    The connection itself is put back, not one that is like it: a ``connected_to`` block that began before may
    still refer to it. Such blocks count themselves, and that count is left alone.
    """

    __slots__ = (
        "_connection",
        "_filter",
        "_is_own",
        "_is_strong",
        "_kept",
        "_options",
        "_place",
        "_ref",
        "_serial",
    )

    def __init__(self, connection: Connection, filter: SenderFilter) -> None:
        self._connection = connection
        self._filter = filter
        self._is_own = connection.connected_directly
        self._is_strong = connection.is_strong
        self._options = connection.options
        self._place = connection.place
        self._ref: Callable[[], Receiver | None] = connection.ref
        self._serial = connection.serial
        self._kept = connection.strong_ref if connection.is_strong else None

    def put_back(self, table: ConnectionRegistry) -> None:
        """Put it back, unless what it joins has died, or the block that it was made for has ended."""
        connection, receiver, target = self._connection, self._ref(), self._filter.ref()
        is_there = table._existing(connection.key, connection.filter_key) is connection
        is_wanted = self._is_own or connection.open_scopes > 0

        # This may be the last to refer to them, and to what it replaces: they are let go without the lock.
        changes.discard(receiver, target, connection.ref, connection.strong_ref, connection.options)

        if receiver is None or target is None or not is_wanted:
            if is_there:
                table._drop(connection)

            return

        connection.ref = self._ref
        connection.strong_ref = receiver if self._is_strong or connection.open_scopes > 0 else None
        connection.options = self._fresh_options()
        connection.connected_directly = self._is_own
        connection.is_strong = self._is_strong
        connection.place = self._place

        if not is_there:
            table._insert(connection, self._filter.sender)

        connection.serial = self._serial
        table._changed(connection)

    def _fresh_options(self) -> Options:
        """The options; for a ``once`` connection that was called meanwhile, with its one call given back."""
        options = self._options

        if not options.once or options.claims:
            return options

        return Options(options.priority, options.once, options.via)


@final
class SavedBlinker:
    """The connections of one signal of Blinker."""

    __slots__ = ("_by_receiver", "_by_sender", "_receivers", "_senders", "_signal")

    def __init__(self, signal: Any) -> None:
        self._signal = signal
        self._receivers = dict(signal.receivers)
        self._senders = dict(signal._weak_senders)
        self._by_receiver = {key: list(bucket) for key, bucket in signal._by_receiver.items()}
        self._by_sender = {key: list(bucket) for key, bucket in signal._by_sender.items()}

    def put_back(self) -> None:
        """Put them back, but for what has died."""
        signal = self._signal
        dead = {key for key, kept in self._receivers.items() if _is_dead(kept)}
        gone = {key for key, sender in self._senders.items() if _is_dead(sender)}
        _put_back(signal.receivers, self._receivers, dead)
        _put_back(signal._weak_senders, self._senders, gone)
        _put_back(signal._by_receiver, self._buckets(self._by_receiver, gone), dead)
        _put_back(signal._by_sender, self._buckets(self._by_sender, dead), gone)

    def _buckets(self, saved: dict[Any, list[Any]], without: set[Any]) -> dict[Any, Any]:
        buckets: dict[Any, Any] = {}

        for key, members in saved.items():
            bucket = buckets[key] = self._signal.set_class()

            for member in members:
                if member not in without:
                    bucket.add(member)

        return buckets


def _is_dead(kept: Any) -> bool:
    return isinstance(kept, _REF) and kept() is None


def _put_back(mapping: dict[Any, Any], saved: dict[Any, Any], without: set[Any]) -> None:
    """Make a mapping what it was, in place, and at no moment empty."""
    wanted = {key: value for key, value in saved.items() if key not in without}

    for key in list(mapping):
        if key not in wanted:
            mapping.pop(key, None)

    mapping.update(wanted)


_REF: Final[Any] = weakref.ref
