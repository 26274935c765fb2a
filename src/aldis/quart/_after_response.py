"""Receivers that run when the response has been sent."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from quart import Quart, current_app, has_app_context, has_request_context, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from aldis.delivery import Call

    Queue: TypeAlias = list[tuple[Context, Callable[[], Coroutine[Any, Any, None]]]]
    Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

QUEUE: Final = "aldis.after_response"


@final
class AfterResponse:
    """Runs a receiver when the response has been sent: ``connect(via=after_response)``.

    The receiver runs in a task of its own, when the last byte has been handed to the server; the client does not wait
    for it. It runs in an app context of its own, with new ``g``. ``request`` and ``session`` are those of the
    request, to read; changes to the session are too late to be sent. Context variables are those of the sender.

    Receivers run one after the other, in the order of the sends, also when the request has failed. What they raise
    never reaches the client: a callable failure policy is handed it, else ``app.logger`` logs it. Sync receivers run
    by ``app.ensure_async``. Outside a request, and in a websocket, the receiver runs at once.

    At most once: if the process dies before, they are lost. In tests, they have run when the client returns.

    The value in the results of ``send`` and ``send_async`` is ``None``, or, where it ran at once, what the receiver
    returned.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def check(self, receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Take all receivers."""

    def deliver(self, call: Call, /) -> object:
        """Keep the call for the end of the response.

        :raises RuntimeError: when the application has no :class:`aldis.quart.Aldis`.
        """
        if not has_request_context():
            return _now(call)

        scope: Any = request.scope

        if QUEUE not in scope:
            raise RuntimeError(
                f"This application does not run receivers after the response: {call!r} cannot be delivered."
                " Call Aldis(app), or Aldis().init_app(app), when the application is made."
            )

        app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
        scope[QUEUE].append((copy_context(), partial(_run, app, call)))
        return None

    def __repr__(self) -> str:
        return "after_response"


after_response: Final = AfterResponse()
"""Runs a receiver when the response has been sent. See :class:`AfterResponse`."""


def _now(call: Call) -> Any:
    if call.is_async:
        return call.run_async()

    return call.run_async(current_app.ensure_async) if has_app_context() and _is_in_loop() else call()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False

    return True


async def _run(app: Quart, call: Call) -> None:
    async with app.app_context():
        try:
            await call.run_async(app.ensure_async)
        except Exception:
            app.logger.exception("%r, delivered after the response, failed", call)


@final
class Ending:
    """ASGI middleware that runs what waits for the end of the response."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        queue: Queue = []
        scope[QUEUE] = queue

        try:
            await self._application(scope, receive, send)
        finally:
            # In a task that is not this one: when the client has gone, the server cancels this one.
            if queue:
                await asyncio.shield(asyncio.create_task(drain(queue)))


async def drain(queue: Queue) -> None:
    """Run what waits, and what comes to wait meanwhile, in order."""
    while queue:
        context, run = queue.pop(0)
        await asyncio.create_task(run(), context=context)
