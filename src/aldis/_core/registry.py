"""The connections of one signal: their list, the changes to it, and the clean-up after dead receivers and senders.

All changes go through the change queue, one at a time. A send takes a snapshot with one read and walks it without a
lock. A change drops the snapshots that it makes stale, and the next send makes them anew. A connection that is taken
away during a send is not called any more: the change replaces its reference, and each send asks the reference at the
receiver's turn.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import LostReceiverWarning

from .connections import Connection, SenderFilter, gone
from .identity import filter_key, receiver_key
from .mutations import changes
from .options import Options
from .snapshots import SnapshotCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .connections import Receiver
    from .contract import Contract
    from .identity import ConnectionKey, FilterKey, ReceiverKey
    from .snapshots import Interceptor
    from .types import AnySignal
    from .watching import Watch

_NO_OPTIONS: Final = Options()
_registries: Final[dict[weakref.ref[Any], None]] = {}
"""The registries of all signals, in the order in which they were made. A dict, because a set has no order."""


def _forget(
    registry: weakref.ref[Any],
    registries: dict[weakref.ref[Any], None] = _registries,  # While the interpreter shuts down, it deletes globals.
) -> None:
    registries.pop(registry, None)


@final
class ConnectionRegistry(SnapshotCache):
    """The connections of one signal, with the settings that a send looks at.

    :ivar signal_ref: returns the signal, or ``None`` before the signal has set it and after the signal has died.
    :ivar title: names the signal in warnings.
    """

    __slots__ = ("__weakref__", "_by_receiver", "_serial", "_weak_self", "signal_ref", "title")

    signal_ref: Callable[[], AnySignal | None]
    title: str

    def __init__(self, errors: Any, is_custom: bool) -> None:
        super().__init__(errors, is_custom)
        self.title = "a signal"
        self.signal_ref = gone
        self._by_receiver: dict[ReceiverKey, dict[FilterKey, Connection]] = {}
        self._serial = 0
        self._weak_self: weakref.ref[ConnectionRegistry] = weakref.ref(self, _forget)
        changes.at_once(self._join)  # One change for both lines: watch_all() must not run between them.

    def _join(self) -> None:
        _registries[self._weak_self] = None
        self.watches = _watches_of_all

    # Looking.

    def connections(self) -> list[Connection]:
        """Return the connections with living receivers, in order."""
        found = changes.read(lambda _: list(self.all_connections()))
        return sorted((c for c in found if c.ref() is not None), key=lambda connection: connection.order)

    def sender_of(self, connection: Connection) -> Any:
        """Return the sender of a connection: :data:`ANY` for any sender, ``None`` when it is dead or gone."""
        sender_filter = self.filter_with(connection.filter_key)
        return None if sender_filter is None else sender_filter.sender

    def has_any(self) -> bool:
        """Return whether a living receiver is connected, for any sender."""
        if not self.for_any.connections and not self._by_receiver:
            return False

        return changes.read(lambda _: any(connection.ref() is not None for connection in self.all_connections()))

    # Changes. Each of these makes one change, through the queue.

    def remove(self, receiver: object, sender: Any) -> None:
        """Disconnect a receiver from one sender, or with :data:`ANY` from all senders."""
        changes.apply(partial(self._remove, receiver_key(receiver), filter_key(sender)))

    def use_up(self, connection: Connection, options: Options) -> None:
        """Disconnect a ``once`` connection that is about to be called. Open ``with`` blocks keep it."""
        changes.apply(partial(self._use_up, connection, options))

    def clear(self) -> None:
        """Disconnect all receivers."""
        changes.apply(self.drop_all)

    def set(self, name: str, value: Any) -> None:
        """Change a setting that a send looks at, such as ``errors``."""

        def change() -> None:
            setattr(self, name, value)
            self.invalidate_all()

        changes.apply(change)

    def intercept(self, interceptor: Interceptor, *, is_on: bool) -> None:
        """Add or remove an interceptor: see :attr:`interceptors`."""

        def change() -> None:
            self.interceptors = _with_or_without(self.interceptors, interceptor, is_on=is_on)
            self.invalidate_all()

        changes.apply(change)

    def watch(self, watch: Watch, *, is_on: bool) -> None:
        """Add or remove a watch."""
        changes.apply(partial(self.change_watch, watch, is_on=is_on))

    def declare(self, contract: Contract) -> Contract | None:
        """Set the contract, unless another function declares the signal already.

        :return: the contract before.
        """
        before: list[Contract | None] = []

        def change() -> None:
            before.append(self.contract)

            if self.contract is None or self.contract.place == contract.place:
                self.contract = contract
                self.invalidate_all()

        changes.apply(change)
        return before[0] if before else None

    def count_mute(self, step: int) -> None:
        """Note that a ``muted`` block began (1) or ended (-1). At once, even from inside another change."""

        def change() -> None:
            self.mutes += step

            if self.mutes == 0:
                self.invalidate_all()
            else:
                self.close_fast_ways()

        changes.at_once(change)

    # Parts of changes, for this module, for scopes and for the packages above, such as the isolation of tests. They run
    # inside a change, one at a time with the lock held, and call no code of the user.

    def all_connections(self) -> Iterator[Connection]:
        """Iterate over all connections, dead ones too, in no order. Only inside a change or ``changes.read``."""
        yield from self.for_any.connections.values()

        for connections in self._by_receiver.values():
            yield from connections.values()

    def find(self, key: ReceiverKey, filter_key: FilterKey) -> Connection | None:
        """Return the connection of these keys, if there is one and its sender is alive."""
        sender_filter = self.filter_with(filter_key)
        return None if sender_filter is None or sender_filter.ref() is None else sender_filter.connections.get(key)

    def filter_with(self, key: FilterKey) -> SenderFilter | None:
        """Return the sender filter of this key, if there is one."""
        return self.for_any if key is None else self.filters.get(key)

    def make_connection(self, receiver: Receiver, sender: Any, options: Options, *, weak: bool) -> Connection:
        """Make a connection for :meth:`insert`. This is no change yet, and needs no lock.

        :param sender: resolved already.
        :raises InvalidReceiverError: when ``weak`` and the receiver cannot be referenced weakly.
        """
        connection = Connection(receiver, options)

        if weak:
            key = (connection.key, filter_key(sender))
            connection.refer_weakly(partial(_receiver_died, self._weak_self, key))
        else:
            connection.refer_strongly()

        return connection

    def insert(self, connection: Connection, sender: Any) -> None:
        """Add a connection that is not there."""
        sender_filter = self._filter_for(sender)
        self._serial += 1
        connection.serial = self._serial
        connection.filter_key = sender_filter.key

        if sender_filter is not self.for_any:
            self._by_receiver.setdefault(connection.key, {})[sender_filter.key] = connection

        # Last: a signal handler of the process may raise at any line, and this line makes the connection count.
        sender_filter.connections[connection.key] = connection
        self.invalidate(sender_filter)

    def drop(self, connection: Connection) -> None:
        """Take a connection away. A send that is under way does not call it any more."""
        # In this order: a send that finds the reference alive has read the options before.
        garbage = (connection.ref, connection.strong_ref, connection.options)
        connection.ref = gone
        connection.strong_ref = None
        connection.options = _NO_OPTIONS
        changes.add_garbage(*garbage)

        key, filter_key = connection.key, connection.filter_key
        sender_filter = self.filter_with(filter_key)

        if sender_filter is None or sender_filter.connections.get(key) is not connection:
            return

        del sender_filter.connections[key]
        self.invalidate(sender_filter)

        if sender_filter is self.for_any:
            return

        filtered = self._by_receiver.get(key, {})
        filtered.pop(filter_key, None)

        if not filtered:
            self._by_receiver.pop(key, None)

        if not sender_filter.connections:
            self._drop_filter(sender_filter)

    def drop_all(self) -> None:
        """Take all connections away."""
        for connection in list(self.all_connections()):
            self.drop(connection)

    def invalidate_connection(self, connection: Connection) -> None:
        """Drop the snapshots that a change to a connection makes stale."""
        key = connection.filter_key
        self.invalidate(self.for_any if key is None else self.filters[key])

    def change_watch(self, watch: Watch, *, is_on: bool) -> None:
        """Add or remove a watch, as :meth:`watch` does."""
        self.watches = _with_or_without(self.watches, watch, is_on=is_on)
        self.invalidate_all()

    def _filter_for(self, sender: Any) -> SenderFilter:
        key = filter_key(sender)

        if key is None:
            return self.for_any

        sender_filter = self.filters.get(key)

        if sender_filter is not None and sender_filter.ref() is not None:
            return sender_filter

        if sender_filter is not None:
            self._drop_filter(sender_filter)

        sender_filter = SenderFilter.make(key, sender, partial(_sender_died, self._weak_self, key))
        self.filters[key] = sender_filter
        return sender_filter

    def _drop_filter(self, sender_filter: SenderFilter) -> None:
        for connection in list(sender_filter.connections.values()):
            self.drop(connection)  # The last of these calls comes back to this method.

        if self.filters.get(sender_filter.key) is not sender_filter:
            return

        del self.filters[sender_filter.key]
        changes.add_garbage(sender_filter.ref)
        self.invalidate(sender_filter)

        if not self.filters:
            self.invalidate_all()  # Now the plain way is possible again.

    def _use_up(self, connection: Connection, options: Options) -> None:
        if connection.options is not options:
            return  # It was connected again after its call was taken.

        if connection.open_scopes == 0:
            self.drop(connection)
            return

        connection.connected_directly = connection.is_strong = False
        connection.options = Options()
        self.invalidate_connection(connection)

    def _remove(self, key: ReceiverKey, filter_key: FilterKey) -> None:
        connection = self.find(key, filter_key)

        if connection is not None:
            self.drop(connection)

        if filter_key is None:
            for connection in list(self._by_receiver.get(key, {}).values()):
                self.drop(connection)

    def sweep_receiver(self, key: ConnectionKey) -> None:
        """Take a connection away if its receiver is dead."""
        connection = self.find(*key)

        # The id may belong to a new receiver by now, so drop only a dead one.
        if connection is not None and connection.ref() is None:
            self.drop(connection)

    def sweep_sender(self, key: FilterKey) -> None:
        """Take a sender filter and its connections away if the sender is dead."""
        sender_filter = self.filters.get(key)

        if sender_filter is not None and sender_filter.ref() is None:
            self._drop_filter(sender_filter)


def _receiver_died(owner: weakref.ref[ConnectionRegistry], key: ConnectionKey, _: weakref.ref[Any]) -> None:
    registry = owner()

    # While the interpreter shuts down, modules that the clean-up needs may be gone.
    if registry is None or sys.is_finalizing():
        return

    connection = registry.find(*key)

    if connection is not None and connection.connected_at is not None and connection.ref() is None:
        changes.report(partial(_warn_of_loss, registry.title, *connection.connected_at))

    changes.defer(partial(registry.sweep_receiver, key))


def _sender_died(owner: weakref.ref[ConnectionRegistry], key: tuple[str, Any], _: weakref.ref[Any]) -> None:
    registry = owner()

    if registry is None or sys.is_finalizing():
        return

    registry.by_sender.pop(key[1], None)  # At once, before the id can be given to another object.
    changes.defer(partial(registry.sweep_sender, key))


def _warn_of_loss(title: str, file: str, line: int, receiver: str) -> None:
    message = (
        f"{receiver} was connected to {title} here and has been garbage collected, so it is not called"
        " any more. Keep a reference to it, or connect it with weak=False."
    )
    warnings.warn_explicit(message, LostReceiverWarning, file, line)


def all_registries() -> list[ConnectionRegistry]:
    """Return the registries of all living signals of the process, in the order in which they were made."""
    return [registry for ref in list(_registries) if (registry := ref()) is not None]


def all_signals() -> list[AnySignal]:
    """Return all living signals of the process, in the order in which they were made."""
    return [signal for registry in all_registries() if (signal := registry.signal_ref()) is not None]


def watch_all(watch: Watch, *, is_on: bool) -> None:
    """Add a watch to all signals, also to signals that are made later; or remove the watch."""

    def change() -> None:
        global _watches_of_all  # noqa: PLW0603  # A registry reads it when it is made.
        _watches_of_all = _with_or_without(_watches_of_all, watch, is_on=is_on)
        registries = all_registries()

        for registry in registries:
            registry.change_watch(watch, is_on=is_on)

        changes.add_garbage(*registries)  # This may be the last reference to one of the signals.

    changes.apply(change)


_watches_of_all: tuple[Watch, ...] = ()


def _with_or_without(items: tuple[Any, ...], item: object, *, is_on: bool) -> tuple[Any, ...]:
    others = tuple(other for other in items if other is not item)
    return (*others, item) if is_on else others


def registry_of(signal: AnySignal) -> ConnectionRegistry:
    """Return the registry of a signal, for the packages above the engine. Users look with :mod:`aldis.observe`."""
    registry: ConnectionRegistry = signal._registry
    return registry
