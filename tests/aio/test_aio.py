"""asyncio: wrappers between sync and async, concurrent receivers, and cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import types
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aldis import AsyncReceiverError, Failure, Namespace, PayloadError, Signal
from aldis.aio import Concurrent, async_to_sync, sync_to_async

if TYPE_CHECKING:
    from collections.abc import Callable


def send_by(policy: Any, signal: Signal[Any, ..., Any], *sender: Any, **payload: Any) -> Any:
    """Set the signal's async policy and send the signal."""
    signal.async_policy = policy
    return signal.send_async(*sender, **payload)


class Broken(Exception):
    """The exception that the receivers of these tests raise."""


class Stage:
    """A signal, a log, and receivers that wait for one another as a test asks."""

    def __init__(self, **settings: Any) -> None:
        self.signal = Signal(**settings)
        self.log: list[str] = []

    def add(self, name: str, *, waits: str = "", error: BaseException | None = None, **options: Any) -> None:
        """Connect a receiver that waits until another receiver, or the receiver itself, is released."""

        async def receiver(sender: Any, **payload: Any) -> str:
            self.log.append(f"{name} begins")

            try:
                while waits and waits not in self.log:  # noqa: ASYNC110  # An event for each name would hide the test.
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                self.log.append(f"{name} is cancelled")
                raise

            self.log.append(f"{name} ends")

            if error is not None:
                raise error

            return name

        self.signal.connect(receiver, weak=False, **options)


def values(results: list[tuple[Any, Any]]) -> list[Any]:
    return [value for _, value in results]


# async_to_sync: async receivers in sync sends.


def test_async_to_sync_runs_an_async_receiver() -> None:
    """async_to_sync is an async_wrapper: send runs each async receiver in its own event loop."""
    signal, loops = Signal(async_wrapper=async_to_sync), list[Any]()

    async def receiver(sender: Any, *, a: int) -> Any:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        return sender, a

    signal.connect(receiver)
    signal.connect(lambda sender, a: "sync", weak=False)

    assert values(signal.send("x", a=1)) == [("x", 1), "sync"]
    assert values(signal.send("y", a=2)) == [("y", 2), "sync"]
    assert loops[0] is not loops[1]
    assert all(loop.is_closed() for loop in loops)


def test_async_to_sync_raises_the_receiver_s_exception() -> None:
    """async_to_sync raises the receiver's exception unchanged."""
    signal, error = Signal(async_wrapper=async_to_sync), Broken()

    @signal.connect
    async def receiver(sender: Any) -> None:
        raise error

    with pytest.raises(Broken) as raised:
        signal.send()

    assert raised.value is error
    assert error.__context__ is None


def test_async_to_sync_is_refused_inside_a_loop() -> None:
    """Inside an event loop async_to_sync raises RuntimeError, and leaves no coroutine that is never awaited."""
    signal, log = Signal(async_wrapper=async_to_sync), list[str]()

    @signal.connect
    async def receiver(sender: Any) -> None:
        log.append("ran")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            signal.send()

    # A coroutine that is dropped without being awaited causes a warning, and warnings are errors.
    asyncio.run(main())
    gc.collect()
    assert log == []


def test_async_to_sync_preserves_the_name_of_the_receiver() -> None:
    """async_to_sync returns a sync function with the receiver's name and documentation."""

    async def receiver(sender: Any) -> None:
        """Its documentation."""

    wrapped = async_to_sync(receiver)

    assert wrapped.__name__ == "receiver"
    assert wrapped.__doc__ == "Its documentation."
    assert not inspect.iscoroutinefunction(wrapped)


def test_async_to_sync_accepts_every_kind_of_receiver() -> None:
    """async_to_sync also wraps methods, callable objects, partials and generator-based coroutines."""

    class Listener:
        async def __call__(self, sender: Any) -> str:
            return "object"

        async def hear(self, sender: Any) -> str:
            return "method"

    @types.coroutine
    def old(sender: Any) -> Any:
        yield
        return "generator"

    signal, listener = Signal(async_wrapper=async_to_sync), Listener()
    signal.connect(listener)
    signal.connect(listener.hear)
    signal.connect(partial(listener.hear), weak=False)
    signal.connect(old)

    assert values(signal.send()) == ["object", "method", "method", "generator"]


# sync_to_async: sync receivers in async sends.


def test_sync_to_async_runs_a_sync_receiver_beside_the_loop() -> None:
    """sync_to_async is a sync_wrapper: the receiver runs in another thread while the event loop goes on."""
    signal, go_on = Signal(sync_wrapper=sync_to_async), threading.Event()

    @signal.connect
    def receiver(sender: Any, *, a: int) -> Any:
        assert go_on.wait(120)
        return sender, a, threading.current_thread() is threading.main_thread()

    async def main() -> Any:
        sending = asyncio.create_task(signal.send_async("x", a=1))
        await asyncio.sleep(0)
        assert not sending.done()
        go_on.set()
        return await sending

    assert values(asyncio.run(main())) == [("x", 1, False)]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_sync_to_async_copies_the_context() -> None:
    """The receiver sees a copy of the sender's context variables, and its own changes stay in that copy."""
    signal = Signal(sync_wrapper=sync_to_async)

    @signal.connect
    def receiver(sender: Any) -> str:
        found = variable.get()
        variable.set("set by the receiver")
        return found

    async def main() -> Any:
        variable.set("set by the sender")
        results = await signal.send_async()
        return values(results), variable.get()

    assert asyncio.run(main()) == (["set by the sender"], "set by the sender")


def test_sync_to_async_keeps_the_order() -> None:
    """Sync and async receivers run in order: the next one begins when the thread of the last one has ended."""
    stage = Stage(sync_wrapper=sync_to_async)
    stage.add("a")
    stage.signal.connect(lambda sender: stage.log.append("thread"), weak=False)
    stage.add("b")
    asyncio.run(stage.signal.send_async())

    assert stage.log == ["a begins", "a ends", "thread", "b begins", "b ends"]


def test_sync_to_async_raises_the_receiver_s_exception() -> None:
    """sync_to_async raises the receiver's exception unchanged."""
    signal, error = Signal(sync_wrapper=sync_to_async), Broken()

    @signal.connect
    def receiver(sender: Any) -> None:
        raise error

    with pytest.raises(Broken) as raised:
        asyncio.run(signal.send_async())

    assert raised.value is error


def test_sync_to_async_preserves_the_name_of_the_receiver() -> None:
    """sync_to_async returns an async function with the receiver's name and documentation."""

    def receiver(sender: Any) -> None:
        """Its documentation."""

    wrapped = sync_to_async(receiver)

    assert wrapped.__name__ == "receiver"
    assert wrapped.__doc__ == "Its documentation."
    assert inspect.iscoroutinefunction(wrapped)


def test_failures_in_sync_to_async_follow_the_policy() -> None:
    """E3: failures of receivers behind sync_to_async are handled by the failure policy."""
    failures: list[Failure] = []
    signal, log = Signal(sync_wrapper=sync_to_async, errors=failures.append), list[Any]()

    @signal.connect
    def fails(sender: Any) -> None:
        raise Broken

    signal.connect(log.append, weak=False)
    asyncio.run(signal.send_async("x"))

    assert [failure.receiver for failure in failures] == [fails]
    assert log == ["x"]


def test_a_namespace_has_both_wrappers() -> None:
    """E9: a namespace with both wrappers serves send and send_async on all of its signals."""
    signals = Namespace(async_wrapper=async_to_sync, sync_wrapper=sync_to_async)
    signal = signals.signal("x")

    async def in_async(sender: Any) -> str:
        return "async"

    def in_sync(sender: Any) -> str:
        return "sync"

    signal.connect(in_async)
    signal.connect(in_sync)

    assert values(signal.send()) == ["async", "sync"]
    assert values(asyncio.run(signal.send_async())) == ["async", "sync"]


# Concurrent.


def test_concurrent_runs_receivers_concurrently() -> None:
    """Receivers begin in order, may wait for one another without a deadlock, and their results are in order."""
    stage = Stage()
    stage.add("a", waits="c ends")
    stage.add("b", waits="c ends", priority=1)
    stage.add("c", waits="a begins")

    results = asyncio.run(send_by(Concurrent(), stage.signal, "x", p=1))

    assert stage.log[:3] == ["b begins", "a begins", "c begins"]
    assert stage.log[3] == "c ends"
    assert values(results) == ["b", "a", "c"]


def test_concurrent_for_all_sends() -> None:
    """As async_policy it applies to every send_async of the signal, and to no send."""
    stage = Stage(async_policy=Concurrent(), async_wrapper=async_to_sync)
    stage.add("a", waits="b begins")
    stage.add("b")

    assert values(asyncio.run(stage.signal.send_async())) == ["a", "b"]

    stage.log.clear()
    stage.log.append("b begins")
    assert values(stage.signal.send()) == ["a", "b"]


def test_concurrent_receivers_run_in_their_own_tasks() -> None:
    """Each receiver has its own task, so the context variables that it sets are its own."""
    signal = Signal(async_policy=Concurrent())

    async def receiver(sender: Any) -> Any:
        found = variable.get()
        variable.set("set by a receiver")
        await asyncio.sleep(0)
        return found, asyncio.current_task()

    async def other(sender: Any) -> Any:
        return await receiver(sender)

    signal.connect(receiver)
    signal.connect(other)

    async def main() -> None:
        variable.set("set by the sender")
        (first, one), (second, two) = values(await signal.send_async())
        assert (first, second) == ("set by the sender", "set by the sender")
        assert len({one, two, asyncio.current_task()}) == 3
        assert variable.get() == "set by the sender"

    asyncio.run(main())


@pytest.mark.parametrize("errors", ["propagate", "collect"])
def test_a_failure_stops_nothing(errors: Any) -> None:
    """By default a failure cancels no receiver: all receivers end, and the exception is raised unchanged."""
    stage, error = Stage(errors=errors), Broken()
    stage.add("a", error=error)
    stage.add("b", waits="a ends")

    with pytest.raises(Broken) as raised:
        asyncio.run(send_by(Concurrent(), stage.signal, None))

    assert raised.value is error
    assert stage.log[-1] == "b ends"


@pytest.mark.parametrize("errors", ["propagate", "collect"])
def test_several_failures_are_a_group(errors: Any) -> None:
    """Several exceptions are raised as one ExceptionGroup."""
    stage, first, second = Stage(errors=errors), Broken("first"), KeyError("second")
    stage.add("a", error=first)
    stage.add("b", waits="a ends", error=second)
    stage.add("c", waits="b ends")

    with pytest.raises(ExceptionGroup, match="2 receivers of") as raised:
        asyncio.run(send_by(Concurrent(), stage.signal, None))

    assert set(raised.value.exceptions) == {first, second}
    assert stage.log[-1] == "c ends"


def test_failures_go_to_a_callable_policy() -> None:
    """E3: a callable policy receives each failure, and the send returns the other results in order."""
    failures: list[Failure] = []
    stage, error = Stage(errors=failures.append), Broken()
    stage.add("a", waits="b ends")
    stage.add("b", error=error)
    stage.add("c")

    results = asyncio.run(send_by(Concurrent(), stage.signal, "x"))

    assert values(results) == ["a", "c"]
    assert [(f.exception, f.sender, f.signal) for f in failures] == [(error, "x", stage.signal)]


@pytest.mark.parametrize("errors", ["propagate", "collect", "callable"])
def test_cancel_on_failure_cancels_the_receivers_that_still_run(errors: str) -> None:
    """With cancel_on_failure, a failure cancels the receivers that still run; a receiver that has ended has a
    result."""
    failures: list[Failure] = []
    stage, error = Stage(errors=failures.append if errors == "callable" else errors), Broken()
    stage.add("a")
    stage.add("b", waits="never")
    stage.add("c", waits="d begins", error=error)
    stage.add("d", waits="never")
    policy = Concurrent(cancel_on_failure=True)

    async def main() -> list[Any]:
        async with asyncio.timeout(10):
            results: list[Any] = await send_by(policy, stage.signal, None)
            return results

    if errors == "callable":
        assert values(asyncio.run(main())) == ["a"]
        assert [failure.exception for failure in failures] == [error]
    else:
        with pytest.raises(Broken) as raised:
            asyncio.run(main())

        assert raised.value is error

    assert {"b is cancelled", "d is cancelled"} <= set(stage.log)


def test_cancel_on_failure_does_not_cancel_the_sender() -> None:
    """The sender's own task goes on after a send whose receivers were cancelled."""
    stage = Stage(errors="collect")
    stage.add("a", waits="never")
    stage.add("b", error=Broken())

    async def main() -> str:
        with pytest.raises(Broken):
            await send_by(Concurrent(cancel_on_failure=True), stage.signal, None)

        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_nothing_is_cancelled_without_a_failure() -> None:
    """With cancel_on_failure and no failure, all receivers run to their end."""
    stage = Stage()
    stage.add("a", waits="b ends")
    stage.add("b")

    assert values(asyncio.run(send_by(Concurrent(cancel_on_failure=True), stage.signal, None))) == ["a", "b"]


@pytest.mark.parametrize("way", ["in turn", "concurrent"])
@pytest.mark.parametrize("errors", ["propagate", "collect", "callable"])
def test_cancelling_a_send_cancels_its_receivers(way: str, errors: str) -> None:
    """A cancelled send cancels the receivers that run, begins no further receiver, and ends when all have ended."""
    failures: list[Failure] = []
    policy = Concurrent() if way == "concurrent" else None
    stage = Stage(errors=failures.append if errors == "callable" else errors, async_policy=policy)
    stage.add("a", waits="never")
    stage.add("b", waits="never")

    async def main() -> None:
        sending = asyncio.create_task(stage.signal.send_async())

        while "a begins" not in stage.log:  # noqa: ASYNC110  # As above.
            await asyncio.sleep(0)

        sending.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sending

        assert sending.cancelled()

    asyncio.run(main())

    if way == "concurrent":
        assert sorted(stage.log) == ["a begins", "a is cancelled", "b begins", "b is cancelled"]
    else:
        assert stage.log == ["a begins", "a is cancelled"]

    assert failures == []


def test_a_cancelled_concurrent_send_waits_for_its_receivers() -> None:
    """A cancelled send ends after all of its receivers, also after those that take time to clean up."""
    signal, log = Signal(async_policy=Concurrent()), list[str]()

    @signal.connect
    async def slow(sender: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)

            log.append("cleaned up")

    async def main() -> None:
        sending = asyncio.create_task(signal.send_async())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sending.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sending

        assert log == ["cleaned up"]

    asyncio.run(main())


@pytest.mark.parametrize("way", ["in turn", "concurrent"])
def test_a_timeout_around_a_send(way: str) -> None:
    """asyncio.timeout works around a send_async as around any other awaitable."""
    stage = Stage(async_policy=Concurrent() if way == "concurrent" else None)
    stage.add("a", waits="never")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await stage.signal.send_async()

    asyncio.run(main())


def test_concurrent_refuses_a_sync_receiver_without_a_wrapper() -> None:
    """E9: a sync receiver without a wrapper makes the send fail before any receiver runs."""
    stage = Stage()
    stage.add("a")
    stage.signal.connect(lambda sender: None, weak=False)

    with pytest.raises(AsyncReceiverError, match="sync_wrapper"):
        asyncio.run(send_by(Concurrent(), stage.signal, None))

    assert stage.log == []


def test_concurrent_runs_sync_receivers_in_threads() -> None:
    """With sync_to_async, sync receivers run concurrently too."""
    signal, barrier = Signal(async_policy=Concurrent(), sync_wrapper=sync_to_async), threading.Barrier(2)

    def make(name: str) -> Callable[..., Any]:
        def receiver(sender: Any) -> str:
            barrier.wait(120)
            return name

        return receiver

    signal.connect(make("a"), weak=False)
    signal.connect(make("b"), weak=False)

    assert values(asyncio.run(signal.send_async())) == ["a", "b"]


def test_concurrent_checks_the_payload() -> None:
    """A declared signal's payload is checked, and its defaults are filled in."""

    def happened(sender: Any, /, *, a: int, b: int = 2) -> None: ...

    signal: Signal[Any, ..., Any] = Namespace().declare(happened)

    @signal.connect
    async def receiver(sender: Any, *, a: int, b: int) -> Any:
        return a, b

    assert values(asyncio.run(send_by(Concurrent(), signal, None, a=1))) == [(1, 2)]

    with pytest.raises(PayloadError, match="'c'"):
        asyncio.run(send_by(Concurrent(), signal, None, a=1, c=1))


def test_concurrent_without_receivers() -> None:
    """Without receivers the results are empty."""
    assert asyncio.run(send_by(Concurrent(), Signal(), None)) == []


def test_concurrent_calls_a_once_receiver_once() -> None:
    """once and muting work for concurrent receivers as for receivers in turn."""
    stage = Stage(async_policy=Concurrent())
    stage.add("a", once=True)
    stage.add("b")

    async def main() -> list[Any]:
        with stage.signal.muted():
            assert await stage.signal.send_async() == []

        return list(await asyncio.gather(stage.signal.send_async(), stage.signal.send_async()))

    assert sorted(len(results) for results in asyncio.run(main())) == [1, 2]
    assert stage.log.count("a begins") == 1


def test_concurrent_has_a_readable_repr() -> None:
    """The repr shows the options."""
    assert repr(Concurrent(cancel_on_failure=True)) == "Concurrent(cancel_on_failure=True)"


def test_cancel_on_failure_is_keyword_only() -> None:
    """cancel_on_failure must be passed by keyword, because a bare True would be unclear."""
    with pytest.raises(TypeError):
        Concurrent(True)  # type: ignore[call-arg]


@pytest.mark.parametrize("way", ["in turn", "concurrent"])
@pytest.mark.parametrize("count", [1, 2])
def test_failures_are_freed(way: str, count: int) -> None:
    """Once the caller has dropped the exception of a send, nothing keeps it alive."""

    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []
    signal = Signal(errors="collect", async_policy=Concurrent() if way == "concurrent" else None)

    def make() -> Callable[..., Any]:
        async def fails(sender: Any) -> None:
            thing = Thing()
            things.append(weakref.ref(thing))
            raise Broken

        return fails

    for _ in range(count):
        signal.connect(make(), weak=False)

    async def main() -> list[Any]:
        with suppress(Broken, ExceptionGroup):
            await signal.send_async()

        await asyncio.sleep(0)
        found: list[Any] = [thing() for thing in things]
        return found

    gc.collect()
    gc.disable()

    try:
        assert asyncio.run(main()) == [None] * count
    finally:
        gc.enable()


def test_a_custom_policy() -> None:
    """Any object with a run method for the calls is an async policy; this one runs them backwards, and the results
    are in order."""

    class Backwards:
        async def run(self, calls: Any, /) -> None:
            for call in reversed(calls):
                stage.log.append(str(await call()))

    stage = Stage(async_policy=Backwards(), errors="collect")
    stage.add("a")
    stage.add("b", error=Broken())
    stage.add("c")

    with pytest.raises(Broken):
        asyncio.run(stage.signal.send_async())

    assert stage.log == ["c begins", "c ends", "True", "b begins", "b ends", "False", "a begins", "a ends", "True"]


def test_a_receiver_that_cancels_itself_ends_the_send() -> None:
    """A CancelledError that a receiver raises itself ends the send, with and without an async policy."""
    signal, log = Signal(), list[str]()

    @signal.connect
    async def cancels(sender: Any) -> None:
        raise asyncio.CancelledError

    @signal.connect
    async def runs(sender: Any) -> None:
        log.append("ran")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await send_by(Concurrent(), signal, None)

    asyncio.run(main())
    assert log == ["ran"]
