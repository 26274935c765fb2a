"""Receivers that raise, and the policies that say what a signal does then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from .callables import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from .types import AnySignal


PROPAGATE: Final = "propagate"
COLLECT: Final = "collect"


@final
class Failure:
    """A receiver that raised, as a callable failure policy is handed it.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver that raised.
    :ivar sender: the sender.
    :ivar exception: what it raised.

    .. versionadded:: 0.1
    """

    __slots__ = ("exception", "receiver", "sender", "signal")

    exception: Exception
    receiver: Callable[..., Any]
    sender: Any
    signal: AnySignal

    def __init__(self, signal: AnySignal, receiver: Callable[..., Any], sender: Any, exception: Exception) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.exception = exception

    def __repr__(self) -> str:
        return f"<Failure of {describe(self.receiver)} on {self.signal!r}: {type(self.exception).__name__}>"


@final
class SenderPolicy:
    """A failure policy that depends on the sender.

    :ivar choose: called with the sender, gives the policy.
    """

    __slots__ = ("choose",)

    def __init__(self, choose: Callable[[Any], Any]) -> None:
        self.choose = choose

    def __call__(self, failure: Failure) -> object:
        """Treat a failure as the sender's policy does, for who takes this for a callable policy."""
        policy = self.choose(failure.sender)

        if isinstance(policy, str):
            raise failure.exception

        return policy(failure)
