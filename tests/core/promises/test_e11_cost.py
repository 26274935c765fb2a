"""E11: the cost of sends and changes, in counted calls; no test reads a clock."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import ANY, Namespace, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = str(Path(aldis.__file__).parent.parent)


class App:
    """A sender that matches by identity."""

    def __repr__(self) -> str:
        return "App()"


def receiver(sender: Any, **payload: Any) -> None: ...


def make() -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Switch the collector off while calls are counted: callbacks that other libraries attach to it would be counted
    too."""
    was_enabled = gc.isenabled()
    gc.disable()
    yield

    if was_enabled:
        gc.enable()


def calls_of(act: Callable[[], object]) -> int:
    """Return how many functions, of Python and of C, ran during the act."""
    events: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        events.append(event)

    before = sys.getprofile()
    sys.setprofile(profile)

    try:
        act()
    finally:
        sys.setprofile(before)

    # Two of the calls are not part of it: the act itself, and setprofile.
    return events.count("call") + events.count("c_call") - 2


def instructions_of(act: Callable[[], object]) -> int:
    """Return how many bytecode instructions Python ran during the act."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)

    try:
        act()
    finally:
        sys.settrace(before)

    return count


def touches_of(act: Callable[[], object]) -> set[str]:
    """Return the names of the engine's functions that ran during the act."""
    codes: list[CodeType] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            codes.append(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(profile)

    try:
        act()
    finally:
        sys.setprofile(before)

    return {code.co_qualname for code in codes if Path(code.co_filename).is_relative_to(ROOT)}


def happened(sender: Any, /, *, a: int = 1) -> None: ...


def open_signal() -> Signal[Any, ..., Any]:
    return Signal()


def declared_signal() -> Signal[Any, ..., Any]:
    return Namespace().declare(happened)


each_signal = pytest.mark.parametrize("new", [open_signal, declared_signal])
each_sender = pytest.mark.parametrize("sender", [None, "x", 7, App(), App])


# send.


@each_signal
@each_sender
def test_a_send_without_receivers_is_a_check(new: Callable[[], Signal[Any, ..., Any]], sender: Any) -> None:
    """E11: without receivers, a send runs no function except send itself and at most two built-ins."""
    signal = new()
    signal.send(sender, a=1)

    assert touches_of(lambda: signal.send(sender, a=1)) == {"Signal.send"}
    assert calls_of(lambda: signal.send(sender, a=1)) <= 3


@each_signal
def test_a_send_is_a_check_again_when_all_receivers_are_gone(new: Callable[[], Signal[Any, ..., Any]]) -> None:
    """E11: the same is true when all receivers are gone, whichever senders they were connected to."""
    signal = new()
    receivers = [make() for _ in range(10)]

    for sender in (ANY, "x", App()):
        for number in range(len(receivers)):
            signal.connect(receivers[number], sender)

        signal.send("x", a=1)

    receivers.clear()
    signal.send("x", a=1)

    assert touches_of(lambda: signal.send("x", a=1)) == {"Signal.send"}


@each_signal
@pytest.mark.parametrize("others", [1, 1000])
def test_a_send_by_a_sender_without_receivers_ignores_other_senders(
    new: Callable[[], Signal[Any, ..., Any]], others: int
) -> None:
    """E11: if only other senders have receivers, the cost of a send does not depend on how many there are."""
    signal, apps = new(), [App() for _ in range(others)]
    app = App()

    for each in apps:
        signal.connect(receiver, each)

    signal.send(app, a=1)

    assert calls_of(lambda: signal.send(app, a=1)) <= 25


@each_signal
@pytest.mark.parametrize("sender", ["x", 7, App(), None])
@pytest.mark.parametrize("to", ["any", "sender"])
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_live_receiver_costs_its_call(
    new: Callable[[], Signal[Any, ..., Any]], sender: Any, to: str, count: int
) -> None:
    """E11: each further receiver costs a send its own call and one append to the results, and no other call."""
    signal = new()
    receivers = [make() for _ in range(count)]
    second = make()

    def send() -> Any:
        return signal.send(sender, a=1)

    signal.connect(receiver, ANY if to == "any" else sender)
    signal.connect(second, ANY if to == "any" else sender)
    send()
    base = calls_of(send)

    for each in receivers:
        signal.connect(each, ANY if to == "any" else sender)

    send()

    assert calls_of(send) - base <= 2 * count


@each_signal
@pytest.mark.parametrize("payload", [{"a": 1}, {}], ids=["payload", "none"])
def test_a_live_receiver_costs_a_few_attribute_reads(
    new: Callable[[], Signal[Any, ..., Any]], payload: dict[str, Any]
) -> None:
    """E11: the loop runs a few instructions for each call, as many for the hundredth receiver as for the second."""
    signal = new()
    receivers = [make() for _ in range(100)]
    second = make()

    def send() -> Any:
        return signal.send("x", **payload)

    def loop() -> Any:
        return [(each, each("x", **payload)) for each in receivers]

    signal.connect(receiver)
    signal.connect(second)
    send()
    base = instructions_of(send)

    for each in receivers:
        signal.connect(each)

    send()
    by_hand = instructions_of(loop) / 100

    assert (instructions_of(send) - base) / 100 <= by_hand + 20


@each_sender
def test_a_send_to_receivers_calls_no_function_of_the_engine(sender: Any) -> None:
    """E11: once the snapshot is made, a send to receivers for any sender runs in one function."""
    signal = Signal()
    signal.connect(receiver)
    signal.send(sender)

    assert touches_of(lambda: signal.send(sender)) == {"Signal.send"}
    assert touches_of(lambda: signal.send(sender, a=1)) == {"Signal.send"}


def test_features_that_have_ended_cost_nothing() -> None:
    """E11: after mutes, blocks, other policies and once receivers have ended, a send costs as much as before."""
    signal = Signal()
    signal.connect(receiver)
    signal.send("x")
    before = calls_of(lambda: signal.send("x"))

    with signal.muted(), signal.muted(receiver), signal.connected_to(make(), "x"):
        signal.send("x")

    signal.errors = "collect"
    signal.send("x")
    signal.errors = "propagate"
    signal.is_muted = True
    signal.is_muted = False
    signal.connect(make(), weak=False, once=True)
    signal.send("x")
    signal.send("x")

    assert calls_of(lambda: signal.send("x")) == before


# Changes.


def crowd(signal: Signal[Any, ..., Any], size: int, kind: str) -> list[Any]:
    """Connect other receivers: many receivers of one sender, many senders of one receiver, or many of both."""
    apps, receivers = [App() for _ in range(size)], [make() for _ in range(size)]

    for app, each in zip(apps, receivers, strict=True):
        match kind:
            case "senders":
                signal.connect(receiver, app)
            case "receivers":
                signal.connect(each)
            case "receivers of the sender":
                signal.connect(each, "x")
            case "pairs":
                signal.connect(each, app)
            case _:
                signal.connect(each, str(id(app)))

    return [apps, receivers]


CROWDS = ["senders", "receivers", "receivers of the sender", "pairs", "names"]


@pytest.mark.parametrize("kind", CROWDS)
@pytest.mark.parametrize("sender", [ANY, "x", App()])
@pytest.mark.parametrize("way", ["disconnect", "collect", "disconnect from all", "connect", "block"])
def test_a_change_does_not_depend_on_other_connections(kind: str, sender: Any, way: str) -> None:
    """E11: connecting, disconnecting and being collected take as many calls among 400 other connections as among 4."""

    def cost(size: int) -> int:
        signal = Signal()
        others = crowd(signal, size, kind)
        assert signal.send("x") is not None
        receivers = [make()]

        if way not in ("connect", "block"):
            signal.connect(receivers[0], sender)

        def act() -> None:
            match way:
                case "connect":
                    signal.connect(receivers[0], sender)
                case "block":
                    with signal.connected_to(receivers[0], sender):
                        pass
                case "disconnect":
                    signal.disconnect(receivers[0], sender)
                case "disconnect from all":
                    signal.disconnect(receivers[0])
                case _:
                    receivers.clear()

        calls = calls_of(act)
        assert len(others) == 2
        return calls

    assert cost(400) == cost(4)


def test_the_clean_up_of_a_sender_does_not_depend_on_others() -> None:
    """E11: the clean-up after a dead sender does not look at the other senders."""

    def cost(size: int) -> int:
        signal = Signal()
        others = crowd(signal, size, "pairs")
        apps = [App()]
        signal.connect(receiver, apps[0])
        signal.send(apps[0])
        calls = calls_of(apps.clear)
        assert not signal.has_receivers_for(others)
        return calls

    assert cost(400) == cost(4)


@pytest.mark.parametrize("kind", ["objects", "names", "numbers", "one receiver"])
def test_connecting_n_to_n_with_a_send_after_each_is_linear(kind: str) -> None:
    """E11: connecting n receivers to n senders, with a send after each, takes O(n) in all."""

    def senders(size: int) -> Iterator[Any]:
        for number in range(size):
            yield {"names": str(number), "numbers": number}.get(kind) or App()

    def cost(size: int) -> int:
        signal = Signal()
        pairs = [(receiver if kind == "one receiver" else make(), sender) for sender in senders(size)]

        def act() -> None:
            for each, sender in pairs:
                signal.connect(each, sender)
                signal.send(sender)

        return calls_of(act)

    small, large = cost(50), cost(200)

    assert large <= 4 * small * 1.05


def test_truth_stops_at_the_first_receiver() -> None:
    """E11: "if signal.receivers" and has_receivers_for do not walk through all receivers."""

    def cost(size: int, look: Callable[[Signal[Any, ..., Any]], object]) -> int:
        signal = Signal()
        others = crowd(signal, size, "receivers")
        look(signal)
        calls = calls_of(lambda: look(signal))
        assert others
        return calls

    for look in (lambda signal: bool(signal.receivers), lambda signal: signal.has_receivers_for("x")):
        assert cost(400, look) == cost(4, look)


# Import.


def test_importing_aldis_does_not_import_asyncio() -> None:
    """E11: a program without async sends does not import asyncio: neither the import of aldis nor send, connect or
    muted imports it."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from aldis import Namespace, signal\n"
        "def receiver(sender, **payload): pass\n"
        "async def other(sender, **payload): pass\n"
        "lamp = signal('lamp'); lamp.connect(receiver); lamp.connect(other, 'x'); lamp.send('y', a=1)\n"
        "with lamp.muted(), lamp.connected_to(receiver): lamp.send()\n"
        "assert lamp.has_receivers_for('x') and lamp.receivers\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('asyncio', 'concurrent', 'dataclasses')])\n"
    )

    # -S leaves out what other packages add to the start of Python.
    done = subprocess.run([sys.executable, "-S", "-c", program, ROOT], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
