"""What a send reads: the snapshot of its sender, and the settings that decide how it is walked."""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, final

from .connections import SenderFilter
from .failures import PROPAGATE, SenderPolicy, handler_of
from .identity import filter_key
from .mutations import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from .connections import Connection
    from .contract import Contract
    from .identity import FilterKey
    from .watching import Watch

    Interceptor: TypeAlias = Callable[[tuple[Connection, ...], Any, dict[str, Any]], tuple[Connection, ...]]

_KEYED_BY_MORE_THAN_ID: Final = (str, int, bytes, MethodType)


@final
class Snapshot:
    """The connections that a send by one sender walks, in order. Immutable.

    :ivar has_doubles: whether a receiver is in it twice, for the sender and for any sender. A send calls it once, at
        the first of its places that is still connected then.
    :ivar is_plain: whether a send only calls the receivers.
    :ivar is_all_async: whether an async send only awaits the receivers.
    """

    __slots__ = ("connections", "has_doubles", "is_all_async", "is_plain")

    connections: tuple[Connection, ...]
    has_doubles: bool
    is_all_async: bool
    is_plain: bool

    def __init__(self, connections: Iterable[Connection]) -> None:
        self.connections = tuple(sorted(connections, key=lambda connection: connection.order))
        self.has_doubles = len({connection.key for connection in self.connections}) < len(self.connections)
        is_simple = not self.has_doubles and all(connection.is_simple for connection in self.connections)
        self.is_plain = is_simple and not any(connection.is_async for connection in self.connections)
        self.is_all_async = is_simple and all(connection.is_async for connection in self.connections)


class SnapshotCache:
    """The snapshots of one signal. The first send that needs one makes it, and a change that makes it stale drops it.

    Sends try the fastest way first. A way is missing when it is stale, or when a send has more to do: options, a
    failure policy, a mute.

    ==============  ====================================  ==========================================
    way             for senders                           of signals
    ==============  ====================================  ==========================================
    plain           all                                   without sender filters, without a contract
    by_sender       with a filter that has a short key    all
    others          without a filter                      all
    snapshot()      all                                   all
    ==============  ====================================  ==========================================

    This is a base class of the registry, not an attribute of it: sends read these attributes at each call, and one more
    attribute on the way would slow down all of them.

    :ivar plain: the connections for every sender, where a send only calls the receivers.
    :ivar others: the same for senders without a filter.
    :ivar by_sender: the same by the short keys of senders. A dying sender removes its entry before its ``id`` can be
        given to another object.
    :ivar filters: the filters of single senders, by their keys.
    :ivar for_any: the filter of connections to :data:`ANY`.
    :ivar mutes: how many ``muted`` blocks are open, in any context.
    :ivar is_custom: whether the signal's class overrides ``receivers_for``.
    :ivar on_change: called after changes, without the lock.
    :ivar interceptors: called with the connections, the sender and the payload of a send, one after the other. The
        send calls the connections that the last of them returns.
    :ivar watches: the watches of the signal's sends.
    """

    __slots__ = (
        "_by_filter",
        "_unfiltered",
        "by_sender",
        "contract",
        "errors",
        "filters",
        "for_any",
        "interceptors",
        "is_custom",
        "is_muted",
        "mutes",
        "on_change",
        "others",
        "plain",
        "watches",
    )

    by_sender: dict[str | int, tuple[Connection, ...]]
    contract: Contract | None
    errors: Any
    filters: dict[FilterKey, SenderFilter]
    for_any: SenderFilter
    interceptors: tuple[Interceptor, ...]
    is_custom: bool
    is_muted: bool
    mutes: int
    on_change: Callable[[], object] | None
    others: tuple[Connection, ...] | None
    plain: tuple[Connection, ...] | None
    watches: tuple[Watch, ...]

    def __init__(self, errors: Any, is_custom: bool) -> None:
        self.errors = errors
        self.is_custom = is_custom
        self.is_muted = False
        self.mutes = 0
        self.interceptors = ()
        self.on_change = None
        self.contract = None
        self.plain = None
        self.others = None
        self.by_sender = {}
        self.filters = {}
        self.for_any = SenderFilter(None, lambda: True)
        self._unfiltered: Snapshot | None = None
        self._by_filter: dict[FilterKey, Snapshot] = {}

    def snapshot(self, sender: Any) -> Snapshot:
        """Return the snapshot for a sender that is resolved already. Takes the lock only to replace a stale one."""
        sender_filter = self._filter_of(sender)
        snapshot = self._unfiltered if sender_filter is None else self._by_filter.get(sender_filter.key)
        return snapshot or changes.read(partial(self._make_snapshot, sender))

    def _filter_of(self, sender: Any) -> SenderFilter | None:
        if not self.filters:
            return None

        sender_filter = self.filters.get(filter_key(sender))
        return sender_filter if sender_filter is not None and sender_filter.ref() is not None else None

    def _make_snapshot(self, sender: Any, keep: bool) -> Snapshot:
        for_any, sender_filter = self.for_any.connections.values(), self._filter_of(sender)
        unfiltered = self._unfiltered or Snapshot(for_any)

        if keep and self._unfiltered is None:
            self._keep_unfiltered(unfiltered)

        if sender_filter is None:
            return unfiltered

        snapshot = Snapshot([*for_any, *sender_filter.connections.values()])

        if keep:
            self._keep_filtered(sender_filter, snapshot)

        return snapshot

    def _keep_unfiltered(self, snapshot: Snapshot) -> None:
        self._unfiltered = snapshot

        if snapshot.is_plain and self.is_ordinary:
            self.others = snapshot.connections

            if self.contract is None and not self.filters:
                self.plain = snapshot.connections

    def _keep_filtered(self, sender_filter: SenderFilter, snapshot: Snapshot) -> None:
        self._by_filter[sender_filter.key] = snapshot

        if sender_filter.short_key is not None and snapshot.is_plain and self.is_ordinary:
            self.by_sender[sender_filter.short_key] = snapshot.connections

    def is_other(self, sender: Any) -> bool:
        """Return whether a sender surely has no filter. A proxy or an ``int`` may have a filter, so the answer is no
        for them.
        """
        kind: type[Any] = type(sender)  # pyright: ignore[reportUnknownVariableType]  # A type[Unknown] otherwise.

        if kind is str:
            return ("value", sender) not in self.filters

        if sender.__class__ is not kind or issubclass(kind, _KEYED_BY_MORE_THAN_ID):
            return False

        return ("identity", id(sender)) not in self.filters

    def policy_for(self, sender: Any) -> Any:
        """Return the failure policy of a send by ``sender``: ``"propagate"``, ``"collect"`` or a callable."""
        return handler_of(self.errors.choose(sender) if type(self.errors) is SenderPolicy else self.errors)

    @property
    def is_ordinary(self) -> bool:
        """Whether a send looks at nothing but its payload and its receivers."""
        return (
            isinstance(self.errors, str)
            and self.errors == PROPAGATE
            and not (self.is_custom or self.is_muted or self.mutes > 0 or self.watches or self.interceptors)
        )

    # Changes call these, with the lock held.

    def invalidate(self, sender_filter: SenderFilter) -> None:
        """Drop the snapshots that a change to this filter makes stale."""
        self.plain = None

        if self.on_change is not None:
            changes.report(self.on_change)

        if sender_filter is self.for_any:
            self.others = self._unfiltered = None
            self.by_sender = {}
            self._by_filter = {}
            return

        self._by_filter.pop(sender_filter.key, None)

        if sender_filter.short_key is not None:
            self.by_sender.pop(sender_filter.short_key, None)

    def invalidate_all(self) -> None:
        """Drop all snapshots."""
        self.invalidate(self.for_any)

    def close_fast_ways(self) -> None:
        """Make every send ask :meth:`snapshot` and look at the settings."""
        self.plain = self.others = None
        self.by_sender = {}
