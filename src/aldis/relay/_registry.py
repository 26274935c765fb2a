"""The durable receivers that are connected in this process.

The registry remembers signals only, and asks them for their connections. So it never finds a receiver that was
disconnected or collected.
"""

from __future__ import annotations

from threading import RLock
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, final
from weakref import ref

from aldis._core.callables import describe
from aldis._core.identity import receiver_key
from aldis._core.registry import registry_of
from aldis.exceptions import InvalidOptionError

from ._durable import Durable, name_of
from ._payload import schema_of
from .storage.rows import KnownReceiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aldis._core.connections import Connection


class DurableReceiver(NamedTuple):
    """A durable receiver that is connected."""

    signal: Any
    receiver: Callable[..., Any]
    durable: Durable
    is_async: bool


@final
class ReceiverRegistry:
    """The durable receivers of one relay, found through their signals."""

    def __init__(self) -> None:
        self._lock = RLock()  # A garbage collection may run any code while this thread holds the lock.
        self._signals: tuple[ref[Any], ...] = ()  # In the order of their last connects.

    def add(self, durable: Durable, signal: Any, receiver: Callable[..., Any], /) -> None:
        """Remember the signal of a receiver that is about to be connected.

        :raises InvalidOptionError: when the name belongs to another receiver, was given other options, or is connected
            to another signal of the same name.
        """
        for other in self.connected():
            if set(durable.names) & set(other.durable.names):
                _check_same(durable, signal, receiver, other)

        with self._lock:
            others = [entry for entry in self._signals if entry() is not None and entry() is not signal]
            self._signals = (*others, ref(signal))

    def connected(self) -> list[DurableReceiver]:
        """Return all durable receivers that are connected."""
        return [found for signal in self._all() for found in self._of(signal, registry_of(signal).connections())]

    def find(self, signal_name: str, receiver_name: str, sender: Any) -> DurableReceiver | None:
        """Return the receiver of a message. If there are several, return the last one that was connected.

        There may be several if several signals have this name.
        """
        for signal in reversed(self._all()):
            if name_of(signal) == signal_name:
                for found in self._of(signal, reversed(registry_of(signal).snapshot(sender).connections)):
                    if receiver_name in found.durable.names:
                        return found

        return None

    def known(self) -> dict[str, KnownReceiver]:
        """Return the receivers whose rows this process can receive, by each name that may stand in a row."""
        found: dict[str, KnownReceiver] = {}

        for signal, _, durable, _ in self.connected():
            contract: Any = registry_of(signal).contract
            version = schema_of(contract, signal).version

            for name in durable.names:
                known = found.setdefault(name, KnownReceiver(durable.name, durable.names, durable.key, {}))
                known.versions[name_of(signal)] = max(version, known.versions.get(name_of(signal), 0))

        return found

    def _all(self) -> list[Any]:
        return [signal for entry in self._signals if (signal := entry()) is not None]

    def _of(self, signal: Any, connections: Any) -> Iterator[DurableReceiver]:
        connection: Connection

        for connection in connections:
            via = connection.options.via

            if isinstance(via, Durable) and via.receivers is self and (receiver := connection.ref()) is not None:
                yield DurableReceiver(signal, receiver, via, connection.is_async)


def _check_same(durable: Durable, signal: Any, receiver: Callable[..., Any], other: DurableReceiver) -> None:
    """Raise if a receiver has the name of a connected receiver and is another one, or has other options.

    :raises InvalidOptionError: when that is so.
    """
    if _origin(other.receiver) != _origin(receiver):
        raise InvalidOptionError(
            f"{describe(receiver)} cannot be {durable!r}: {describe(other.receiver)} has the name {other.durable!r}."
            " Give each receiver a name of its own."
        )

    if other.signal is signal:
        return  # Connecting it again changes its options.

    if name_of(other.signal) == name_of(signal) and _declarer(other.signal) != _declarer(signal):
        raise InvalidOptionError(
            f"{describe(receiver)} is already connected as {durable!r} to another signal of the name"
            f" {name_of(signal)!r}, and rows know signals by their names. Give it another relay.durable() for this"
            " signal."
        )

    if other.durable.settings != durable.settings:
        raise InvalidOptionError(
            f"{describe(receiver)} is already connected as {durable!r} with other options. Call relay.durable() once,"
            " and connect with its result."
        )


def _declarer(signal: Any) -> tuple[Any, ...]:
    """Return a key that is equal for the same signal, also after the module of the signal was loaded again."""
    contract: Any = registry_of(signal).contract
    return _origin(contract.function)


def _origin(receiver: Any) -> tuple[Any, ...]:
    """Return a key that is equal for the same receiver, also after its module was loaded or its app was made again."""
    if isinstance(receiver, FunctionType):
        is_nameless = receiver.__name__ == "<lambda>"
        return receiver.__module__, receiver.__qualname__, receiver.__code__.co_firstlineno if is_nameless else 0

    key = receiver_key(receiver)
    return key if isinstance(key, tuple) else (key,)
