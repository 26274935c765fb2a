"""``connect(via=relay.durable("name"))``: a receiver that gets its messages from the relay."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, final

from aldis._core.callables import describe
from aldis._core.identity import receiver_key
from aldis._core.registry import registry_of
from aldis.exceptions import InvalidOptionError, InvalidReceiverError

from ._payload import schema_of
from .storage.tables import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis import Signal
    from aldis._core.call import Call

    from ._backoff import Backoff
    from ._registry import Registry
    from .sending.outbox import Outbox, Outgoing


class OutboxDelivery:
    """What stands in ``via=`` for a receiver that has rows of its own.

    :ivar name: the receiver's name in the database.
    :ivar key: the keyword whose values are received in order.
    """

    __slots__ = ("_registry", "group", "key", "name")

    group: Outbox
    key: str | None
    name: str

    def __init__(self, name: str, key: str | None, registry: Registry, group: Outbox) -> None:
        self.name = check_name(name)
        self.key = key
        self.group = group
        self._registry = registry

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Refuse what could not be written.

        :raises InvalidReceiverError: when the signal is not declared, or its payload cannot be written.
        :raises InvalidOptionError: when ``key`` is no keyword of it.
        """
        contract: Any = registry_of(signal).contract
        name = _name_of(signal)

        if contract is None:
            raise InvalidReceiverError(
                f"{signal!r} is not declared, so it has no schema for durable receivers. Declare it: @signals.declare"
                " above def name(sender, /, *, keyword: type) -> None."
            )

        if len(name) > LONGEST_NAME:
            raise InvalidReceiverError(f"The name of {signal!r} is longer than {LONGEST_NAME} characters.")

        schema_of(contract, signal)

        if self.key is not None and self.key not in contract.names:
            raise InvalidOptionError(
                f"key={self.key!r} is no keyword of {signal!r}. It has: {', '.join(contract.order) or 'none'}."
            )

        self._registry.add(signal)

    def deliver(self, call: Call, /) -> str:
        """Have a row written when the send ends.

        :return: the message's id.
        """
        outgoing: Outgoing = call.opened
        value = None if self.key is None else call.payload[self.key]
        return outgoing.add(self.name, None if value is None else _key_of(value))


@final
class Durable(OutboxDelivery):
    """What :meth:`Relay.durable` returns: how a durable receiver goes by and is treated.

    :ivar name: the receiver's name in the database.
    :ivar aliases: names that it had before.
    :ivar max_attempts: how often a message is tried.
    :ivar backoff: the seconds to wait after an attempt, by its number.
    :ivar timeout_s: how many seconds an attempt may take, or ``None``.
    :ivar key: the keyword whose values are received in order, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = ("aliases", "backoff", "max_attempts", "settings", "timeout_s")

    aliases: tuple[str, ...]
    backoff: Backoff
    max_attempts: int
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
        registry: Registry,
        group: Outbox,
    ) -> None:
        super().__init__(name, key, registry, group)
        self.aliases = tuple(check_name(alias) for alias in aliases)
        self.max_attempts = max_attempts
        self.backoff = backoff
        self.timeout_s = timeout_s
        self.settings = settings

    def __repr__(self) -> str:
        return f"relay.durable({self.name!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which rows may be for this receiver."""
        return (self.name, *self.aliases)

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """As :meth:`OutboxDelivery.check`; and a name is one receiver's.

        :raises InvalidOptionError: when it is another's, had other options, or is that for another signal of this name.
        """
        super().check(signal, receiver, is_async)

        for other in self._registry.durable():
            if not set(self.names) & set(other.queue.names):
                continue

            if _origin(other.receiver) != _origin(receiver):
                raise InvalidOptionError(
                    f"{describe(receiver)} cannot be {self!r}: {describe(other.receiver)} goes by {other.queue!r}."
                    " Give each receiver a name of its own."
                )

            if other.signal is signal:
                continue  # To connect it again changes its options.

            if _name_of(other.signal) == _name_of(signal) and _declarer(other.signal) != _declarer(signal):
                raise InvalidOptionError(
                    f"{describe(receiver)} is connected as {self!r} to another signal of the name {_name_of(signal)!r}"
                    " already, and rows know signals by their names. Give it another queue for this one."
                )

            if other.queue.settings != self.settings:
                raise InvalidOptionError(
                    f"{describe(receiver)} is connected as {self!r} with other options already. Make the queue once,"
                    " and connect with it."
                )


@final
class Forward(OutboxDelivery):
    """What :meth:`Relay.forward` connects: stands for a receiver whose code lives in another service.

    Disconnect it from its signal to end the route.

    .. versionadded:: 0.1
    """

    __slots__ = ("__weakref__",)

    def __call__(self, sender: Any, /, **payload: Any) -> None:
        """Never called: the row is for another service."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"relay.forward({self.name!r})"


def check_name(name: Any) -> str:
    """The name of a receiver, if it can be one.

    :raises InvalidOptionError: when not.
    """
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidOptionError(
            f"A durable receiver's name is a text of up to {LONGEST_NAME} characters, such as 'mail.welcome', not"
            f" {name!r}. It stands in the database, so do not derive it from the code's names."
        )

    return name


def _key_of(value: object) -> str:
    text = str(value)

    if len(text) <= LONGEST_NAME and text.isprintable():  # PostgreSQL takes no zero bytes.
        return text

    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


def _name_of(signal: Any) -> str:
    return getattr(signal, "name", "")


def _declarer(signal: Any) -> tuple[Any, ...]:
    """What makes it the same signal, also when its module was loaded again."""
    return _origin(registry_of(signal).contract.function)


def _origin(receiver: Any) -> tuple[Any, ...]:
    """What makes it the same receiver, also when its module was loaded again, or its app made again."""
    if isinstance(receiver, FunctionType):
        is_nameless = receiver.__name__ == "<lambda>"
        return receiver.__module__, receiver.__qualname__, receiver.__code__.co_firstlineno if is_nameless else 0

    key = receiver_key(receiver)
    return key if isinstance(key, tuple) else (key,)
