"""The ``with`` blocks of a signal, and how each takes back exactly what it did.

Which signals are muted is a matter of the current context: a context variable holds the blocks that are
open here. Reading it costs on every send, so each table counts its open blocks, and sends look here only
while there are any.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import local
from typing import TYPE_CHECKING, Any, Final, final

from .connections import filter_key
from .identity import receiver_key

if TYPE_CHECKING:
    from .additions import ConnectChange
    from .identity import ReceiverKey
    from .registry import ConnectionRegistry
    from .signal import Signal


@final
class MuteScope:
    """One ``muted`` block.

    :ivar keys: the receivers that it mutes, or ``None`` for all.
    :ivar is_open: ended blocks are closed for tasks too that were started in them.
    """

    __slots__ = ("is_open", "keys", "receivers", "table")

    def __init__(self, table: ConnectionRegistry, receivers: tuple[Any, ...]) -> None:
        self.table = table
        self.receivers = receivers  # Kept alive, so that the keys stay theirs.
        self.keys = frozenset(receiver_key(receiver) for receiver in receivers) if receivers else None
        self.is_open = False

    def open(self) -> None:
        """Begin, in the current context."""
        self.is_open = True
        self.table.count_mute(1)
        _open.set((*(mute for mute in _open.get() if mute.is_open), self))

    def close(self) -> None:
        """End. Works from another context than that of :meth:`open`, as async fixtures need it."""
        self.is_open = False
        self.receivers = ()
        self.table.count_mute(-1)
        _open.set(tuple(mute for mute in _open.get() if mute.is_open))
        del self.table  # A context that is not this one may hold the closed block for long.


_open: Final[ContextVar[tuple[MuteScope, ...]]] = ContextVar("aldis_muted", default=())


def muted_keys(table: ConnectionRegistry) -> frozenset[ReceiverKey] | None:
    """The receivers of a signal that are muted here; ``None`` when all are."""
    keys: frozenset[ReceiverKey] = frozenset()

    for mute in _open.get():
        if mute.is_open and mute.table is table:
            if mute.keys is None:
                return None

            keys |= mute.keys

    return keys


@final
class ConnectScope:
    """A ``connected_to`` block, and what it added. In force while it calls ``connect`` and ``disconnect``.

    It is found by way of the thread, and by what it is for: what a destructor connects meanwhile is not its own.
    """

    __slots__ = ("_outer", "additions", "is_waiting", "key", "signal")

    additions: list[ConnectChange]
    is_waiting: bool
    key: object
    signal: Signal[Any, ..., Any]

    def __init__(self, signal: Signal[Any, ..., Any], receiver: Any, sender: Any) -> None:
        self.signal = signal
        self.key = (receiver_key(receiver), filter_key(sender))
        self.additions = []
        self.is_waiting = False

    def __enter__(self) -> None:
        self._outer: ConnectScope | None = getattr(_calling, "block", None)
        self.is_waiting = True
        _calling.block = self

    def __exit__(self, *_: object) -> None:
        _calling.block = self._outer

    @staticmethod
    def take(signal: Signal[Any, ..., Any], receiver: Any, sender: Any) -> ConnectScope | None:
        """The block that calls a verb of this signal now, if one does. It gives itself once a call."""
        block: ConnectScope | None = getattr(_calling, "block", None)

        if block is None or not block.is_waiting or block.signal is not signal:
            return None

        if block.key != (receiver_key(receiver), filter_key(sender)):
            return None

        block.is_waiting = False
        return block

    def undo(self) -> None:
        """Take back what was added, if that was not done yet."""
        while self.additions:
            self.additions.pop().undo()


_calling: Final = local()
