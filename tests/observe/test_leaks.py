"""aldis.observe keeps neither receivers, senders nor watchers alive, and nothing waits for the cyclic collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from aldis import Namespace, Signal
from aldis.aio import Concurrent
from aldis.observe import CallRecord, Counters, SendRecord, Watch, Watcher, slow_receivers, watch

from ..leaks import AsyncFailing, AsyncThing, Failing, Stumbled, Thing, engine_objects, finish, growth_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("no_gc")


class Looking(Watcher):
    """A watcher that reads everything in the records, and keeps nothing."""

    def __init__(self, fails_in: str = "") -> None:
        self.fails_in = fails_in

    def look(self, where: str, send: SendRecord | None) -> None:
        if send is not None:
            assert all(repr(call) for call in send.calls)
            self.look("", send.parent.send if send.parent else None)

        if where and where == self.fails_in:
            raise Stumbled

    def send_began(self, send: SendRecord) -> None:
        self.look("send_began", send)

    def call_began(self, call: CallRecord) -> None:
        self.look("call_began", call.send)

    def call_ended(self, call: CallRecord) -> None:
        self.look("call_ended", call.send)

    def send_ended(self, send: SendRecord) -> None:
        self.look("send_ended", send)


class Later:
    """A delivery that stores calls, with their contexts."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> None:
        context = copy_context()
        self.calls.append(lambda: context.run(call))


# The rounds. Each receives a signal that lives on, and leaves it without connections and without watches.


def watch_and_send(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)

    with watch(Looking(), signal):
        signal.send(Thing(), thing=Thing())

    signal.send()


def watch_all(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing.method)

    with watch(lambda send: None), watch(Looking()):
        signal.send(Thing())
        mortal: Any = Signal()
        mortal.connect(thing)
        mortal.send(Thing())


def nest(signal: Any) -> None:
    thing = Thing()

    def receiver(sender: Any, depth: int) -> None:
        if depth:
            signal.send(sender, depth=depth - 1)

    signal.connect(receiver, thing)

    with watch(Looking(), signal):
        signal.send(thing, depth=3)


def fail(signal: Any) -> None:
    failing, other = Failing(), Failing()
    signal.connect(failing)
    signal.connect(other)

    with watch(Looking(), signal):
        with suppress(Stumbled):
            signal.send(Thing())

        signal.errors = "collect"

        with suppress(ExceptionGroup):
            signal.send(Thing())

        signal.errors = lambda failure: None
        signal.send(Thing())

    signal.errors = "propagate"


def send_async(signal: Any) -> None:
    thing, failing = AsyncThing(), AsyncFailing()
    signal.connect(thing)

    with watch(Looking(), signal):
        finish(signal.send_async(Thing()))
        signal.connect(failing)

        with suppress(Stumbled):
            finish(signal.send_async(Thing()))


class Pause:
    def __await__(self) -> Any:
        yield


def drop_a_coroutine(signal: Any) -> None:
    async def wait(sender: Any) -> None:
        await Pause()

    signal.connect(wait)

    with watch(Looking(), signal):
        signal.send_async(Thing()).send(None)

    with watch(Looking(), signal):
        signal.send_async(Thing()).close()  # It has not begun.


def deliver(signal: Any) -> None:
    thing, failing, later = Thing(), Failing(), Later()
    signal.connect(thing, via=later)
    signal.connect(failing, via=later)

    with watch(Looking(), signal):
        signal.send(Thing(), thing=Thing())

        for call in later.calls:
            with suppress(Stumbled):
                call()

        later.calls.clear()
        signal.send(Thing())
        later.calls.clear()  # These are never created.


def watcher_fails(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)

    for method in ("send_began", "call_began", "call_ended", "send_ended"):
        watch(Looking(method), signal)
        signal.send(Thing())


def watcher_is_interrupted(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)

    def interrupt(send: SendRecord) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), watch(interrupt, signal):
        signal.send(Thing())


def change_watches_during_a_send(signal: Any) -> None:
    tokens = [watch(Looking(), signal)]

    def change(sender: Any) -> None:
        tokens.append(watch(Looking(), signal))
        tokens[0].stop()

    signal.connect(change)
    signal.send(Thing())
    tokens.pop().stop()


def signal_dies(signal: Any) -> None:
    mortal: Any = Signal()
    thing = Thing()
    mortal.connect(thing)
    mortal.connect(lambda *_, **payload: None, weak=False)
    watch(Looking(), mortal)
    mortal.send(Thing())


def several_signals_die(signal: Any) -> None:
    mortal, other = Signal(), Signal()
    token = watch(Looking(), mortal, signal, other)
    mortal.send()
    del mortal
    signal.send()
    token.stop()


def keep_a_tree(signal: Any) -> None:
    thing = Thing()
    sends: list[SendRecord] = []
    signal.connect(thing)
    signal.connect(lambda sender: sender is thing or signal.send(thing), weak=False)

    with watch(sends.append, signal):
        signal.send(Thing())

    assert [send.parent is None for send in sends] == [False, True]
    assert all(call.send is send for send in sends for call in send.calls)
    signal.receivers.clear()


ROUNDS: list[Callable[[Any], None]] = [
    watch_and_send,
    watch_all,
    nest,
    fail,
    send_async,
    drop_a_coroutine,
    deliver,
    watcher_fails,
    watcher_is_interrupted,
    change_watches_during_a_send,
    signal_dies,
    several_signals_die,
    keep_a_tree,
]


@pytest.fixture(params=ROUNDS, ids=lambda play: play.__name__)
def play(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    found: Callable[[Any], None] = request.param
    return found


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Switch logging off: pytest would keep the reports of failing watchers, and with them their exceptions."""
    logger = logging.getLogger("aldis")
    logger.disabled = True
    yield
    logger.disabled = False


def test_round_leaves_no_cycles(play: Callable[[Any], None]) -> None:
    """After any round the cyclic collector finds nothing: reference counts freed all objects."""
    signal = Signal()
    play(signal)  # The first round fills imports and caches.
    gc.collect()

    for _ in range(5):
        play(signal)

    assert gc.collect() == 0


def test_round_leaves_no_watches(play: Callable[[Any], None]) -> None:
    """After any round no watch is left, and a send is as fast as without watches."""
    signal = Signal()
    play(signal)
    assert signal._registry.watches == ()
    signal.receivers.clear()
    signal.send()
    assert signal._registry.plain is not None


def test_round_leaves_no_engine_objects(play: Callable[[Any], None]) -> None:
    """After any round the engine has as many objects as before it."""
    signal = Signal()

    def play_on() -> None:
        for _ in range(5):
            play(signal)

    play_on()
    before = engine_objects()
    play_on()
    assert engine_objects() == before


@pytest.mark.stress
def test_rounds_take_no_memory(play: Callable[[Any], None]) -> None:
    """Many rounds need no more memory than a few."""
    signal = Signal()

    assert growth_of(lambda: play(signal)) < 2000


def test_watching_keeps_no_receiver_and_no_sender() -> None:
    """While a signal is watched, a receiver or a sender that is dropped is freed at once."""
    signal = Signal()
    thing, sender, payload = Thing(), Thing(), Thing()
    signal.connect(thing)
    signal.connect(thing.method, sender)

    with watch(Looking(), signal), watch(Counters(), signal), slow_receivers(0.0, signal, logger="aldis.silent"):
        signal.send(sender, thing=payload)
        references = [weakref.ref(each) for each in (thing, sender, payload)]
        del thing, sender, payload
        assert [reference() for reference in references] == [None] * 3
        assert signal.send() == []


@pytest.mark.parametrize("method", ["send_began", "call_began", "call_ended", "send_ended", ""])
def test_exceptions_are_freed(method: str) -> None:
    """A receiver's exception is freed when the caller drops it, whether the watcher fails too or not."""
    signal, failing = Signal(), Failing()
    signal.connect(failing)
    token = watch(Looking(method), signal)
    references: list[weakref.ref[Any]] = []

    try:
        signal.send(Thing())
    except Stumbled as error:
        references.append(weakref.ref(error))

    token.stop()
    assert references[0]() is None


def test_a_watched_signal_dies() -> None:
    """A watched signal is freed when it is dropped, whether the watch is for it alone, for several signals or for
    all."""
    signal, other, third = Signal(), Signal(), Signal()
    tokens = [watch(Looking(), signal), watch(Looking(), other, third), watch(Looking())]
    references = [weakref.ref(each) for each in (signal, other)]

    for each in (signal, other):
        each.connect(lambda *_: None, weak=False)
        each.send()

    del signal, other, each
    assert [reference() for reference in references] == [None, None]

    for token in tokens:
        token.stop()


def test_a_stopped_watch_is_freed_and_keeps_no_signal() -> None:
    """A stopped watch, its watcher and its signals are freed as soon as no other object refers to them."""
    signal, looking = Signal(), Looking()
    token: Watch | None = watch(looking, signal)
    references = [weakref.ref(each) for each in (looking, token)]
    assert token is not None
    token.stop()
    del looking, token

    assert [reference() for reference in references] == [None, None]


def test_a_watch_is_freed_with_its_signal() -> None:
    """When a signal dies that a watcher watched alone, the watcher is freed too."""
    signal, looking = Signal(), Looking()
    watch(looking, signal)
    reference = weakref.ref(looking)
    del looking
    assert reference() is not None
    del signal

    assert reference() is None


def test_a_task_that_goes_on_keeps_no_record() -> None:
    """A context that was copied inside a receiver and lives on keeps no record, and sends in it do not make it grow."""
    signal, inner = Signal(), Signal()
    contexts: list[Any] = []
    receiver = Thing()
    signal.connect(receiver)
    signal.connect(lambda sender: contexts.append(copy_context()), weak=False)

    with watch(Looking()):
        inner.send()
        sender = Thing()
        signal.send(sender)
        references = [weakref.ref(each) for each in (sender, receiver)]
        del sender, receiver
        before = engine_objects()

        for _ in range(10):
            contexts[0].run(inner.send)

        assert engine_objects() == before

    assert [reference() for reference in references] == [None, None]


def test_concurrent_sends_keep_nothing() -> None:
    """Concurrent receivers that are cancelled leave no record."""
    signal = Namespace(async_policy=Concurrent()).signal("lamp")
    waiting, failing = AsyncThing(), AsyncFailing()
    signal.connect(waiting)
    signal.connect(failing)

    async def main() -> None:
        with suppress(Stumbled):
            await signal.send_async(Thing())

        task = asyncio.create_task(signal.send_async(Thing()))
        await asyncio.sleep(0)
        task.cancel()

        with suppress(asyncio.CancelledError):
            await task

    with watch(Looking(), signal):
        asyncio.run(main())
        gc.collect()
        before = engine_objects()
        asyncio.run(main())
        gc.collect()
        assert engine_objects() == before
