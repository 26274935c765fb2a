"""What makes a receiver or a sender the same one, and weak references to both."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, final

from aldis.exceptions import UnboundProxyError

if TYPE_CHECKING:
    from weakref import ref

ReceiverKey: TypeAlias = int | tuple[int, int]
ValueKey: TypeAlias = str | int | tuple[str, bytes]


@final
class Symbol:
    """A named constant: one object for each name, through pickling too.

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
"""Stands for "any sender" in :meth:`Signal.connect` and its like."""


def receiver_key(receiver: object) -> ReceiverKey:
    """What makes a receiver the same receiver.

    A bound method is made anew by each attribute access, so its parts are what stays.
    """
    if isinstance(receiver, MethodType):
        return id(receiver.__func__), id(receiver.__self__)

    return id(receiver)


def value_key(sender: object) -> ValueKey | None:
    """The key of a sender that matches by value, or ``None`` for one that matches by identity.

    The key is always of the exact built-in type: a subclass must not bring its own ``__eq__`` or
    ``__hash__`` into the engine. ``bytes`` get a tag, because comparing them with a ``str`` of the same
    hash warns under ``python -b``.
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


def is_proxy(sender: object) -> bool:
    """Whether this is a werkzeug ``LocalProxy``, found without importing werkzeug.

    Asked of the type: the proxy itself would forward the question.
    """
    return hasattr(type(sender), "_get_current_object")


def resolve(sender: object) -> Any:
    """The object behind a proxy that is bound; every other sender as it is.

    Runs the proxy's own code.
    """
    found: Any = sender

    while is_proxy(found):
        try:
            found = found._get_current_object()
        except RuntimeError:
            break

    return found


def resolve_bound(sender: object) -> Any:
    """As :func:`resolve`, for where a proxy that stands for nothing is a mistake.

    :raises UnboundProxyError: when the proxy is unbound.
    """
    found = resolve(sender)

    if is_proxy(found):
        raise UnboundProxyError(
            f"The sender {found!r} is a proxy that stands for no object here. Connect inside its context, or"
            " pass the object itself (for current_app: the application)."
        )

    return found


def method_ref(function: ref[Any], instance: ref[Any]) -> Any:
    """Join two references into one to a bound method, dead when either is.

    A closure: called for each receiver of each send, it costs half of what ``weakref.WeakMethod`` does.
    """

    def bound() -> MethodType | None:
        target, code = instance(), function()
        return None if target is None or code is None else MethodType(code, target)

    return bound
