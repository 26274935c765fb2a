"""Which durable receivers are connected in this process. Nothing is kept: signals are asked."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, final
from weakref import ref

from aldis._core.registry import registry_of

from ._durable import Durable
from ._payload import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aldis._core.connections import Connection


class Receiver(NamedTuple):
    """A durable receiver that is connected."""

    signal: Any
    receiver: Callable[..., Any]
    queue: Durable
    is_async: bool


class Known(NamedTuple):
    """What is known here of a name that stands in rows.

    ``names`` are all that its receiver has had, and ``versions`` the newest version of each of its signals that can
    be read.
    """

    queue: Durable
    names: tuple[str, ...]
    versions: dict[str, int]


@final
class Registry:
    """The signals that have, or had, durable receivers of one relay."""

    def __init__(self) -> None:
        self._lock = RLock()  # A collection that runs under it may run any code.
        self._signals: tuple[ref[Any], ...] = ()  # In the order of their last connects.

    def add(self, signal: Any) -> None:
        """Look at this signal from now on."""
        with self._lock:
            others = [entry for entry in self._signals if entry() is not None and entry() is not signal]
            self._signals = (*others, ref(signal))

    def durable(self) -> list[Receiver]:
        """All that are connected."""
        return [found for signal in self._all() for found in self._of(signal, registry_of(signal).connections())]

    def find(self, signal_name: str, receiver_name: str, sender: Any) -> Receiver | None:
        """Who is to receive a message: of several, also of several signals of that name, who was connected last."""
        for signal in reversed(self._all()):
            if signal.name == signal_name:
                for found in self._of(signal, reversed(registry_of(signal).route(sender).connections)):
                    if receiver_name in found.queue.names:
                        return found

        return None

    def known(self) -> dict[str, Known]:
        """What there may be rows for that can be received here, by the names of receivers."""
        found: dict[str, Known] = {}

        for signal, _, queue, _ in self.durable():
            version = schema_of(registry_of(signal).contract, signal).version

            for name in queue.names:
                known = found.setdefault(name, Known(queue, queue.names, {}))
                known.versions[signal.name] = max(version, known.versions.get(signal.name, 0))

        return found

    def _all(self) -> list[Any]:
        return [signal for entry in self._signals if (signal := entry()) is not None]

    def _of(self, signal: Any, connections: Any) -> Iterator[Receiver]:
        connection: Connection

        for connection in connections:
            via = connection.options.via

            if isinstance(via, Durable) and via._registry is self and (receiver := connection.ref()) is not None:
                yield Receiver(signal, receiver, via, connection.is_async)
