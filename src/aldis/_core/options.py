"""The options of a connection, and the checks of what users pass in, with errors that say what to do."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any, final

from aldis.exceptions import InvalidOptionError, InvalidReceiverError

from .callables import describe, is_async
from .failures import COLLECT, PROPAGATE

if TYPE_CHECKING:
    from .delivery import Delivery, DeliveryGroup
    from .types import AnySignal


def check_callable(signal: AnySignal, receiver: Any) -> None:
    """See that a receiver can be one.

    :raises InvalidReceiverError: when not.
    """
    if not callable(receiver):
        raise InvalidReceiverError(f"A receiver of {signal!r} must be callable; {type(receiver).__name__} is not.")


def check_errors(policy: Any) -> Any:
    """A failure policy, if it is one.

    :raises InvalidOptionError: when not.
    """
    if is_async(policy):
        raise InvalidOptionError(f"errors must not be async, as nobody would await it: {describe(policy)}.")

    if callable(policy) or (isinstance(policy, str) and policy in {PROPAGATE, COLLECT}):
        return policy

    raise InvalidOptionError(f'errors must be "propagate", "collect" or a callable, not {policy!r}.')


def check_crossing(async_wrapper: Any, sync_wrapper: Any, async_policy: Any) -> None:
    """See that these are of their kinds.

    :raises InvalidOptionError: when not.
    """
    for name, wrapper in (("async_wrapper", async_wrapper), ("sync_wrapper", sync_wrapper)):
        if wrapper is not None and not callable(wrapper):
            raise InvalidOptionError(f"{name} must be called with a receiver, so it must be callable: {wrapper!r}.")

    if async_policy is not None and (isinstance(async_policy, type) or not _has_method(async_policy, "run")):
        raise InvalidOptionError(
            f"async_policy must be a policy, such as aldis.aio.Concurrent(), not {async_policy!r}. It has the"
            " method run(calls)."
        )


def _has_method(value: object, name: str) -> bool:
    return callable(getattr(value, name, None))


def check_options(signal: AnySignal, receiver: Any, priority: Any, once: Any, via: Any) -> Options:
    """The options of a connection, if they are right.

    :raises InvalidOptionError: when not.
    """
    if not isinstance(priority, (int, float)) or (isinstance(priority, float) and isnan(priority)):
        raise InvalidOptionError(f"priority must be a number (an int or a float), not {priority!r}.")

    if not isinstance(once, bool):
        raise InvalidOptionError(f"once must be True or False, not {once!r}.")

    if via is not None:
        if isinstance(via, type) or not (_has_method(via, "check") and _has_method(via, "deliver")):
            raise InvalidOptionError(
                f"via must be a delivery, such as aldis.delivery.threads(executor), not {via!r}. It has the"
                " methods check(signal, receiver, is_async) and deliver(call)."
            )

        via.check(signal, receiver, is_async(receiver))

    options = Options(priority, once, via)

    if options.group is not None and not (_has_method(options.group, "open") and _has_method(options.group, "close")):
        raise InvalidOptionError(
            f"The attribute group of {via!r} must be a group of deliveries, with the methods open(signal, sender,"
            f" payload, is_awaited) and close(opened), not {options.group!r}."
        )

    return options


@final
class Options:
    """How a receiver is to be called. Replaced as a whole when it is connected again.

    :ivar claims: holds an item as long as a ``once`` receiver has not been called.
    :ivar group: what its delivery shares with others, if it does.
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
        """Take the one call of a ``once`` connection. Of several threads that try, one gets it."""
        try:
            return self.claims.pop()
        except IndexError:
            return False
