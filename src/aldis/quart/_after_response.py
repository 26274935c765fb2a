"""Receivers that run when the response has been sent."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar, copy_context
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, final

from quart import Quart, current_app, has_app_context, has_request_context, request
from quart.ctx import AppContext
from quart.globals import app_ctx

from aldis._web.state import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context
    from typing import TypeAlias

    from aldis import Signal
    from aldis.delivery import Call

    Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

QUEUE: Final = "aldis.after_response"

_FAILED: Final = "%r, delivered after the response, failed"

serving: Final[ContextVar[Quart | None]] = ContextVar("aldis.quart.serving", default=None)
"""The application that serves, also where Quart has no context yet: where a websocket's messages come in."""


@final
class AfterResponse:
    """Runs a receiver when the response has been sent: ``connect(via=after_response)``.

    The receiver runs in a task of its own, when the last byte has been handed to the server; the client does not wait
    for it. It runs in an app context of its own, with new ``g``. ``request`` and ``session`` are those of the
    request, to read; changes to the session are too late to be sent. Context variables are those of the sender.

    Receivers run one after the other, in the order of the sends, also when the request has failed or the client has
    gone. What is sent later still, by a task or a thread that goes on after the response, runs as soon as it can. What
    receivers raise never reaches the client: a callable failure policy is handed it, else ``app.logger`` logs it. Sync
    receivers run by ``app.ensure_async``. Outside a request, in a websocket, and in ``app.test_request_context()``,
    where no response is made, the receiver runs at once; sync ones block the event loop there if they are sent to by
    ``send``.

    At most once: if the process dies before, they are lost. They are background tasks of the application: when that
    shuts down, it waits for them as long as ``BACKGROUND_TASK_SHUTDOWN_TIMEOUT`` says. In tests, they have run when
    the client returns.

    The value in the results of ``send`` and ``send_async`` is ``None``, or, where it ran at once, what the receiver
    returned.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Take all receivers."""

    def deliver(self, call: Call, /) -> object:
        """Keep the call for the end of the response.

        :raises RuntimeError: when the application has no :class:`aldis.quart.Aldis`.
        """
        if not has_request_context():
            return _now(call)

        app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
        queue: Queue | None = request.scope.get(QUEUE)  # type: ignore[assignment]

        if queue is not None:
            context: AppContext = app_ctx._get_current_object()
            queue.add(partial(_run, app, call, context))
            return None

        if EXTENSION in current_app.extensions:
            return _now(call)  # As in test_request_context(): nothing makes a response.

        raise RuntimeError(
            f"This application does not run receivers after the response: {call!r} cannot be delivered."
            " Call Aldis(app), or Aldis().init_app(app), when the application is made."
        )

    def __repr__(self) -> str:
        return "after_response"


after_response: Final = AfterResponse()
"""Runs a receiver when the response has been sent. See :class:`AfterResponse`."""


def _now(call: Call) -> Any:
    if call.is_async:
        return call.run_async()

    return call.run_async(current_app.ensure_async) if call.is_awaited and has_app_context() else call()


@final
class Afterwards(AppContext):
    """An app context in which the request of another one can be read.

    For Quart 0.23 and later, where the app context has the request, and a new one would hide it. It does not take it
    over: what ends this context does not tear the request down again.

    :ivar origin: the context that has the request.
    """

    origin: Any
    has_request = True
    request = property(attrgetter("origin.request"))
    session = property(attrgetter("origin.session"))

    def show(self, origin: Any) -> Afterwards:
        """Show what the other context has."""
        self.origin = origin
        self.url_adapter = origin.url_adapter
        return self

    def copy(self) -> Afterwards:
        """As that of Quart, which copies for tasks."""
        context: Any = super().copy()
        return context.show(self.origin)  # type: ignore[no-any-return]


async def _run(app: Quart, call: Call, context: AppContext) -> None:
    try:
        async with Afterwards(app).show(context):
            await call.run_async(app.ensure_async)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise

        # It is the receiver's own: something that it awaited was cancelled.
        app.logger.exception(_FAILED, call)
    except Exception:
        app.logger.exception(_FAILED, call)


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@final
class Queue:
    """What waits for the end of one response."""

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Context, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        self._is_over = False
        self._is_running = False

    def add(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keep what is to run, from any thread. After the response, it runs as soon as it can."""
        self._waiting.append((copy_context(), run))

        # In this order: what is added in a thread just when the response ends is seen there or here.
        if self._is_over:
            self._loop.call_soon_threadsafe(self.end)

    def end(self) -> asyncio.Task[None] | None:
        """Run what waits, now that the response is over. The task that does, if one is needed."""
        self._is_over = True

        if self._is_running or not self._waiting:
            return None

        self._is_running = True
        task = self._loop.create_task(self._drain())

        # The loop itself holds tasks weakly only, and the application waits for these when it shuts down.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drain(self) -> None:
        """Run what waits, and what comes to wait meanwhile, in order."""
        try:
            while self._waiting:
                context, run = self._waiting.popleft()
                await self._loop.create_task(run(), context=context)
        finally:
            self._is_running = False


@final
class Ending:
    """ASGI middleware that runs what waits for the end of the response."""

    def __init__(self, app: Quart, application: Application) -> None:
        self._app: Any = app
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        queue = Queue(self._app.background_tasks)
        token = serving.set(self._app)

        if scope["type"] == "http":
            scope[QUEUE] = queue

        try:
            await self._application(scope, receive, send)
        except BaseException:
            # Nobody waits here: the server is in a hurry if it cancels this, and still has to answer an error.
            queue.end()
            raise
        finally:
            serving.reset(token)

        # Not this task: where the client has gone, the server may cancel it.
        if (task := queue.end()) is not None:
            await asyncio.shield(task)
