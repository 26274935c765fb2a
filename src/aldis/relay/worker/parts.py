"""The parts of a relay, for other modules of Aldis.

Users have a :class:`~aldis.relay.Relay`. The worker, the runners, the extensions for Flask and Quart, the live page,
telemetry and the contract suite need its parts: its database, its receivers, its consumer. They get the parts from
here, and do not use private attributes of the relay.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from weakref import WeakMethod

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from aldis.relay._registry import ReceiverRegistry
    from aldis.relay._sender_names import SenderNames
    from aldis.relay.sending.outbox import Outbox
    from aldis.relay.storage.database import Database

    from .consumer import Consumer
    from .runner import Runner

T = TypeVar("T")


class RelayParts(NamedTuple):
    """The parts of one relay. The relay makes them once, and they stay the same.

    No part refers to the relay itself. :func:`parts_of` returns the parts of a relay.
    """

    database: Database
    """The user's database. A send waits for it for ``database.wait_s`` seconds."""

    senders: SenderNames
    """The objects that are registered as senders, by name."""

    receivers: ReceiverRegistry
    """The durable receivers that are connected in this process."""

    outbox: Outbox
    """Writes the rows of a send."""

    consumer: Consumer
    """Receives a claimed row: finds its receiver and calls it."""

    runner: Runner
    """Decides where receivers run: in the worker's own threads, or in a fleet."""

    notifies: bool
    """Whether sends notify the workers, and workers listen. Only PostgreSQL can do this."""

    def bind_application(
        self,
        app: Any,
        name: str,
        context: Callable[[], AbstractContextManager[Any]],
        has_context: Callable[[], bool],
    ) -> None:
        """Bind the relay to a web application: run receivers inside its application context.

        The relay also uses its database inside the context, if no context is active. The application is registered as a
        sender.

        :param app: the application. The relay does not keep it alive.
        :param name: the application's name as a sender.
        :param context: a bound method of the application that returns an application context.
        :param has_context: returns whether an application context is active.
        """
        scope = _while_alive(context)
        self.senders.register(app, name)
        self.consumer.scope = scope
        self.database.scope = lambda: nullcontext() if has_context() else scope()

    def bind_async_application(
        self, app: Any, name: str, context: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> None:
        """Bind the relay to a web application whose context is entered in an event loop.

        :param app: as for :meth:`bind_application`.
        :param name: as for :meth:`bind_application`.
        :param context: as for :meth:`bind_application`, for ``async with``.
        """
        self.senders.register(app, name)
        self.consumer.async_scope = _while_alive(context)


class HasParts(Protocol):
    """A :class:`~aldis.relay.Relay`, as this module knows it. The class itself is in a higher layer."""

    _parts: RelayParts


def parts_of(relay: HasParts) -> RelayParts:
    """Return the parts of a relay."""
    return relay._parts  # pyright: ignore[reportPrivateUsage]  # Only this line looks inside a relay.


def _while_alive(method: Callable[[], T]) -> Callable[[], T | nullcontext[None]]:
    """Return a callable that calls a method without keeping its object alive.

    When the object is gone, the callable returns a context that does nothing.
    """
    known = WeakMethod(method)

    def call() -> T | nullcontext[None]:
        found = known()
        return nullcontext() if found is None else found()

    return call
