"""Wrappers between sync and async, and a policy that runs async receivers side by side.

You do not need this module to ``await signal.send_async(...)`` with async receivers. ``import aldis`` does not
import it, because importing ``asyncio`` costs more than importing all of Aldis.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, final

from ._core.callables import describe
from ._core.types import AsyncPolicy
from .exceptions import AsyncReceiverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from typing_extensions import ParamSpec
else:
    from typing import ParamSpec

__all__ = ["AsyncPolicy", "Concurrent", "async_to_sync", "sync_to_async"]

Q = ParamSpec("Q")
T = TypeVar("T")


def async_to_sync(receiver: Callable[Q, Coroutine[Any, Any, T]]) -> Callable[Q, T]:
    """Wrap an async receiver as a sync callable. As ``async_wrapper``, it lets ``send`` run async receivers.

    Each call runs in an event loop of its own, in a thread where no event loop runs. Inside an event loop, use
    ``send_async``.

    :param receiver: an async receiver.
    :return: a sync callable, which raises :class:`~aldis.AsyncReceiverError` where an event loop runs.

    .. versionadded:: 0.1
    """

    @wraps(receiver)
    def call(*args: Q.args, **payload: Q.kwargs) -> T:
        if _is_in_loop():
            raise AsyncReceiverError(
                f"send() cannot run {describe(receiver)} by aldis.aio.async_to_sync from a running event loop."
                " Use send_async()."
            )

        async def main() -> T:
            return await receiver(*args, **payload)

        return asyncio.run(main())

    return call


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False

    return True


def sync_to_async(receiver: Callable[Q, T]) -> Callable[Q, Coroutine[Any, Any, T]]:
    """Wrap a sync receiver as an async callable. As ``sync_wrapper``, it lets ``send_async`` run sync receivers.

    The receiver runs in the event loop's threads, with a copy of the context variables. The loop continues meanwhile.

    :param receiver: a sync receiver.
    :return: an async callable.

    .. versionadded:: 0.1
    """

    @wraps(receiver)
    async def call(*args: Q.args, **payload: Q.kwargs) -> T:
        return await asyncio.to_thread(receiver, *args, **payload)

    return call


@final
class Concurrent:
    """An async policy: ``send_async`` runs all receivers side by side, each in a task of its own.

    For one signal, or for all signals of a namespace::

        signals = Namespace(async_policy=Concurrent())
        order_placed.async_policy = Concurrent()

    Receivers begin in order, and results are in order. All receivers have ended when the send ends, also when it
    is cancelled. Unless ``cancel_on_failure`` is set, a failure stops no receiver, so ``errors="propagate"`` does
    what ``"collect"`` does: one exception is raised unchanged, several as an ``ExceptionGroup``.

    :param cancel_on_failure: when a receiver fails, cancel the receivers that still run. Cancelled receivers have no
        result.

    .. versionadded:: 0.1
    """

    __slots__ = ("cancel_on_failure",)

    cancel_on_failure: bool

    def __init__(self, *, cancel_on_failure: bool = False) -> None:
        self.cancel_on_failure = cancel_on_failure

    def __repr__(self) -> str:
        return f"Concurrent(cancel_on_failure={self.cancel_on_failure})"

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        """Await the calls, each in its own task, until all calls have ended."""
        tasks: list[asyncio.Task[None]] = []
        failed: list[bool] = []

        async def follow(call: Callable[[], Awaitable[bool]]) -> None:
            if not await call() and self.cancel_on_failure:
                failed.append(True)
                others = [task for task in tasks if task is not asyncio.current_task()]

                while others:
                    others.pop().cancel()

        try:
            async with asyncio.TaskGroup() as group:
                tasks.extend(group.create_task(follow(call)) for call in calls)

            if not failed and any(task.cancelled() for task in tasks):
                # A receiver raised CancelledError by itself. The task group would ignore that.
                raise asyncio.CancelledError
        finally:
            tasks.clear()  # Each task holds this list through its frame. Clear it, so that there is no cycle.
