"""Changes that can be taken back: one ``connect``, a ``connected_to`` block, a ``muted`` block.

A signal is muted in a context: a context variable holds the ``muted`` blocks that are open there. Reading it costs
time on every send, so each registry counts its open blocks, and sends read the variable only while a block is open.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import local
from typing import TYPE_CHECKING, Any, Final, final

from .identity import filter_key, receiver_key
from .mutations import changes

if TYPE_CHECKING:
    from .connections import Connection, Receiver
    from .identity import ReceiverKey
    from .registry import ConnectionRegistry
    from .types import AnySignal

_RESTORED: Final = ("connected_directly", "is_strong", "strong_ref", "options", "connected_at", "ref")


@final
class ConnectChange:
    """One ``connect`` as a change of the registry. It can take back exactly what it changed.

    :ivar connection: the new connection; after :meth:`make`, the connection that was there already, if there was one.
    :ivar in_scope: whether a ``with`` block connects. It ends with :meth:`undo`.
    :ivar is_new: whether there was no such connection before.
    """

    __slots__ = ("_before", "connection", "in_scope", "is_new", "receiver", "registry", "sender")

    connection: Connection
    in_scope: bool
    is_new: bool
    receiver: Receiver
    registry: ConnectionRegistry
    sender: Any

    def __init__(
        self, registry: ConnectionRegistry, connection: Connection, receiver: Receiver, sender: Any, in_scope: bool
    ) -> None:
        self.registry = registry
        self.connection = connection
        self.receiver = receiver
        self.sender = sender
        self.in_scope = in_scope
        self.is_new = True
        self._before: dict[str, Any] = {}

    def make(self) -> None:
        """Connect, or change the options of the connection that is there."""
        changes.apply(self._make)

    def undo(self) -> None:
        """Take back what :meth:`make` did, and no more. Other connections of the receiver stay."""
        changes.apply(self._leave if self.in_scope else self._restore)

    def _make(self) -> None:
        registry, new = self.registry, self.connection
        existing = registry.find(new.key, filter_key(self.sender))

        if existing is not None and existing.ref() is None:
            registry.drop(existing)  # The receiver has the id of a receiver that died.
            existing = None

        if existing is None:
            registry.insert(new, self.sender)
        else:
            self.is_new = False
            self.connection = existing
            self._before = {name: getattr(existing, name) for name in _RESTORED}

        if self.in_scope:
            self._enter()
        else:
            _update(self.connection, new)
            registry.invalidate_connection(self.connection)

    def _enter(self) -> None:
        connection = self.connection
        connection.open_scopes += 1

        if connection.strong_ref is None:  # Hold the block's object, so that the reference stays alive.
            connection.strong_ref = self.receiver

    def _leave(self) -> None:
        connection = self.connection
        connection.open_scopes -= 1

        if connection.open_scopes == 0 and not connection.connected_directly:
            self.registry.drop(connection)
        elif connection.open_scopes == 0 and not connection.is_strong:
            connection.strong_ref = None

    def _restore(self) -> None:
        connection = self.connection

        if self.is_new:
            self.registry.drop(connection)
            return

        if self.registry.find(connection.key, connection.filter_key) is not connection:
            return  # It was disconnected meanwhile.

        for name, value in self._before.items():
            setattr(connection, name, value)

        self.registry.invalidate_connection(connection)


def _update(connection: Connection, new: Connection) -> None:
    """Give a connection the options of a later ``connect``. A strong connection stays strong."""
    connection.connected_directly = True
    connection.options = new.options
    connection.connected_at = new.connected_at

    if connection.is_strong:
        return

    connection.ref = new.ref
    connection.is_strong = new.strong_ref is not None

    if connection.is_strong or connection.open_scopes == 0:
        connection.strong_ref = new.strong_ref


@final
class ConnectScope:
    """A ``connected_to`` block, and the changes that it made.

    The block calls the public ``connect`` and ``disconnect``, which subclasses may override. During the call the block
    is stored for this thread, and the called method takes it from there. The method compares receiver and sender,
    because a destructor may run meanwhile in the same thread, and its changes do not belong to the block.
    """

    __slots__ = ("_outer", "changes", "is_waiting", "key", "signal")

    changes: list[ConnectChange]
    is_waiting: bool
    key: object
    signal: AnySignal

    def __init__(self, signal: AnySignal, receiver: Any, sender: Any) -> None:
        self.signal = signal
        self.key = (receiver_key(receiver), filter_key(sender))
        self.changes = []
        self.is_waiting = False

    def __enter__(self) -> None:
        self._outer: ConnectScope | None = getattr(_calling, "scope", None)
        self.is_waiting = True
        _calling.scope = self

    def __exit__(self, *_: object) -> None:
        _calling.scope = self._outer

    @staticmethod
    def take(signal: AnySignal, receiver: Any, sender: Any) -> ConnectScope | None:
        """Return the block that is calling this method, if there is one. Each call takes the block once."""
        scope: ConnectScope | None = getattr(_calling, "scope", None)

        if scope is None or not scope.is_waiting or scope.signal is not signal:
            return None

        if scope.key != (receiver_key(receiver), filter_key(sender)):
            return None

        scope.is_waiting = False
        return scope

    def undo(self) -> None:
        """Take back the changes, if that was not done yet."""
        while self.changes:
            self.changes.pop().undo()


_calling: Final = local()


@final
class MuteScope:
    """A ``muted`` block.

    :ivar keys: the receivers that it mutes, or ``None`` for all.
    :ivar is_open: ``False`` after the end, also for tasks that were started in the block.
    """

    __slots__ = ("is_open", "keys", "receivers", "registry")

    def __init__(self, registry: ConnectionRegistry, receivers: tuple[Any, ...]) -> None:
        self.registry = registry
        self.receivers = receivers  # Kept alive, so that no other receiver gets their keys.
        self.keys = frozenset(receiver_key(receiver) for receiver in receivers) if receivers else None
        self.is_open = False

    def open(self) -> None:
        """Begin, in the current context."""
        self.is_open = True
        self.registry.count_mute(1)
        _open.set((*(scope for scope in _open.get() if scope.is_open), self))

    def close(self) -> None:
        """End. This works in another context than that of :meth:`open`, because async fixtures need that."""
        self.is_open = False
        self.receivers = ()
        self.registry.count_mute(-1)
        _open.set(tuple(scope for scope in _open.get() if scope.is_open))
        del self.registry  # Another context may hold the closed block for a long time.


_open: Final[ContextVar[tuple[MuteScope, ...]]] = ContextVar("aldis_muted", default=())


def muted_keys(registry: ConnectionRegistry) -> frozenset[ReceiverKey] | None:
    """Return the keys of a signal's receivers that are muted here; ``None`` when all are muted."""
    keys: frozenset[ReceiverKey] = frozenset()

    for scope in _open.get():
        if scope.is_open and scope.registry is registry:
            if scope.keys is None:
                return None

            keys |= scope.keys

    return keys


def is_muted_here(registry: ConnectionRegistry) -> bool:
    """Return whether a send from here would call no receivers, because all are muted."""
    return registry.is_muted or (registry.mutes > 0 and muted_keys(registry) is None)
