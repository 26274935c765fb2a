"""Deliveries: receivers that are connected with `via=`, and the delivery by threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest

from aldis import Failure, InvalidOptionError, NamedSignal, Namespace, Signal
from aldis._core.delivery import Delivery
from aldis.aio import async_to_sync
from aldis.delivery import Call, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Broken(Exception):
    """The exception that the receivers of these tests raise."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as executor:
        yield executor


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list of the exceptions that threading.excepthook received."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append((args.exc_type, str(args.exc_value))))
    return told


class Shelf:
    """A delivery that stores calls, so that the test can run them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.checked: list[Any] = []

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
        self.checked.append((receiver, is_async))

    def deliver(self, call: Call, /) -> str:
        self.calls.append(call)
        return f"ticket {len(self.calls)}"


# The protocol.


def test_the_delivery_s_value_is_in_the_results() -> None:
    """A delivery receives the call in the receiver's turn, and the value that it returns is the receiver's result."""
    signal, shelf, log = Signal(), Shelf(), list[Any]()

    def receiver(sender: Any, **payload: Any) -> str:
        log.append((sender, payload))
        return "ran"

    signal.connect(receiver, via=shelf)

    assert signal.send("x", a=1) == [(receiver, "ticket 1")]
    assert log == []
    (call,) = shelf.calls
    assert (call.signal, call.receiver, call.sender, call.payload) == (signal, receiver, "x", {"a": 1})
    assert call() == "ran"
    assert log == [("x", {"a": 1})]


def test_a_delivery_is_asked_at_connect() -> None:
    """connect asks the delivery to check the receiver, and says whether the receiver is async."""
    signal, shelf = Signal(), Shelf()

    def receiver(sender: Any) -> None: ...

    async def in_async(sender: Any) -> None: ...

    signal.connect(receiver, via=shelf)
    signal.connect(in_async, via=shelf)

    assert shelf.checked == [(receiver, False), (in_async, True)]
    assert isinstance(shelf, Delivery)


def test_a_delivery_that_refuses_leaves_the_receiver_unconnected() -> None:
    """connect raises the exception of the delivery's check, connects nothing, and leaves an earlier connection as it
    was."""

    class Refusing(Shelf):
        def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None:
            raise InvalidOptionError("not this one")

    signal, log = Signal(), list[Any]()

    def receiver(sender: Any) -> None:
        log.append(sender)

    with pytest.raises(InvalidOptionError, match="not this one"):
        signal.connect(receiver, via=Refusing())

    assert not signal.receivers
    signal.connect(receiver)

    with pytest.raises(InvalidOptionError, match="not this one"):
        signal.connect(receiver, via=Refusing())

    signal.send("x")
    assert log == ["x"]


def test_an_async_receiver_with_a_delivery_needs_no_wrapper() -> None:
    """send does not refuse an async receiver that has a delivery: the delivery decides how to run it."""
    signal, shelf = Signal(), Shelf()

    async def receiver(sender: Any) -> None: ...

    signal.connect(receiver, via=shelf)

    assert signal.send() == [(receiver, "ticket 1")]


def test_send_async_delivers_too() -> None:
    """send_async passes calls to the delivery as send does, and needs no sync_wrapper."""
    signal, shelf = Signal(), Shelf()

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, via=shelf)

    assert asyncio.run(signal.send_async("x")) == [(receiver, "ticket 1")]


def test_a_call_knows_whether_it_is_awaited() -> None:
    """A delivery can tell a call of send_async, which awaits the coroutine that it may return, from a call of send."""
    signal, shelf = Signal(), Shelf()
    signal.connect(lambda sender: None, weak=False, via=shelf)
    signal.send("x")
    asyncio.run(signal.send_async("x"))

    assert [call.is_awaited for call in shelf.calls] == [False, True]


class AsyncObject:
    """A receiver that inspect does not recognize as a coroutine function."""

    async def __call__(self, sender: Any) -> str:
        return f"heard {sender}"


def test_a_call_runs_through_a_wrapper_that_checks() -> None:
    """A call passes its wrapper a callable that inspect recognizes as a coroutine function, as Flask's ensure_sync
    requires."""

    def ensure_sync(function: Callable[..., Any]) -> Callable[..., Any]:
        return async_to_sync(function) if inspect.iscoroutinefunction(function) else function

    signal, shelf = Signal(), Shelf()
    signal.connect(AsyncObject(), weak=False, via=shelf)
    signal.send("x")

    assert shelf.calls[0](ensure_sync) == "heard x"


def test_a_wrapper_that_fails_is_a_failure() -> None:
    """An exception of the wrapper itself is handled by the failure policy, whether the call is awaited or not."""
    failures: list[Failure] = []
    signal, shelf = Signal(errors=failures.append), Shelf()
    signal.connect(lambda sender: None, weak=False, via=shelf)
    signal.send("x")

    def refuse(function: Callable[..., Any]) -> Callable[..., Any]:
        raise Broken

    assert shelf.calls[0](refuse) is None
    assert asyncio.run(shelf.calls[0].run_async(refuse)) is None
    assert [type(failure.exception) for failure in failures] == [Broken] * 2


def test_deliveries_keep_the_order() -> None:
    """E1: calls are passed to the delivery in the receivers' order, between the receivers that are called at once."""
    signal, log = Signal(), list[str]()

    class Naming(Shelf):
        def deliver(self, call: Call, /) -> str:
            log.append("delivered")
            return super().deliver(call)

    def make(name: str) -> Callable[..., Any]:
        return lambda sender: log.append(name)

    signal.connect(make("c"), weak=False)
    signal.connect(make("b"), weak=False, priority=1, via=Naming())
    signal.connect(make("a"), weak=False, priority=2)
    signal.send()

    assert log == ["a", "delivered", "c"]


@pytest.mark.parametrize("policy", ["propagate", "collect"])
def test_a_delivery_that_fails_follows_the_policy(policy: Any) -> None:
    """E3: an exception of deliver is a failure in the receiver's turn."""

    class Full(Shelf):
        def deliver(self, call: Call, /) -> str:
            raise Broken("full")

    signal, log = Signal(errors=policy), list[Any]()
    signal.connect(lambda sender: None, weak=False, via=Full())
    signal.connect(log.append, weak=False)

    with pytest.raises(Broken, match="full"):
        signal.send("x")

    assert log == ([] if policy == "propagate" else ["x"])


@pytest.mark.parametrize("policy", ["propagate", "collect"])
def test_a_call_raises_the_receiver_s_exception(policy: Any) -> None:
    """Under "propagate" and "collect", a call that runs after the send raises the receiver's exception, which the
    delivery must handle."""
    signal, shelf, error = Signal(errors=policy), Shelf(), Broken()

    def receiver(sender: Any) -> None:
        raise error

    signal.connect(receiver, via=shelf)
    signal.send()

    with pytest.raises(Broken) as raised:
        shelf.calls[0]()

    assert raised.value is error


def test_a_call_passes_failures_to_a_callable_policy() -> None:
    """E3: a callable policy receives the failure when the call runs, and the call returns None."""
    failures: list[Failure] = []
    signal, shelf, error = Signal(errors=failures.append), Shelf(), Broken()

    def receiver(sender: Any) -> None:
        raise error

    signal.connect(receiver, via=shelf)
    signal.send("x")
    assert failures == []

    assert shelf.calls[0]() is None
    (failure,) = failures
    assert (failure.signal, failure.receiver, failure.sender, failure.exception) == (signal, receiver, "x", error)


def test_a_muted_receiver_is_not_delivered() -> None:
    """E8: muting also holds for receivers with a delivery."""
    signal, shelf = Signal(), Shelf()

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, via=shelf)

    with signal.muted():
        signal.send()

    with signal.muted(receiver):
        signal.send()

    assert shelf.calls == []


def test_once_and_via() -> None:
    """A once receiver with a delivery is delivered once."""
    signal, shelf = Signal(), Shelf()
    signal.connect(lambda sender: None, weak=False, via=shelf, once=True)
    signal.send()
    signal.send()

    assert len(shelf.calls) == 1
    assert not signal.receivers


def test_connecting_again_changes_the_delivery() -> None:
    """The second connect replaces the delivery: by another one, and by none."""
    signal, one, two, log = Signal(), Shelf(), Shelf(), list[Any]()

    def receiver(sender: Any) -> None:
        log.append(sender)

    signal.connect(receiver, via=one)
    signal.connect(receiver, via=two)
    signal.send("x")
    signal.connect(receiver)
    signal.send("y")

    assert (len(one.calls), len(two.calls), log) == (0, 1, ["y"])


def test_declared_payloads_are_complete() -> None:
    """A delivery gets the whole payload of a declared signal, with the defaults filled in."""

    def happened(sender: Any, /, *, a: int, b: int = 2) -> None: ...

    shelf = Shelf()
    signal: Signal[Any, ..., Any] = Namespace().declare(happened)
    signal.connect(lambda sender, **payload: None, weak=False, via=shelf)
    signal.send(a=1)

    assert shelf.calls[0].payload == {"a": 1, "b": 2}


def test_the_repr_of_a_call_shows_no_payload() -> None:
    """The repr of a call names the signal and the receiver, and shows neither the sender nor the payload."""
    signal, shelf = NamedSignal("lamp"), Shelf()

    def receiver(sender: Any, **payload: Any) -> None: ...

    signal.connect(receiver, via=shelf)
    signal.send("the sender", password="hunter2")

    assert "receiver" in repr(shelf.calls[0])
    assert "'lamp'" in repr(shelf.calls[0])
    assert "hunter2" not in repr(shelf.calls[0])
    assert "the sender" not in repr(shelf.calls[0])


# Threads.


def test_threads_return_a_future(pool: ThreadPoolExecutor) -> None:
    """The value in the results is a Future of the receiver's result, and the receiver ran in the pool's thread."""
    signal = Signal()

    def receiver(sender: Any, **payload: Any) -> Any:
        return sender, payload, threading.current_thread().name

    signal.connect(receiver, via=threads(pool))
    ((found, future),) = signal.send("x", a=1)

    assert found is receiver
    assert isinstance(future, Future)
    sender, payload, name = future.result(timeout=120)
    assert (sender, payload) == ("x", {"a": 1})
    assert name.startswith("pool")


def test_send_does_not_wait_for_threads(pool: ThreadPoolExecutor) -> None:
    """send returns while the receiver still runs."""
    signal, go_on = Signal(), threading.Event()
    signal.connect(lambda sender: go_on.wait(120), weak=False, via=threads(pool))
    ((_, future),) = signal.send()

    assert not future.done()
    go_on.set()
    assert future.result(timeout=120) is True


def test_futures_can_be_waited_for_together(pool: ThreadPoolExecutor) -> None:
    """The futures are those of concurrent.futures: wait and add_done_callback work on them."""
    signal, told = Signal(), list[Any]()

    def make(number: int) -> Callable[..., Any]:
        return lambda sender: number

    for number in range(3):
        signal.connect(make(number), weak=False, via=threads(pool))

    futures = [future for _, future in signal.send()]
    futures[0].add_done_callback(lambda future: told.append(future.result()))
    done, pending = wait(futures, timeout=120)

    assert not pending
    assert {future.result() for future in done} == {0, 1, 2}
    assert told == [0]


def test_a_future_can_be_awaited(pool: ThreadPoolExecutor) -> None:
    """asyncio code can await the futures through wrap_future."""
    signal = Signal()
    signal.connect(lambda sender: sender, weak=False, via=threads(pool))

    async def main() -> Any:
        ((_, future),) = await signal.send_async("x")
        return await asyncio.wrap_future(future)

    assert asyncio.run(main()) == "x"


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_context_variables_are_copied(pool: ThreadPoolExecutor) -> None:
    """The receiver sees the sender's context variables as they were at the send, and its own changes stay in that
    copy."""
    signal, go_on = Signal(), threading.Event()

    def receiver(sender: Any) -> str:
        assert go_on.wait(120)
        found = variable.get()
        variable.set("set by the receiver")
        return found

    signal.connect(receiver, via=threads(pool))
    token = variable.set("set by the sender")

    try:
        ((_, first),) = signal.send()
        ((_, second),) = signal.send()
        variable.set("set after the send")
        go_on.set()

        assert first.result(timeout=120) == "set by the sender"
        assert second.result(timeout=120) == "set by the sender"
        assert variable.get() == "set after the send"
    finally:
        variable.reset(token)


@pytest.mark.parametrize("policy", ["propagate", "collect"])
def test_a_failure_in_a_thread_is_in_the_future(pool: ThreadPoolExecutor, lost: list[Any], policy: Any) -> None:
    """Under "propagate" and "collect", send does not fail, the other receivers run, and the future raises."""
    signal, log, error = Signal(errors=policy), list[Any](), Broken()

    def fails(sender: Any) -> None:
        raise error

    signal.connect(fails, via=threads(pool))
    signal.connect(log.append, weak=False)
    (_, future), _ = signal.send("x")

    with pytest.raises(Broken) as raised:
        future.result(timeout=120)

    assert raised.value is error
    assert future.exception() is error
    assert log == ["x"]
    del future
    gc.collect()
    assert lost == []


def test_a_failure_in_a_thread_goes_to_a_callable_policy(pool: ThreadPoolExecutor, lost: list[Any]) -> None:
    """A callable policy receives the failure in the pool's thread, and the future's result is None."""
    told: list[Any] = []
    signal = Signal(errors=lambda failure: told.append((failure, threading.current_thread().name)))
    error = Broken()

    def fails(sender: Any) -> None:
        raise error

    signal.connect(fails, via=threads(pool))
    ((_, future),) = signal.send("x")

    assert future.result(timeout=120) is None
    ((failure, name),) = told
    assert (failure.exception, failure.receiver, failure.sender, failure.signal) == (error, fails, "x", signal)
    assert name.startswith("pool")
    del future
    assert lost == []


def test_a_policy_that_raises_in_a_thread_is_in_the_future(pool: ThreadPoolExecutor) -> None:
    """If the callable policy itself raises, the future raises that exception."""

    def policy(failure: Failure) -> None:
        raise KeyError("policy")

    def fails(sender: Any) -> None:
        raise Broken

    signal = Signal(errors=policy)
    signal.connect(fails, via=threads(pool))
    ((_, future),) = signal.send("x")

    with pytest.raises(KeyError, match="policy"):
        future.result(timeout=120)


def settle(pool: ThreadPoolExecutor) -> None:
    """Wait until the pool's one thread has run all of its calls and dropped them."""
    pool.submit(int).result(timeout=120)


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_a_lost_failure_is_reported(pool: ThreadPoolExecutor, lost: list[Any], error: type[BaseException]) -> None:
    """A future that is dropped with an exception that the program never read reports it to threading.excepthook."""

    def fails(sender: Any) -> None:
        raise error("lost")

    signal = Signal()
    signal.connect(fails, via=threads(pool))
    signal.send()
    settle(pool)
    settle(pool)
    gc.collect()

    assert lost == [(error, "lost")]


@pytest.mark.parametrize("ask", ["result", "exception"])
def test_a_failure_that_was_read_is_not_reported(pool: ThreadPoolExecutor, lost: list[Any], ask: str) -> None:
    """A failure is not reported if the program asked the future for its result or exception."""

    def fails(sender: Any) -> None:
        raise Broken

    signal = Signal()
    signal.connect(fails, via=threads(pool))
    ((_, future),) = signal.send()

    if ask == "result":
        with pytest.raises(Broken):
            future.result(timeout=120)
    else:
        assert isinstance(future.exception(timeout=120), Broken)

    del future
    settle(pool)
    gc.collect()
    assert lost == []


def test_success_and_cancellation_are_not_reported(pool: ThreadPoolExecutor, lost: list[Any]) -> None:
    """A future that is dropped after a success, or was cancelled before it ran, reports nothing."""
    signal, started, go_on, log = Signal(), threading.Event(), threading.Event(), list[Any]()

    def receiver(sender: Any) -> None:
        started.set()
        assert go_on.wait(120)
        log.append(sender)

    signal.connect(receiver, via=threads(pool))
    signal.send("first")
    assert started.wait(120)
    ((_, future),) = signal.send("second")
    assert future.cancel()
    go_on.set()
    del future
    settle(pool)
    gc.collect()

    assert log == ["first"]
    assert lost == []


def test_a_failed_future_is_freed_without_the_collector(pool: ThreadPoolExecutor, lost: list[Any]) -> None:
    """A lost failure is reported as soon as the future dies, because the future is in no reference cycle."""

    def fails(sender: Any) -> None:
        raise Broken

    signal = Signal()
    signal.connect(fails, via=threads(pool))
    gc.collect()
    gc.disable()

    try:
        signal.send()
        settle(pool)
        settle(pool)
        assert len(lost) == 1
    finally:
        gc.enable()


def test_a_weak_receiver_lives_until_it_has_run(pool: ThreadPoolExecutor) -> None:
    """A weakly held receiver whose turn has come is kept alive until it has run."""
    signal, go_on, log = Signal(), threading.Event(), list[str]()
    blocker = pool.submit(go_on.wait, 10)

    def make() -> Callable[..., Any]:
        def receiver(sender: Any) -> str:
            log.append("ran")
            return "ran"

        return receiver

    receivers = [make()]
    signal.connect(receivers[0], via=threads(pool))
    signal.send()
    receivers.clear()
    gc.collect()
    assert log == []

    go_on.set()
    blocker.result(timeout=120)
    settle(pool)
    assert log == ["ran"]


def test_a_receiver_disconnected_after_its_turn_still_runs(pool: ThreadPoolExecutor) -> None:
    """disconnect does not stop a call that the delivery already has."""
    signal, go_on = Signal(), threading.Event()
    pool.submit(go_on.wait, 10)

    def receiver(sender: Any) -> str:
        return "ran"

    signal.connect(receiver, via=threads(pool))
    ((_, future),) = signal.send()
    signal.disconnect(receiver)
    go_on.set()

    assert future.result(timeout=120) == "ran"


def test_a_closed_executor_is_a_failure() -> None:
    """If the executor is shut down, the send fails in the receiver's turn."""
    with ThreadPoolExecutor(1) as pool:
        via = threads(pool)

    signal = Signal()
    signal.connect(lambda sender: None, weak=False, via=via)

    with pytest.raises(RuntimeError, match="shutdown"):
        signal.send()


def test_async_receivers_cannot_run_via_threads(pool: ThreadPoolExecutor) -> None:
    """E12: connect refuses an async receiver via threads, and the message says what to do instead."""
    signal = Signal()

    async def receiver(sender: Any) -> None: ...

    with pytest.raises(InvalidOptionError, match=r"cannot run via threads.*send_async") as raised:
        signal.connect(receiver, via=threads(pool))

    assert isinstance(raised.value, ValueError)
    assert not signal.receivers


@pytest.mark.parametrize("executor", [None, 4, "pool", object(), ThreadPoolExecutor])
def test_an_invalid_executor_is_refused(executor: Any) -> None:
    """threads() refuses any object that is no executor, also an executor's class."""
    with pytest.raises(InvalidOptionError, match=r"threads\(\) takes an executor"):
        threads(executor)


def test_the_repr_names_the_kind_of_executor(pool: ThreadPoolExecutor) -> None:
    """The repr of the delivery shows the class of its executor."""
    assert repr(threads(pool)) == "threads(ThreadPoolExecutor)"


def test_any_executor_will_do() -> None:
    """threads needs only the method submit of an executor."""

    class Inline:
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            function(*args, **kwargs)

    signal = Signal()
    signal.connect(lambda sender: "ran", weak=False, via=threads(Inline()))  # type: ignore[arg-type]
    ((_, future),) = signal.send()

    assert future.result(timeout=0) == "ran"
