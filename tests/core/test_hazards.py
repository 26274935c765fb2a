"""E2, E3, E5 and E9 under every hazard: each kind of receiver disturbs a send, in every way and from every place.

Four receivers of one kind are connected in a row: first, actor, victim, last. During a send the actor does something to
itself, to the victim or to the signal. The matrix is kinds x places x ways of sending x weak or strong. Each test is
one column of the matrix, runs all of its rows, and asserts exactly which receivers are called.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aldis import ANY, Failure, InvalidReceiverError, Namespace, Signal
from aldis.aio import Concurrent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
    from typing import TypeAlias

    Decorate: TypeAlias = Callable[[Callable[["Stage"], None]], Callable[[str], None]]

LINE = ["first", "actor", "victim", "last"]


class Stumbled(Exception):
    """The exception that receivers raise here."""


class Sender:
    """An object that sends."""


# The kinds of receivers. Each factory returns an object to keep alive, and a function that gets the receiver from it.


class Method:
    def __init__(self, play: Callable[[], Any]) -> None:
        self.play = play

    def receive(self, sender: Any, **payload: Any) -> Any:
        return self.play()


class CallableObject(Method):
    def __call__(self, sender: Any, **payload: Any) -> Any:
        return self.play()


class AsyncCallableObject(Method):
    async def __call__(self, sender: Any, **payload: Any) -> Any:
        return await self.play()


class Slotted:
    __slots__ = ("play",)

    def __init__(self, play: Callable[[], Any]) -> None:
        self.play = play

    def __call__(self, sender: Any, **payload: Any) -> Any:
        return self.play()


class SlottedReferable(Slotted):
    __slots__ = ("__weakref__",)


def function(play: Callable[[], Any]) -> Any:
    def receive(sender: Any, **payload: Any) -> Any:
        return play()

    return receive


def coroutine_function(play: Callable[[], Any]) -> Any:
    async def receive(sender: Any, **payload: Any) -> Any:
        return await play()

    return receive


def call_play(play: Callable[[], Any], sender: Any, **payload: Any) -> Any:
    return play()


def same(owner: Any) -> Any:
    return owner


def bound(owner: Any) -> Any:
    return owner.receive


KINDS: dict[str, tuple[Callable[[Callable[[], Any]], Any], Callable[[Any], Any]]] = {
    "function": (function, same),
    "lambda": (lambda play: lambda sender, **payload: play(), same),
    "partial": (lambda play: partial(call_play, play), same),
    "bound method": (Method, bound),
    "callable object": (CallableObject, same),
    "slotted": (SlottedReferable, same),
    "slotted without __weakref__": (Slotted, same),
    "coroutine function": (coroutine_function, same),
    "async callable object": (AsyncCallableObject, same),
}
ASYNC_KINDS = [kind for kind in KINDS if "async" in kind or "coroutine" in kind]
UNREFERABLE = "slotted without __weakref__"


# The places where an act runs during the send.


def in_thread(act: Callable[[], Any]) -> Any:
    """Run the act in another thread, wait for its end, and raise its exception here."""
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = act()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    if "error" in outcome:
        raise outcome.pop("error")

    return outcome["value"]


def in_nested_send(act: Callable[[], Any]) -> Any:
    """Run the act in a receiver of another signal."""
    other = Signal()
    other.connect(lambda _: act(), weak=False)
    return other.send(None)[0][1]


async def in_nested_send_async(act: Callable[[], Awaitable[Any]]) -> Any:
    """Run the act in an async receiver of another signal."""

    async def receive(sender: Any) -> Any:
        return await act()

    other = Signal()
    other.connect(receive)
    return (await other.send_async(None))[0][1]


async def in_thread_async(act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run the act in an event loop in another thread."""
    return await asyncio.to_thread(lambda: asyncio.run(act()))


async def in_task(act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run the act in another task."""
    return await asyncio.create_task(act())


async def at_once(act: Callable[[], Awaitable[Any]]) -> Any:
    """Run the act directly."""
    return await act()


PLACES: dict[str, Callable[[Any], Any]] = {
    "same thread": lambda act: act(),
    "another thread": in_thread,
    "task": lambda act: act(),  # In these cases the whole send runs in a task.
    "nested send": in_nested_send,
}
ASYNC_PLACES: dict[str, Callable[[Any], Any]] = {
    "same thread": at_once,
    "another thread": in_thread_async,
    "task": in_task,
    "nested send": in_nested_send_async,
}


# The ways of sending: the engine has a loop for each.


def drive(receiver: Any) -> Any:
    """Run a coroutine that never waits, as an ``async_wrapper``."""

    def call(*args: Any, **payload: Any) -> Any:
        coroutine = receiver(*args, **payload)

        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)

        return stop.value.value

    return call


def wrap(receiver: Any) -> Any:
    """Run a sync receiver in the same thread, as a ``sync_wrapper``."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


class Way(NamedTuple):
    is_async: bool = False
    payload: tuple[tuple[str, int], ...] = ()
    by_sender: bool = False
    errors: Any = "propagate"
    is_declared: bool = False


WAYS: dict[str, Way] = {
    "send": Way(),
    "send with payload": Way(payload=(("n", 1),)),
    "send to a sender": Way(by_sender=True, payload=(("n", 1),)),
    "send declared": Way(is_declared=True, payload=(("n", 1),)),
    "send collecting": Way(errors="collect"),
    "send_async": Way(is_async=True),
    "send_async collecting": Way(is_async=True, errors="collect", by_sender=True),
}


class Stage:
    """The four receivers, and what the actor does in its turn."""

    def __init__(self, kind: str, place: str, way: str, weak: bool) -> None:
        self.place = place
        self.way = WAYS[way]
        self.weak = weak
        self.is_async = kind in ASYNC_KINDS
        self.make, self.receiver_of = KINDS[kind]
        self.signal = self._make_signal()
        self.sender = Sender()
        self.filter: Any = {"sender": self.sender} if self.way.by_sender else {}
        self.owners: dict[str, Any] = {}
        self.acts: dict[str, Callable[[], Any]] = {}
        self.log: list[str] = []

        for name in LINE:
            self.connect(name)

    def _make_signal(self) -> Any:
        signal: Any = Signal()

        if self.way.is_declared:

            def staged(sender: Any, /, *, n: int) -> Any: ...

            signal = Namespace().declare(staged)

        signal.errors = self.way.errors
        signal.async_wrapper = drive
        signal.sync_wrapper = wrap
        return signal

    def __getitem__(self, name: str) -> Any:
        """Return a receiver. A bound method is a new object each time."""
        return self.receiver_of(self.owners[name])

    def connect(self, name: str, **options: Any) -> None:
        """Connect a receiver, and make it if there is no receiver of this name."""
        if name not in self.owners:
            play = self.play_waiting if self.waits else self.play_async if self.is_async else self.play
            self.owners[name] = self.make(partial(play, name))

        self.signal.connect(self[name], weak=self.weak, **self.filter, **options)

    def disconnect(self, name: str) -> None:
        self.signal.disconnect(self[name])

    def kill(self, name: str) -> None:
        """Drop the last reference to a receiver that the signal does not hold."""
        del self.owners[name]

    @property
    def waits(self) -> bool:
        """Return whether receivers run in an event loop, and so may wait."""
        return self.is_async and self.way.is_async

    # The acts of receivers. Each act runs once, so that nested sends end.

    def play(self, name: str) -> str:
        self.log.append(name)
        act = self.acts.pop(name, None)

        if act is not None:
            PLACES[self.place](act)

        return name

    async def play_async(self, name: str) -> str:
        return self.play(name)

    async def play_waiting(self, name: str) -> str:
        self.log.append(name)
        act = self.acts.pop(name, None)

        async def do() -> None:
            assert act is not None
            result = act()

            if inspect.isawaitable(result):
                await result

        if act is not None:
            await ASYNC_PLACES[self.place](do)

        return name

    # Sending.

    def send(self) -> list[str]:
        """Send as the stage says, and return the names of the receivers that returned."""
        if self.way.is_async:
            return asyncio.run(self.send_async())

        if self.place == "task":
            return asyncio.run(self._send_in_task())

        return self.send_here()

    def send_here(self) -> list[str]:
        return [name for _, name in self.signal.send(self.sender, **dict(self.way.payload))]

    async def send_async(self) -> list[str]:
        return [name for _, name in await self.signal.send_async(self.sender, **dict(self.way.payload))]

    async def _send_in_task(self) -> list[str]:
        return self.send_here()

    def resend(self) -> Any:
        """Send again from a receiver. Return a coroutine if receivers may wait."""
        return self.send_async() if self.waits else self.send_here()

    def during(self, act: Callable[[], Any]) -> list[str]:
        """Send while the actor runs this act, and return the names of the receivers that were called."""
        self.acts["actor"] = act
        assert self.send() == self.log
        assert not self.acts
        return self.take_log()

    def next_time(self) -> list[str]:
        """Send again without any act, and return the names of the receivers that were called."""
        assert self.send() == self.log
        return self.take_log()

    def take_log(self) -> list[str]:
        log, self.log = self.log, []
        return log


def stages(kind: str) -> Iterator[tuple[str, Stage]]:
    """Yield the stages: every loop of the engine in one place, and two of the loops in every place."""
    for place, way, weak in product(PLACES, WAYS, (True, False)):
        if (kind == UNREFERABLE and weak) or (place != "same thread" and way not in ("send", "send_async")):
            continue

        yield f"{place}, {way}, {'weak' if weak else 'strong'}", Stage(kind, place, way, weak)


def on_stages(kinds: Iterable[str], stages: Callable[[str], Iterator[tuple[str, Stage]]]) -> Decorate:
    """Turn a function into one test for each kind of receiver, which runs all stages. A failure names the stage.

    One test for each stage would make 4,000 tests, and starting a test takes longer than a stage.
    """

    def decorate(play: Callable[[Stage], None]) -> Callable[[str], None]:
        @pytest.mark.parametrize("kind", kinds)
        def test(kind: str) -> None:
            for name, stage in stages(kind):
                try:
                    play(stage)
                except Exception as error:
                    error.add_note(f"On the stage: {kind}, {name}.")
                    raise

        test.__doc__ = play.__doc__
        return test

    return decorate


on_all_stages = on_stages(KINDS, stages)


@pytest.mark.parametrize("is_by_sender", [False, True])
def test_an_unreferable_receiver_needs_a_strong_connection(is_by_sender: bool) -> None:
    """E12: A weak connect refuses a receiver that cannot be referenced weakly, and leaves nothing behind."""
    signal = Signal()

    with pytest.raises(InvalidReceiverError, match="weak=False"):
        signal.connect(Slotted(lambda: None), "a" if is_by_sender else ANY)

    assert not signal.receivers


@on_all_stages
def test_undisturbed(stage: Stage) -> None:
    """E1: Without a hazard, all receivers are called in the order in which they were connected."""
    assert stage.next_time() == LINE


@on_all_stages
def test_victim_dies(stage: Stage) -> None:
    """E2, E5: A weak receiver that dies before its turn is not called; a strong connection keeps its receiver alive."""
    alive = ["first", "actor", "last"] if stage.weak else LINE

    assert stage.during(lambda: stage.kill("victim")) == alive
    assert stage.next_time() == alive
    assert len(stage.signal.receivers) == len(alive)


@on_all_stages
def test_actor_dies(stage: Stage) -> None:
    """E2, E5: A receiver that drops the last reference to itself ends its call, and is freed afterwards if held
    weakly."""
    assert stage.during(lambda: stage.kill("actor")) == LINE
    gc.collect(0)  # Event loops leave reference cycles that may hold a task's frame.
    assert stage.next_time() == (["first", "victim", "last"] if stage.weak else LINE)


@on_all_stages
def test_all_die(stage: Stage) -> None:
    """E2, E10: When all weakly held receivers die during a send, the signal has no receivers afterwards."""
    called = stage.during(stage.owners.clear)
    gc.collect(0)

    assert called == (["first", "actor"] if stage.weak else LINE)
    assert bool(stage.signal.receivers) is not stage.weak


@on_all_stages
def test_actor_disconnects_itself(stage: Stage) -> None:
    """E2: A receiver that disconnects itself ends its call, is in the results, and is not called again."""
    assert stage.during(lambda: stage.disconnect("actor")) == LINE
    assert stage.next_time() == ["first", "victim", "last"]


@on_all_stages
def test_actor_disconnects_the_victim(stage: Stage) -> None:
    """E2: A receiver that is disconnected before its turn is not called."""
    assert stage.during(lambda: stage.disconnect("victim")) == ["first", "actor", "last"]
    assert stage.next_time() == ["first", "actor", "last"]


@on_all_stages
def test_actor_disconnects_a_receiver_that_was_called(stage: Stage) -> None:
    """E2: Disconnecting a receiver after its turn changes nothing for this send."""
    assert stage.during(lambda: stage.disconnect("first")) == LINE
    assert stage.next_time() == ["actor", "victim", "last"]


@on_all_stages
def test_actor_disconnects_all(stage: Stage) -> None:
    """E2, E10: After a clear during the send no further receiver is called."""
    assert stage.during(stage.signal.receivers.clear) == ["first", "actor"]
    assert stage.next_time() == []
    assert not stage.signal.receivers


@on_all_stages
def test_actor_connects_another(stage: Stage) -> None:
    """E2: A receiver that is connected during a send is called from the next send on, even with a high priority."""

    def connect() -> None:
        stage.connect("late")
        stage.connect("early", priority=1)

    assert stage.during(connect) == LINE
    assert stage.next_time() == ["early", *LINE, "late"]


@on_all_stages
def test_actor_connects_itself_again(stage: Stage) -> None:
    """E1, E2: Connecting a connected receiver again changes neither its position nor the number of its calls."""
    assert stage.during(lambda: stage.connect("actor")) == LINE
    assert stage.next_time() == LINE


@on_all_stages
def test_actor_reconnects_the_victim(stage: Stage) -> None:
    """E2: A receiver that is disconnected and connected again before its turn is a new connection: it waits, and
    comes last."""

    def reconnect() -> None:
        stage.disconnect("victim")
        stage.connect("victim")

    assert stage.during(reconnect) == ["first", "actor", "last"]
    assert stage.next_time() == ["first", "actor", "last", "victim"]


@on_all_stages
def test_actor_sends_again(stage: Stage) -> None:
    """E2: A nested send calls all receivers; then the outer send continues."""
    inner: list[list[str]] = []

    def resend() -> Any:
        if not stage.waits:
            inner.append(stage.send_here())
            return None

        async def wait() -> None:
            inner.append(await stage.send_async())

        return wait()

    stage.acts["actor"] = resend

    assert stage.send() == LINE
    assert inner == [LINE]
    assert stage.log == ["first", "actor", *LINE, "victim", "last"]


@on_all_stages
def test_actor_disconnects_the_victim_and_sends_again(stage: Stage) -> None:
    """E2: Neither the nested send nor the outer one calls a receiver that was disconnected."""

    def resend() -> Any:
        stage.disconnect("victim")
        return stage.resend()

    stage.acts["actor"] = resend
    alive = ["first", "actor", "last"]

    assert stage.send() == alive
    assert stage.log == ["first", "actor", *alive, "last"]


@on_all_stages
def test_a_once_receiver_is_called_once_in_nested_sends(stage: Stage) -> None:
    """E2: A ``once`` receiver is called by the first send that reaches it, and by no other."""
    stage.connect("victim", once=True)
    stage.acts["actor"] = stage.resend

    assert stage.send() == ["first", "actor", "last"]
    assert stage.log == ["first", "actor", *LINE, "last"]
    stage.take_log()
    assert stage.next_time() == ["first", "actor", "last"]


@on_all_stages
def test_actor_raises(stage: Stage) -> None:
    """E3: An exception stops the send, or is raised after all receivers ran; it is unchanged, and the next send is
    complete."""

    def stumble() -> None:
        raise Stumbled("over a wire")

    stage.acts["actor"] = stumble

    with pytest.raises(Stumbled, match="over a wire"):
        stage.send()

    assert stage.take_log() == (LINE if stage.way.errors == "collect" else ["first", "actor"])
    assert stage.next_time() == LINE


@on_all_stages
def test_actor_raises_into_a_policy(stage: Stage) -> None:
    """E3: A callable policy receives each failure, all receivers run, and only receivers that did not fail have
    results."""
    failures: list[Failure] = []
    stage.signal.errors = failures.append

    def stumble() -> None:
        raise Stumbled("over a wire")

    stage.acts["actor"] = stage.acts["last"] = stumble

    assert stage.send() == ["first", "victim"]
    assert stage.take_log() == LINE
    assert [str(failure.exception) for failure in failures] == ["over a wire", "over a wire"]
    assert [failure.receiver == stage[name] for failure, name in zip(failures, ("actor", "last"), strict=True)] == [
        True,
        True,
    ]
    assert all(failure.signal is stage.signal and failure.sender is stage.sender for failure in failures)


@on_all_stages
def test_several_raise(stage: Stage) -> None:
    """E3: Under "collect", several exceptions are raised as one group, in the order of their receivers."""
    stage.signal.errors = "collect"

    def stumble(name: str) -> None:
        raise Stumbled(name)

    stage.acts["first"] = partial(stumble, "first")
    stage.acts["victim"] = partial(stumble, "victim")

    with pytest.raises(ExceptionGroup, match="2 receivers") as group:
        stage.send()

    assert [str(error) for error in group.value.exceptions] == ["first", "victim"]
    assert stage.take_log() == LINE


@on_all_stages
def test_actor_disconnects_the_victim_and_raises(stage: Stage) -> None:
    """E2, E3: A change that a receiver made before it raised stays."""

    def stumble() -> None:
        stage.disconnect("victim")
        raise Stumbled("over a wire")

    stage.acts["actor"] = stumble

    with pytest.raises(Stumbled, match="over a wire"):
        stage.send()

    assert stage.take_log() == (["first", "actor", "last"] if stage.way.errors == "collect" else ["first", "actor"])
    assert stage.next_time() == ["first", "actor", "last"]


# Cancelling receivers that wait.

POLICIES = {"propagate": "propagate", "collect": "collect", "callable": lambda failure: None}


def waiting_stages(kind: str) -> Iterator[tuple[str, Stage]]:
    """Yield the stages whose receivers wait, under each policy."""
    for place, errors, weak in product(PLACES, POLICIES, (True, False)):
        stage = Stage(kind, place, "send_async", weak)
        stage.signal.errors = POLICIES[errors]
        yield f"{place}, {errors}, {'weak' if weak else 'strong'}", stage


on_waiting_stages = on_stages(ASYNC_KINDS, waiting_stages)


async def cancel_in_turn(stage: Stage, unwound: list[str]) -> None:
    """Send in a task, and let the actor cancel the task while the actor waits; the cancelling runs in the stage's
    place."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(stage.send_async())

    async def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    async def wait() -> None:
        try:
            await ASYNC_PLACES[place](cancel)
            await asyncio.Event().wait()
        finally:
            unwound.append("actor")

    # The actor itself waits; only the cancelling runs in the place.
    place, stage.place = stage.place, "same thread"
    stage.acts["actor"] = wait

    with pytest.raises(asyncio.CancelledError):
        await task

    stage.place = place


@on_waiting_stages
def test_actor_is_cancelled(stage: Stage) -> None:
    """E3, E9: A cancelled send stops under every policy, unwinds its receiver, and does not disturb later sends."""
    unwound: list[str] = []

    asyncio.run(cancel_in_turn(stage, unwound))

    assert unwound == ["actor"]
    assert stage.take_log() == ["first", "actor"]
    assert stage.next_time() == LINE


@on_waiting_stages
def test_actor_is_cancelled_among_others(stage: Stage) -> None:
    """E3, E9: With concurrent receivers, a cancelled send cancels all receivers that still run, and ends when all
    have ended."""
    stage.signal.async_policy = Concurrent()
    unwound: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            unwound.append(name)

    stage.acts["first"] = partial(wait, "first")
    stage.acts["last"] = partial(wait, "last")

    asyncio.run(cancel_in_turn(stage, unwound))

    assert sorted(unwound) == ["actor", "first", "last"]
    assert stage.take_log() == LINE
    assert stage.next_time() == LINE


# Hazards that do not fit into the matrix.


@pytest.mark.parametrize("is_sender_first", [True, False])
@pytest.mark.parametrize("goes", ["the sender's", "the one for any sender"])
@pytest.mark.parametrize("way", ["send", "send_async"])
def test_one_of_two_connections_is_removed_before_its_turn(is_sender_first: bool, goes: str, way: str) -> None:
    """E2: A receiver that is connected to the sender and to any sender is still called if one of the two connections
    is removed."""
    signal, sender = Signal(), Sender()
    called: list[str] = []
    signal.sync_wrapper = wrap

    def victim(_: Any) -> None:
        called.append("victim")

    # Only the connection of a ``with`` block can be removed without the other one, whichever of the two it is.
    block = signal.connected_to(victim, *([sender] if goes == "the sender's" else []))
    other: Any = ANY if goes == "the sender's" else sender

    def actor(_: Any) -> None:
        called.append("actor")
        block.__exit__(None, None, None)

    signal.connect(actor, priority=1)

    if is_sender_first is (goes == "the sender's"):
        block.__enter__()
        signal.connect(victim, other)
    else:
        signal.connect(victim, other)
        block.__enter__()

    if way == "send":
        signal.send(sender)
    else:
        asyncio.run(signal.send_async(sender))

    assert called == ["actor", "victim"]


def test_a_used_up_connection_hides_no_other() -> None:
    """E2: A ``once`` connection that a nested send used up does not hide a lasting connection of the same receiver."""
    signal, sender = Signal(), Sender()
    called: list[Any] = []

    def actor(_: Any, depth: int) -> None:
        if depth == 0:
            signal.send(sender, depth=1)

    def victim(_: Any, depth: int) -> None:
        called.append(depth)

    signal.connect(actor, priority=1)
    signal.connect(victim, once=True)
    signal.connect(victim, sender)

    signal.send(sender, depth=0)
    assert called == [1, 0]


def test_sender_dies_during_a_send_by_another(no_gc: None) -> None:
    """E6: When a sender dies during a send by another sender, its connections end, also the strong ones."""
    signal = Signal()
    senders = {"one": Sender(), "other": Sender()}
    called: list[str] = []
    signal.connect(lambda _: called.append("one"), senders["one"], weak=False)

    def kill(_: Any) -> None:
        senders.pop("one", None)
        called.append("killed")

    signal.connect(kill, senders["other"], weak=False)

    signal.send(senders["other"])

    assert called == ["killed"]
    assert len(signal.receivers) == 1


def test_the_sender_dies_with_its_send(no_gc: None) -> None:
    """E6: A send keeps its sender alive while it runs; afterwards the sender dies and its connections end."""
    signal = Signal()
    senders = [Sender()]
    called: list[str] = []
    signal.connect(lambda _: senders.clear(), senders[0], weak=False)
    signal.connect(lambda _: called.append("last"), senders[0], weak=False)

    signal.send(senders[0])

    assert called == ["last"]
    assert not signal.receivers
