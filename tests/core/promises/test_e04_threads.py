"""E4 and E2, E8, E12 with many threads at once: nothing raises, nothing is lost, and nothing is left behind.

The interpreter switches threads as often as it can. What each thread does to its own receivers has an exact outcome,
whatever the other threads do. Each thread asserts its outcome at once, and the test asserts the tables as a whole at
the end.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
from functools import partial
from typing import Any

import pytest

from aldis import ANY, ContractError, NamedSignal, Namespace, Signal

from ...leaks import left
from ...threads import THREADS, meanwhile, together

pytestmark = pytest.mark.usefixtures("hasty", "uncaught", "watchdog")


class Receiver:
    """A receiver with a name, which counts its calls."""

    def __init__(self, name: Any = None) -> None:
        self.name = name
        self.calls: list[None] = []

    def __call__(self, sender: Any, **payload: Any) -> Any:
        self.calls.append(None)  # list.append is atomic; ``+= 1`` is not.
        return self.name

    def method(self, sender: Any, **payload: Any) -> Any:
        return self(sender, **payload)


class Sender:
    """An object that sends."""


def names(results: list[tuple[Any, Any]]) -> list[Any]:
    return [name for _, name in results]


@pytest.mark.stress
@pytest.mark.parametrize("options", [{}, {"weak": False}, {"priority": 1}], ids=["weak", "strong", "first"])
@pytest.mark.parametrize("kind", ["any sender", "value", "object"])
def test_each_thread_sees_its_own_changes(kind: str, options: dict[str, Any], effort: int) -> None:
    """E4: After connect returns, every send calls the receiver; after disconnect returns, no send calls it."""
    signal = Signal()
    steady = [Receiver("steady 1"), Receiver("steady 2")]
    sender: Any = {"any sender": None, "value": "desk", "object": Sender()}[kind]
    filter: dict[str, Any] = {} if kind == "any sender" else {"sender": sender}
    signal.connect(steady[0], priority=2)
    signal.connect(steady[1], priority=-2)

    def work(number: int) -> None:
        own = Receiver(number)
        method = Receiver((number, "method"))

        for _ in range(400 * effort):
            signal.connect(own, **filter, **options)
            signal.connect(method.method, **filter, **options)
            called = names(signal.send(sender))
            assert called[0] == "steady 1"
            assert called[-1] == "steady 2"
            assert called.count(number) == called.count((number, "method")) == 1
            assert len(called) == len(set(called))

            signal.disconnect(own, **filter)
            signal.disconnect(method.method)
            called = names(signal.send(sender))
            assert number not in called
            assert (number, "method") not in called
            assert called[0] == "steady 1"
            assert called[-1] == "steady 2"

    together(*(partial(work, number) for number in range(THREADS)))

    assert names(signal.send(sender)) == ["steady 1", "steady 2"]
    assert left(signal) == {"any sender": 2}


@pytest.mark.stress
def test_nothing_is_lost(effort: int) -> None:
    """E1, E4: After any mix of changes, exactly the receivers that the threads left connected are connected, in each
    thread's order."""
    signal = Signal()
    senders: list[Any] = [None, "desk", 7, Sender(), Sender()]
    receivers = [[Receiver((number, place)) for place in range(30)] for number in range(THREADS)]

    def work(number: int) -> list[tuple[Any, Any]]:
        dice = random.Random(number)
        connected: dict[tuple[int, int], None] = {}

        for _ in range(800 * effort):
            place, whom = dice.randrange(30), dice.randrange(len(senders))
            receiver, sender = receivers[number][place], senders[whom]

            if (place, whom) in connected:
                signal.disconnect(receiver, sender)
                del connected[place, whom]
            else:
                signal.connect(receiver, sender)
                connected[place, whom] = None

            signal.send(sender)

        return [((number, place), whom) for place, whom in connected]

    kept = together(*(partial(work, number) for number in range(THREADS)))

    for whom, sender in enumerate(senders):
        called = names(signal.send(sender))

        for number in range(THREADS):
            own = [name for name in called if name[0] == number]
            assert own == [name for name, filter in kept[number] if filter == whom]

    assert len(signal.receivers) == len({name for own in kept for name, _ in own})

    for own in receivers:
        for receiver in own:
            signal.disconnect(receiver)

    assert left(signal) == {}


@pytest.mark.stress
def test_the_same_receiver_from_all_threads(effort: int) -> None:
    """E4: Threads that connect and disconnect the same receiver always see it fully connected or fully disconnected."""
    signal = Signal()
    receiver, sender = Receiver("same"), Sender()

    def work(number: int) -> None:
        for _ in range(800 * effort):
            signal.connect(receiver, sender if number % 2 else ANY, weak=number % 3 > 0)
            assert names(signal.send(sender)) in ([], ["same"])
            signal.disconnect(receiver)

    together(*(partial(work, number) for number in range(THREADS)))

    assert left(signal) == {}
    assert not signal.receivers


@pytest.mark.stress
def test_receivers_and_senders_are_collected(effort: int) -> None:
    """E4, E5, E6: Receivers and senders may die in any thread, by reference counts or in a collection."""
    signal = Signal()
    steady = Receiver("steady")
    signal.connect(steady)

    def work(number: int) -> None:
        for turn in range(400 * effort):
            receiver, sender = Receiver((number, turn)), Sender()
            signal.connect(receiver, sender)
            signal.connect(receiver.method)
            signal.connect(Receiver("strong"), sender, weak=False)
            assert names(signal.send(sender)).count((number, turn)) == 2

            if turn % 3 == number % 3:
                receiver.calls.append(receiver)  # type: ignore[arg-type]  # A cycle, for the collector.
                sender.itself = sender  # type: ignore[attr-defined]

            if turn % 10 == 0:
                gc.collect(0)

    def send() -> None:
        called = names(signal.send(None))
        assert called[0] == "steady"

    with meanwhile(send, lambda: len(signal.receivers), lambda: list(signal.receivers_for("nobody"))):
        together(*(partial(work, number) for number in range(THREADS)))

    gc.collect()

    assert names(signal.send(None)) == ["steady"]
    assert left(signal) == {"any sender": 1}


@pytest.mark.stress
def test_new_senders_are_never_mistaken_for_dead_ones(effort: int) -> None:
    """E6: A new sender with the ``id`` of a dead one reaches no receiver, whichever threads the two lived in."""
    signal = Signal()

    def work(number: int) -> None:
        for _ in range(400 * effort):
            assert not signal.has_receivers_for(Sender())
            assert signal.send(Sender()) == []
            sender = Sender()
            signal.connect(Receiver(number), sender, weak=False)
            assert names(signal.send(sender)) == [number]

    together(*(partial(work, number) for number in range(THREADS)))

    assert left(signal) == {}


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["any sender", "object"])
def test_once_is_once_over_all_threads(kind: str, effort: int) -> None:
    """E4: However many threads send at the same moment, a ``once`` receiver is called exactly once."""
    signal, sender = Signal(), Sender()
    signal.connect(steady := Receiver("steady"))

    for _ in range(40 * effort):
        receivers = [Receiver(number) for number in range(5)]

        for receiver in receivers:
            signal.connect(receiver, ANY if kind == "any sender" else sender, once=True)

        called = together(*[lambda: names(signal.send(sender))] * THREADS)

        assert [len(receiver.calls) for receiver in receivers] == [1] * 5
        assert sorted(name for own in called for name in own if name != "steady") == list(range(5))
        assert all(own.count("steady") == 1 for own in called)

    assert len(steady.calls) == 40 * effort * THREADS
    assert left(signal) == {"any sender": 1}


@pytest.mark.stress
def test_a_lasting_connect_while_other_threads_send_is_not_lost(effort: int) -> None:
    """E4: Connecting without ``once`` while another thread's send uses up a ``once`` connection leaves the receiver
    connected."""
    signal, receiver = Signal(), Receiver()

    for _ in range(200 * effort):
        signal.connect(receiver, once=True)
        together(*[lambda: signal.send(None)] * 2, lambda: signal.connect(receiver))
        assert signal.receivers
        signal.disconnect(receiver)

    assert left(signal) == {}


@pytest.mark.stress
def test_a_mute_is_for_its_own_thread(effort: int) -> None:
    """E4, E8: A muted block mutes the sends of its own thread only, however many blocks begin and end in other
    threads."""
    signal = Signal()
    steady, other = Receiver("steady"), Receiver("other")
    signal.connect(steady)
    signal.connect(other)

    def mute() -> None:
        for _ in range(400 * effort):
            with signal.muted():
                assert signal.is_muted
                assert signal.send(None) == []
                assert names(contextvars.Context().run(signal.send, None)) == ["steady", "other"]

                with signal.muted(other):
                    assert signal.send(None) == []

            with signal.muted(other):
                assert not signal.is_muted
                assert names(signal.send(None)) == ["steady"]

            assert names(signal.send(None)) == ["steady", "other"]

    def send() -> None:
        for _ in range(800 * effort):
            assert not signal.is_muted
            assert names(signal.send(None)) == ["steady", "other"]

    together(mute, mute, mute, send, send)

    assert signal._registry.mutes == 0


@pytest.mark.stress
def test_connected_to_from_all_threads(effort: int) -> None:
    """E4, E7: Inside its connected_to block each thread reaches the receiver, whichever blocks of other threads begin
    and end."""
    signal = Signal()
    shared, other, sender = Receiver("shared"), Receiver("other"), Sender()

    def work(number: int) -> None:
        own = Receiver(number)

        for turn in range(400 * effort):
            with signal.connected_to(shared, sender), signal.connected_to(own.method):
                called = names(signal.send(sender))
                assert called.count("shared") == 1
                assert called.count(number) == 1

                if turn % 2:
                    with signal.connected_to(other.method, sender):
                        assert names(signal.send(sender)).count("other") == 1

            assert number not in names(signal.send(sender))

    together(*(partial(work, number) for number in range(THREADS)))

    assert left(signal) == {}


@pytest.mark.stress
def test_settings_change_during_sends(effort: int) -> None:
    """E3, E4: While policies and mutes change, each send follows one setting as a whole, and calls receivers in
    order."""
    signal = Signal()
    failing = [Receiver("before"), Receiver("after")]
    noted: list[Any] = []

    def fail(sender: Any) -> None:
        raise KeyError("on purpose")

    signal.connect(failing[0])
    signal.connect(fail)
    signal.connect(failing[1])

    def switch() -> None:
        for _ in range(300 * effort):
            for policy in ("propagate", "collect", noted.append):
                signal.errors = policy

            signal.is_muted = True
            signal.is_muted = False

    def send() -> set[str]:
        seen = set()

        for _ in range(800 * effort):
            try:
                called = names(signal.send(None))
            except KeyError:
                seen.add("raised")
            else:
                assert called in ([], ["before", "after"])
                seen.add("returned")

        return seen

    together(switch, send, send, send)

    signal.errors = "collect"
    with pytest.raises(KeyError, match="on purpose"):
        signal.send(None)

    assert len(failing[0].calls) >= len(failing[1].calls) > 0


@pytest.mark.stress
def test_all_threads_get_the_same_signal(effort: int) -> None:
    """E4: A namespace makes one signal for a name, and a receiver that any thread connects to it is connected."""
    for _ in range(100 * effort):
        signals = Namespace()

        def work(number: int, signals: Namespace = signals) -> tuple[list[NamedSignal[Any, ..., Any]], Receiver]:
            receiver = Receiver(number)
            made = [signals.signal(f"name {place}") for place in range(10)]
            made[0].connect(receiver)
            return made, receiver

        results = together(*(partial(work, number) for number in range(THREADS)))

        assert all(made == results[0][0] for made, _ in results)
        assert sorted(names(signals["name 0"].send(None))) == list(range(THREADS))


@pytest.mark.stress
def test_all_threads_see_the_same_changes(effort: int) -> None:
    """E4: ``receiver_connected`` is one signal, and reports every connect of every thread."""
    for _ in range(30 * effort):
        signal = Signal()
        heard: list[Any] = []

        def hear(_: Any, *, receiver: Any, heard: list[Any] = heard, **change: Any) -> None:
            heard.append(receiver.name)

        def watch(signal: Any = signal, hear: Any = hear) -> None:
            signal.receiver_connected.connect(hear)
            signal.receiver_disconnected.connect(hear)

        together(*[watch] * THREADS)
        receivers = [Receiver(number) for number in range(THREADS)]
        together(*(partial(signal.connect, receiver) for receiver in receivers))
        together(*(partial(signal.disconnect, receiver) for receiver in receivers))

        assert sorted(heard) == sorted([*range(THREADS)] * 2)


@pytest.mark.stress
def test_one_declaration_wins(effort: int) -> None:
    """E4, E12: Of several functions that declare one name at the same moment, one succeeds; the others are refused."""

    def make(number: int) -> Any:
        def lit(sender: Any, /, *, lamp: int) -> None: ...

        lit.__qualname__ = f"lit_{number}"
        return lit

    for _ in range(300 * effort):
        signals = Namespace()

        def declare(number: int, signals: Namespace = signals) -> Any:
            function = make(number)

            try:
                assert signals.declare(function) is signals["lit"]
            except ContractError:
                return None
            else:
                return function

        declared = [function for function in together(*(partial(declare, n) for n in range(THREADS))) if function]

        assert declared == [signals["lit"].contract]


def test_no_receiver_escapes_a_declaration() -> None:
    """E4, E12: A receiver whose connect is running while the signal is declared is checked against the declaration
    too."""
    signals = Namespace()
    signal = signals.signal("lit")
    outcome: list[str] = []

    def lit(sender: Any, /, *, lamp: int) -> None: ...

    class SlowDelivery:
        """A delivery that lets another thread declare the signal in the middle of connect."""

        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None:
            together(lambda: signals.declare(lit))

        def deliver(self, call: Any, /) -> None: ...

    def unfit(sender: Any) -> None: ...

    try:
        signal.connect(unfit, via=SlowDelivery())
    except TypeError:
        outcome.append("refused")

    assert outcome == ["refused"]
    assert not signal.receivers


@pytest.mark.stress
def test_declared_while_other_threads_send(effort: int) -> None:
    """E4, E12: Sends before the declaration are not checked, sends after it are checked, and no send is lost."""
    for _ in range(100 * effort):
        signals = Namespace()
        signal = signals.signal("lit")
        receiver = Receiver("lamp")
        signal.connect(receiver)

        def lit(sender: Any, /, *, lamp: int = 1) -> None: ...

        def send(signal: Any = signal) -> int:
            return sum(names(signal.send(None)) == ["lamp"] for _ in range(20))

        *sent, _ = together(send, send, send, partial(signals.declare, lit))

        assert sent == [20, 20, 20]

        with pytest.raises(TypeError, match="wick"):
            signal.send(None, wick=1)


@pytest.mark.stress
def test_tasks_and_threads_mixed(effort: int) -> None:
    """E4, E8, E9: Tasks in several event loops and plain threads share one signal, and each one sees its own
    changes."""
    signal = Signal()
    sender = Sender()
    signal.connect(steady := Receiver("steady"), priority=1)

    def wrap(receiver: Any) -> Any:
        async def call(*args: Any, **payload: Any) -> Any:
            await asyncio.sleep(0)
            return receiver(*args, **payload)

        return call

    signal.sync_wrapper = wrap

    async def in_task(number: tuple[int, int]) -> None:
        async def own(_: Any) -> Any:
            await asyncio.sleep(0)
            return number

        for turn in range(20 * effort):
            signal.connect(own, sender)
            called = names(await signal.send_async(sender))
            assert called[0] == "steady"
            assert called.count(number) == 1
            signal.disconnect(own)
            assert number not in names(await signal.send_async(sender))

            if turn % 2:
                with signal.muted():
                    await asyncio.sleep(0)
                    assert await signal.send_async(sender) == []

    async def all_tasks(loop_number: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(in_task((loop_number, number)))

    def in_thread(number: int) -> None:
        own = Receiver(number)

        for _ in range(400 * effort):
            signal.connect(own)
            assert names(signal.send("nobody")).count(number) == 1
            signal.disconnect(own)
            assert number not in names(signal.send("nobody"))

    together(
        lambda: asyncio.run(all_tasks(0)),
        lambda: asyncio.run(all_tasks(1)),
        partial(in_thread, 2),
        partial(in_thread, 3),
    )

    assert len(steady.calls) > 0
    assert left(signal) == {"any sender": 1}
    assert signal._registry.mutes == 0


@pytest.mark.stress
def test_signals_come_and_go(effort: int) -> None:
    """E4, E5: Signals that die in one thread while their receivers die in another leave nothing behind, and raise
    nothing."""

    def work(shared: list[Any]) -> None:
        for turn in range(300 * effort):
            signal: Any = Signal()
            receivers = [Receiver(place) for place in range(3)]

            for receiver in receivers:
                signal.connect(receiver)
                signal.connect(receiver.method, receiver)

            shared[turn % len(shared)] = (signal, receivers[turn % 3])
            signal, receivers = None, []

    shared: list[Any] = [None] * 7
    together(*[partial(work, shared)] * THREADS)
    survivor, receiver = shared[0]
    gc.collect()

    assert names(survivor.send(receiver)) == [receiver.name, receiver.name]
