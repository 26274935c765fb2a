"""The options of a connection, and the checks of options that users pass in."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import InvalidOptionError, InvalidReceiverError

from .callables import describe, is_async, kind_name
from .failures import COLLECT, LOG, PROPAGATE

if TYPE_CHECKING:
    from .delivery import Delivery, DeliveryGroup
    from .types import AnySignal


_NO_NUMBER: Final = "priority must be a number (an int or a float), not {!r}."
_NO_BOOL: Final = "once must be True or False, not {!r}."
_NO_DELIVERY: Final = (
    "via must be a delivery, such as aldis.delivery.threads(executor), not {!r}. It has the methods check(signal,"
    " receiver, is_async) and deliver(call)."
)


def check_callable(signal: AnySignal, receiver: Any) -> None:
    """Raise if a receiver cannot be called.

    :raises InvalidReceiverError: when it is not callable.
    """
    if not callable(receiver):
        raise InvalidReceiverError(f"A receiver of {signal!r} must be callable; {kind_name(receiver)} is not.")


def check_errors(policy: Any) -> Any:
    """Return a failure policy. Raise if the value is not a failure policy.

    :raises InvalidOptionError: when it is not a failure policy.
    """
    if is_async(policy):
        raise InvalidOptionError(f"errors must not be async, because no code would await it: {describe(policy)}.")

    if callable(policy) or (isinstance(policy, str) and policy in {PROPAGATE, COLLECT, LOG}):
        return policy

    raise InvalidOptionError(f'errors must be "propagate", "collect", "log" or a callable, not {policy!r}.')


def check_wrappers(async_wrapper: Any, sync_wrapper: Any, async_policy: Any) -> None:
    """Raise if a wrapper or an async policy could not work.

    :raises InvalidOptionError: when a wrapper is not callable, or the policy has no method ``run``.
    """
    for name, wrapper in (("async_wrapper", async_wrapper), ("sync_wrapper", sync_wrapper)):
        if wrapper is not None and not callable(wrapper):
            raise InvalidOptionError(f"{name} must be called with a receiver, so it must be callable: {wrapper!r}.")

    if async_policy is not None and (_is_class(async_policy) or not _has_methods(async_policy, "run")):
        raise InvalidOptionError(
            f"async_policy must be a policy, such as aldis.aio.Concurrent(), not {async_policy!r}. It has the"
            " method run(calls)."
        )


def check_options(signal: AnySignal, receiver: Any, priority: Any, once: Any, via: Any) -> Options:
    """Return the options of a connection, or raise if one of them is wrong.

    :raises InvalidOptionError: when one is wrong.
    """
    is_delivery = via is None or (not _is_class(via) and _has_methods(via, "check", "deliver"))

    for is_right, message, value in (
        (_is_number(priority), _NO_NUMBER, priority),
        (isinstance(once, bool), _NO_BOOL, once),
        (is_delivery, _NO_DELIVERY, via),
    ):
        if not is_right:
            raise InvalidOptionError(message.format(value))

    if via is not None:
        via.check(signal, receiver, is_async(receiver))

    options = Options(priority, once, via)

    if options.group is not None and not _has_methods(options.group, "open", "close"):
        raise InvalidOptionError(
            f"The attribute group of {via!r} must be a group of deliveries, with the methods open(signal, sender,"
            f" payload, is_awaited) and close(opened), not {options.group!r}."
        )

    return options


def _has_methods(value: object, *names: str) -> bool:
    return all(callable(getattr(value, name, None)) for name in names)


def _is_class(value: object) -> bool:
    return isinstance(value, type)


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and not isnan(value))


@final
class Options:
    """How a receiver is called. Replaced as a whole when the receiver is connected again.

    :ivar claims: holds one item until a ``once`` receiver is called.
    :ivar group: the group of its delivery, if the delivery has one.
    """

    __slots__ = ("claims", "group", "once", "priority", "via")

    claims: list[bool]
    group: DeliveryGroup | None
    once: bool
    priority: float
    via: Delivery | None

    def __init__(self, priority: float = 0, once: bool = False, via: Delivery | None = None) -> None:
        self.priority = priority
        self.once = once
        self.via = via
        self.group = getattr(via, "group", None)
        self.claims = [True]

    def claim(self) -> bool:
        """Take the one call of a ``once`` connection. Return whether this thread got it."""
        try:
            return self.claims.pop()
        except IndexError:
            return False
