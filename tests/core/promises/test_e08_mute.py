"""E8: a mute nests, holds for the current thread or task, and can name receivers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from aldis import NamedSignal, Namespace, PayloadError, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Stage:
    """A signal with receivers a, b and c; c is connected to sender x only."""

    def __init__(self) -> None:
        self.signal = NamedSignal("lamp")
        self.log: list[str] = []
        self.a, self.b, self.c = (self._make(name) for name in "abc")
        self.signal.connect(self.a)
        self.signal.connect(self.b)
        self.signal.connect(self.c, "x")

    def _make(self, name: str) -> Callable[..., Any]:
        def receiver(sender: Any, **payload: Any) -> None:
            self.log.append(name)

        return receiver

    def send(self) -> str:
        self.log.clear()
        self.signal.send("x")
        return "".join(self.log)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_muted_signal_calls_no_receiver(stage: Stage) -> None:
    """E8: while muted, a send calls no receivers and returns no results."""
    with stage.signal.muted():
        assert stage.signal.is_muted
        assert stage.signal.send("x") == []
        assert stage.signal.send("x", a=1) == []

    assert not stage.signal.is_muted
    assert stage.send() == "abc"


def test_a_signal_can_be_muted_after_it_was_sent(stage: Stage) -> None:
    """E8: a mute also works after earlier sends, and ends with its block."""
    assert stage.send() == "abc"

    for _ in range(3):
        with stage.signal.muted():
            assert stage.send() == ""

        assert stage.send() == "abc"


def test_other_signals_are_not_muted(stage: Stage) -> None:
    """E8: a mute of one signal does not mute other signals."""
    other = Stage()

    with other.signal.muted():
        assert stage.send() == "abc"
        assert not stage.signal.is_muted


def test_two_signals_are_muted_independently(stage: Stage) -> None:
    """E8: inside nested blocks of two signals, each block mutes its own signal and the receivers that it names."""
    other = Stage()

    with stage.signal.muted(), other.signal.muted(other.b):
        assert stage.send() == ""
        assert other.send() == "ac"


def test_nested(stage: Stage) -> None:
    """E8: the end of an inner block does not end the outer one."""
    with stage.signal.muted():
        with stage.signal.muted():
            pass

        assert stage.signal.is_muted
        assert stage.send() == ""

    assert stage.send() == "abc"


def test_receivers_can_be_named(stage: Stage) -> None:
    """E8: muted(receiver, ...) mutes only these receivers, and does not mute the signal as a whole."""
    with stage.signal.muted(stage.a, stage.c):
        assert stage.send() == "b"
        assert not stage.signal.is_muted

    assert stage.send() == "abc"


def test_named_receivers_nest(stage: Stage) -> None:
    """E8: nested blocks add up, and the end of each one removes only its own mute, even if both name the same
    receiver."""
    with stage.signal.muted(stage.a):
        with stage.signal.muted(stage.a, stage.b):
            assert stage.send() == "c"

            with stage.signal.muted(stage.b):
                assert stage.send() == "c"

            with stage.signal.muted():
                assert stage.send() == ""

            assert stage.send() == "c"

        assert stage.send() == "bc"

    assert stage.send() == "abc"


def test_blocks_may_end_in_any_order(stage: Stage) -> None:
    """E8: of two blocks, the one that ends later keeps its mute when the other ends."""
    first, second = stage.signal.muted(stage.a), stage.signal.muted(stage.b)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stage.send() == "ac"
    second.__exit__(None, None, None)
    assert stage.send() == "abc"


def test_bound_methods_and_unhashable_receivers_can_be_named() -> None:
    """E8: receivers of every kind can be named, also bound methods and unhashable objects."""
    signal, log = Signal(), list[str]()

    class Listener(list[Any]):
        def hear(self, sender: Any) -> None:
            log.append("method")

        def __call__(self, sender: Any) -> None:
            log.append("object")

    listener, same = Listener(), Listener()
    signal.connect(listener.hear)
    signal.connect(listener)
    signal.connect(same)

    with signal.muted(listener.hear):
        signal.send()

    with signal.muted(listener):
        signal.send()

    assert log == ["object", "object", "method", "object"]


def test_a_named_receiver_need_not_be_connected(stage: Stage) -> None:
    """E8: a receiver that is named may be connected later, or never."""

    def later(sender: Any, **payload: Any) -> None:
        stage.log.append("later")

    with stage.signal.muted(later):
        assert stage.send() == "abc"
        stage.signal.connect(later)
        assert stage.send() == "abc"

    assert stage.send() == "abclater"


def test_a_new_receiver_at_the_address_of_a_named_one_is_not_muted() -> None:
    """E8: while a block that names a receiver runs, no other receiver is mistaken for it."""
    signal, log = Signal(), list[int]()
    block = signal.muted(lambda sender: None)

    with block:
        for number in range(100):
            receiver = [lambda sender, number=number: log.append(number)]
            signal.connect(receiver[0])
            signal.send()
            receiver.clear()

    assert log == list(range(100))


def test_named_receivers_are_freed_after_the_block(stage: Stage) -> None:
    """E8: after the block, nothing refers to the receivers that it named."""

    def receiver(sender: Any) -> None: ...

    ref = weakref.ref(receiver)

    with stage.signal.muted(receiver):
        pass

    del receiver
    gc.collect()

    assert ref() is None


def test_a_mute_is_read_when_the_send_begins(stage: Stage) -> None:
    """E8: a receiver that mutes its signal and sends it again does not end the send that called it."""

    def quiet(sender: Any) -> None:
        stage.log.append("q")

        with stage.signal.muted():
            stage.signal.send("x")

    stage.signal.connect(quiet, priority=1)

    assert stage.send() == "qabc"


def test_a_mute_does_not_change_connections(stage: Stage) -> None:
    """E8: a muted receiver is still connected: the signal lists it, and it can be disconnected."""
    with stage.signal.muted():
        assert stage.signal.has_receivers_for("x")
        assert list(stage.signal.receivers_for("x")) == [stage.a, stage.b, stage.c]
        stage.signal.disconnect(stage.b)

    assert stage.send() == "ac"


def test_a_wrong_payload_is_refused_while_muted() -> None:
    """E8: a mute silences receivers, not mistakes: a send that does not fit the declaration still fails."""

    def happened(sender: Any, /, *, a: int) -> None: ...

    signal: Signal[Any, ..., Any] = Namespace().declare(happened)

    with signal.muted(), pytest.raises(PayloadError, match="'a'"):
        signal.send()


def test_a_once_receiver_is_not_used_up(stage: Stage) -> None:
    """E8: a muted send does not use up a once receiver."""
    calls: list[Any] = []
    signal = Signal()
    signal.connect(calls.append, weak=False, once=True)

    with signal.muted():
        signal.send("muted")

    signal.send("x")
    signal.send("y")

    assert calls == ["x"]


def in_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_other_threads_are_not_muted(stage: Stage) -> None:
    """E8: a mute holds for the current thread; sends in other threads are not muted."""
    with stage.signal.muted():
        assert in_thread(stage.send) == "abc"
        assert in_thread(lambda: stage.signal.is_muted) is False
        assert stage.send() == ""


def test_two_threads_mute_independently(stage: Stage) -> None:
    """E8: blocks of two threads on one signal may overlap without any effect on each other."""
    entered, leave = Event(), Event()

    def other() -> str:
        with stage.signal.muted(stage.b):
            entered.set()
            assert leave.wait(120)
            return stage.send()

    found: list[str] = []
    thread = Thread(target=lambda: found.append(other()))

    with stage.signal.muted(stage.a):
        thread.start()
        assert entered.wait(120)
        assert stage.send() == "bc"

    assert stage.send() == "abc"
    leave.set()
    thread.join()

    assert found == ["ac"]
    assert stage.send() == "abc"


def test_other_tasks_are_not_muted() -> None:
    """E8: a mute in one task does not mute a task that runs at the same time."""
    signal, log = Signal(), list[str]()

    async def receiver(sender: Any) -> None:
        log.append(sender)

    signal.connect(receiver)

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def quiet() -> None:
            with signal.muted():
                entered.set()
                await leave.wait()
                await signal.send_async("quiet")

            await signal.send_async("after")

        async def loud() -> None:
            await entered.wait()
            assert not signal.is_muted
            await signal.send_async("loud")
            leave.set()

        await asyncio.gather(quiet(), loud())

    asyncio.run(main())

    assert log == ["loud", "after"]


def test_a_task_started_inside_is_muted_until_the_block_ends() -> None:
    """E8: a task that the block starts is muted, until the block ends."""
    signal, log = Signal(), list[str]()

    async def receiver(sender: Any) -> None:
        log.append(sender)

    signal.connect(receiver)

    async def main() -> None:
        go_on = asyncio.Event()

        async def child() -> None:
            await signal.send_async("inside")
            await go_on.wait()
            assert not signal.is_muted
            await signal.send_async("outside")

        with signal.muted():
            task = asyncio.create_task(child())
            await asyncio.sleep(0)

        go_on.set()
        await task

    asyncio.run(main())

    assert log == ["outside"]


def test_a_copied_context_is_muted(stage: Stage) -> None:
    """E8: the mute follows contextvars: a context that is copied inside the block is muted, one copied before it is
    not."""
    before = contextvars.copy_context()

    with stage.signal.muted():
        inside = contextvars.copy_context()
        assert before.run(stage.send) == "abc"
        assert inside.run(stage.send) == ""

    assert inside.run(stage.send) == "abc"


def test_a_block_may_end_in_another_context(stage: Stage) -> None:
    """E8: a block that ends in another context than it began in, as in async fixtures, ends completely."""
    block = stage.signal.muted()
    contextvars.copy_context().run(block.__enter__)
    contextvars.copy_context().run(block.__exit__, None, None, None)

    assert stage.send() == "abc"


def test_a_context_copied_in_a_block_is_not_muted_after_it(stage: Stage) -> None:
    """E8: after the block, a context that was copied inside it is no longer muted, even while other code mutes the
    signal."""
    with stage.signal.muted():
        context = contextvars.copy_context()

    with stage.signal.muted():
        assert stage.send() == ""
        assert context.run(stage.send) == "abc"


def test_send_async_is_muted() -> None:
    """E8: send_async does not call muted receivers."""
    signal, log = Signal(), list[str]()

    async def a(sender: Any) -> None:
        log.append("a")

    async def b(sender: Any) -> None:
        log.append("b")

    signal.connect(a)
    signal.connect(b)

    async def main() -> None:
        with signal.muted():
            assert await signal.send_async() == []

        with signal.muted(a):
            await signal.send_async()

    asyncio.run(main())

    assert log == ["b"]


def test_a_muted_async_receiver_needs_no_wrapper() -> None:
    """E8: if the only async receiver is muted, send needs no wrapper and is not refused."""
    signal, log = Signal(), list[str]()

    async def a(sender: Any) -> None: ...

    def b(sender: Any) -> None:
        log.append("b")

    signal.connect(a)
    signal.connect(b)

    with signal.muted(a):
        signal.send()

    assert log == ["b"]


def test_is_muted_can_be_set_for_all_threads(stage: Stage) -> None:
    """E8: setting the attribute is_muted to True, as in Blinker, mutes the signal in all threads until it is set to
    False."""
    stage.signal.is_muted = True

    assert stage.signal.is_muted is True
    assert stage.send() == ""
    assert in_thread(stage.send) == ""

    with stage.signal.muted(stage.a):
        assert stage.send() == ""

    stage.signal.is_muted = False
    assert stage.send() == "abc"


def test_muted_is_a_decorator(stage: Stage) -> None:
    """E8: muted() is a decorator too, and works for each call of the function."""

    @stage.signal.muted(stage.a)
    def act() -> str:
        return stage.send()

    assert [act(), act(), stage.send()] == ["bc", "bc", "abc"]


def test_a_subclass_that_finds_receivers_itself_is_muted() -> None:
    """E8: a mute also works in a subclass that overrides receivers_for, and can name receivers there."""

    class Own(Signal):
        def receivers_for(self, sender: Any) -> Any:
            return iter(list(super().receivers_for(sender)))

    signal, log = Own(), list[str]()

    def a(sender: Any) -> None:
        log.append("a")

    def b(sender: Any) -> None:
        log.append("b")

    signal.connect(a)
    signal.connect(b)

    with signal.muted():
        signal.send()

    with signal.muted(b):
        signal.send()

    signal.send()

    assert log == ["a", "a", "b"]
