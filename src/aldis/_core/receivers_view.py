"""``Signal.receivers``: the connected receivers as the mapping that users of Blinker know."""

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
    """A live view. Looking at it changes nothing.

    Keys identify receivers. Values are the receivers that are held strongly, and weak references to others.
    """

    __slots__ = ("_registry",)

    def __init__(self, table: ConnectionRegistry) -> None:
        self._registry = table

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

    # Each of these from one look, or what changes between two would be missed by the second.

    def keys(self) -> KeysView[ReceiverKey]:
        """The keys as they are now."""
        return self._items().keys()

    def values(self) -> ValuesView[Any]:
        """The receivers as they are now."""
        return self._items().values()

    def items(self) -> ItemsView[ReceiverKey, Any]:
        """Keys and receivers as they are now."""
        return self._items().items()

    def __repr__(self) -> str:
        return repr(self._items())

    def clear(self) -> None:
        """Disconnect all receivers."""
        self._registry.clear()

    def _items(self) -> dict[ReceiverKey, Any]:
        items: dict[ReceiverKey, Any] = {}

        for connection in self._registry.connections():
            # In this order: what is not kept can be referenced weakly, or is taken away by the time of the second.
            is_kept, receiver = connection.strong_ref is not None, connection.ref()

            if receiver is not None and (is_kept or connection.key not in items):
                items[connection.key] = receiver if is_kept else _weak(receiver)

        return items


def _weak(receiver: Any) -> Any:
    return weakref.WeakMethod(receiver) if isinstance(receiver, MethodType) else weakref.ref(receiver)
