"""Who is connected to one signal: what sends read, what changes them, and clean-up.

All changes go through the change queue, one at a time. A send takes a snapshot with one read and walks it
without a lock; a change drops the snapshots it makes stale, and the next send makes them anew. What is
taken away during a send is not called any more, because taking away kills the connection's reference,
which each send asks again at the receiver's turn.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import LostReceiverWarning

from .additions import ConnectChange
from .connections import Connection, SenderFilter, Snapshot, filter_key, gone, refer
from .failures import PROPAGATE, SenderPolicy
from .identity import receiver_key
from .mutations import changes
from .options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from .connections import ConnectionKey, FilterKey, Receiver
    from .contract import Contract
    from .identity import ReceiverKey
    from .types import AnySignal
    from .watching import Watch

    StandIn: TypeAlias = Callable[[tuple[Connection, ...], Any, dict[str, Any]], tuple[Connection, ...]]

_NO_OPTIONS: Final = Options()
_KEYED_BY_MORE_THAN_ID: Final = (str, int, bytes, MethodType)


@final
class ConnectionRegistry:
    """The connections of one signal, and what else a send has to look at.

    Sends look for the shortest way first. Each way is missing when it is stale, or when a send has more to
    look at: options, a policy, a mute.

    ==========  ==============================  ======================================
    way         for senders                     signals
    ==========  ==============================  ======================================
    plain       all                             without filters and without a contract
    routes      with a filter that has a short  all
                key, by that
    others      without a filter                all
    route()     all                             all
    ==========  ==============================  ======================================

    :ivar routes: a sender that dies takes its entry along before its ``id`` can be given to another object.
    :ivar filters: the filters of single senders, by their keys.
    :ivar mutes: how many ``muted`` blocks there are, in whatever context.
    :ivar title: names the signal in warnings.
    :ivar is_custom: whether the signal's class finds receivers in its own way.
    :ivar on_change: called after changes, without the lock.
    :ivar interceptors: called with the connections of a send, its sender and its payload; what the last of them gives is
        called instead.
    :ivar watches: who watches the signal's sends.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_by_receiver",
        "_everyone",
        "_routes",
        "_serial",
        "_weak_self",
        "contract",
        "errors",
        "filters",
        "interceptors",
        "is_custom",
        "is_muted",
        "mutes",
        "on_change",
        "others",
        "plain",
        "routes",
        "title",
        "watches",
    )

    contract: Contract | None
    errors: Any
    filters: dict[FilterKey, SenderFilter]
    on_change: Callable[[], object] | None
    is_custom: bool
    is_muted: bool
    mutes: int
    others: tuple[Connection, ...] | None
    plain: tuple[Connection, ...] | None
    routes: dict[str | int, tuple[Connection, ...]]
    interceptors: tuple[StandIn, ...]
    title: str
    watches: tuple[Watch, ...]

    def __init__(self, errors: Any, is_custom: bool) -> None:
        self.title = "a signal"
        self.errors = errors
        self.is_custom = is_custom
        self.is_muted = False
        self.mutes = 0
        self.interceptors = ()
        self.on_change = None
        self.contract = None
        self.plain = None
        self.others = None
        self.routes = {}
        self.filters = {}
        self._base: Snapshot | None = None
        self._routes: dict[FilterKey, Snapshot] = {}
        self._everyone = SenderFilter(None, lambda: True)
        self._by_receiver: dict[ReceiverKey, dict[FilterKey, Connection]] = {}
        self._serial = 0
        self._weak_self: weakref.ref[ConnectionRegistry] = weakref.ref(self, _tables.discard)
        changes.at_once(self._join)  # Or a change of who watches all signals could come in between.

    def _join(self) -> None:
        _tables.add(self._weak_self)
        self.watches = _watches_of_all

    # What sends and lookers-on read.

    def route(self, sender: Any) -> Snapshot:
        """The snapshot for a sender that is resolved already. Takes the lock only to make a stale one anew."""
        filter = self._find(sender)
        route = self._base if filter is None else self._routes.get(filter.key)
        return route or changes.read(partial(self._make_route, sender))

    def connections(self) -> list[Connection]:
        """All whose receivers are alive, in order."""
        found = changes.read(lambda _: list(self._all()))
        return sorted((c for c in found if c.ref() is not None), key=lambda connection: connection.order)

    def sender_of(self, connection: Connection) -> Any:
        """The sender of a connection, :data:`ANY` for any, ``None`` for one that is dead or gone."""
        filter = self._filter(connection.filter_key)
        return None if filter is None else filter.sender

    def has_any(self) -> bool:
        """Whether a live receiver is connected, for whatever sender."""
        if not self._everyone.connections and not self._by_receiver:
            return False

        return changes.read(lambda _: any(connection.ref() is not None for connection in self._all()))

    def _all(self) -> Iterator[Connection]:
        yield from self._everyone.connections.values()

        for connections in self._by_receiver.values():
            yield from connections.values()

    def _find(self, sender: Any) -> SenderFilter | None:
        if not self.filters:
            return None

        filter = self.filters.get(filter_key(sender))
        return filter if filter is not None and filter.ref() is not None else None

    def _make_route(self, sender: Any, keep: bool) -> Snapshot:
        everyone, filter = self._everyone.connections.values(), self._find(sender)
        base = self._base or Snapshot(everyone)

        if keep and self._base is None:
            self._keep_base(base)

        if filter is None:
            return base

        route = Snapshot([*everyone, *filter.connections.values()])

        if keep:
            self._keep_route(filter, route)

        return route

    def _keep_base(self, base: Snapshot) -> None:
        self._base = base

        if base.is_plain and self.is_ordinary:
            self.others = base.connections

            if self.contract is None and not self.filters:
                self.plain = base.connections

    def _keep_route(self, filter: SenderFilter, route: Snapshot) -> None:
        self._routes[filter.key] = route

        if filter.short_key is not None and route.is_plain and self.is_ordinary:
            self.routes[filter.short_key] = route.connections

    def is_other(self, sender: Any) -> bool:
        """Whether it is sure at a glance that a sender has no filter: a proxy or an ``int`` may have one."""
        kind: type[Any] = type(sender)  # pyright: ignore[reportUnknownVariableType]

        if kind is str:
            return ("value", sender) not in self.filters

        if sender.__class__ is not kind or issubclass(kind, _KEYED_BY_MORE_THAN_ID):
            return False

        return ("identity", id(sender)) not in self.filters

    def policy_for(self, sender: Any) -> Any:
        """Return the failure policy of a send."""
        return self.errors.choose(sender) if type(self.errors) is SenderPolicy else self.errors

    @property
    def is_ordinary(self) -> bool:
        """Whether a send has nothing to look at but its payload and its receivers."""
        return (
            isinstance(self.errors, str)
            and self.errors == PROPAGATE
            and not (self.is_custom or self.is_muted or self.mutes > 0 or self.watches or self.interceptors)
        )

    # Changes. Each of these makes one, through the queue.

    def add(
        self, receiver: Receiver, sender: Any, options: Options, *, weak: bool, hold: bool = False
    ) -> ConnectChange:
        """Connect, or change the options of the connection that is there.

        :param sender: resolved already.
        :param hold: connect for a ``with`` block, which ends with :meth:`ConnectChange.undo`.
        :raises InvalidReceiverError: when ``weak`` and the receiver cannot be referenced weakly.
        """
        connection = Connection(receiver, options)

        if weak:
            key = (connection.key, filter_key(sender))
            connection.refer_weakly(partial(_receiver_died, self._weak_self, key))
        else:
            connection.refer_strongly()

        addition = ConnectChange(self, connection, receiver, sender, hold)
        changes.apply(addition.make)
        return addition

    def remove(self, receiver: object, sender: Any) -> None:
        """Disconnect a receiver from one sender, or with :data:`ANY` from all."""
        changes.apply(partial(self._remove, receiver_key(receiver), filter_key(sender)))

    def use_up(self, connection: Connection, options: Options) -> None:
        """Disconnect a ``once`` connection that is about to be called. Blocks that want it keep it."""
        changes.apply(partial(self._use_up, connection, options))

    def clear(self) -> None:
        """Disconnect all."""
        changes.apply(self._clear)

    def set(self, name: str, value: Any) -> None:
        """Change something else that a send has to look at, such as ``errors``."""

        def change() -> None:
            setattr(self, name, value)
            self._invalidate(self._everyone)

        changes.apply(change)

    def intercept(self, intercept: StandIn, *, is_on: bool) -> None:
        """Have something else called than who is connected, or not any more."""

        def change() -> None:
            others = tuple(other for other in self.interceptors if other is not intercept)
            self.interceptors = (*others, intercept) if is_on else others
            self._invalidate(self._everyone)

        changes.apply(change)

    def watch(self, watch: Watch, *, is_on: bool) -> None:
        """Have sends watched, or not any more."""
        changes.apply(partial(self.change_watch, watch, is_on=is_on))

    def declare(self, contract: Contract) -> Contract | None:
        """Set the contract, unless there is one that another function declares.

        :return: the contract that was there.
        """
        before: list[Contract | None] = []

        def change() -> None:
            before.append(self.contract)

            if self.contract is None or self.contract.place == contract.place:
                self.contract = contract
                self._invalidate(self._everyone)

        changes.apply(change)
        return before[0] if before else None

    def count_mute(self, step: int) -> None:
        """Note that a ``muted`` block began (1) or ended (-1). At once, also from inside a change."""

        def change() -> None:
            self.mutes += step

            if self.mutes == 0:
                self._invalidate(self._everyone)
            else:
                self.plain = self.others = None
                self.routes = {}

        changes.at_once(change)

    # What changes do. One at a time, with the lock held; they call no code of a user's.

    def change_watch(self, watch: Watch, *, is_on: bool) -> None:
        """What :meth:`watch` does."""
        self.watches = _changed_watches(self.watches, watch, is_on=is_on)
        self._invalidate(self._everyone)

    def _existing(self, key: ReceiverKey, filter_key: FilterKey) -> Connection | None:
        filter = self._filter(filter_key)
        return None if filter is None or filter.ref() is None else filter.connections.get(key)

    def _filter(self, key: FilterKey) -> SenderFilter | None:
        return self._everyone if key is None else self.filters.get(key)

    def _insert(self, connection: Connection, sender: Any) -> None:
        filter = self._filter_for(sender)
        self._serial += 1
        connection.serial = self._serial
        connection.filter_key = filter.key

        if filter is not self._everyone:
            self._by_receiver.setdefault(connection.key, {})[filter.key] = connection

        # Last: an exception of a signal handler's may come at any line, and this is what counts.
        filter.connections[connection.key] = connection
        self._invalidate(filter)

    def _filter_for(self, sender: Any) -> SenderFilter:
        key = filter_key(sender)

        if key is None:
            return self._everyone

        filter = self.filters.get(key)

        if filter is not None and filter.ref() is not None:
            return filter

        if filter is not None:
            self._drop_filter(filter)

        filter = self.filters[key] = self._make_filter(key, sender)
        return filter

    def _make_filter(self, key: tuple[str, Any], sender: Any) -> SenderFilter:
        kind, identity = key

        if kind == "value":
            return SenderFilter(key, lambda: True, identity if isinstance(identity, str) else None)

        short_key = identity if isinstance(identity, int) else None

        try:
            return SenderFilter(key, refer(sender, identity, partial(_sender_died, self._weak_self, key)), short_key)
        except TypeError:
            # Kept alive while something is connected to it, or its id could come to mean another.
            return SenderFilter(key, lambda: (sender,), short_key)

    def _drop(self, connection: Connection) -> None:
        # In this order: a send that finds the reference alive has read the options before.
        waste = (connection.ref, connection.strong_ref, connection.options)
        connection.ref = gone
        connection.strong_ref = None
        connection.options = _NO_OPTIONS
        changes.discard(*waste)

        key, filter_key = connection.key, connection.filter_key
        filter = self._filter(filter_key)

        if filter is None or filter.connections.get(key) is not connection:
            return

        del filter.connections[key]
        self._invalidate(filter)

        if filter is self._everyone:
            return

        filtered = self._by_receiver.get(key, {})
        filtered.pop(filter_key, None)

        if not filtered:
            self._by_receiver.pop(key, None)

        if not filter.connections:
            self._drop_filter(filter)

    def _use_up(self, connection: Connection, options: Options) -> None:
        if connection.options is not options:
            return  # It was connected again since its call was taken.

        if connection.open_scopes == 0:
            self._drop(connection)
            return

        connection.connected_directly = connection.is_strong = False
        connection.options = Options()
        self._changed(connection)

    def _changed(self, connection: Connection) -> None:
        key = connection.filter_key
        self._invalidate(self._everyone if key is None else self.filters[key])

    def _drop_filter(self, filter: SenderFilter) -> None:
        for connection in list(filter.connections.values()):
            self._drop(connection)  # The last of them comes back here.

        if self.filters.get(filter.key) is not filter:
            return

        del self.filters[filter.key]
        changes.discard(filter.ref)
        self._invalidate(filter)

        if not self.filters:
            self._invalidate(self._everyone)  # So that the plain way is open again.

    def _remove(self, key: ReceiverKey, filter_key: FilterKey) -> None:
        connection = self._existing(key, filter_key)

        if connection is not None:
            self._drop(connection)

        if filter_key is None:
            for connection in list(self._by_receiver.get(key, {}).values()):
                self._drop(connection)

    def _clear(self) -> None:
        for connection in list(self._all()):
            self._drop(connection)

    def _invalidate(self, filter: SenderFilter) -> None:
        """Drop the snapshots that a change to this filter makes stale."""
        self.plain = None

        if self.on_change is not None:
            changes.report(self.on_change)

        if filter is self._everyone:
            self.others = self._base = None
            self.routes = {}
            self._routes = {}
            return

        self._routes.pop(filter.key, None)

        if filter.short_key is not None:
            self.routes.pop(filter.short_key, None)

    def _sweep_receiver(self, key: ConnectionKey) -> None:
        connection = self._existing(*key)

        # The id may have come to another receiver since: only what is dead goes.
        if connection is not None and connection.ref() is None:
            self._drop(connection)

    def _sweep_sender(self, key: FilterKey) -> None:
        filter = self.filters.get(key)

        if filter is not None and filter.ref() is None:
            self._drop_filter(filter)


def _receiver_died(owner: weakref.ref[ConnectionRegistry], key: ConnectionKey, _: weakref.ref[Any]) -> None:
    table = owner()

    # While the interpreter shuts down, half of what the clean-up needs may be gone.
    if table is None or sys.is_finalizing():
        return

    connection = table._existing(*key)

    if connection is not None and connection.place is not None and connection.ref() is None:
        changes.report(partial(_warn_of_loss, table.title, *connection.place))

    changes.defer(partial(table._sweep_receiver, key))


def _sender_died(owner: weakref.ref[ConnectionRegistry], key: tuple[str, Any], _: weakref.ref[Any]) -> None:
    table = owner()

    if table is None or sys.is_finalizing():
        return

    table.routes.pop(key[1], None)  # At once, before the id can be given to another object.
    changes.defer(partial(table._sweep_sender, key))


def watch_all(watch: Watch, *, is_on: bool) -> None:
    """Have the sends of all signals watched, also of those that are made later; or not any more."""

    def change() -> None:
        global _watches_of_all  # noqa: PLW0603  # Tables read it when they are made.
        _watches_of_all = _changed_watches(_watches_of_all, watch, is_on=is_on)
        tables = [table for ref in list(_tables) if (table := ref()) is not None]

        for table in tables:
            table.change_watch(watch, is_on=is_on)

        changes.discard(*tables)  # This may be the last reference to one.

    changes.apply(change)


def _changed_watches(watches: tuple[Watch, ...], watch: Watch, *, is_on: bool) -> tuple[Watch, ...]:
    others = tuple(other for other in watches if other is not watch)
    return (*others, watch) if is_on else others


_tables: Final[set[weakref.ref[ConnectionRegistry]]] = set()
_watches_of_all: tuple[Watch, ...] = ()


def _warn_of_loss(title: str, file: str, line: int, receiver: str) -> None:
    message = (
        f"{receiver} was connected to {title} here and has been garbage collected, so it is not called"
        " any more. Keep a reference to it, or connect it with weak=False."
    )
    warnings.warn_explicit(message, LostReceiverWarning, file, line)


def registry_of(signal: AnySignal) -> ConnectionRegistry:
    """Return the registry of a signal, for the packages above the engine. Users look with :mod:`aldis.observe`."""
    return signal._registry  # pyright: ignore[reportPrivateUsage]
