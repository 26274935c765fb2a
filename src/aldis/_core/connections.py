"""One connection: a receiver, a sender filter and options. The registry keeps the connections of a signal."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, final

from aldis.exceptions import InvalidReceiverError

from . import devmode
from .callables import caller_place, describe, is_async, is_easily_lost
from .identity import ANY, receiver_key, refer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity import FilterKey, ReceiverKey
    from .options import Options

    Receiver: TypeAlias = Callable[..., Any]


def gone() -> None:
    """Return ``None``: the reference of a connection that was taken away."""


@final
class Connection:
    """One receiver and one sender filter.

    :ivar ref: returns the receiver, or ``None`` when the receiver is dead or was disconnected. A plain send reads no
        other attribute.
    :ivar strong_ref: the receiver, while the connection keeps it alive.
    :ivar connected_directly: whether ``connect`` was called for the connection directly, and not only by a ``with``
        block.
    :ivar is_strong: whether that ``connect`` had ``weak=False``.
    :ivar open_scopes: how many ``with`` blocks need it. The connection ends when neither a block nor a direct
        ``connect`` needs it.
    :ivar connected_at: in development mode, the place of the ``connect`` and the receiver's name, if receivers of
        this kind are easily lost.
    """

    __slots__ = (
        "connected_at",
        "connected_directly",
        "filter_key",
        "is_async",
        "is_strong",
        "key",
        "open_scopes",
        "options",
        "ref",
        "serial",
        "strong_ref",
    )

    connected_at: tuple[str, int, str] | None
    connected_directly: bool
    filter_key: FilterKey
    is_async: bool
    is_strong: bool
    key: ReceiverKey
    open_scopes: int
    options: Options
    ref: Callable[[], Receiver | None]
    serial: int
    strong_ref: Receiver | None

    def __init__(self, receiver: Receiver, options: Options) -> None:
        self.key = receiver_key(receiver)
        self.options = options
        self.is_async = is_async(receiver)
        self.strong_ref = receiver
        self.connected_directly = False
        self.is_strong = False
        self.open_scopes = 0
        self.serial = 0
        self.filter_key = None
        self.connected_at = None
        self.ref = lambda: receiver

        if devmode.enabled and is_easily_lost(receiver):
            self.connected_at = (*caller_place(), describe(receiver))

    def refer_strongly(self) -> None:
        """Keep the receiver alive. A send reaches it by a plain weak reference, which is the fastest to call."""
        with suppress(TypeError):  # If it cannot be referenced weakly, self.ref stays as __init__ set it.
            self.ref = weakref.ref(self.strong_ref)

    def refer_weakly(self, died: Callable[[weakref.ref[Any]], None]) -> None:
        """Stop keeping the receiver alive.

        :raises InvalidReceiverError: when it cannot be referenced weakly.
        """
        try:
            self.ref = refer(self.strong_ref, self.key, died)
        except TypeError:
            raise InvalidReceiverError(
                f"{describe(self.strong_ref)} cannot be referenced weakly. Connect it with weak=False."
            ) from None

        self.strong_ref = None

    @property
    def is_simple(self) -> bool:
        """Whether a send only calls, or awaits, the receiver: no ``once``, no delivery."""
        return not self.options.once and self.options.via is None

    @property
    def order(self) -> tuple[float, int]:
        """The sort key: higher priority first, then the order of connecting."""
        return -self.options.priority, self.serial


@final
class SenderFilter:
    """The connections of one sender, or of :data:`ANY`. It ends with its last connection.

    :ivar ref: returns ``None`` when the sender is dead.
    :ivar short_key: the key by which a send finds the sender at once: a ``str`` sender itself, the ``id`` of an
        object. ``None`` for other values and for bound methods, which have no such key.
    """

    __slots__ = ("connections", "key", "ref", "short_key")

    connections: dict[ReceiverKey, Connection]
    key: FilterKey
    ref: Callable[[], object]
    short_key: str | int | None

    def __init__(self, key: FilterKey, ref: Callable[[], object], short_key: str | int | None = None) -> None:
        self.key = key
        self.ref = ref
        self.short_key = short_key
        self.connections = {}

    @staticmethod
    def make(key: tuple[str, Any], sender: Any, died: Callable[[weakref.ref[Any]], None]) -> SenderFilter:
        """Make the filter of one sender.

        :param key: the sender's :func:`~aldis._core.identity.filter_key`.
        :param died: called when the sender dies.
        """
        kind, identity = key

        if kind == "value":
            return SenderFilter(key, lambda: True, identity if isinstance(identity, str) else None)

        short_key = identity if isinstance(identity, int) else None

        try:
            return SenderFilter(key, refer(sender, identity, died), short_key)
        except TypeError:
            # Keep the sender alive while something is connected to it. Otherwise another object could get its id.
            return SenderFilter(key, lambda: (sender,), short_key)

    @property
    def sender(self) -> Any:
        """The sender; :data:`ANY` for any sender, ``None`` for a dead sender."""
        if self.key is None:
            return ANY

        kind, value = self.key

        if kind == "value":
            return value if isinstance(value, (str, int)) else value[1]

        found: Any = self.ref()
        return found[0] if type(found) is tuple else found  # pyright: ignore[reportUnknownVariableType]  # Any.
