"""The protocols of a delivery: what ``connect(via=...)`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .call import Call
    from .signal import Signal


@runtime_checkable
class Delivery(Protocol):
    """What ``connect(via=...)`` takes.

    .. versionadded:: 0.1
    """

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Called by ``connect``. Raises what tells that this receiver cannot be delivered to.

        :param signal: the signal that it is about to be connected to.
        :param receiver: the receiver that is about to be connected.
        :param is_async: whether calling it gives a coroutine.
        """

    def deliver(self, call: Call, /) -> object:
        """Called in the receiver's turn of a send, in the sender's thread. Sees to it that ``call()`` is
        run, here or elsewhere.

        :param call: runs the receiver, and hands what that raises to the signal's failure policy.
        :return: what stands for the receiver in the results of ``send``. A coroutine, such as calling an async
            receiver's ``call()`` gives, is awaited by ``send_async``; ``send`` cannot, and fails.
        :raises Exception: when the call cannot be delivered. That goes to the failure policy, as if the
            receiver had raised it.
        """
        raise NotImplementedError


class DeliveryGroup(Protocol):
    """What the deliveries of one send share, when they have the same object as their attribute ``group``.

    For deliveries that must look at a payload before any receiver runs, or that write what they were handed all at
    once. What either method raises is raised by the send, whatever the signal's failure policy is: a group stands for
    the sender's own work, not for a receiver's.

    .. versionadded:: 0.1
    """

    def open(self, signal: Signal[Any, ..., Any], sender: Any, payload: dict[str, Any], is_awaited: bool, /) -> Any:
        """Called by a send that has receivers of this group, once, before any receiver runs.

        :param signal: the signal that is sent.
        :param sender: the sender.
        :param payload: the keyword arguments, with the defaults of the declaration.
        :param is_awaited: whether what :meth:`close` returns is awaited: ``send_async`` does, and ``send`` cannot.
        :return: what the deliveries find as ``opened`` of the call.
        :raises Exception: when this cannot be delivered. Then no receiver runs.
        """
        raise NotImplementedError

    def close(self, opened: Any, /) -> object:
        """Called by the send when the last receiver had its turn, or when a receiver's exception stops it.

        Not called when another group refuses the send, or when it is stopped by what is no :class:`Exception`, such as
        ``asyncio.CancelledError``.

        :param opened: what :meth:`open` returned.
        :return: a coroutine, if ``open`` was told that it is awaited; else anything.
        """
        raise NotImplementedError
