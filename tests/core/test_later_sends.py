"""E2, E6, E10, E11: the first send after a change makes the snapshot; later sends walk it, by code of their own."""

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
    """A signal that was sent before: the first send after a change makes the snapshot, later ones walk it inline."""

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
        """Send when that was done before with nothing happening; ``act`` acts now."""
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
    """With and without keywords, which are walked by loops of their own."""
    given: dict[str, Any] = request.param
    return given


@pytest.fixture(params=[(ANY, None), ("x", "x"), (APP, APP)], ids=["any", "name", "object"])
def stage(request: pytest.FixtureRequest, payload: dict[str, Any]) -> Stage:
    """A stage for each kind of snapshot that a send walks by itself."""
    filter, sender = request.param
    return Stage(filter, sender, payload)


def test_later_sends_skip_one_disconnected_before_its_turn(stage: Stage) -> None:
    """E2: A send that finds its snapshot made skips one that is disconnected, and calls those after it."""
    stage.connect("a", lambda: stage.signal.disconnect(doomed))
    doomed = stage.connect("b")
    stage.connect("c")
    assert stage.send_again() == ["a", "c"]
    assert stage.log == ["a", "c"]


def test_later_sends_leave_newcomers_to_the_next(stage: Stage) -> None:
    """E2: Also in a send that finds its snapshot made, one that is connected during it waits for the next."""
    stage.connect("a", lambda: stage.connect("new"))
    stage.connect("b")
    assert stage.send_again() == ["a", "b"]
    assert stage.log == ["a", "b"]
    assert stage.send() == ["a", "b", "new"]


def test_the_only_receiver_leaves_newcomers_to_the_next(stage: Stage) -> None:
    """E2: One that is connected by the only receiver waits for the next send."""
    stage.connect("a", lambda: stage.connect("new"))
    assert stage.send_again() == ["a"]
    assert stage.send() == ["a", "new"]


class Name(str):
    """A ``str`` of a user's class."""

    __slots__ = ()


class Proxy:
    """Stands for :data:`APP`, as a werkzeug ``LocalProxy`` would."""

    def _get_current_object(self) -> App:
        return APP

    __class__: Any = property(lambda self: App)


@pytest.mark.parametrize(
    ("filter", "sender"),
    [(APP, Proxy()), (300, int("300")), (b"x", bytes(bytearray(b"x"))), ("x", Name("x")), (APP.meet, APP.meet)],
    ids=["proxy", "int", "bytes", "str of a class", "bound method"],
)
def test_senders_are_found_when_the_snapshot_of_others_is_made(filter: Any, sender: Any) -> None:
    """E6: What is the same sender reaches its receivers, also after a send by one without a filter."""
    signal: Signal[Any, ..., Any] = Signal()
    signal.connect(lambda sender: "any", weak=False)
    signal.connect(lambda sender: "its own", filter, weak=False)
    other = App()

    for _ in range(2):
        assert [result for _, result in signal.send(other)] == ["any"]
        assert [result for _, result in signal.send(sender)] == ["any", "its own"]


def test_later_sends_know_the_newest_receivers(stage: Stage) -> None:
    """E2: A change after a send, and after a second one, counts for the next, in both directions."""
    stage.connect("a")
    assert stage.send() == stage.send() == ["a"]
    second = stage.connect("b")
    assert stage.send() == stage.send() == ["a", "b"]
    stage.signal.disconnect(second)
    assert stage.send() == stage.send() == ["a"]


def test_receivers_for_gives_each_receiver_once() -> None:
    """E10: A receiver of the sender and of any sender is one of the receivers for that sender."""
    signal: Signal[Any, ..., Any] = Signal()
    receiver = signal.connect(lambda sender: None, weak=False)
    signal.connect(receiver, "x", weak=False)
    assert list(signal.receivers_for("x")) == [receiver]


@pytest.mark.parametrize("filter", [ANY, "x"], ids=["any", "name"])
def test_truth_at_the_moment_of_death(filter: Any) -> None:
    """E10: Whoever hears of a receiver's death before the engine does finds it gone all the same."""
    signal: Signal[Any, ..., Any] = Signal()
    seen: list[object] = []

    def receiver(sender: Any) -> None: ...

    signal.connect(receiver, filter)

    # Of the references to one object, that which was made last is told first.
    watcher = weakref.ref(receiver, lambda _: seen.append((bool(signal.receivers), signal.has_receivers_for("x"))))
    assert signal.receivers
    del receiver
    assert watcher() is None
    assert seen == [(False, False)]


def test_a_send_to_a_sender_s_receivers_stays_in_one_function(stage: Stage) -> None:
    """E11: Once the snapshot is made, a send to receivers for its sender runs no function of the engine but itself."""
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
