"""``connect(via=relay.durable("name"))``: the deliveries of a relay.

Each of them makes one row of a send. The worker calls the receiver of a :class:`Durable`; the receiver of a
:class:`Forward` is in another service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

from aldis._core.registry import registry_of
from aldis.exceptions import InvalidOptionError, InvalidReceiverError

from ._payload import schema_of
from .storage.tables import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis import Signal
    from aldis._core.call import Call

    from ._backoff import Backoff
    from .sending.outbox import Outbox, Outgoing


class Receivers(Protocol):
    """The part of :class:`~aldis.relay._registry.ReceiverRegistry` that a delivery needs. It is in a higher layer."""

    def add(self, durable: Durable, signal: Any, receiver: Callable[..., Any], /) -> None:
        """Remember the signal of a receiver that is about to be connected, or refuse the receiver."""
        raise NotImplementedError


class OutboxDelivery:
    """A delivery that writes rows: the value of ``via=`` for a receiver with rows of its own.

    :ivar name: the receiver's name in the database.
    :ivar key: the keyword whose values are received in order.
    :ivar group: the relay's outbox, which writes the rows of one send together.
    """

    __slots__ = ("group", "key", "name")

    group: Outbox
    key: str | None
    name: str

    def __init__(self, name: str, key: str | None, group: Outbox) -> None:
        self.name = check_name(name)
        self.key = key
        self.group = group

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Raise at connect if the signal's payload could not be written.

        :raises InvalidReceiverError: when the signal is not declared, or its payload cannot be written.
        :raises InvalidOptionError: when ``key`` is not a keyword of the payload.
        """
        contract: Any = registry_of(signal).contract

        if contract is None:
            raise InvalidReceiverError(
                f"{signal!r} is not declared, so it has no schema for durable receivers. Declare it: @signals.declare"
                " above def name(sender, /, *, keyword: type) -> None."
            )

        if len(name_of(signal)) > LONGEST_NAME:
            raise InvalidReceiverError(f"The name of {signal!r} is longer than {LONGEST_NAME} characters.")

        schema_of(contract, signal)

        if self.key is not None and self.key not in contract.names:
            raise InvalidOptionError(
                f"key={self.key!r} is not a keyword of {signal!r}. It has: {', '.join(contract.order) or 'none'}."
            )

    def deliver(self, call: Call, /) -> str:
        """Add a row to the send. The outbox writes it when the send ends.

        :return: the message's id.
        """
        outgoing: Outgoing = call.opened
        value = None if self.key is None else call.payload[self.key]
        return outgoing.add(self.name, None if value is None else _key_of(value))


@final
class Durable(OutboxDelivery):
    """The name and the options of a durable receiver. :meth:`Relay.durable` returns it.

    :ivar name: the receiver's name in the database.
    :ivar aliases: names that it had before.
    :ivar max_attempts: how many attempts a message gets.
    :ivar backoff: returns the seconds to wait after an attempt, by its number.
    :ivar timeout_s: how many seconds an attempt may take, or ``None``.
    :ivar key: the keyword whose values are received in order, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = ("aliases", "backoff", "max_attempts", "receivers", "settings", "timeout_s")

    aliases: tuple[str, ...]
    backoff: Backoff
    max_attempts: int
    receivers: Receivers
    settings: tuple[Any, ...]
    timeout_s: float | None

    def __init__(
        self,
        name: str,
        *,
        aliases: tuple[str, ...],
        max_attempts: int,
        backoff: Backoff,
        timeout_s: float | None,
        key: str | None,
        settings: tuple[Any, ...],
        receivers: Receivers,
        group: Outbox,
    ) -> None:
        super().__init__(name, key, group)
        self.aliases = tuple(check_name(alias) for alias in aliases)
        self.max_attempts = max_attempts
        self.backoff = backoff
        self.timeout_s = timeout_s
        self.settings = settings
        self.receivers = receivers

    def __repr__(self) -> str:
        return f"relay.durable({self.name!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """All names that rows for this receiver may have."""
        return (self.name, *self.aliases)

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Check as :meth:`OutboxDelivery.check` does. Also raise if the name belongs to another receiver.

        :raises InvalidOptionError: when the name belongs to another receiver, was given other options, or is connected
            to another signal of the same name.
        """
        super().check(signal, receiver, is_async)
        self.receivers.add(self, signal, receiver)


@final
class Forward(OutboxDelivery):
    """The stand-in that :meth:`Relay.forward` connects, for a receiver whose code is in another service.

    Disconnect it from its signal to end the forwarding.

    .. versionadded:: 0.1
    """

    __slots__ = ("__weakref__",)

    def __call__(self, sender: Any, /, **payload: Any) -> None:
        """Never called: the row is for another service."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"relay.forward({self.name!r})"


def check_name(name: Any) -> str:
    """Return the name of a receiver. Raise if it cannot be a name.

    :raises InvalidOptionError: when it cannot be a name.
    """
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidOptionError(
            f"A durable receiver's name is a text of up to {LONGEST_NAME} characters, such as 'mail.welcome', not"
            f" {name!r}. It stands in the database, so do not derive it from the code's names."
        )

    return name


def name_of(signal: Any) -> str:
    """Return a signal's name, as rows have it."""
    return getattr(signal, "name", "")


def _key_of(value: object) -> str:
    """Return the text that stands for a key in the database."""
    text = str(value)

    if len(text) <= LONGEST_NAME and text.isprintable():  # PostgreSQL accepts no zero bytes.
        return text

    from hashlib import sha256

    return sha256(text.encode()).hexdigest()
