"""One receiver and one sender filter, and the snapshots that are made of them."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, final

from aldis.exceptions import InvalidReceiverError

from . import devmode
from .callables import caller_place, describe, is_async, is_easily_lost
from .identity import ANY, method_ref, receiver_key, value_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .identity import ReceiverKey
    from .options import Options

    Receiver: TypeAlias = Callable[..., Any]
    FilterKey: TypeAlias = tuple[str, Any] | None
    ConnectionKey: TypeAlias = tuple[ReceiverKey, FilterKey]


def gone() -> None:
    """The reference of a connection that was taken away."""


def filter_key(sender: Any) -> FilterKey:
    """What makes a sender filter the same filter: ``None`` for :data:`ANY`.

    Values and identities are told apart, or the ``id`` of an object could be taken for an ``int`` sender.
    """
    if sender is ANY:
        return None

    kind: type[Any] = type(sender)  # pyright: ignore[reportUnknownVariableType]

    if kind is str or kind is int:
        return "value", sender

    value = value_key(sender)
    return ("identity", receiver_key(sender)) if value is None else ("value", value)


def refer(target: Any, key: ReceiverKey, died: Callable[[weakref.ref[Any]], None]) -> Any:
    """A weak reference to an object or a bound method, which calls ``died`` when it dies.

    :param died: must not refer to what holds the reference, or the two would keep each other.
    :raises TypeError: when the object cannot be referenced weakly.
    """
    if isinstance(key, int):
        return weakref.ref(target, died)

    return method_ref(weakref.ref(target.__func__, died), weakref.ref(target.__self__, died))


@final
class Connection:
    """One receiver and one sender filter.

    :ivar ref: gives the receiver, or ``None`` when that is dead or was disconnected. The only thing that a
        plain send looks at.
    :ivar strong_ref: the receiver, while the connection keeps it alive.
    :ivar connected_directly: whether ``connect`` was called for it.
    :ivar is_strong: whether that was with ``weak=False``.
    :ivar open_scopes: how many ``with`` blocks want it. It goes when nobody wants it any more.
    :ivar place: in development mode, where it was connected, and its receiver's name, if that is a kind of
        callable that is easily lost.
    """

    __slots__ = (
        "connected_directly",
        "filter_key",
        "is_async",
        "is_strong",
        "key",
        "open_scopes",
        "options",
        "place",
        "ref",
        "serial",
        "strong_ref",
    )

    filter_key: FilterKey
    open_scopes: int
    is_async: bool
    connected_directly: bool
    is_strong: bool
    strong_ref: Receiver | None
    key: ReceiverKey
    options: Options
    place: tuple[str, int, str] | None
    ref: Callable[[], Receiver | None]
    serial: int

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
        self.place = None
        self.ref = lambda: receiver

        if devmode.enabled and is_easily_lost(receiver):
            self.place = (*caller_place(), describe(receiver))

    def refer_strongly(self) -> None:
        """Keep the receiver alive, and reach it by a plain weak reference, which is the fastest to call."""
        with suppress(TypeError):  # If it cannot be referenced weakly, the function from __init__ will do.
            self.ref = weakref.ref(self.strong_ref)

    def refer_weakly(self, died: Callable[[weakref.ref[Any]], None]) -> None:
        """Let the receiver die.

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
        """Whether a send has nothing to do for it but to call, or to await, the receiver."""
        return not self.options.once and self.options.via is None

    @property
    def order(self) -> tuple[float, int]:
        """Its place among the others: higher priority first, then the order of connecting."""
        return -self.options.priority, self.serial


@final
class SenderFilter:
    """The connections of one sender, or of :data:`ANY`. Gone when the last of them goes.

    :ivar ref: gives ``None`` when the sender is dead.
    :ivar short_key: what sends look the sender up by, without a detour: a ``str`` sender itself, the ``id``
        of an object. ``None`` for senders that have neither: other values, and bound methods.
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

    @property
    def sender(self) -> Any:
        """The sender, :data:`ANY` for any, ``None`` for one that is dead."""
        if self.key is None:
            return ANY

        kind, value = self.key

        if kind == "value":
            return value if isinstance(value, (str, int)) else value[1]

        found: Any = self.ref()
        return found[0] if type(found) is tuple else found  # pyright: ignore[reportUnknownVariableType]


@final
class Snapshot:
    """A snapshot: the connections that a sender reaches, in order.

    :ivar has_doubles: whether a receiver is in it twice, for the sender and for any sender. It is to be called
        once, in the first of its places that is still connected then.
    :ivar is_plain: whether a send has nothing to do but to call the receivers.
    :ivar is_all_async: whether an async send has nothing to do but to await them.
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
