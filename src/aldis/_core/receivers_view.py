"""``Signal.receivers``: the connected receivers as a mapping, as in Blinker."""

from __future__ import annotations

import weakref
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from types import MethodType
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from .identity import ReceiverKey
    from .registry import ConnectionRegistry


@final
class Receivers(Mapping["ReceiverKey", Any]):
    """A live view of the connected receivers. Reading it changes nothing.

    Keys identify receivers. A value is the receiver itself if it is held strongly, otherwise a weak reference to it.
    """

    __slots__ = ("_registry",)

    def __init__(self, registry: ConnectionRegistry) -> None:
        self._registry = registry

    def __bool__(self) -> bool:
        return self._registry.has_any()

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[ReceiverKey]:
        return iter(self._items())

    def __getitem__(self, key: ReceiverKey) -> Any:
        return self._items()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items()

    # Each of these methods reads the connections once. A change between two reads would break the iteration.

    def keys(self) -> KeysView[ReceiverKey]:
        """Return the keys as they are now."""
        return self._items().keys()

    def values(self) -> ValuesView[Any]:
        """Return the receivers as they are now."""
        return self._items().values()

    def items(self) -> ItemsView[ReceiverKey, Any]:
        """Return keys and receivers as they are now."""
        return self._items().items()

    def __repr__(self) -> str:
        return repr(self._items())

    def clear(self) -> None:
        """Disconnect all receivers."""
        self._registry.clear()

    def _items(self) -> dict[ReceiverKey, Any]:
        items: dict[ReceiverKey, Any] = {}

        for connection in self._registry.connections():
            # In this order: a receiver without a strong reference can be referenced weakly, or is gone by now.
            is_strong, receiver = connection.strong_ref is not None, connection.ref()

            if receiver is not None and (is_strong or connection.key not in items):
                items[connection.key] = receiver if is_strong else _weak(receiver)

        return items


def _weak(receiver: Any) -> Any:
    return weakref.WeakMethod(receiver) if isinstance(receiver, MethodType) else weakref.ref(receiver)
