"""Failure policies: what a signal does when a receiver raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from .callables import describe, signal_name

if TYPE_CHECKING:
    from collections.abc import Callable

PROPAGATE: Final = "propagate"
COLLECT: Final = "collect"
LOG: Final = "log"


@final
class Failure:
    """A receiver that raised. A callable failure policy is called with it.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver that raised.
    :ivar sender: the sender.
    :ivar exception: the exception.

    .. versionadded:: 0.1
    """

    __slots__ = ("exception", "receiver", "sender", "signal")

    exception: Exception
    receiver: Callable[..., Any]
    sender: Any
    signal: Any

    def __init__(self, signal: Any, receiver: Callable[..., Any], sender: Any, exception: Exception) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.exception = exception

    def __repr__(self) -> str:
        return f"<Failure of {describe(self.receiver)} on {self.signal!r}: {type(self.exception).__name__}>"


def log_failure(failure: Failure) -> None:
    """Log a failure to the logger ``aldis``, with its traceback: what the policy ``"log"`` does.

    The message names the signal and the receiver. It shows neither the payload nor the sender.
    """
    import logging  # Imported at the first failure, because that costs more than importing Aldis.

    logging.getLogger("aldis").error(
        "%s failed on the signal %r.",
        describe(failure.receiver),
        signal_name(failure.signal),
        exc_info=failure.exception,
    )


@final
class SenderPolicy:
    """A failure policy that depends on the sender.

    :ivar choose: called with the sender, returns the policy.
    """

    __slots__ = ("choose",)

    def __init__(self, choose: Callable[[Any], Any]) -> None:
        self.choose = choose

    def __call__(self, failure: Failure) -> object:
        """Treat a failure as the policy of its sender does. Code that knows only callable policies calls this."""
        policy = handler_of(self.choose(failure.sender))

        if isinstance(policy, str):
            raise failure.exception

        return policy(failure)


def handler_of(policy: Any) -> Any:
    """Return the callable that handles each failure at once, if the policy has one; otherwise the policy itself."""
    return log_failure if isinstance(policy, str) and policy == LOG else policy
