"""Crossing between sync and async, and receivers that run side by side.

Nothing here is needed to ``await signal.send_async(...)`` to async receivers. ``import aldis`` does not
import this module, since ``asyncio`` costs more than all of Aldis.
"""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

from ._core import dispatch
from ._core.callables import describe
from ._core.types import AsyncPolicy
from .exceptions import AsyncReceiverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from typing_extensions import ParamSpec

    from ._core.signal import Signal
    from ._core.types import P, R, S, Undeclared
else:
    from typing import ParamSpec

__all__ = ["AsyncPolicy", "Concurrent", "async_to_sync", "sync_to_async"]

Q = ParamSpec("Q")
T = TypeVar("T")


def async_to_sync(receiver: Callable[Q, Coroutine[Any, Any, T]]) -> Callable[Q, T]:
    """An ``async_wrapper``: lets ``send`` run async receivers, each in an event loop of its own.

    For threads in which no event loop runs. Inside one, use ``send_async``.

    :param receiver: an async receiver.
    :return: a sync callable, which raises :class:`~aldis.AsyncReceiverError` where an event loop runs.

    .. versionadded:: 0.1
    """

    @wraps(receiver)
    def call(*args: Q.args, **payload: Q.kwargs) -> T:
        if _is_in_loop():
            raise AsyncReceiverError(
                f"send() cannot run {describe(receiver)} by aldis.aio.async_to_sync from a running event loop. Use send_async()."
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
    """A ``sync_wrapper``: lets ``send_async`` run sync receivers, in the event loop's threads.

    The receiver sees a copy of the context variables, and the loop goes on meanwhile.

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
    """An ``async_policy``: ``send_async`` runs all receivers side by side, in a task each.

    For all sends, or for one::

        signals = Namespace(async_policy=Concurrent())
        await Concurrent().send(order_placed, app, order_id=7)

    Receivers begin in order; results are in order. All have ended when the send ends, also when it is
    cancelled. A failure stops nothing unless that is asked for, so ``errors="propagate"`` does what
    ``"collect"`` does: one exception is raised unchanged, several as an ``ExceptionGroup``.

    :param cancel_on_failure: cancel the receivers that are still running when one fails. They have no
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
        """Await the calls, each in a task of its own, until all have ended."""
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
                # A receiver raised it by itself. The group would let that pass in silence.
                raise asyncio.CancelledError
        finally:
            tasks.clear()  # Each task holds this list by its frame: no cycle.

    @overload
    async def send(
        self, signal: Signal[Any, ..., Undeclared], sender: Any = None, /, **payload: Any
    ) -> list[tuple[Callable[..., Any], Any]]: ...

    @overload
    async def send(
        self, signal: Signal[S, P, R], sender: S, /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    async def send(  # type: ignore[misc]  # As for Signal.send().
        self, signal: Signal[Any, ..., Any], sender: Any = None, /, **payload: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """As :meth:`~aldis.Signal.send_async`, by this policy."""
        return await dispatch.send_by(self, signal, sender, None, payload)
