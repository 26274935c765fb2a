"""One call of a receiver, as a delivery gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from .callables import as_coroutine_function, describe, is_async
from .failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .types import AnySignal, Wrapper


@final
class Call:
    """One call of a receiver, for a delivery to make. Calling it runs the receiver.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver.
    :ivar sender: the sender.
    :ivar payload: the keyword arguments.
    :ivar is_awaited: whether the send awaits a coroutine that ``deliver`` returns: ``send_async`` does, and ``send``
        cannot.
    :ivar opened: for the relay: what its group of deliveries prepared for this send; otherwise ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = ("_policy_for", "_span", "is_awaited", "opened", "payload", "receiver", "sender", "signal")

    is_awaited: bool
    opened: Any
    payload: dict[str, Any]
    receiver: Callable[..., Any]
    sender: Any
    signal: AnySignal

    def __init__(
        self,
        signal: AnySignal,
        receiver: Callable[..., Any],
        sender: Any,
        payload: dict[str, Any],
        *,
        policy_for: Callable[[Any], Any],
        span: Callable[[], AbstractContextManager[None]] | None = None,
        is_awaited: bool = False,
        opened: Any = None,
    ) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.payload = payload
        self.opened = opened
        self.is_awaited = is_awaited
        self._policy_for = policy_for
        self._span = span

    @property
    def is_async(self) -> bool:
        """Whether the receiver is async: then calling this without a wrapper returns a coroutine."""
        return is_async(self.receiver)

    def __call__(self, wrapper: Wrapper | None = None) -> Any:
        """Run the receiver and return what it returns.

        :param wrapper: called with the receiver, returns the callable to run instead. A delivery that accepts async
            receivers passes its ``async_wrapper``.
        :raises Exception: what the receiver raised, if the signal's failure policy is ``"propagate"`` or
            ``"collect"``. Under ``"log"`` the failure is logged, and a callable policy is called with it; then
            ``None`` is returned.
        """
        try:
            receiver = self.receiver if wrapper is None else wrapper(self._to_wrap())

            if self._span is None:
                return receiver(self.sender, **self.payload)

            if is_async(receiver):
                return self._await_in(self._span, receiver)

            with self._span():
                return receiver(self.sender, **self.payload)
        except Exception as error:
            if not self._handle(error):
                raise

            return None

    async def run_async(self, wrapper: Wrapper | None = None) -> Any:
        """Await the receiver and return what it returns.

        :param wrapper: called with the receiver, returns an async callable to await instead. A delivery passes a
            ``sync_wrapper`` for a sync receiver.
        :raises Exception: the same as when this object is called.
        """
        try:
            receiver = self.receiver if wrapper is None else wrapper(self._to_wrap())

            if self._span is None:
                return await receiver(self.sender, **self.payload)

            return await self._await_in(self._span, receiver)
        except Exception as error:
            if not self._handle(error):
                raise

            return None

    def _to_wrap(self) -> Callable[..., Any]:
        return as_coroutine_function(self.receiver) if self.is_async else self.receiver

    def _handle(self, error: Exception) -> bool:
        """Call the failure policy, if it is a callable, and return whether it is.

        Otherwise the caller raises the error. If this method raised it, the traceback of the error would hold the error
        itself.
        """
        policy = self._policy_for(self.sender)

        if isinstance(policy, str):
            return False

        policy(Failure(self.signal, self.receiver, self.sender, error))
        return True

    async def _await_in(self, span: Callable[[], AbstractContextManager[None]], receiver: Callable[..., Any]) -> Any:
        """Await the receiver inside a span. The span begins when this coroutine is awaited, because the receiver does
        not run before.
        """
        with span():
            return await receiver(self.sender, **self.payload)

    def __repr__(self) -> str:
        return f"<Call of {describe(self.receiver)} on {self.signal!r}>"
