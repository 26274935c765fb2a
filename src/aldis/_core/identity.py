"""Keys that tell receivers, senders and sender filters apart, and weak references to receivers and senders."""

from __future__ import annotations

import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, final

from aldis.exceptions import UnboundProxyError

if TYPE_CHECKING:
    from collections.abc import Callable

ReceiverKey: TypeAlias = int | tuple[int, int]
ValueKey: TypeAlias = str | int | tuple[str, bytes]
FilterKey: TypeAlias = tuple[str, Any] | None
ConnectionKey: TypeAlias = tuple[ReceiverKey, FilterKey]


@final
class Symbol:
    """A named constant. There is one object for each name, after pickling too.

    >>> Symbol("lamp") is Symbol("lamp")
    True
    """

    symbols: ClassVar[dict[str, Symbol]] = {}
    name: str

    def __new__(cls, name: str) -> Symbol:
        if name not in cls.symbols:
            symbol = super().__new__(cls)
            symbol.name = name
            cls.symbols.setdefault(name, symbol)

        return cls.symbols[name]

    def __repr__(self) -> str:
        return self.name

    def __getnewargs__(self) -> tuple[str]:
        return (self.name,)


ANY: Final = Symbol("ANY")
"""Stands for "any sender" in :meth:`Signal.connect` and similar methods."""


def receiver_key(receiver: object) -> ReceiverKey:
    """Return the key of a receiver. Two objects with the same key are the same receiver.

    Each access to a method makes a new bound method, so the key is made of the function and the instance.
    """
    if isinstance(receiver, MethodType):
        return id(receiver.__func__), id(receiver.__self__)

    return id(receiver)


def value_key(sender: object) -> ValueKey | None:
    """Return the key of a sender that matches by value, or ``None`` for a sender that matches by identity.

    The key always has the exact built-in type, so the engine never calls ``__eq__`` or ``__hash__`` of a subclass.
    The key of ``bytes`` has a tag: comparing ``bytes`` with a ``str`` of the same hash warns under ``python -b``.
    """
    kind: type[Any] = type(sender)  # isinstance() would ask a proxy for its __class__.
    value: Any = sender

    if issubclass(kind, str):
        return str.__add__(value, "")

    if issubclass(kind, int):
        return int.__index__(value)

    if issubclass(kind, bytes):
        return "bytes", bytes.__add__(value, b"")

    return None


def filter_key(sender: Any) -> FilterKey:
    """Return the key of a sender filter: ``None`` for :data:`ANY`.

    The key says whether it is a value or an identity. Otherwise the ``id`` of an object could equal an ``int`` sender.
    """
    if sender is ANY:
        return None

    kind: type[Any] = type(sender)  # pyright: ignore[reportUnknownVariableType]  # A type[Unknown] otherwise.

    if kind is str or kind is int:
        return "value", sender

    value = value_key(sender)
    return ("identity", receiver_key(sender)) if value is None else ("value", value)


def is_proxy(sender: object) -> bool:
    """Return whether this is a werkzeug ``LocalProxy``, without importing werkzeug.

    This looks at the type, because the proxy itself would forward the question.
    """
    return hasattr(type(sender), "_get_current_object")


def resolve(sender: object) -> Any:
    """Return the object that a proxy points to; any other sender unchanged. An unbound proxy is returned unchanged.

    This runs code of the proxy.
    """
    found: Any = sender

    while is_proxy(found):
        try:
            found = found._get_current_object()
        except RuntimeError:
            break

    return found


def resolve_bound(sender: object) -> Any:
    """Resolve as :func:`resolve` does, but raise if the proxy is unbound.

    :raises UnboundProxyError: when the proxy is unbound.
    """
    found = resolve(sender)

    if is_proxy(found):
        raise UnboundProxyError(
            f"The sender {found!r} is a proxy that points to no object here. Connect inside its context, or"
            " pass the object itself (for current_app: the application)."
        )

    return found


def refer(target: Any, key: ReceiverKey, died: Callable[[weakref.ref[Any]], None]) -> Any:
    """Return a weak reference to an object or a bound method. It calls ``died`` when the target dies.

    :param key: the target's :func:`receiver_key`.
    :param died: must not refer to the object that holds the reference, or the two would keep each other alive.
    :raises TypeError: when the object cannot be referenced weakly.
    """
    if isinstance(key, int):
        return weakref.ref(target, died)

    return method_ref(weakref.ref(target.__func__, died), weakref.ref(target.__self__, died))


def method_ref(function: weakref.ref[Any], instance: weakref.ref[Any]) -> Any:
    """Join two references into one reference to a bound method. It is dead when either of the two is dead.

    This is a closure: each send calls it for each bound method, and it costs half of ``weakref.WeakMethod``.
    """

    def bound() -> MethodType | None:
        target, code = instance(), function()
        return None if target is None or code is None else MethodType(code, target)

    return bound
