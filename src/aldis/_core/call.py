"""One call of a receiver, as a delivery gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from .callables import as_coroutine_function, describe, is_async
from .failures import Failure
from .registry import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .types import AnySignal, Wrapper


@final
class Call:
    """One call of a receiver that a delivery is to make. Calling it runs the receiver.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver.
    :ivar sender: the sender.
    :ivar payload: the keyword arguments.
    :ivar is_awaited: whether the send awaits what ``deliver`` returns, if that is a coroutine: ``send_async`` does,
        and ``send`` cannot.
    :ivar opened: what the delivery's :class:`~aldis.delivery.DeliveryGroup` made of this send, if it has one.

    .. versionadded:: 0.1
    """

    __slots__ = ("_watching", "is_awaited", "opened", "payload", "receiver", "sender", "signal")

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
        watching: Callable[[], AbstractContextManager[None]] | None = None,
        *,
        is_awaited: bool = False,
        opened: Any = None,
    ) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.payload = payload
        self.opened = opened
        self.is_awaited = is_awaited
        self._watching = watching

    @property
    def is_async(self) -> bool:
        """Whether the receiver is async: then calling this without a wrapper gives a coroutine."""
        return is_async(self.receiver)

    def __call__(self, wrapper: Wrapper | None = None) -> Any:
        """Run the receiver and return what it returns.

        :param wrapper: called with the receiver, gives what is called in its place: for a delivery that takes
            async receivers, what runs them.
        :raises Exception: what the receiver raised, unless the signal's failure policy is a callable: then
            that is handed the failure, and ``None`` is returned.
        """
        try:
            receiver = self.receiver if wrapper is None else wrapper(self._to_wrap())

            if self._watching is None:
                return receiver(self.sender, **self.payload)

            if is_async(receiver):
                return self._watch(receiver, self._watching)

            with self._watching():
                return receiver(self.sender, **self.payload)
        except Exception as error:
            if not self._is_for_policy(error):
                raise

            return None

    async def run_async(self, wrapper: Wrapper | None = None) -> Any:
        """Await the receiver and return what it returns, as calling does for one that is sync.

        :param wrapper: called with the receiver, gives an async callable: for a sync receiver, what runs it.
        :raises Exception: as for calling.
        """
        try:
            receiver = self.receiver if wrapper is None else wrapper(self._to_wrap())

            if self._watching is None:
                return await receiver(self.sender, **self.payload)

            return await self._watch(receiver, self._watching)
        except Exception as error:
            if not self._is_for_policy(error):
                raise

            return None

    def _to_wrap(self) -> Callable[..., Any]:
        return as_coroutine_function(self.receiver) if self.is_async else self.receiver

    def _is_for_policy(self, error: Exception) -> bool:
        """Hand a failure to the policy, if that is a callable. To raise it here would have it hold itself."""
        policy = registry_of(self.signal).policy_for(self.sender)

        if isinstance(policy, str):
            return False

        policy(Failure(self.signal, self.receiver, self.sender, error))
        return True

    async def _watch(self, receiver: Callable[..., Any], watching: Callable[[], AbstractContextManager[None]]) -> Any:
        """The coroutine of an async receiver, watched when it is awaited: before, nothing runs."""
        with watching():
            return await receiver(self.sender, **self.payload)

    def __repr__(self) -> str:
        return f"<Call of {describe(self.receiver)} on {self.signal!r}>"
