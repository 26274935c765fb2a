"""The protocol of a delivery, for ``connect(via=...)``, and the protocol of the relay's group of deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .call import Call
    from .types import AnySignal


@runtime_checkable
class Delivery(Protocol):
    """Decides how a receiver gets called: pass it to ``connect`` as ``via=``.

    .. versionadded:: 0.1
    """

    def check(self, signal: AnySignal, receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Raise if this delivery cannot call this receiver. Called by ``connect``.

        :param signal: the signal that it is about to be connected to.
        :param receiver: the receiver that is about to be connected.
        :param is_async: whether calling it returns a coroutine.
        """

    def deliver(self, call: Call, /) -> object:
        """Run ``call()``, here or elsewhere. Called at the receiver's turn of a send, in the sender's thread.

        :param call: runs the receiver, and passes its exceptions to the signal's failure policy.
        :return: the receiver's value in the results of ``send``. ``send_async`` awaits a coroutine, such as the one
            that ``call()`` returns for an async receiver; ``send`` cannot await it, and fails.
        :raises Exception: when the call cannot be delivered. The failure policy handles it as an exception of the
            receiver.
        """
        raise NotImplementedError


class DeliveryGroup(Protocol):
    """Work that the deliveries of one send share if their attribute ``group`` is the same object. Not public.

    The relay is its one user: it looks at a payload before any receiver runs, and writes all queue rows of a send at
    once. The send raises what either method raises, under every failure policy: a group does the sender's own work, not
    a receiver's.
    """

    def open(self, signal: AnySignal, sender: Any, payload: dict[str, Any], is_awaited: bool, /) -> Any:
        """Prepare for a send. Called once, before any receiver runs, if the send has receivers of this group.

        :param signal: the signal that is sent.
        :param sender: the sender.
        :param payload: the keyword arguments, with the defaults of the declaration.
        :param is_awaited: whether the send awaits the value that :meth:`close` returns: ``send_async`` does, and
            ``send`` cannot.
        :return: the value of ``opened`` of each call of this group.
        :raises Exception: when the group cannot deliver this send. Then no receiver runs.
        """
        raise NotImplementedError

    def close(self, opened: Any, /) -> object:
        """Finish. Called when the last receiver had its turn, or when a receiver's exception stops the send.

        It is not called when another group refuses the send, or when the send is stopped by something other than an
        :class:`Exception`, such as ``asyncio.CancelledError``.

        :param opened: what :meth:`open` returned.
        :return: a coroutine, if ``open`` was called with ``is_awaited``; otherwise anything.
        """
        raise NotImplementedError
