"""What a worker does with the rows that it has claimed: an engine. By default it receives them in its own threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from aldis.relay._durable import Durable
    from aldis.relay._relay import Relay
    from aldis.relay.storage.rows import Row

    from .consumer import Outcome

    Guard: TypeAlias = Callable[[float | None], AbstractContextManager[Any]]


class Engine(Protocol):
    """What ``Relay(engine=...)`` takes: :class:`aldis.relay.celery.CeleryRunner`, or nothing."""

    def attach(self, relay: Relay, /) -> None:
        """Be the engine of this relay. Called when the relay is made.

        :raises InvalidOptionError: when it is another's.
        """
        raise NotImplementedError

    def check(self, queue: Durable, /) -> None:
        """Refuse what this engine cannot do. Called when a queue is made.

        :raises InvalidOptionError: when it cannot.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Called before a worker begins.

        :raises InvalidOptionError: when messages would be lost as things are set up.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Called when a worker has ended."""
        raise NotImplementedError

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Do with a claimed row what is to be done. Called in a thread of a worker; raises nothing.

        :param guard: limits the time of a receiver: a context manager that takes its ``timeout_s``.
        :return: what the worker is to do with the row.
        """
        raise NotImplementedError


@final
class InProcess:
    """Receivers run in the threads of the worker."""

    def attach(self, relay: Relay, /) -> None:
        """Receive what this relay's workers claim."""
        self._receive = relay._receiving.receive

    def check(self, queue: Durable, /) -> None:
        """Nothing is refused."""

    def start(self) -> None:
        """Nothing is needed."""

    def stop(self) -> None:
        """Nothing is kept."""

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Run the receiver."""
        return self._receive(row, guard)
