"""E9: async receivers are recognized at connect, refused where nothing can run them, and awaited by send_async."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import types
import warnings
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from aldis import ANY, AsyncReceiverError, NamedSignal, Namespace, Signal
from aldis.aio import Concurrent

if TYPE_CHECKING:
    from collections.abc import Callable


def to_sync(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Run the coroutine of an async receiver, as an async_wrapper."""

    def call(*args: Any, **payload: Any) -> Any:
        async def main() -> Any:
            return await receiver(*args, **payload)

        return asyncio.run(main())

    return call


def to_async(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function that calls a sync receiver, as a sync_wrapper."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


# Kinds of receivers. The receiver that each factory makes returns its payload.


async def function(sender: Any, **payload: Any) -> Any:
    return sender


class Async:
    """An object with an async __call__, and async methods of all kinds."""

    async def __call__(self, sender: Any, **payload: Any) -> Any:
        return sender

    async def method(self, sender: Any, **payload: Any) -> Any:
        return sender

    @classmethod
    async def class_method(cls, sender: Any, **payload: Any) -> Any:
        return sender

    @staticmethod
    async def static_method(sender: Any, **payload: Any) -> Any:
        return sender


class Inherited(Async):
    """A class that inherits __call__."""


class StaticCall:
    """A class whose __call__ is a static async function."""

    __call__ = staticmethod(function)


class Sync:
    """The same kinds of receivers as sync ones."""

    def __call__(self, sender: Any, **payload: Any) -> Any:
        return sender

    def method(self, sender: Any, **payload: Any) -> Any:
        return sender

    @classmethod
    def class_method(cls, sender: Any, **payload: Any) -> Any:
        return sender

    @staticmethod
    def static_method(sender: Any, **payload: Any) -> Any:
        return sender


class AsyncOnTheInstance(Sync):
    """An object with an async __call__ on the instance only: Python looks it up on the class, so the receiver is
    sync."""

    def __init__(self) -> None:
        self.__dict__["__call__"] = function


class Built:
    """A class whose instances have an async __call__. As a receiver the class itself is called, which is sync."""

    def __init__(self, sender: Any, **payload: Any) -> None: ...

    async def __call__(self) -> None: ...


def plain(sender: Any, **payload: Any) -> Any:
    return sender


@types.coroutine
def old_coroutine(sender: Any, **payload: Any) -> Any:
    yield
    return sender


def marked() -> Callable[..., Any]:
    """Return a sync function that returns a coroutine, and is marked as a coroutine function for inspect."""

    def receiver(sender: Any, **payload: Any) -> Any:
        return function(sender)

    mark = getattr(inspect, "markcoroutinefunction", None)

    if mark is not None:
        mark(receiver)
        return receiver

    receiver._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return receiver


ASYNC: dict[str, Callable[..., Any]] = {
    "function": function,
    "bound method": Async().method,
    "class method": Async.class_method,
    "static method": Async.static_method,
    "object": Async(),
    "object, inherited": Inherited(),
    "object, static call": StaticCall(),
    "partial of function": functools.partial(function, extra=1),
    "partial of partial": functools.partial(functools.partial(function, a=1), b=1),
    "partial of method": functools.partial(Async().method, extra=1),
    "partial of object": functools.partial(Async(), extra=1),
    "bound object": types.MethodType(functools.partial(function, extra=1), "x"),
    "call of an object": Async().__call__,
    "types.coroutine": old_coroutine,
    "marked": marked(),
    "AsyncMock": AsyncMock(return_value="x"),
}
SYNC: dict[str, Callable[..., Any]] = {
    "function": plain,
    "lambda": lambda sender, **payload: sender,
    "bound method": Sync().method,
    "class method": Sync.class_method,
    "static method": Sync.static_method,
    "object": Sync(),
    "object, async on the instance": AsyncOnTheInstance(),
    "class": Built,
    "partial": functools.partial(plain, extra=1),
    "partial of a class": functools.partial(Built, extra=1),
    "built-in": str,
}
del ASYNC["bound object"]  # It would get its object as the sender; the kinds above cover its parts.

each_async = pytest.mark.parametrize("receiver", ASYNC.values(), ids=ASYNC.keys())
each_sync = pytest.mark.parametrize("receiver", SYNC.values(), ids=SYNC.keys())
each_filter = pytest.mark.parametrize("sender", [ANY, "x"])


@each_async
@each_filter
def test_an_async_receiver_is_refused_by_send(receiver: Callable[..., Any], sender: Any) -> None:
    """E9: a send that cannot run an async receiver, of whatever kind, fails before any receiver runs."""
    signal, log = NamedSignal("lamp"), list[str]()

    @signal.connect
    def before(sender: Any) -> None:
        log.append("ran")

    signal.connect(receiver, sender, weak=False)

    with pytest.raises(
        AsyncReceiverError, match=r"send\(\) cannot run the async receiver .* of .*'lamp'.*async_wrapper"
    ):
        signal.send("x")

    assert log == []


def test_send_async_with_no_receivers() -> None:
    """E9: send_async of a signal without receivers returns an empty list, at the first call and later."""
    signal = Signal()

    assert [asyncio.run(signal.send_async("x")) for _ in range(2)] == [[], []]
    assert signal.send("x") == []
    assert asyncio.run(signal.send_async("x")) == []


@each_async
def test_an_async_receiver_is_awaited_by_send_async(receiver: Callable[..., Any]) -> None:
    """E9: send_async awaits an async receiver of whatever kind, without a wrapper."""
    signal = Signal()
    signal.connect(receiver, weak=False)

    assert asyncio.run(signal.send_async("x")) == [(receiver, "x")]


@each_async
def test_an_async_receiver_runs_through_the_wrapper(receiver: Callable[..., Any]) -> None:
    """E9: send runs an async receiver of whatever kind through the async_wrapper, and returns its result."""
    signal = Signal(async_wrapper=to_sync)
    signal.connect(receiver, weak=False)

    assert signal.send("x") == [(receiver, "x")]


@each_async
def test_an_async_receiver_runs_through_a_wrapper_that_checks(receiver: Callable[..., Any]) -> None:
    """E9: the wrapper receives a callable that inspect recognizes as a coroutine function, as Flask's ensure_sync
    requires."""

    def ensure_sync(function: Callable[..., Any]) -> Callable[..., Any]:
        return to_sync(function) if inspect.iscoroutinefunction(function) else function

    signal = Signal(async_wrapper=ensure_sync)
    signal.connect(receiver, weak=False)

    assert signal.send("x") == [(receiver, "x")]


@each_sync
def test_a_sync_receiver_is_called_by_send(receiver: Callable[..., Any]) -> None:
    """E9: a sync receiver is never mistaken for an async one: send calls it without a wrapper."""
    signal = Signal(async_wrapper=lambda receiver: pytest.fail("wrapped"))
    signal.connect(receiver, weak=False)

    ((found, value),) = signal.send("x")

    assert found is receiver or found == receiver
    assert value == "x" or isinstance(value, Built)


@each_sync
def test_a_sync_receiver_is_refused_by_send_async(receiver: Callable[..., Any]) -> None:
    """E9: send_async without a wrapper for a sync receiver fails before any receiver runs."""
    signal, log = NamedSignal("lamp"), list[str]()

    @signal.connect
    async def before(sender: Any) -> None:
        log.append("ran")

    signal.connect(receiver, weak=False)

    with pytest.raises(AsyncReceiverError, match=r"send_async\(\) has no way .* of .*'lamp'.*sync_wrapper"):
        asyncio.run(signal.send_async("x"))

    assert log == []


@each_sync
def test_a_sync_receiver_runs_through_the_wrapper(receiver: Callable[..., Any]) -> None:
    """E9: send_async runs sync receivers through the sync_wrapper."""
    signal = Signal(sync_wrapper=to_async)
    signal.connect(receiver, weak=False)

    ((found, value),) = asyncio.run(signal.send_async("x"))

    assert found == receiver
    assert value == "x" or isinstance(value, Built)


def test_a_refused_send_leaves_no_coroutine() -> None:
    """E9: a refused send leaves no coroutine that is never awaited."""
    signal = Signal()
    signal.connect(function)
    gc.collect()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        with pytest.raises(AsyncReceiverError):
            signal.send("x")

        gc.collect()

    assert caught == []


def test_a_refused_send_does_not_use_up_once_receivers() -> None:
    """E9: a refused send does not use up a once receiver."""
    signal, log = Signal(), list[Any]()
    signal.connect(log.append, weak=False, once=True)
    signal.connect(function)

    with pytest.raises(AsyncReceiverError):
        signal.send("x")

    signal.disconnect(function)
    signal.send("x")

    assert log == ["x"]


@pytest.mark.parametrize("errors", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
def test_no_failure_policy_hides_the_refusal(errors: Any) -> None:
    """E9: a refused send raises its error under every failure policy."""
    signal = Signal(errors=errors)
    signal.connect(function)

    with pytest.raises(AsyncReceiverError):
        signal.send("x")


def test_async_receivers_of_other_senders_do_not_matter() -> None:
    """E9: only the receivers that a send would call can make it fail, not the receivers of other senders."""
    signal, log = Signal(), list[Any]()
    signal.connect(function, "x")
    signal.connect(log.append, weak=False)

    signal.send("y")

    assert log == ["y"]


def test_a_gone_async_receiver_does_not_matter() -> None:
    """E9: an async receiver that was collected or disconnected does not make a send fail."""
    signal, log = Signal(), list[Any]()

    async def dies(sender: Any) -> None: ...

    signal.connect(dies)
    signal.connect(function)
    signal.connect(log.append, weak=False)
    del dies
    gc.collect()
    signal.disconnect(function)

    signal.send("y")

    assert log == ["y"]


def test_a_receiver_s_attributes_are_read_at_connect() -> None:
    """E9: whether a receiver is async is found at connect: a send only calls the receiver, and reads none of its
    attributes."""
    asked: list[str] = []

    class Nosy:
        def __call__(self, sender: Any) -> None: ...

        def __getattribute__(self, name: str) -> Any:
            asked.append(name)
            return super().__getattribute__(name)

    signal, receiver = Signal(), Nosy()
    signal.connect(receiver)
    signal.connect(plain, "x")
    asked.clear()

    for sender in ("x", "y"):
        signal.send(sender)
        signal.send(sender)

    assert asked == []


# Wrappers that are set once.


@pytest.mark.parametrize("owner", ["signal", "attribute", "namespace", "declared", "call"])
def test_an_async_wrapper_is_set_once(owner: str) -> None:
    """E9: an async_wrapper that is set on a signal, or on a namespace for all of its signals, is used by send."""

    def happened(sender: Any, /) -> None: ...

    options: dict[str, Any] = {}
    signal: Signal[Any, ..., Any]

    match owner:
        case "signal":
            signal = Signal(async_wrapper=to_sync)
        case "attribute":
            signal = Signal()
            signal.async_wrapper = to_sync
        case "namespace":
            signal = Namespace(async_wrapper=to_sync).signal("x")
        case "declared":
            signal = Namespace(async_wrapper=to_sync).declare(happened)
        case _:
            signal = Signal()
            options = {"_async_wrapper": to_sync}

    signal.connect(function)
    signal.connect(plain)

    assert signal.send("x", **options) == [(function, "x"), (plain, "x")]


@pytest.mark.parametrize("owner", ["signal", "attribute", "namespace", "declared", "call"])
def test_a_sync_wrapper_is_set_once(owner: str) -> None:
    """E9: a sync_wrapper that is set on a signal, or on a namespace for all of its signals, is used by send_async."""

    def happened(sender: Any, /) -> None: ...

    options: dict[str, Any] = {}
    signal: Signal[Any, ..., Any]

    match owner:
        case "signal":
            signal = Signal(sync_wrapper=to_async)
        case "attribute":
            signal = Signal()
            signal.sync_wrapper = to_async
        case "namespace":
            signal = Namespace(sync_wrapper=to_async).signal("x")
        case "declared":
            signal = Namespace(sync_wrapper=to_async).declare(happened)
        case _:
            signal = Signal()
            options = {"_sync_wrapper": to_async}

    signal.connect(plain)
    signal.connect(function)

    assert asyncio.run(signal.send_async("x", **options)) == [(plain, "x"), (function, "x")]


def test_the_wrapper_of_a_call_overrides_that_of_the_signal() -> None:
    """E9: a wrapper that is passed to one send is used by that send instead of the signal's wrapper."""
    used: list[str] = []

    def naming(name: str, wrapper: Callable[..., Any]) -> Callable[..., Any]:
        def wrap(receiver: Callable[..., Any]) -> Callable[..., Any]:
            used.append(name)
            return wrapper(receiver)  # type: ignore[no-any-return]

        return wrap

    signal = Signal(async_wrapper=naming("signal", to_sync), sync_wrapper=naming("signal", to_async))
    signal.connect(function)
    signal.send("x", _async_wrapper=naming("send", to_sync))
    signal.send("x")
    signal.disconnect(function)
    signal.connect(plain)
    asyncio.run(signal.send_async("x", _sync_wrapper=naming("send_async", to_async)))
    asyncio.run(signal.send_async("x"))

    assert used == ["send", "signal", "send_async", "signal"]


def test_results_name_the_receiver_and_not_the_wrapped_one() -> None:
    """E9: the results name the receiver that was connected, not the wrapped callable, and the payload arrives."""
    signal = Signal(async_wrapper=to_sync)

    @signal.connect
    async def receiver(sender: Any, *, a: int) -> int:
        return a

    assert signal.send("x", a=5) == [(receiver, 5)]


def test_a_failing_wrapped_receiver_follows_the_policy() -> None:
    """E9: an exception from an async receiver behind the wrapper is handled by the failure policy, like any other."""
    signal, log = Signal(async_wrapper=to_sync, errors="collect"), list[Any]()

    @signal.connect
    async def fails(sender: Any) -> None:
        raise LookupError("async")

    signal.connect(log.append, weak=False)

    with pytest.raises(LookupError, match="async"):
        signal.send("x")

    assert log == ["x"]


# send_async.


def pausing(log: list[str], name: str) -> Callable[..., Any]:
    async def receiver(sender: Any, **payload: Any) -> str:
        log.append(f"{name} begins")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log.append(f"{name} ends")
        return name

    return receiver


def test_send_async_awaits_receivers_in_turn() -> None:
    """E9: send_async awaits one receiver after the other, in order, each until it ends."""
    signal, log = Signal(), list[str]()
    signal.connect(pausing(log, "a"), weak=False)
    signal.connect(pausing(log, "c"), weak=False, priority=-1)
    signal.connect(pausing(log, "b"), "x", weak=False)

    results = asyncio.run(signal.send_async("x", p=1))

    assert [value for _, value in results] == ["a", "b", "c"]
    assert log == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_a_policy_runs_receivers_concurrently() -> None:
    """E9: with the concurrent policy, for one send or for all, receivers run side by side, and the results are in
    order."""
    log: list[str] = []
    expected = ["a begins", "b begins", "a ends", "b ends"]

    for each in ("signal", "namespace", "attribute"):
        signal: Signal[Any, ..., Any] = Signal(async_policy=Concurrent()) if each == "signal" else Signal()

        if each == "namespace":
            signal = Namespace(async_policy=Concurrent()).signal("x")
        elif each == "attribute":
            signal.async_policy = Concurrent()

        signal.connect(pausing(log, "a"), weak=False)
        signal.connect(pausing(log, "b"), weak=False)
        log.clear()

        results = asyncio.run(signal.send_async("x"))

        assert log == expected
        assert [value for _, value in results] == ["a", "b"]


def test_send_async_runs_in_the_caller_s_task() -> None:
    """E9: send_async runs its receivers in the sender's task."""
    signal = Signal()

    @signal.connect
    async def receiver(sender: Any) -> Any:
        return asyncio.current_task()

    async def main() -> bool:
        return await signal.send_async() == [(receiver, asyncio.current_task())]

    assert asyncio.run(main())


def test_send_async_begins_when_it_is_awaited() -> None:
    """E9: send_async takes its snapshot when it begins to run, not when it is called."""
    signal = Signal()

    async def main() -> list[Any]:
        sending = signal.send_async("x")
        signal.connect(function)
        return await sending

    assert asyncio.run(main()) == [(function, "x")]


def test_send_async_without_receivers() -> None:
    """E9: without receivers send_async returns an empty list."""
    assert asyncio.run(Signal().send_async("x")) == []


def test_send_async_checks_the_declaration() -> None:
    """E9: send_async checks the payload against the declaration, and fills in the defaults, as send does."""
    got: list[Any] = []

    def happened(sender: Any, /, *, a: int, b: int = 2) -> None: ...

    signal: Signal[Any, ..., Any] = Namespace().declare(happened)

    async def receiver(sender: Any, *, a: int, b: int) -> None:
        got.append((a, b))

    signal.connect(receiver)
    asyncio.run(signal.send_async(a=1))

    with pytest.raises(TypeError, match="'c'"):
        asyncio.run(signal.send_async(a=1, c=1))

    assert got == [(1, 2)]


def test_a_once_async_receiver_is_awaited_once() -> None:
    """E9: once also holds for send_async, even if two sends run at the same time."""
    signal, log = Signal(), list[str]()
    signal.connect(pausing(log, "once"), weak=False, once=True)

    async def main() -> list[Any]:
        return list(await asyncio.gather(signal.send_async(), signal.send_async()))

    results = asyncio.run(main())

    assert log == ["once begins", "once ends"]
    assert sorted(len(result) for result in results) == [0, 1]
