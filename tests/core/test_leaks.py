"""E5: a finished operation leaves nothing behind, and nothing waits for the cyclic collector.

Every scenario is a round that ends in the state in which it began. Rounds run with the collector off, so that a
reference cycle shows as garbage that only a collection finds, and a forgotten entry as memory that grows.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from aldis import Failure, Namespace, PayloadError, Signal
from aldis.aio import Concurrent

from ..leaks import AsyncFailing, AsyncThing, Failing, Stumbled, Thing, engine_objects, finish, growth_of, left

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("no_gc")


class Slotted:
    """An object that cannot be referenced weakly."""

    __slots__ = ()

    def __call__(self, sender: Any, **payload: Any) -> Any:
        return None


class Inline:
    """A delivery that calls receivers at once."""

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> Any:
        return call()


def wrap(receiver: Any) -> Any:
    """Run a sync receiver in the same thread, as a ``sync_wrapper``."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


# The rounds. Each receives a signal that lives on, and leaves it without connections.


def connect_and_disconnect(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)
    signal.send(None)
    signal.disconnect(thing)


def connect_to_sender_and_disconnect(signal: Any) -> None:
    thing, sender = Thing(), Thing()
    signal.connect(thing, sender)
    signal.connect(thing.method, sender, weak=False, priority=1)
    signal.send(sender)
    signal.disconnect(thing, sender)
    signal.disconnect(thing.method)


def connect_to_value_and_disconnect(signal: Any) -> None:
    thing = Thing()

    for sender in (f"sender {id(thing)}", id(thing), str(id(thing)).encode(), 1.5, thing.method):
        signal.connect(thing, sender)
        signal.send(sender)
        signal.disconnect(thing, sender)


def connect_to_all_and_disconnect_once(signal: Any) -> None:
    thing, sender = Thing(), Thing()

    for each in (sender, "desk", 7, Slotted()):
        signal.connect(thing, each)

    signal.connect(thing)
    signal.send(sender)
    signal.disconnect(thing)


def connect_and_collect(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)
    signal.connect(thing.method, "desk")
    signal.connect(lambda sender: None)
    signal.send("desk")


def sender_dies(signal: Any) -> None:
    thing, sender = Thing(), Thing()
    signal.connect(thing, sender)
    signal.connect(lambda sender: None, sender, weak=False)
    signal.send(sender)


def method_sender_dies(signal: Any) -> None:
    thing, sender = Thing(), Thing()
    bound = sender.method
    signal.connect(thing, bound, weak=False)
    signal.send(bound)


def slotted_both(signal: Any) -> None:
    receiver, sender = Slotted(), Slotted()
    signal.connect(receiver, sender, weak=False)
    signal.send(sender)
    signal.disconnect(receiver)


def connect_again(signal: Any) -> None:
    thing = Thing()

    for weak in (True, False, True):
        signal.connect(thing, weak=weak)
        signal.connect(thing.method, "desk", weak=weak, priority=weak)

    signal.send("desk")
    signal.disconnect(thing)
    signal.disconnect(thing.method)


def clear(signal: Any) -> None:
    signal.connect(lambda sender: None, weak=False)
    signal.connect(Slotted(), Slotted(), weak=False)
    signal.receivers.clear()


def once(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing, once=True)
    signal.connect(lambda sender: None, "desk", weak=False, once=True)
    signal.send("desk")
    signal.send("desk")


def connected_to(signal: Any) -> None:
    thing, sender = Thing(), Thing()

    with signal.connected_to(thing), signal.connected_to(thing.method, sender), signal.connected_to(thing, "desk"):
        signal.send(sender)

    with suppress(Stumbled), signal.connected_to(thing):
        raise Stumbled


def muted(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing)

    with signal.muted(), signal.muted(thing, thing.method):
        signal.send(None)

    with signal.muted(thing):
        signal.send(None)


def fail(signal: Any) -> None:
    thing, failing, other = Thing(), Failing(), Failing()
    signal.connect(failing)
    signal.connect(thing)

    with suppress(Stumbled):
        signal.send(thing)

    signal.errors = "collect"

    with suppress(Stumbled):
        signal.send(thing)

    signal.connect(other.method)
    signal.connect(other)

    with suppress(ExceptionGroup):
        signal.send(thing)

    signal.errors = "propagate"


def fail_into_a_policy(signal: Any) -> None:
    failing, other = Failing(), Failing()
    noted: list[Failure] = []
    signal.connect(failing)
    signal.connect(other)

    signal.errors = noted.append
    signal.send(None)
    noted.clear()

    def refuse(failure: Failure) -> None:
        raise Stumbled from failure.exception

    signal.errors = refuse

    with suppress(ExceptionGroup):
        signal.send(None)

    signal.errors = "propagate"


def send_async(signal: Any) -> None:
    thing, sync = AsyncThing(), Thing()
    signal.connect(thing)
    finish(signal.send_async(None))
    signal.sync_wrapper = wrap
    signal.connect(sync, once=True)
    signal.connect(sync.method)
    finish(signal.send_async(None))
    signal.sync_wrapper = None


def fail_async(signal: Any) -> None:
    failing, other = AsyncFailing(), AsyncFailing()
    signal.connect(failing)
    signal.connect(other)

    for errors in ("propagate", "collect"):
        signal.errors = errors

        with suppress(Stumbled, ExceptionGroup):
            finish(signal.send_async(None))

    signal.errors = "propagate"


def send_again(signal: Any) -> None:
    thing = Thing()

    def nest(sender: Any, depth: int) -> None:
        if depth:
            signal.send(sender, depth=depth - 1)

    signal.connect(nest, thing)
    signal.send(thing, depth=3)


def change_during_a_send(signal: Any) -> None:
    thing, other, late = Thing(), Thing(), Thing()

    def change(sender: Any) -> None:
        signal.disconnect(thing)
        signal.disconnect(other)
        signal.connect(late)

    signal.connect(thing)
    signal.connect(change)
    signal.connect(other)
    signal.send(None)


def deliver(signal: Any) -> None:
    thing = Thing()
    signal.connect(thing, via=Inline())
    signal.send(None)


def look(signal: Any) -> None:
    thing, sender = Thing(), Thing()
    signal.connect(thing, sender)
    assert signal.receivers
    list(signal.receivers.items())
    list(signal.receivers_for(sender))
    next(signal.receivers_for(sender))
    signal.has_receivers_for(sender)
    repr(signal.receivers)
    signal.send(Thing())


def refuse(signal: Any) -> None:
    with suppress(TypeError):
        signal.connect(Slotted(), Thing())

    with suppress(ValueError):
        signal.connect(Thing(), priority="high")

    signal.connect(receiver := AsyncThing())

    with suppress(RuntimeError):
        signal.send(Thing())

    signal.disconnect(receiver)


def watched(signal: Any) -> None:
    thing, hear = Thing(), Thing()
    signal.receiver_connected.connect(lambda *_, **change: None, weak=False, once=True)
    signal.connect(thing)
    signal.receiver_connected.connect(refuse := lambda *_, **change: 1 / 0)

    with suppress(ZeroDivisionError):
        signal.connect(hear)

    del refuse


def signal_dies(signal: Any) -> None:
    thing, sender = Thing(), Thing()
    mortal: Any = Signal()
    mortal.connect(thing)
    mortal.connect(thing.method, sender)
    mortal.connect(lambda _: None, sender, weak=False)
    mortal.connect(Slotted(), Slotted(), weak=False)
    mortal.send(sender)
    mortal.send(None)


def namespace_dies(signal: Any) -> None:
    signals = Namespace(errors="collect")
    thing = Thing()

    @signals.declare
    def lit(sender: Any, /, *, n: int = 0) -> Any: ...

    lit.connect(thing, "desk")
    lit.connect(thing)
    lit.send("desk")

    with suppress(PayloadError):
        lit.send("desk", lamp=thing)


ROUNDS: list[Callable[[Any], None]] = [
    connect_and_disconnect,
    connect_to_sender_and_disconnect,
    connect_to_value_and_disconnect,
    connect_to_all_and_disconnect_once,
    connect_and_collect,
    sender_dies,
    method_sender_dies,
    slotted_both,
    connect_again,
    clear,
    once,
    connected_to,
    muted,
    fail,
    fail_into_a_policy,
    send_async,
    fail_async,
    send_again,
    change_during_a_send,
    deliver,
    look,
    refuse,
    watched,
    signal_dies,
    namespace_dies,
]


@pytest.fixture(params=ROUNDS, ids=lambda play: play.__name__)
def play(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    found: Callable[[Any], None] = request.param
    return found


def test_round_leaves_no_cycles(play: Callable[[Any], None]) -> None:
    """E5: After any round the cyclic collector finds nothing: reference counts freed all objects."""
    if play is namespace_dies:
        pytest.skip("inspect makes its own reference cycles")

    signal = Signal()
    play(signal)  # The first round fills imports and caches.
    gc.collect()

    for _ in range(5):
        play(signal)

    assert gc.collect() == 0


def test_round_leaves_no_entries(play: Callable[[Any], None]) -> None:
    """E5, E10: After any round the engine's tables and the mapping of receivers are empty."""
    signal = Signal()
    play(signal)

    assert left(signal) == {}
    assert not signal.receivers
    assert len(signal.receivers) == 0


def test_round_leaves_no_engine_objects(play: Callable[[Any], None]) -> None:
    """E5: After any round the engine has as many objects as before it."""
    signal = Signal()

    def play_on() -> None:
        for _ in range(5):
            play(signal)

        if play is namespace_dies:
            gc.collect()  # See above.

    play_on()
    before = engine_objects()
    play_on()
    assert engine_objects() == before


@pytest.mark.stress
def test_rounds_take_no_memory(play: Callable[[Any], None]) -> None:
    """E5: Many rounds need no more memory than a few."""
    signal = Signal()

    # A forgotten entry would take some fifty bytes a round. The limit allows for the noise of tables and free lists.
    assert growth_of(lambda: play(signal)) < 1000


# The moment at which objects die.


def test_disconnected_receivers_die_at_once() -> None:
    """E5: A strong receiver, and a sender that cannot be referenced weakly, die with their connection."""
    signal = Signal()
    thing, method_owner, sender = Thing(), Thing(), (Thing(),)
    receiver, owner, inside = weakref.ref(thing), weakref.ref(method_owner), weakref.ref(sender[0])
    signal.connect(thing, sender, weak=False)
    signal.connect(method_owner.method, weak=False)
    signal.send(sender)

    signal.disconnect(method_owner.method)
    del method_owner
    assert owner() is None

    del sender
    assert inside() is not None
    signal.disconnect(thing)
    assert inside() is None

    del thing
    assert receiver() is None


def test_strong_receivers_die_with_their_sender() -> None:
    """E5, E6: When a sender dies, receivers that only its connections held die at once."""
    signal = Signal()
    thing, sender = Thing(), Thing()
    receiver = weakref.ref(thing)
    signal.connect(thing.method, sender, weak=False)
    signal.send(sender)
    del thing
    assert receiver() is not None

    del sender
    assert receiver() is None


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_dropped_signal_is_freed_at_once(is_sent: bool) -> None:
    """E5: A signal that is dropped with connections is freed by reference counts, with everything that only it held."""
    signal: Any = Signal()
    thing, sender = Thing(), Thing()
    kept = [Thing(), Thing(), Thing()]
    signal.connect(thing)
    signal.connect(thing.method, sender)
    signal.connect(kept[0], weak=False)
    signal.connect(kept[1].method, sender, weak=False)
    signal.connect(thing, (kept[2],))

    if is_sent:
        signal.send(sender)
        signal.send(None)
        assert len(signal.receivers) == 4

    died = [weakref.ref(each) for each in (signal, signal._registry, *kept)]
    kept.clear()
    assert all(each() is not None for each in died)

    del signal
    assert [each() for each in died] == [None] * 5
    assert gc.collect() == 0


def test_a_context_keeps_no_signal_alive() -> None:
    """E5, E8: A context that was copied inside a muted block keeps neither the signal nor its receivers alive
    afterwards."""
    signal: Any = Signal()
    thing, kept = Thing(), Thing()
    signal.connect(kept, weak=False)

    with signal.muted(thing), signal.muted():
        context = copy_context()

    died = [weakref.ref(signal._registry), weakref.ref(thing), weakref.ref(kept)]
    del signal, thing, kept
    assert [each() for each in died] == [None] * 3
    assert context is not None


def test_receivers_die_with_the_results() -> None:
    """E5: A receiver that loses its last reference during a send dies with the results of that send."""
    signal = Signal()
    things = [Thing()]
    receiver = weakref.ref(things[0])
    signal.connect(things[0])
    signal.connect(lambda sender: things.clear(), weak=False)

    results = signal.send(None)
    assert receiver() is not None
    del results
    assert receiver() is None
    assert len(signal.receivers) == 1


# Exceptions: an exception holds its traceback, the traceback holds frames, and the frames hold the receivers'
# variables.


class Witness(Failing):
    """A receiver that fails, and shows whether the object that it held when it failed is alive."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[Any]] = []

    def __call__(self, sender: Any, **payload: Any) -> Any:
        here = Thing()
        self.seen.append(weakref.ref(here))
        raise Stumbled

    def are_gone(self) -> bool:
        return bool(self.seen) and all(each() is None for each in self.seen)


class AsyncWitness(Witness):
    async def __call__(self, sender: Any, **payload: Any) -> Any:
        return super().__call__(sender, **payload)


@pytest.fixture(params=["propagate", "collect", "noted", "refused"])
def errors(request: pytest.FixtureRequest) -> Any:
    noted: list[str] = []

    def note(failure: Failure) -> None:
        noted.append(repr(failure))

    def refuse(failure: Failure) -> None:
        raise Stumbled(repr(failure)) from failure.exception

    policies: dict[str, Any] = {"noted": note, "refused": refuse}
    return policies.get(request.param, request.param)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("options", [{}, {"sender": "desk"}, {"via": Inline()}], ids=["plain", "sender", "via"])
def test_exceptions_leave_no_frames(errors: Any, count: int, options: dict[str, Any]) -> None:
    """E3, E5: When the caller drops the exception of a send, everything that its receivers' frames held is freed."""
    signal = Signal(errors=errors)
    witnesses = [Witness() for _ in range(count)]

    for witness in witnesses:
        signal.connect(witness, **options)

    payload = Thing()
    died = weakref.ref(payload)

    with suppress(Stumbled, ExceptionGroup):
        signal.send("desk", payload=payload)

    del payload
    assert died() is None
    assert witnesses[0].are_gone()
    assert all(witness.are_gone() for witness in witnesses[1:] if errors != "propagate")
    assert gc.collect() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_async_exceptions_leave_no_frames(errors: Any, count: int) -> None:
    """E3, E5, E9: The same is true for receivers that are awaited."""
    signal = Signal(errors=errors)
    witnesses = [AsyncWitness() for _ in range(count)]

    for witness in witnesses:
        signal.connect(witness)

    payload = Thing()
    died = weakref.ref(payload)

    with suppress(Stumbled, ExceptionGroup):
        finish(signal.send_async("desk", payload=payload))

    del payload
    assert died() is None
    assert witnesses[0].are_gone()
    assert gc.collect() == 0


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_concurrent_receivers_leave_no_frames(errors: Any, is_cancelled: bool) -> None:
    """E5, E9: The same is true for receivers that run concurrently, before the event loop ends."""
    signal = Signal(errors=errors, async_policy=Concurrent(cancel_on_failure=is_cancelled))
    witnesses = [AsyncWitness(), AsyncWitness()]
    receivers: list[Any] = [*witnesses]

    async def wait(sender: Any, payload: Any) -> None:
        await asyncio.sleep(0)

    for receiver in (wait, *receivers):
        signal.connect(receiver)

    async def main() -> None:
        payload = Thing()
        died = weakref.ref(payload)

        with suppress(Stumbled, ExceptionGroup):
            await signal.send_async("desk", payload=payload)

        del payload
        await asyncio.sleep(0)  # The loop drops the calls that it had scheduled.
        assert died() is None
        assert witnesses[0].are_gone()
        assert is_cancelled is not witnesses[1].are_gone()  # It was cancelled before it began.

    asyncio.run(main())


def test_an_exception_of_a_group_keeps_no_cycle() -> None:
    """E3, E5: A caller that keeps one exception of a collected send keeps no reference cycle: dropping the exception
    frees all."""
    signal = Signal(errors="collect")
    witness = Witness()
    signal.connect(witness)
    kept: list[Exception] = []

    try:
        signal.send(None)
    except Stumbled as error:
        kept.append(error)

    assert witness.seen[0]() is not None
    kept.clear()
    assert witness.are_gone()
