"""Deliveries: how a receiver gets called, if not at once.

A delivery is an object with the methods of :class:`Delivery`. Pass it to ``connect`` as ``via=``. At the receiver's
turn, a send calls its ``deliver`` with a :class:`Call`; the value that it returns is in the results of ``send``.
:func:`threads` makes the delivery of this module.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, final

from ._core.call import Call
from ._core.delivery import Delivery
from .exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from ._core.signal import Signal

__all__ = ["Call", "Delivery", "ThreadDelivery", "threads"]


def threads(executor: Executor) -> ThreadDelivery:
    """Run receivers in the threads of an executor.

    The value in the results of ``send`` is a :class:`concurrent.futures.Future`. The receiver sees a copy
    of the sender's context variables. If it raises, ``"log"`` logs the failure and a callable failure policy
    is called with it, in the executor's thread, and the future's result is ``None``. Under ``"propagate"``
    and ``"collect"``, the future raises, because ``send`` returned long ago. A future that is dropped before any code
    asks for its exception reports it to :func:`threading.excepthook`.

    Receivers in threads run in no particular order. A weakly held receiver is kept alive until it has run.
    A receiver that is disconnected after its turn still runs. ``connect`` refuses async receivers.

    :param executor: a :class:`concurrent.futures.ThreadPoolExecutor` or a similar executor. It stays yours:
        shut it down when the program ends.
    :raises InvalidOptionError: when it has no ``submit``.

    .. versionadded:: 0.1
    """
    return ThreadDelivery(executor)


@final
class ThreadDelivery:
    """The delivery that :func:`threads` returns."""

    __slots__ = ("executor",)

    executor: Executor

    def __init__(self, executor: Executor) -> None:
        if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
            raise InvalidOptionError(f"threads() takes an executor of concurrent.futures, not {executor!r}.")

        self.executor = executor

    def __repr__(self) -> str:
        return f"threads({type(self.executor).__name__})"

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Raise for an async receiver: a thread of a pool has no event loop.

        :raises InvalidOptionError: for an async receiver.
        """
        if is_async:
            raise InvalidOptionError(
                "An async receiver cannot run via threads. Connect it without via=, and use send_async."
            )

    def deliver(self, call: Call, /) -> object:
        """Submit the call with a copy of the current context."""
        from ._core.futures import Job, ReportedFuture

        future = ReportedFuture()
        self.executor.submit(copy_context().run, Job(call, future))
        return future
