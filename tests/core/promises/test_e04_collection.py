"""E4 and E5 at the worst moment: Python runs other code in the middle of the engine's work.

A collection, a destructor, a signal handler or a fork may come between any two lines of the engine, even while the
engine holds its own lock. Most tests here try each line in turn: a trace function counts the engine's lines, and at the
chosen line it starts an operation that uses the same signal.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal as unix_signal
import subprocess
import sys
import textwrap
import threading
import types
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import Signal
from aldis._core.mutations import changes

from ...leaks import left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("watchdog", "uncaught")

ENGINE = os.path.dirname(aldis.__file__)  # noqa: PTH120  # Compared with the names of code objects, which are strings.


class Receiver:
    """A receiver that is also a sender."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.itself: Any = None
        self.calls = 0

    def __call__(self, sender: Any, **payload: Any) -> str:
        self.calls += 1
        return self.name

    def method(self, sender: Any, **payload: Any) -> str:
        return f"{self.name}.method"


class LastWill:
    """An object that calls a function when it dies."""

    def __init__(self, will: Callable[[], object]) -> None:
        self.will = will
        self.itself = self  # A cycle: only a collection can free it.

    def __del__(self) -> None:
        self.will()


class Slotted:
    """A sender and receiver that cannot be referenced weakly, and calls a function when it dies."""

    __slots__ = ("will",)

    def __init__(self, will: Callable[[], object]) -> None:
        self.will = will

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def __del__(self) -> None:
        self.will()


def collected(act: Callable[[], object]) -> None:
    """Run the act in a destructor that the cyclic collector calls."""
    LastWill(act)
    gc.collect(0)


def names(results: list[tuple[Any, Any]]) -> list[Any]:
    return [name for _, name in results]


@contextlib.contextmanager
def tracing(trace: Any) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)

    try:
        yield
    finally:
        sys.settrace(before)


def interrupted(operate: Callable[[], object], line: int, interrupt: Callable[[], object]) -> bool:
    """Run the operation, and interrupt it at the n-th line that the engine executes. Return whether that line was
    reached.

    Python switches tracing off inside a trace function, so the interruption itself is not interrupted.
    """
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count

        if not frame.f_code.co_filename.startswith(ENGINE):
            return None

        if event == "line":
            count += 1

            if count == line:
                interrupt()

        return trace

    with tracing(trace):
        operate()

    return count >= line


class Scene:
    """One signal with receivers of all kinds, before an operation and an interruption."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.sender = Receiver("sender")
        self.doomed_sender: Receiver | None = Receiver("doomed sender")
        self.steady = Receiver("steady")
        self.own = Receiver("own")
        self.guest = Receiver("guest")
        self.doomed: Receiver | None = Receiver("doomed")
        self.guest_doomed: Receiver | None = Receiver("guest, doomed")
        self.guest_sender: Receiver | None = Receiver("guest's sender")
        self.block = self.signal.connected_to(self.own, self.sender)
        signal = self.signal
        signal.connect(self.steady)
        signal.connect(self.steady.method, self.sender)
        signal.connect(self.doomed)
        signal.connect(self.doomed.method, self.sender)
        signal.connect(self.guest_doomed)
        signal.connect(self.guest_doomed.method, self.sender)
        signal.connect(Receiver("strong"), self.guest_sender, weak=False)
        signal.connect(Receiver("strong, of the doomed sender"), self.doomed_sender, weak=False)


# The operations, each with the names that a later send by the sender must call and must not call.


def connect(scene: Scene) -> None:
    scene.signal.connect(scene.own)


def connect_to_sender(scene: Scene) -> None:
    scene.signal.connect(scene.own, scene.sender, weak=False)


def connect_again(scene: Scene) -> None:
    scene.signal.connect(scene.steady, priority=1)


def disconnect(scene: Scene) -> None:
    scene.signal.disconnect(scene.steady.method)


def disconnect_last_of_sender(scene: Scene) -> None:
    scene.signal.connect(scene.own, "desk")
    scene.signal.disconnect(scene.own, "desk")


def connect_once_and_send(scene: Scene) -> None:
    scene.signal.connect(scene.own, once=True)
    scene.signal.send(scene.sender)
    assert scene.own.calls == 1  # Called by this send, or by the send that interrupted it.


def enter(scene: Scene) -> None:
    scene.block.__enter__()


def enter_and_leave(scene: Scene) -> None:
    with scene.signal.connected_to(scene.own):
        assert "own" in names(scene.signal.send(scene.sender))


def mute_and_send(scene: Scene) -> None:
    with scene.signal.muted():
        assert scene.signal.send(scene.sender) == []


def send(scene: Scene) -> None:
    scene.signal.errors = "collect"
    scene.signal.errors = "propagate"
    assert "steady" in names(scene.signal.send(scene.sender))
    assert "steady" in names(scene.signal.send(None))


def look(scene: Scene) -> None:
    assert scene.signal.receivers
    assert len(scene.signal.receivers) >= 2
    assert scene.signal.has_receivers_for(scene.sender)
    assert scene.steady in scene.signal.receivers_for(None)


def lose_receiver(scene: Scene) -> None:
    scene.doomed = None


def lose_sender(scene: Scene) -> None:
    scene.doomed_sender = None


OPERATIONS: dict[str, tuple[Callable[[Scene], None], set[str], set[str]]] = {
    "connect": (connect, {"own"}, set()),
    "connect to a sender": (connect_to_sender, {"own"}, set()),
    "connect again": (connect_again, {"steady"}, set()),
    "disconnect": (disconnect, set(), {"steady.method"}),
    "disconnect the last": (disconnect_last_of_sender, set(), {"own"}),
    "once": (connect_once_and_send, set(), {"own"}),
    "enter a block": (enter, {"own"}, set()),
    "enter and leave a block": (enter_and_leave, set(), {"own"}),
    "mute": (mute_and_send, set(), set()),
    "send": (send, set(), set()),
    "look": (look, set(), set()),
    "lose a receiver": (lose_receiver, set(), {"doomed", "doomed.method"}),
    "lose a sender": (lose_sender, set(), {"strong, of the doomed sender"}),
}


# The interruptions. They use other receivers than the operation, so that the outcome does not depend on the moment.


def guest_connects(scene: Scene) -> None:
    scene.signal.connect(scene.guest)
    scene.signal.connect(scene.guest.method, scene.sender, weak=False)


def guest_disconnects(scene: Scene) -> None:
    assert scene.guest_doomed is not None
    scene.signal.disconnect(scene.guest_doomed)


def guest_comes_and_goes(scene: Scene) -> None:
    scene.signal.connect(scene.guest)
    scene.signal.connect(scene.guest, scene.sender)
    scene.signal.disconnect(scene.guest)


def guest_sends(scene: Scene) -> None:
    scene.signal.send(scene.sender)
    scene.signal.send(None)
    scene.signal.send(Receiver("a new sender"))


def guest_looks(scene: Scene) -> None:
    assert scene.signal.receivers
    assert len(scene.signal.receivers) >= 2
    scene.signal.has_receivers_for("nobody")


def guest_dies(scene: Scene) -> None:
    scene.guest_doomed = None


def guests_sender_dies(scene: Scene) -> None:
    scene.guest_sender = None


def guest_uses_blocks(scene: Scene) -> None:
    with scene.signal.connected_to(scene.guest), scene.signal.muted(scene.guest):
        scene.signal.send(scene.sender)


INTERRUPTIONS: dict[str, tuple[Callable[[Scene], None], set[str], set[str]]] = {
    "connects": (guest_connects, {"guest", "guest.method"}, set()),
    "disconnects": (guest_disconnects, {"guest, doomed.method"}, {"guest, doomed"}),
    "comes and goes": (guest_comes_and_goes, set(), {"guest"}),
    "sends": (guest_sends, set(), set()),
    "looks": (guest_looks, set(), set()),
    "dies": (guest_dies, set(), {"guest, doomed", "guest, doomed.method"}),
    "loses its sender": (guests_sender_dies, set(), {"strong"}),
    "uses blocks": (guest_uses_blocks, set(), {"guest"}),
}


def handled(act: Callable[[], object]) -> None:
    """Run the act in a handler of a Unix signal."""

    def handle(number: int, frame: Any) -> None:
        act()

    before = unix_signal.signal(unix_signal.SIGINT, handle)

    try:
        unix_signal.raise_signal(unix_signal.SIGINT)
    finally:
        unix_signal.signal(unix_signal.SIGINT, before)


WAYS: dict[str, Callable[[Callable[[], object]], None]] = {"collection": collected, "handler": handled}


@pytest.mark.stress
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_interrupted_at_every_line(operation: str, interruption: str, way: str, no_gc: None, stride: int) -> None:
    """E4: An interruption at any line of the engine does not deadlock, raises nothing, and loses no connection."""
    operate, has, lacks = OPERATIONS[operation]
    interrupt, guest_has, guest_lacks = INTERRUPTIONS[interruption]
    # If only some lines are tried, each interruption begins at a different line.
    line = 1 + list(INTERRUPTIONS).index(interruption) % stride

    while True:
        scene = Scene()
        was_interrupted = interrupted(partial(operate, scene), line, partial(WAYS[way], partial(interrupt, scene)))

        if not was_interrupted:
            break

        connected = set(names(scene.signal.send(scene.sender)))
        assert connected >= {"steady"} | has | guest_has
        assert not connected & (lacks | guest_lacks)

        if operation == "enter a block":
            scene.block.__exit__(None, None, None)

        assert is_whole(scene)
        line += stride

    assert line > 10


def is_whole(scene: Scene) -> bool:
    """Return whether the tables hold exactly what is connected, and are empty after each receiver is disconnected."""
    signal = scene.signal
    assert signal._registry.mutes == 0
    receivers = list(signal.receivers.values())
    assert len(receivers) == len(signal.receivers)

    for receiver in receivers:
        held: Any = receiver() if isinstance(receiver, weakref.ref) else receiver
        signal.disconnect(held)

    return left(signal) == {}


def test_clearing_interrupted_at_every_line(no_gc: None) -> None:
    """E4: A receiver that is connected during a clear is afterwards either connected, or cleared with the others."""
    line, seen = 1, set()

    while True:
        scene = Scene()

        if not interrupted(scene.signal.receivers.clear, line, partial(collected, partial(guest_connects, scene))):
            break

        called = names(scene.signal.send(scene.sender))
        assert called in ([], ["guest", "guest.method"])
        seen.add(len(called))
        assert is_whole(scene)
        line += 1

    assert seen == {0, 2}


@pytest.mark.parametrize("options", [{}, {"once": True}], ids=["for good", "once more"])
@pytest.mark.parametrize("way", WAYS)
def test_connecting_again_while_once_is_used_up(way: str, options: dict[str, Any], no_gc: None) -> None:
    """E4: Connecting a once receiver again, at any line of the send that uses it up, is not undone by that send."""
    line, seen = 1, set()

    while True:
        scene = Scene()
        scene.signal.connect(scene.own, once=True)
        connect_again = partial(scene.signal.connect, scene.own, **options)

        if not interrupted(partial(scene.signal.send, scene.sender), line, partial(WAYS[way], connect_again)):
            break

        # Before the send looks for receivers, the second connect only changes options: one call in total.
        called = scene.own.calls
        scene.signal.send(scene.sender)
        seen.add((called, scene.own.calls))
        assert ("own" in names(scene.signal.send(scene.sender))) is (not options)
        line += 1

    assert seen == ({(1, 2)} if not options else {(1, 1), (1, 2)})


@pytest.mark.stress
def test_collections_at_nearly_every_allocation(no_gc: None) -> None:
    """E4: No connection is lost when Python collects at nearly every allocation, with cycles that use the signal."""
    signal = Signal()
    steady = Receiver("steady")
    signal.connect(steady)
    hired: list[Receiver] = []

    def hire() -> None:
        hired.append(Receiver(f"hired {len(hired)}"))
        signal.connect(hired[-1], "desk")
        signal.send("desk")

    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(1, 1, 1)
    gc.enable()

    try:
        for turn in range(150):
            LastWill(hire)
            lost = Receiver("lost")
            lost.itself = lost
            signal.connect(lost, lost, weak=bool(turn % 2))
            signal.connect(lost.method)
            assert names(signal.send(lost)).count("lost") == 1
            signal.disconnect(lost.method)
            lost = Receiver()
    finally:
        gc.set_threshold(*thresholds)
        gc.disable()
        gc.unfreeze()

    gc.collect()
    assert len(hired) == 150
    assert names(signal.send("desk")) == ["steady", *(receiver.name for receiver in hired)]
    # A strong receiver that holds its own sender keeps that sender alive, as it must.
    assert len(signal.receivers) == 1 + 150 + 75


# Another thread holds the lock.


@contextlib.contextmanager
def held_elsewhere() -> Iterator[None]:
    """Let another thread hold the lock, in the middle of the engine's work, while the block runs."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold(_: bool) -> None:
        is_held.set()
        may_go.wait()

    thread = threading.Thread(target=changes.read, args=(hold,))
    thread.start()
    is_held.wait()

    try:
        yield
    finally:
        may_go.set()
        thread.join()


def test_dying_never_waits(no_gc: None) -> None:
    """E4, E5: Receivers and senders die without waiting for a thread that holds the lock, and are removed later."""
    signal, steady = Signal(), Receiver("steady")
    signal.connect(steady)
    sender, receiver = Receiver("sender"), Receiver("receiver")
    signal.connect(receiver)
    signal.connect(receiver.method, "desk")
    signal.connect(Receiver("strong"), sender, weak=False)

    with held_elsewhere():
        del sender, receiver

    assert left(signal) == {"any sender": 1}
    assert names(signal.send("desk")) == ["steady"]


def test_objects_that_die_together_while_another_thread_holds_the_lock(no_gc: None) -> None:
    """E4, E5: When several objects die together, each one is removed by a clean-up of its own, which accepts what
    earlier ones removed."""
    signal = Signal()
    sender = Receiver("sender")
    signal.connect(Receiver("strong"), sender, weak=False)
    signal.connect(Receiver("strong"), sender.method, weak=False)
    method = types.MethodType(lambda self: None, sender)  # Its object and its function die.
    signal.connect(Receiver("strong"), method, weak=False)

    with held_elsewhere():
        del sender, method

    assert left(signal) == {}


def test_a_dead_receiver_is_not_called(no_gc: None) -> None:
    """E4: A send that takes no lock does not call a receiver that has died, even before it is removed from the
    tables."""
    signal = Signal()
    receivers = [Receiver("only")]
    signal.connect(receivers[0])
    assert names(signal.send()) == ["only"]

    with held_elsewhere():
        receivers.clear()
        assert signal.send() == []


class Bulky:
    """An object of a rare size, so that Python soon reuses its memory for the next object of this class."""

    __slots__ = ("__weakref__", *(f"slot_{number}" for number in range(50)))

    def __call__(self, sender: Any, **payload: Any) -> None: ...


def heir_to(dead: int) -> Bulky:
    """Return a new object with the id of a dead one."""
    others = []

    for _ in range(10_000):
        heir = Bulky()

        if id(heir) == dead:
            return heir

        others.append(heir)

    raise AssertionError("Python does not give the id away")


@pytest.mark.parametrize("dies", ["receiver", "sender"])
def test_a_missed_clean_up_does_no_harm(dies: str, no_gc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """E5: If a clean-up does not run because a signal handler raised in it, an object with the same id is not mistaken
    for the dead one."""
    signal, steady, pair = Signal(), Receiver("steady"), {"receiver": Bulky(), "sender": Bulky()}
    signal.connect(pair["receiver"], pair["sender"], once=True)
    signal.connect(steady)
    number = id(pair[dies])

    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        del pair[dies]

    pair[dies] = heir_to(number)
    signal.connect(pair["receiver"], pair["sender"])

    for _ in range(2):
        assert [called for called, _ in signal.send(pair["sender"])] == [steady, pair["receiver"]]


def test_an_object_with_the_id_of_a_dead_sender_is_another_sender(no_gc: None) -> None:
    """E6: A new object with the id of a dead sender is another sender, even before the dead one is removed from the
    tables."""
    signal, senders = Signal(), [Bulky()]
    signal.connect(Receiver("for the dead"), senders[0], weak=False)
    signal.connect(Receiver("for any"), weak=False)
    assert names(signal.send(senders[0])) == ["for the dead", "for any"]
    assert names(signal.send()) == ["for any"]
    number = id(senders[0])

    with held_elsewhere():
        senders.clear()
        heir = heir_to(number)
        assert names(signal.send(heir)) == ["for any"]

    assert names(signal.send(heir)) == ["for any"]


def test_a_late_clean_up_removes_only_the_dead() -> None:
    """E4: A late clean-up removes no living receiver or sender, even one that has the id of a dead one."""
    signal, sender, receiver = Signal(), Receiver("sender"), Receiver("alive")
    signal.connect(receiver, sender)
    (connection,) = signal._registry.connections()
    signal._registry.sweep_receiver((connection.key, connection.filter_key))
    signal._registry.sweep_sender(connection.filter_key)
    assert names(signal.send(sender)) == ["alive"]


def test_a_send_never_waits(no_gc: None) -> None:
    """E4: A send whose snapshot is up to date takes no lock, and calls no receiver that has died or was
    disconnected."""
    signal = Signal()
    receivers = [Receiver("a"), Receiver("b"), Receiver("c")]
    sender, other = Receiver("sender"), Receiver("other")

    for number in range(len(receivers)):
        signal.connect(receivers[number])

    signal.connect(receivers[0].method, sender)

    for each in (sender, other, "desk"):
        signal.send(each)

    with held_elsewhere():
        del receivers[1]
        assert names(signal.send(sender)) == ["a", "c", "a.method"]
        assert names(signal.send(other)) == ["a", "c"]
        assert names(signal.send("desk")) == ["a", "c"]


def test_a_change_waits_for_the_lock() -> None:
    """E4: A connect that finds the lock taken has made its change when it returns."""
    signal, receiver = Signal(), Receiver("receiver")
    connected = threading.Event()

    def connect() -> None:
        signal.connect(receiver)
        connected.set()

    thread = threading.Thread(target=connect)

    with held_elsewhere():
        thread.start()
        assert not connected.is_set()

    thread.join()
    assert names(signal.send(None)) == ["receiver"]


# User code that the engine starts must not run while the lock is held: it may wait for another thread.


def waits_for_another_thread(signal: Any, outcome: list[bool]) -> Callable[[], None]:
    """Return a function that lets another thread connect and waits for it. Its outcome is whether that thread
    finished."""

    def wait() -> None:
        thread = threading.Thread(target=signal.connect, args=(lambda _: None,), kwargs={"weak": False}, daemon=True)
        thread.start()
        thread.join(120)
        outcome.append(not thread.is_alive())

    return wait


def let_all_go(signal: Any, senders: list[Any], block: Any) -> None:
    signal.receivers.clear()


def let_sender_go(signal: Any, senders: list[Any], block: Any) -> None:
    senders.clear()


def let_block_go(signal: Any, senders: list[Any], block: Any) -> None:
    block.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("how", "let_go", "count"),
    [("strong", let_all_go, 1), ("sender", let_sender_go, 1), ("block", let_block_go, 1), ("slotted", let_all_go, 2)],
    ids=["clear", "sender dies", "block ends", "slotted sender"],
)
def test_destructors_run_without_the_lock(how: str, let_go: Callable[..., None], count: int, no_gc: None) -> None:
    """E4: The destructor of an object that dies because it is disconnected may wait for another thread that
    connects."""
    signal = Signal()
    outcome: list[bool] = []
    senders: list[Any] = [Receiver("sender")]
    block: Any = None
    wait = waits_for_another_thread(signal, outcome)

    if how == "block":
        block = signal.connected_to(Slotted(wait))
        block.__enter__()
    elif how == "slotted":
        signal.connect(Slotted(wait), Slotted(wait), weak=False)
    else:
        signal.connect(Slotted(wait), senders[0], weak=False)

    let_go(signal, senders, block)
    assert outcome == [True] * count


def test_warnings_are_shown_without_the_lock(no_gc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """E4, E13: The handler of a lost receiver's warning may wait for another thread that connects."""
    signal = Signal()
    outcome: list[bool] = []
    wait = waits_for_another_thread(signal, outcome)
    other = Receiver("other")
    monkeypatch.setattr("aldis._core.devmode.enabled", True)

    def make_lost() -> None:
        def lost(sender: Any) -> None: ...

        lost.itself = lost  # type: ignore[attr-defined]
        signal.connect(lost)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *args, **kwargs: wait())
        line = 1

        # The receiver is lost at each line of a change in turn, also at the lines where the lock is held.
        while True:
            make_lost()

            if not interrupted(lambda: signal.connect(other), line, partial(gc.collect, 0)):
                break

            assert outcome == [True] * line
            signal.receivers.clear()
            line += 1

    assert line > 10


# Real signal handlers and forks, at moments that the test does not choose.


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(unix_signal, "setitimer"), reason="needs interval timers")
def test_timer_signals(effort: int) -> None:
    """E4: A handler that a timer starts at any moment, and that connects and sends, loses no connection and does not
    deadlock."""
    signal, steady, own = Signal(), Receiver("steady"), Receiver("own")
    signal.connect(steady)
    hired: list[Receiver] = []

    def arm() -> None:
        # One at a time: a handler that takes longer than the interval would interrupt itself without end.
        unix_signal.setitimer(unix_signal.ITIMER_REAL, 0.00005)

    def handle(number: int, frame: Any) -> None:
        hired.append(Receiver("hired"))
        signal.connect(hired[-1])
        signal.send("desk")

        if len(hired) > 10:
            signal.disconnect(hired.pop())

    before = unix_signal.signal(unix_signal.SIGALRM, handle)

    try:
        for _ in range(3000 * effort):
            arm()
            signal.connect(own, "desk")
            assert "own" in names(signal.send("desk"))
            signal.disconnect(own)
            assert "own" not in names(signal.send("desk"))
    finally:
        unix_signal.setitimer(unix_signal.ITIMER_REAL, 0)
        unix_signal.signal(unix_signal.SIGALRM, before)

    assert len(hired) == 10
    assert sorted(names(signal.send("desk"))) == sorted(["steady", *(receiver.name for receiver in hired)])


FORKS = """
    import os
    import signal as unix_signal
    import sys
    import threading

    from aldis import Namespace, Signal

    signals = [Signal(), Signal()]
    stop = threading.Event()

    class Receiver:
        def __call__(self, sender):
            return "called"

    def disturb():
        while not stop.is_set():
            own, sender = Receiver(), Receiver()

            for signal in signals:
                signal.connect(own)
                signal.connect(own, sender)
                signal.send(sender)
                signal.disconnect(own)

    def work_in_child():
        unix_signal.alarm(120)  # A child that is deadlocked ends by it.
        own, sender = Receiver(), Receiver()

        for signal in signals:
            signal.connect(own, sender)
            results = signal.send(sender)
            assert [result for receiver, result in results if receiver is own] == ["called"]
            signal.disconnect(own)
            assert own not in signal.receivers_for(sender)
            signal.receivers.clear()
            assert not signal.receivers
            thread = threading.Thread(target=signal.connect, args=(own,))
            thread.start()
            thread.join()
            assert signal.receivers

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=disturb, daemon=True) for _ in range(3)]

    for thread in threads:
        thread.start()

    failed = 0

    for _ in range(int(sys.argv[1])):
        child = os.fork()

        if child == 0:
            status = 1

            try:
                work_in_child()
                status = 0
            except BaseException as error:
                print(repr(error), flush=True)
            finally:
                os._exit(status)

        failed += os.waitpid(child, 0)[1] != 0

    stop.set()

    for thread in threads:
        thread.join()

    print("failed:", failed)
"""


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_others_connect(effort: int) -> None:
    """E4: A child process that is forked while other threads change connections can connect and send."""
    # Python 3.12 warns about any fork in a process with threads; this test needs such a fork.
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKS), str(30 * effort)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        # Not measured: coverage's own locks do not survive a fork.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )

    assert (run.stdout, run.stderr, run.returncode) == ("failed: 0\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork() -> None:
    """E4: After a fork, parent and child can both connect, disconnect and send."""
    signal, receiver = Signal(), Receiver("own")
    child = os.fork()

    if child == 0:
        status = 1

        with contextlib.suppress(BaseException):
            unix_signal.alarm(120)
            signal.connect(receiver)
            status = 0 if names(signal.send()) == ["own"] else 2

        os._exit(status)

    assert os.waitpid(child, 0)[1] == 0
    signal.connect(receiver)
    assert names(signal.send()) == ["own"]


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_a_change(no_gc: None) -> None:
    """E4: A destructor that forks in the middle of a change leaves a working engine in both processes."""
    scene = Scene()
    statuses: list[int] = []

    def fork() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()

        if child == 0:
            # The parent is in the middle of a change, which is made when this function returns. Until then sends work.
            status = 1

            with contextlib.suppress(BaseException):
                unix_signal.alarm(120)
                status = 0 if "steady" in names(scene.signal.send(scene.sender)) else 2

            os._exit(status)

        statuses.append(os.waitpid(child, 0)[1])

    line = 1

    while interrupted(lambda: scene.signal.connect(scene.own, scene.sender), line, lambda: collected(fork)):
        assert "own" in names(scene.signal.send(scene.sender))
        scene.signal.disconnect(scene.own)
        line += 5

    assert statuses
    assert set(statuses) == {0}


def test_a_death_while_a_thread_holds_the_lock_without_changing_anything() -> None:
    """E4: a receiver that dies in a thread that holds the lock but makes no change is removed when the thread releases
    the lock."""
    signal = Signal()
    receivers = [Receiver()]
    signal.connect(receivers[0])
    changes.at_once(receivers.clear)

    assert not signal.receivers
    assert signal._registry.connections() == []
    assert not signal._registry.has_any()


def test_a_once_receiver_is_called_once_while_its_removal_waits() -> None:
    """E4: Sends in the middle of the engine's work call a once receiver once, even though its removal has to wait."""
    signal, sender = Signal(), Receiver("sender")
    signal.connect(Receiver("for good"), weak=False)
    signal.connect(own := Receiver("own"), sender, once=True)
    sent: list[list[str]] = []
    changes.read(lambda _: sent.extend(names(signal.send(sender)) for _ in range(2)))

    assert sent == [["for good", "own"], ["for good"]]
    assert own.calls == 1
    assert names(signal.send(sender)) == ["for good"]
