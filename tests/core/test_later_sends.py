"""E2, E6, E10, E11: the first send after a change makes the snapshot; later sends walk it, by other code."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import ANY, Signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class App:
    def meet(self) -> None: ...


APP = App()


class Stage:
    """A signal that was already sent: the first send after a change makes the snapshot, and later sends walk it
    inline."""

    def __init__(self, filter: Any, sender: Any, payload: dict[str, Any]) -> None:
        self.signal: Signal[Any, ..., Any] = Signal()
        self.filter = filter
        self.sender = sender
        self.payload = payload
        self.is_on = False
        self.log: list[str] = []

    def connect(self, name: str, act: Callable[[], object] = lambda: None) -> Callable[..., Any]:
        def receiver(sender: Any, **payload: Any) -> str:
            self.log.append(name)

            if self.is_on:
                act()

            return name

        return self.signal.connect(receiver, self.filter, weak=False)

    def send(self) -> list[Any]:
        return [result for _, result in self.signal.send(self.sender, **self.payload)]

    def send_again(self) -> list[Any]:
        """Send after an earlier send in which ``act`` did nothing; ``act`` runs now."""
        self.send()
        self.send()
        self.log.clear()
        self.is_on = True

        try:
            return self.send()
        finally:
            self.is_on = False


@pytest.fixture(params=[{}, {"a": 1}], ids=["bare", "payload"])
def payload(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return a payload with or without keywords: the engine has a loop for each case."""
    given: dict[str, Any] = request.param
    return given


@pytest.fixture(params=[(ANY, None), ("x", "x"), (APP, APP)], ids=["any", "name", "object"])
def stage(request: pytest.FixtureRequest, payload: dict[str, Any]) -> Stage:
    """A stage for each kind of snapshot that has its own loop."""
    filter, sender = request.param
    return Stage(filter, sender, payload)


def test_later_sends_skip_a_receiver_disconnected_before_its_turn(stage: Stage) -> None:
    """E2: A send that walks an existing snapshot skips a receiver that is disconnected, and calls the receivers
    after it."""
    stage.connect("a", lambda: stage.signal.disconnect(doomed))
    doomed = stage.connect("b")
    stage.connect("c")
    assert stage.send_again() == ["a", "c"]
    assert stage.log == ["a", "c"]


def test_later_sends_leave_new_receivers_to_the_next(stage: Stage) -> None:
    """E2: In a send that walks an existing snapshot, too, a receiver that is connected during it waits for the next
    send."""
    stage.connect("a", lambda: stage.connect("new"))
    stage.connect("b")
    assert stage.send_again() == ["a", "b"]
    assert stage.log == ["a", "b"]
    assert stage.send() == ["a", "b", "new"]


def test_the_only_receiver_leaves_new_receivers_to_the_next(stage: Stage) -> None:
    """E2: A receiver that is connected by the only receiver waits for the next send."""
    stage.connect("a", lambda: stage.connect("new"))
    assert stage.send_again() == ["a"]
    assert stage.send() == ["a", "new"]


class Name(str):
    """A subclass of ``str``."""

    __slots__ = ()


class Proxy:
    """A proxy that points to :data:`APP`, as a werkzeug ``LocalProxy`` would."""

    def _get_current_object(self) -> App:
        return APP

    __class__: Any = property(lambda self: App)


@pytest.mark.parametrize(
    ("filter", "sender"),
    [(APP, Proxy()), (300, int("300")), (b"x", bytes(bytearray(b"x"))), ("x", Name("x")), (APP.meet, APP.meet)],
    ids=["proxy", "int", "bytes", "str of a class", "bound method"],
)
def test_senders_match_when_the_snapshot_of_another_exists(filter: Any, sender: Any) -> None:
    """E6: Every form of the same sender reaches its receivers, also after a send by a sender without receivers of
    its own."""
    signal: Signal[Any, ..., Any] = Signal()
    signal.connect(lambda sender: "any", weak=False)
    signal.connect(lambda sender: "its own", filter, weak=False)
    other = App()

    for _ in range(2):
        assert [result for _, result in signal.send(other)] == ["any"]
        assert [result for _, result in signal.send(sender)] == ["any", "its own"]


def test_later_sends_see_the_latest_changes(stage: Stage) -> None:
    """E2: A connect or disconnect after the first send, and after the second one, takes effect in the next send."""
    stage.connect("a")
    assert stage.send() == stage.send() == ["a"]
    second = stage.connect("b")
    assert stage.send() == stage.send() == ["a", "b"]
    stage.signal.disconnect(second)
    assert stage.send() == stage.send() == ["a"]


def test_receivers_for_yields_each_receiver_once() -> None:
    """E10: receivers_for yields a receiver once if it is connected to the sender and to any sender."""
    signal: Signal[Any, ..., Any] = Signal()
    receiver = signal.connect(lambda sender: None, weak=False)
    signal.connect(receiver, "x", weak=False)
    assert list(signal.receivers_for("x")) == [receiver]


@pytest.mark.parametrize("filter", [ANY, "x"], ids=["any", "name"])
def test_truth_at_the_moment_of_death(filter: Any) -> None:
    """E10: Code that learns of a receiver's death before the engine does still finds the receiver gone."""
    signal: Signal[Any, ..., Any] = Signal()
    seen: list[object] = []

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, filter)

    # Of several weak references to one object, Python calls the callback of the newest one first.
    watcher = weakref.ref(receiver, lambda _: seen.append((bool(signal.receivers), signal.has_receivers_for("x"))))
    assert signal.receivers
    del receiver
    assert watcher() is None
    assert seen == [(False, False)]


def test_a_send_to_a_sender_s_receivers_stays_in_one_function(stage: Stage) -> None:
    """E11: Once the snapshot is made, a send to receivers for its sender runs no other function of the engine than
    send."""
    stage.connect("a")
    stage.connect("b")
    stage.send()
    ran: list[str] = []
    package = str(Path(aldis.__file__).parent)

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            ran.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(profile)

    try:
        stage.send()
    finally:
        sys.setprofile(before)

    assert ran == ["send"]
