"""E9: what cannot be run is refused before any receiver runs, and nothing that should be awaited is dropped."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="async-call-not-seen",
        what="An object with an async `__call__` counts as sync.",
        at="is_async",
        old="_has_coroutine_flags(call) and not isinstance(receiver, type)",
        new="False",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="async-partial-not-seen",
        what="A partial of an async function counts as sync.",
        at="is_async",
        old="(partial, MethodType)",
        new="MethodType",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="marks-not-seen",
        what="A function that is marked as a coroutine function counts as sync.",
        at="_has_coroutine_flags",
        old="any(_has_mark(function, *mark) for mark in _COROUTINE_MARKS)",
        new="False",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="async-refused-late",
        what="`send` refuses an async receiver only at its turn, when other receivers have run.",
        at="_send",
        old="wrapper = run.find_wrapper(wrapper, is_async=True)",
        new="pass",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="sync-refused-late",
        what="`send_async` refuses a sync receiver only at its turn, when other receivers have run.",
        at="_send_async",
        old="wrapper = run.find_wrapper(wrapper, is_async=False)",
        new="pass",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="wrapper-of-call-ignored",
        what="The wrapper of the signal is used although the call names another.",
        at="send",
        old="wrapper or signal.async_wrapper",
        new="signal.async_wrapper or wrapper",
        tests=("test_e09_async.py",),
    ),
    Break(
        name="one-failure-cancels",
        what="A failure cancels the receivers that run at the same time, though nobody asked for it.",
        at="Concurrent.run.follow",
        old="not await call() and self.cancel_on_failure",
        new="not await call()",
        tests=("test_aio.py",),
    ),
    Break(
        name="own-cancel-swallowed",
        what="A CancelledError that a receiver raises itself is swallowed.",
        at="Concurrent.run",
        old="not failed",
        new="failed",
        tests=("test_aio.py",),
    ),
    Break(
        name="concurrent-unordered",
        what="The results of receivers that run at the same time come in the order in which they ended.",
        at="_send_async.call",
        old="results[position] = (receiver, await run.call_async(connection, options, receiver, wrapper))",
        new="results.append((receiver, await run.call_async(connection, options, receiver, wrapper)))",
        tests=("test_aio.py",),
    ),
    Break(
        name="thread-without-context",
        what="A sync receiver that runs in a thread does not see the context variables of the send.",
        at="sync_to_async.call",
        old="asyncio.to_thread(receiver, *args, **payload)",
        new="asyncio.get_running_loop().run_in_executor(None, lambda: receiver(*args, **payload))",
        tests=("test_aio.py",),
    ),
    Break(
        name="application-wrapper-ignored",
        what="The wrapper of the Flask application is not used for async receivers.",
        at="SendRun.find_wrapper",
        old="next(filter(None, (default(is_async) for default in default_wrappers)), None)",
        new="None",
        tests=("flask/test_extension.py",),
    ),
    Break(
        name="delivered-unawaited",
        what="`send_async` does not await the awaitable that a delivery returns.",
        at="SendRun._call_async",
        old="await value if isinstance(value, CoroutineType) else value",
        new="value",
        tests=("quart/test_after_response.py", "test_after_commit.py"),
    ),
)
