"""A watched send produces a record of itself and of each call of a receiver, and nested sends form a tree."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from aldis import Failure, Namespace, PayloadError, Signal
from aldis.aio import Concurrent, async_to_sync, sync_to_async
from aldis.delivery import threads
from aldis.exceptions import AsyncReceiverError
from aldis.observe import CallRecord, Counters, SendRecord, Watcher, connections, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Seen(Watcher):
    """A watcher that stores the events that it receives, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def send_began(self, send: SendRecord) -> None:
        self.told.append(("send began", send))

    def call_began(self, call: CallRecord) -> None:
        self.told.append(("call began", call))

    def call_ended(self, call: CallRecord) -> None:
        self.told.append(("call ended", call))

    def send_ended(self, send: SendRecord) -> None:
        self.told.append(("send ended", send))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]

    @property
    def sends(self) -> list[SendRecord]:
        return [record for event, record in self.told if event == "send began"]

    @property
    def calls(self) -> list[CallRecord]:
        return [record for event, record in self.told if event == "call began"]

    @property
    def roots(self) -> list[SendRecord]:
        return [send for send in self.sends if send.parent is None]


class Stumbled(Exception):
    """The exception that receivers raise here."""


class Desk:
    """A sender and receiver, with a method that is another receiver."""

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def hear(self, sender: Any, **payload: Any) -> None: ...


def tree(send: SendRecord) -> Any:
    """Return a record and everything below it as nested tuples of names and outcomes."""
    return send.signal_name, [(short(call), call.outcome, [tree(inner) for inner in call.sends]) for call in send.calls]


def short(call: CallRecord) -> str:
    return call.receiver_name.rpartition(".")[2]


def hear(sender: Any, **payload: Any) -> None: ...


def stumble(sender: Any, **payload: Any) -> None:
    raise Stumbled("in receiver")


async def hear_async(sender: Any, **payload: Any) -> None: ...


async def stumble_async(sender: Any, **payload: Any) -> None:
    raise Stumbled("in async receiver")


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("aldis._core.watching.perf_counter", clock)
    return clock


@pytest.fixture
def signals() -> Namespace:
    return Namespace()


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Return a watcher of all sends of the process."""
    seen = Seen()

    with watch(seen):
        yield seen


# The contents of a record.


def test_a_send_is_reported_in_order(signals: Namespace, seen: Seen) -> None:
    """A watcher gets the beginning and the end of a send, and between them those of each call, in order."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    lamp.connect(desk := Desk(), priority=1)
    lamp.send("desk")

    assert seen.events == ["send began", *["call began", "call ended"] * 2, "send ended"]
    assert [call.receiver for call in seen.calls] == [desk, hear]
    assert seen.sends[0].calls == seen.calls


def test_a_send_without_receivers_is_reported(signals: Namespace, seen: Seen) -> None:
    """A send without receivers is reported too."""
    signals.signal("lamp").send("desk", colour="red")

    assert seen.events == ["send began", "send ended"]
    assert seen.sends[0].calls == []


def test_the_record_of_a_send_describes_the_send(signals: Namespace, seen: Seen) -> None:
    """A SendRecord has the signal, the sender, the names of the payload, and the exception or None."""
    lamp, desk = signals.signal("lamp"), Desk()
    before = time()
    lamp.send(desk, colour="red", seconds=3)
    [send] = seen.sends

    assert send.signal is lamp
    assert send.signal_name == "lamp"
    assert send.sender is desk
    assert send.payload_names == ("colour", "seconds")
    assert send.is_muted is False
    assert send.parent is None
    assert send.exception_type is None
    assert before <= send.started_s <= time()
    assert repr(send) == "<SendRecord of 'lamp': 0 calls>"


def test_the_record_of_a_call_describes_the_receiver(signals: Namespace, seen: Seen) -> None:
    """A CallRecord has the receiver, its name and place, and the options of its connection."""
    lamp, desk = signals.signal("lamp"), Desk()
    lamp.connect(desk.hear, priority=2.5)
    before = time()
    lamp.send()
    [call] = seen.calls

    assert call.signal is lamp
    assert call.signal_name == "lamp"
    assert call.send is seen.sends[0]
    assert call.receiver == desk.hear
    assert call.receiver_name == f"{__name__}.Desk.hear"
    assert call.receiver_place == f"{__file__}:{Desk.hear.__code__.co_firstlineno}"
    assert (call.priority, call.is_async, call.via) == (2.5, False, None)
    assert (call.outcome, call.exception_type, call.sends) == ("returned", None, [])
    assert before <= call.started_s <= time()
    assert repr(call) == f"<CallRecord of {__name__}.Desk.hear: returned>"


def test_a_signal_without_a_name_has_the_name_of_its_class(seen: Seen) -> None:
    """The signal_name of a signal without a name is the name of its class."""

    class Lamp(Signal[Any, ..., Any]): ...

    lamp: Signal[Any, ..., Any] = Lamp()
    lamp.connect(hear)
    lamp.send()

    assert seen.sends[0].signal_name == seen.calls[0].signal_name == "Lamp"


class Nameless(type):
    """An object whose class raises when its name is read."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__"):
            raise Stumbled

        return super().__getattribute__(name)


class Secretive:
    """An object that raises when its name is read, so its place comes from its class."""

    def __getattr__(self, name: str) -> Any:
        raise Stumbled if name == "__qualname__" else AttributeError(name)

    def __call__(self, sender: Any) -> None: ...


class Talkative:
    """An object that has every attribute."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, sender: Any) -> None: ...


class Incognito(metaclass=Nameless):
    def __call__(self, sender: Any) -> None: ...


@pytest.mark.parametrize(
    ("receiver", "name"),
    [(Secretive(), f"{__name__}.Secretive"), (Talkative(), f"{__name__}.Talkative"), (Incognito(), "?")],
    ids=["fails", "has everything", "no name at all"],
)
def test_every_receiver_can_be_named(receiver: Any, name: str, seen: Seen) -> None:
    """A receiver whose attributes raise or lie is named by its class, and the watcher is not removed."""
    lamp = Signal()
    lamp.connect(receiver)

    with watch(counters := Counters()):
        lamp.send()

    [call], [record] = seen.calls, connections(lamp)
    place = f"{__file__}:{type(receiver).__call__.__code__.co_firstlineno}"
    assert (call.receiver_name, call.receiver_place) == (record.receiver, record.place) == (name, place)
    assert list(counters.receivers()) == [("Signal", name)]


def test_every_exception_can_be_named(seen: Seen) -> None:
    """If a receiver raises an exception whose class hides its name, the send raises that exception and no other."""

    class Masked(Exception, metaclass=Nameless): ...

    lamp = Signal()

    @lamp.connect
    def fail(sender: Any) -> None:
        raise Masked

    raised: Any = None

    try:
        lamp.send()
    except Exception as error:
        raised = type(error)  # pytest.raises() would not show other exceptions.

    assert raised is Masked
    assert seen.calls[0].exception_type == "?"


@pytest.mark.parametrize("name", [7, ("shop", "lamp"), b"lamp"])
def test_names_of_signals_are_strings(name: Any, seen: Seen) -> None:
    """Blinker allows any object as a signal's name; signal_name is a string."""
    Namespace().signal(name).send()

    assert seen.sends[0].signal_name == str(name)


def test_records_of_a_receiver_that_never_ends_do_not_grow(seen: Seen) -> None:
    """A call's record stores its first 1,000 sends and counts the later ones: a main loop inside a receiver does not
    fill memory."""
    outer, inner = Signal(), Signal()
    kept: list[Any] = []

    class Counting(Watcher):
        def send_ended(self, send: SendRecord) -> None:
            kept.append(send.parent)

    @outer.connect
    def loop(sender: Any) -> None:
        for number in range(1002):
            inner.send(number)

    with watch(Counting(), inner):
        outer.send()

    [call] = seen.sends[0].calls
    assert [send.sender for send in call.sends] == list(range(1000))
    assert call.sends_left_out == 2
    assert kept == [call] * 1002  # All of them are reported, and each has the call as its parent.


def test_records_store_payload_names_and_no_values(signals: Namespace, seen: Seen) -> None:
    """A watcher can read the payload until the send ends; after that, no record refers to any of its values."""
    lamp, looks = signals.signal("lamp"), []

    class Looking(Watcher):
        def send_began(self, send: SendRecord) -> None:
            looks.append(dict(send.payload or {}))

        def send_ended(self, send: SendRecord) -> None:
            looks.append(dict(send.payload or {}))

    lamp.connect(hear)

    with watch(Looking()):
        lamp.send("desk", colour=(value := Desk()))

    assert looks == [{"colour": value}, {"colour": value}]
    looks.clear()
    assert seen.sends[0].payload is None
    assert all(holder is not value for record in (*seen.sends, *seen.calls) for holder in gc.get_referents(record))


def test_defaults_of_a_declaration_are_in_the_payload(signals: Namespace, seen: Seen) -> None:
    """payload_names has the keywords that receivers get, including the defaults of the declaration."""

    @signals.declare
    def lamp(sender: str, /, *, colour: str, seconds: int = 1) -> None: ...

    lamp.send("desk", colour="red")

    assert set(seen.sends[0].payload_names) == {"colour", "seconds"}


def test_durations_are_in_seconds_and_without_watchers(clock: Clock, signals: Namespace) -> None:
    """duration_s is None until the end, and then the seconds that receivers took, without the time of earlier
    watchers."""
    lamp, durations = signals.signal("lamp"), []

    class Slow(Seen):
        def send_began(self, send: SendRecord) -> None:
            super().send_began(send)
            durations.append(send.duration_s)
            clock.now_s += 1000

        def call_began(self, call: CallRecord) -> None:
            super().call_began(call)
            durations.append(call.duration_s)
            clock.now_s += 100

    @lamp.connect
    def work(sender: Any) -> None:
        clock.now_s += 2

    with watch(slow := Slow()):
        lamp.send()

    assert durations == [None, None]
    assert slow.calls[0].duration_s == 2
    assert slow.sends[0].duration_s == 102  # A watcher's call inside of it is part of its time.


# Outcomes.


@pytest.mark.parametrize("errors", ["propagate", "collect", lambda failure: None])
def test_failures_are_recorded_under_every_policy(errors: Any, seen: Seen) -> None:
    """A call that raised has the outcome "raised" and the exception's class; the send has the exception that it
    raised itself."""
    lamp = Namespace(errors=errors).signal("lamp")
    lamp.connect(stumble)
    lamp.connect(hear)

    with suppress(Stumbled):
        lamp.send()

    [send] = seen.sends
    first = ("raised", f"{__name__}.Stumbled")
    others = [] if errors == "propagate" else [("returned", None)]
    assert [(call.outcome, call.exception_type) for call in send.calls] == [first, *others]
    assert send.exception_type == (None if callable(errors) else f"{__name__}.Stumbled")
    assert seen.events[-1] == "send ended"


def test_several_failures_are_an_exception_group(seen: Seen) -> None:
    """Under "collect" a send with several failures has raised an ExceptionGroup, and each call has its own
    exception."""
    lamp = Namespace(errors="collect").signal("lamp")
    lamp.connect(stumble)
    lamp.connect(lambda sender: 1 / 0, weak=False)

    with pytest.raises(ExceptionGroup):
        lamp.send()

    assert [call.exception_type for call in seen.calls] == [f"{__name__}.Stumbled", "ZeroDivisionError"]
    assert seen.sends[0].exception_type == "ExceptionGroup"


def test_a_policy_that_raises_fails_the_send(seen: Seen) -> None:
    """An exception of a callable policy is in the record of the send, and not in that of the call."""

    def refuse(failure: Failure) -> None:
        raise LookupError

    lamp = Namespace(errors=refuse).signal("lamp")
    lamp.connect(stumble)

    with pytest.raises(LookupError):
        lamp.send()

    assert (seen.calls[0].exception_type, seen.sends[0].exception_type) == (f"{__name__}.Stumbled", "LookupError")


def test_an_interrupt_is_recorded(seen: Seen) -> None:
    """KeyboardInterrupt in a receiver is recorded in the call and the send, and the send raises it."""
    lamp = Signal()

    @lamp.connect
    def interrupt(sender: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lamp.send()

    assert (seen.calls[0].outcome, seen.calls[0].exception_type) == ("raised", "KeyboardInterrupt")
    assert seen.sends[0].exception_type == "KeyboardInterrupt"


def test_muted_sends_are_reported(signals: Namespace, seen: Seen) -> None:
    """A muted send is reported with is_muted and without calls; a muted receiver has no record."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    lamp.connect(desk := Desk())

    with lamp.muted():
        lamp.send()

    with lamp.muted(hear):
        lamp.send()

    lamp.is_muted = True
    lamp.send()
    lamp.is_muted = False

    assert [(send.is_muted, [call.receiver for call in send.calls]) for send in seen.sends] == [
        (True, []),
        (False, [desk]),
        (True, []),
    ]


def test_refused_sends_are_reported(signals: Namespace, seen: Seen) -> None:
    """A send that is refused for an async receiver is reported: it raised AsyncReceiverError, and called no
    receiver."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    lamp.connect(hear_async)

    with pytest.raises(AsyncReceiverError):
        lamp.send()

    assert seen.events == ["send began", "send ended"]
    assert seen.sends[0].exception_type == "aldis.exceptions.AsyncReceiverError"


def test_sends_with_a_wrong_payload_are_not_reported(signals: Namespace, seen: Seen) -> None:
    """A send that is refused for its payload is not reported."""

    @signals.declare
    def lamp(sender: str, /, *, colour: str) -> None: ...

    with pytest.raises(PayloadError):
        lamp.send("desk")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    assert seen.told == []


def test_once_receivers_have_one_record(signals: Namespace, seen: Seen) -> None:
    """A receiver that is connected with once has one record, in the first send."""
    lamp = signals.signal("lamp")
    lamp.connect(hear, once=True)
    lamp.send()
    lamp.send()

    assert [len(send.calls) for send in seen.sends] == [1, 0]


def test_a_receiver_that_is_connected_twice_has_one_record(signals: Namespace, seen: Seen) -> None:
    """A receiver that is connected to the sender and to any sender has one record, because it is called once."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)
    lamp.connect(hear, "desk")
    lamp.send("desk")

    assert len(seen.calls) == 1


def test_signals_that_override_receivers_for_are_reported(seen: Seen) -> None:
    """The receivers that a subclass's receivers_for returns have records; its exception is in the record of the
    send."""

    class Own(Signal[Any, ..., Any]):
        fails = False

        def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
            if self.fails:
                raise Stumbled

            yield stranger
            yield from super().receivers_for(sender)

    def stranger(sender: Any) -> None: ...

    own = Own()
    own.connect(hear, priority=3)
    own.send()
    own.fails = True

    with pytest.raises(Stumbled):
        own.send()

    assert [(call.receiver, call.priority) for call in seen.calls] == [(stranger, 0), (hear, 3)]
    assert [send.exception_type for send in seen.sends] == [None, f"{__name__}.Stumbled"]


def test_watching_changes_no_results(signals: Namespace) -> None:
    """A send returns the same results with and without a watch."""
    lamp = signals.signal("lamp")
    lamp.connect(one := lambda sender, **payload: [1, payload])
    lamp.connect(two := lambda sender, **payload: [2, payload], "desk", priority=1)
    plain = lamp.send("desk", colour="red")

    with watch(Seen(), lamp):
        assert (
            lamp.send("desk", colour="red") == plain == [(two, [2, {"colour": "red"}]), (one, [1, {"colour": "red"}])]
        )


# Async.


def test_async_sends_are_reported(signals: Namespace, seen: Seen) -> None:
    """send_async produces the same records as send; async receivers are marked."""
    lamp = signals.signal("lamp")
    lamp.sync_wrapper = sync_to_async
    lamp.connect(hear_async)
    lamp.connect(hear)
    asyncio.run(lamp.send_async())

    assert seen.events == ["send began", *["call began", "call ended"] * 2, "send ended"]
    assert [(call.is_async, call.outcome) for call in seen.calls] == [(True, "returned"), (False, "returned")]


@pytest.mark.parametrize("errors", ["propagate", "collect", lambda failure: None])
def test_async_failures_are_recorded(errors: Any, seen: Seen) -> None:
    """Failures of async receivers are recorded under every policy."""
    lamp = Namespace(errors=errors).signal("lamp")
    lamp.connect(stumble_async)

    with suppress(Stumbled):
        asyncio.run(lamp.send_async())

    assert seen.calls[0].exception_type == f"{__name__}.Stumbled"
    assert seen.sends[0].exception_type == (None if callable(errors) else f"{__name__}.Stumbled")


def test_refused_async_sends_are_reported(signals: Namespace, seen: Seen) -> None:
    """An async send that is refused for a sync receiver is reported."""
    lamp = signals.signal("lamp")
    lamp.connect(hear)

    with pytest.raises(AsyncReceiverError):
        asyncio.run(lamp.send_async())

    assert seen.sends[0].exception_type == "aldis.exceptions.AsyncReceiverError"


@pytest.mark.parametrize("policy", [None, Concurrent()])
def test_cancelled_sends_are_recorded(policy: Any, seen: Seen) -> None:
    """A send that is cancelled while a receiver waits has raised CancelledError, and so has the call."""
    lamp = Namespace(async_policy=policy).signal("lamp")

    async def main() -> None:
        begun = asyncio.Event()

        @lamp.connect
        async def wait(sender: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(lamp.send_async())
        await begun.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    [call] = seen.calls
    assert (call.outcome, call.exception_type) == ("raised", "asyncio.exceptions.CancelledError")
    assert seen.sends[0].exception_type == "asyncio.exceptions.CancelledError"
    assert seen.events == ["send began", "call began", "call ended", "send ended"]


def test_a_send_that_is_dropped_ends(seen: Seen) -> None:
    """A coroutine of send_async that is closed before its end has raised GeneratorExit, in whatever context it is
    closed."""
    lamp = Signal()

    class Pause:
        def __await__(self) -> Any:
            yield

    @lamp.connect
    async def wait(sender: Any) -> None:
        await Pause()

    coroutine = lamp.send_async()
    Context().run(coroutine.send, None)
    coroutine.close()  # In another context than the one in which it began.

    assert [record.exception_type for record in [record for _, record in seen.told]] == ["GeneratorExit"] * 4
    lamp.disconnect(wait)
    lamp.send()
    assert seen.sends[-1].parent is None


def test_concurrent_receivers_are_recorded(seen: Seen) -> None:
    """Concurrent receivers each have a record, in the order in which they began."""
    lamp = Namespace(async_policy=Concurrent(), errors=lambda failure: None).signal("lamp")

    async def main() -> None:
        first_may_end = asyncio.Event()

        @lamp.connect
        async def first(sender: Any) -> None:
            await first_may_end.wait()

        @lamp.connect
        async def second(sender: Any) -> None:
            first_may_end.set()
            raise Stumbled

        await lamp.send_async()

    asyncio.run(main())

    assert tree(seen.sends[0]) == ("lamp", [("first", "returned", []), ("second", "raised", [])])
    ended = [short(record) for event, record in seen.told if event == "call ended"]
    assert ended == ["second", "first"]


def test_one_send_by_a_policy_is_recorded(signals: Namespace, seen: Seen) -> None:
    """A send with an async policy is recorded like any other."""
    lamp = signals.signal("lamp")
    lamp.connect(hear_async)
    lamp.async_policy = Concurrent()
    asyncio.run(lamp.send_async("desk"))

    assert tree(seen.sends[0]) == ("lamp", [("hear_async", "returned", [])])


# The tree.


def test_nested_sends_are_a_tree(signals: Namespace, seen: Seen) -> None:
    """The sends of a receiver are below its call in the tree, to any depth; later sends are not."""
    outer, middle, inner = (signals.signal(name) for name in ("outer", "middle", "inner"))

    @outer.connect
    def pass_on(sender: Any) -> None:
        middle.send()
        inner.send()

    @middle.connect
    def go_deeper(sender: Any) -> None:
        inner.send()

    outer.connect(hear)
    inner.connect(hear)
    outer.send()
    inner.send()

    last: Any = ("inner", [("hear", "returned", [])])
    passed = ("pass_on", "returned", [("middle", [("go_deeper", "returned", [last])]), last])
    assert [tree(root) for root in seen.roots] == [("outer", [passed, ("hear", "returned", [])]), last]
    assert seen.sends[1].parent is seen.calls[0]


def test_a_failing_nested_send_ends_its_branch(signals: Namespace, seen: Seen) -> None:
    """After a nested send that raised, the next sends of the outer receivers are below their own calls."""
    outer, inner = signals.signal("outer"), signals.signal("inner")

    @outer.connect
    def first(sender: Any) -> None:
        with suppress(Stumbled):
            inner.send()

    @outer.connect
    def second(sender: Any) -> None:
        inner.send()

    inner.connect(stumble)

    with pytest.raises(Stumbled):
        outer.send()

    stumbled: Any = ("inner", [("stumble", "raised", [])])
    assert tree(seen.roots[0]) == ("outer", [("first", "returned", [stumbled]), ("second", "raised", [stumbled])])


def test_a_send_in_receivers_for_is_below_no_call(seen: Seen) -> None:
    """A send that is made during another one, but outside of its receivers, begins a tree of its own."""
    inner = Signal()

    def note(failure: Failure) -> None:
        inner.send()

    lamp = Signal(errors=note)
    lamp.connect(stumble)
    lamp.send()

    assert len(seen.roots) == 2


def test_nested_async_sends(signals: Namespace, seen: Seen) -> None:
    """The sends of async receivers, and of tasks that they wait for, are below their calls."""
    outer, inner = signals.signal("outer"), signals.signal("inner")
    inner.connect(hear_async)

    @outer.connect
    async def by_itself(sender: Any) -> None:
        await inner.send_async()

    @outer.connect
    async def by_tasks(sender: Any) -> None:
        await asyncio.gather(inner.send_async(), inner.send_async())

    asyncio.run(outer.send_async())

    leaf: Any = ("inner", [("hear_async", "returned", [])])
    assert [tree(root) for root in seen.roots] == [
        ("outer", [("by_itself", "returned", [leaf]), ("by_tasks", "returned", [leaf, leaf])])
    ]


def test_nested_sends_of_concurrent_receivers(signals: Namespace, seen: Seen) -> None:
    """Each concurrent receiver has its own sends below its call."""
    outer, inner = signals.signal("outer"), signals.signal("inner")

    async def main() -> None:
        turns = asyncio.Barrier(2)

        @outer.connect
        async def first(sender: Any) -> None:
            await turns.wait()
            await inner.send_async("first")

        @outer.connect
        async def second(sender: Any) -> None:
            await turns.wait()
            await inner.send_async("second")
            await inner.send_async("second")

        outer.async_policy = Concurrent()
        await outer.send_async()

    asyncio.run(main())

    [root] = seen.roots
    assert [[send.sender for send in call.sends] for call in root.calls] == [["first"], ["second", "second"]]


def test_nested_sends_behind_wrappers(signals: Namespace, seen: Seen) -> None:
    """The sends of a sync receiver in a thread of send_async, and of an async receiver in a loop of send, are below
    its call."""
    outer, inner = signals.signal("outer"), signals.signal("inner")

    def sync(sender: Any) -> None:
        inner.send()

    async def wrapped(sender: Any) -> None:
        inner.send()

    outer.connect(sync)
    outer.sync_wrapper = sync_to_async
    asyncio.run(outer.send_async())
    outer.disconnect(sync)
    outer.connect(wrapped)
    outer.async_wrapper = async_to_sync
    outer.send()

    branch: Any = [("inner", [])]
    assert [tree(root) for root in seen.roots] == [
        ("outer", [("sync", "returned", branch)]),
        ("outer", [("wrapped", "returned", branch)]),
    ]


def test_a_task_that_outlives_its_receiver_begins_a_tree_of_its_own(signals: Namespace, seen: Seen) -> None:
    """A task that goes on after the receiver that started it has returned adds nothing below the receiver's call."""
    outer, inner = signals.signal("outer"), signals.signal("inner")

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []

        @outer.connect
        async def start(sender: Any) -> None:
            tasks.append(asyncio.create_task(inner.send_async()))

        await outer.send_async()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert [tree(root) for root in seen.roots] == [("outer", [("start", "returned", [])]), ("inner", [])]


# Deliveries.


class Later:
    """A delivery that stores calls, with their contexts, until the test runs them."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> None:
        self.calls.append(partial(copy_context().run, call))

    def run(self) -> list[Any]:
        calls, self.calls = self.calls, []
        return [call() for call in calls]


def test_a_delivered_receiver_has_two_records(signals: Namespace, seen: Seen) -> None:
    """One record, in the send, says that the call was passed to the delivery; another one is made when the receiver
    runs, perhaps later."""
    lamp, inner, later = signals.signal("lamp"), signals.signal("inner"), Later()

    @lamp.connect(via=later)
    def work(sender: Any) -> None:
        inner.send()

    lamp.send()
    [send] = seen.sends
    assert tree(send) == ("lamp", [("work", "delivered", [])])
    assert seen.events == ["send began", "call began", "call ended", "send ended"]

    later.run()
    assert tree(send) == ("lamp", [("work", "delivered", []), ("work", "returned", [("inner", [])])])
    assert seen.sends[1].parent is seen.calls[1]
    assert seen.calls[0].via is seen.calls[1].via is later


def test_a_delivery_that_runs_at_once_is_recorded(signals: Namespace, seen: Seen) -> None:
    """If a delivery runs the receiver in its turn, the record of the run is below the record of the delivery."""
    lamp = signals.signal("lamp")

    class Inline(Later):
        def deliver(self, call: Any, /) -> Any:
            return call()

    lamp.connect(hear, via=Inline())
    lamp.send()

    assert tree(seen.sends[0]) == ("lamp", [("hear", "delivered", []), ("hear", "returned", [])])
    assert seen.events == ["send began", "call began", "call began", "call ended", "call ended", "send ended"]


def test_a_delivery_that_raises_is_recorded(signals: Namespace, seen: Seen) -> None:
    """If deliver raises, the record of passing the call to the delivery has the exception."""
    lamp = signals.signal("lamp")

    class Refusing(Later):
        def deliver(self, call: Any, /) -> Any:
            raise Stumbled

    lamp.connect(hear, via=Refusing())

    with pytest.raises(Stumbled):
        lamp.send()

    assert (seen.calls[0].outcome, seen.calls[0].exception_type) == ("raised", f"{__name__}.Stumbled")


@pytest.mark.parametrize("errors", ["propagate", lambda failure: None])
def test_failures_of_delivered_receivers_are_recorded(errors: Any, seen: Seen) -> None:
    """The exception of a delivered receiver is in the record of its run, even if a callable policy handles it."""
    lamp, later = Namespace(errors=errors).signal("lamp"), Later()
    lamp.connect(stumble, via=later)
    lamp.send()

    with suppress(Stumbled):
        later.run()

    assert [call.outcome for call in seen.calls] == ["delivered", "raised"]
    assert seen.calls[1].exception_type == f"{__name__}.Stumbled"


def test_delivered_async_receivers_are_recorded_while_awaited(signals: Namespace, seen: Seen, clock: Clock) -> None:
    """The record of an async receiver's run begins when its coroutine is first awaited, and ends when the coroutine
    ends."""
    lamp, later = signals.signal("lamp"), Later()

    @lamp.connect(via=later)
    async def work(sender: Any) -> str:
        clock.now_s += 3
        return "done"

    asyncio.run(lamp.send_async())
    [coroutine] = later.run()
    assert len(seen.calls) == 1

    assert asyncio.run(coroutine) == "done"
    assert [(call.outcome, call.duration_s) for call in seen.calls] == [("delivered", 0), ("returned", 3)]


def test_receivers_in_threads_are_recorded(signals: Namespace, seen: Seen) -> None:
    """A receiver that runs via threads has its record, with its own sends below it, in the tree of its send."""
    lamp, inner = signals.signal("lamp"), signals.signal("inner")
    inner.connect(hear)

    with ThreadPoolExecutor(1) as pool:

        @lamp.connect(via=threads(pool))
        def work(sender: Any) -> None:
            inner.send()

        lamp.send()[0][1].result()

    branch: Any = ("inner", [("hear", "returned", [])])
    assert [tree(root) for root in seen.roots] == [
        ("lamp", [("work", "delivered", []), ("work", "returned", [branch])])
    ]


def test_a_delivered_receiver_of_a_nested_send_is_in_its_tree(signals: Namespace, seen: Seen) -> None:
    """A delivered receiver that runs after the whole tree has ended is still recorded at its position in the tree."""
    outer, lamp, later = signals.signal("outer"), signals.signal("lamp"), Later()

    @outer.connect
    def pass_on(sender: Any) -> None:
        lamp.send()

    lamp.connect(hear, via=later)
    outer.send()
    later.run()

    branch: Any = ("lamp", [("hear", "delivered", []), ("hear", "returned", [])])
    assert [tree(root) for root in seen.roots] == [("outer", [("pass_on", "returned", [branch])])]


def test_a_call_from_before_the_watch_is_not_reported(signals: Namespace) -> None:
    """A delivered receiver of a send without a watch is not reported, even if it runs while a watch exists."""
    lamp, later = signals.signal("lamp"), Later()
    lamp.connect(hear, via=later)
    lamp.send()

    with watch(seen := Seen()):
        later.run()

    assert seen.told == []


# The objects that records keep alive.


def test_the_record_of_a_call_says_when_its_send_is_gone() -> None:
    """A CallRecord that outlives its SendRecord raises an error that says to keep the SendRecord, and still has its
    own data."""
    lamp, calls = Namespace().signal("lamp"), []

    class Keeping(Watcher):
        def call_ended(self, call: CallRecord) -> None:
            calls.append(call)

    lamp.connect(hear)

    with watch(Keeping()):
        lamp.send()

    with pytest.raises(ReferenceError, match="Keep the SendRecord"):
        _ = calls[0].send

    assert (calls[0].signal_name, short(calls[0])) == ("lamp", "hear")


def test_a_record_of_a_send_without_its_parent_is_a_root() -> None:
    """A SendRecord that outlives the record of the call around it has no parent any more."""
    outer, inner = Signal(), Signal()
    kept: list[SendRecord] = []
    outer.connect(lambda sender: inner.send(), weak=False)

    with watch(kept.append, inner), watch(lambda send: None, outer):
        outer.send()

    assert kept[0].parent is None


def test_a_parent_needs_a_watch_of_the_outer_signal() -> None:
    """A nested send has a parent only if the outer signal is watched."""
    outer, inner = Signal(), Signal()
    outer.connect(pass_on := lambda sender: inner.send())
    parents: list[Any] = []

    with watch(lambda send: parents.append(send.parent), inner):
        outer.send()

        with watch(lambda send: None, outer):
            outer.send()

    assert [parent and parent.receiver for parent in parents] == [None, pass_on]
