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

DEFERRED_CALLS: Final = "aldis.after_response"
"""The key of a request's deferred calls in its ASGI scope."""

_FAILED: Final = "%r, delivered after the response, failed"

serving: Final[ContextVar[Quart | None]] = ContextVar("aldis.quart.serving", default=None)
"""The application that serves this request or websocket. Quart has no context yet when a websocket's message comes in.
"""


@final
class AfterResponse:
    """A delivery that runs a receiver when the response has been sent: ``connect(via=after_response)``.

    The receiver runs in a task of its own, when the server has the last byte. The client does not wait for it. It runs
    in an app context of its own, with a new ``g``. It can read ``request`` and ``session``; a change to the session
    comes too late to be saved. Context variables have the values that they had at the send.

    Receivers run one after the other, in the order of the sends, also when the request has failed or the client has
    gone. If a task or a thread sends after the response, its receivers run as soon as they can. An exception of a
    receiver never reaches the client: a callable failure policy gets it; otherwise ``app.logger`` logs it. Sync
    receivers run by ``app.ensure_async``. Outside a request, in a websocket, and in ``app.test_request_context()``,
    which makes no response, the receiver runs at once. A sync receiver then blocks the event loop if the signal is sent
    by ``send``.

    A receiver runs at most once: if the process dies before that, the call is lost. The calls are background tasks of
    the application: at shutdown, it waits for them as long as ``BACKGROUND_TASK_SHUTDOWN_TIMEOUT`` says. In tests, they
    have run when the client returns.

    In the results of ``send`` and ``send_async``, the receiver's value is ``None``; if it ran at once, its result.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        """Accept every receiver."""

    def deliver(self, call: Call, /) -> object:
        """Defer the call to the end of the response.

        :raises RuntimeError: when the application has no :class:`aldis.quart.Aldis`.
        """
        if not has_request_context():
            return _now(call)

        app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
        calls: DeferredCalls | None = request.scope.get(DEFERRED_CALLS)  # type: ignore[assignment]

        if calls is not None:
            context: AppContext = app_ctx._get_current_object()
            calls.add(partial(_run, app, call, context))
            return None

        if EXTENSION in current_app.extensions:
            return _now(call)  # No response is made here, as in test_request_context().

        raise RuntimeError(
            f"This application does not run receivers after the response: {call!r} cannot be delivered."
            " Call Aldis(app), or Aldis().init_app(app), when you make the application."
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
class AfterResponseContext(AppContext):
    """An app context in which the request of another context can be read.

    Since Quart 0.23 the request belongs to the app context, so a plain new context would hide it. This one shows the
    request and does not own it: the end of this context does not tear the request down again.

    :ivar origin: the context that owns the request.
    """

    origin: Any
    has_request = True
    request = property(attrgetter("origin.request"))
    session = property(attrgetter("origin.session"))

    def show(self, origin: Any) -> AfterResponseContext:
        """Show the request and the session of another context."""
        self.origin = origin
        self.url_adapter = origin.url_adapter
        return self

    def copy(self) -> AfterResponseContext:
        """Return a copy, as Quart makes one for each task."""
        context: Any = super().copy()
        return context.show(self.origin)  # type: ignore[no-any-return]


async def _run(app: Quart, call: Call, context: AppContext) -> None:
    try:
        async with AfterResponseContext(app).show(context):
            await call.run_async(app.ensure_async)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise

        # This task was not cancelled: the receiver awaited a task that was cancelled.
        app.logger.exception(_FAILED, call)
    except Exception:
        app.logger.exception(_FAILED, call)


def _is_cancelled() -> bool:
    """Return whether this task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@final
class DeferredCalls:
    """The calls that wait for the end of one response.

    :param tasks: the application's background tasks.
    """

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Context, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        self._is_over = False
        self._is_running = False

    def add(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Add a call, from any thread. After the response, it runs as soon as it can."""
        self._waiting.append((copy_context(), run))

        # Append first, then look: if the response ends just now, one of the two sides sees the call.
        if self._is_over:
            self._loop.call_soon_threadsafe(self.run_all)

    def run_all(self) -> asyncio.Task[None] | None:
        """Run the calls that wait. The response is over now.

        :return: the task that runs them; ``None`` if no call waits, or another task runs them already.
        """
        self._is_over = True

        if self._is_running or not self._waiting:
            return None

        self._is_running = True
        task = self._loop.create_task(self._run_waiting())

        # Keep the task: the loop holds it only weakly. And the application waits for these tasks when it shuts down.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_waiting(self) -> None:
        """Run the calls that wait, and those that are added meanwhile, in order."""
        try:
            while self._waiting:
                context, run = self._waiting.popleft()
                await self._loop.create_task(run(), context=context)
        finally:
            self._is_running = False


@final
class AfterResponseMiddleware:
    """ASGI middleware that runs the deferred calls of a request when its response has been sent.

    :param app: the application.
    :param application: the ASGI application that makes the response.
    """

    def __init__(self, app: Quart, application: Application) -> None:
        self._app: Any = app
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        calls = DeferredCalls(self._app.background_tasks)
        token = serving.set(self._app)

        if scope["type"] == "http":
            scope[DEFERRED_CALLS] = calls

        try:
            await self._application(scope, receive, send)
        except BaseException:
            # Do not wait for the task: a server that cancels this call wants to end soon, and an error still needs an
            # answer.
            calls.run_all()
            raise
        finally:
            serving.reset(token)

        # A shield, because a server may cancel this task when the client has gone, and the calls must go on.
        if (task := calls.run_all()) is not None:
            await asyncio.shield(task)
