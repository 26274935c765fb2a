"""Watches are added and removed by token, at any moment, and a watcher that fails does no harm."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import NamedSignal, Namespace, Signal
from aldis.observe import CallRecord, Counters, SendRecord, Watch, Watcher, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import TypeAlias

    from aldis._core.types import Undeclared

    Lamp: TypeAlias = NamedSignal[Any, ..., Undeclared]

ROOT = str(Path(aldis.__file__).parent.parent)
METHODS = ["send_began", "call_began", "call_ended", "send_ended"]


class Stumbled(Exception):
    """The exception that watchers raise here."""


class Noting(Watcher):
    """A watcher that notes which of its methods are called, and may run a function in them."""

    def __init__(self, **acts: Callable[[], object]) -> None:
        self.told: list[str] = []
        self.acts = acts

    def send_began(self, send: SendRecord) -> None:
        self.note("send_began")

    def call_began(self, call: CallRecord) -> None:
        self.note("call_began")

    def call_ended(self, call: CallRecord) -> None:
        self.note("call_ended")

    def send_ended(self, send: SendRecord) -> None:
        self.note("send_ended")

    def note(self, method: str) -> None:
        self.told.append(method)
        self.acts.get(method, bool)()


def hear(sender: Any, **payload: Any) -> str:
    return "heard"


def fail() -> None:
    raise Stumbled("the watcher stumbled")


def stop(tokens: list[Watch]) -> None:
    for token in tokens:
        token.stop()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def lamp() -> Lamp:
    lamp = Namespace().signal("lamp")
    lamp.connect(hear)
    return lamp


def is_fast(signal: Signal[Any, ..., Any]) -> bool:
    """Return whether a send runs the code for a signal without watches."""
    signal.send()
    return signal._registry.plain is not None


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


# Adding and removing.


def test_a_function_is_called_at_the_end_of_each_send(lamp: Lamp) -> None:
    """A function as watcher receives the complete record of each send."""
    sends: list[SendRecord] = []

    with watch(sends.append, lamp) as token:
        assert repr(token) == "<Watch of list.append>"
        lamp.send("one")
        lamp.send("two")

    lamp.send("three")

    assert [(send.sender, send.duration_s is not None, len(send.calls)) for send in sends] == [
        ("one", True, 1),
        ("two", True, 1),
    ]


def test_a_watch_has_a_readable_repr(lamp: Lamp) -> None:
    """The repr of a Watch shows the name of its watcher, and whether the watch is stopped."""

    class Secretive(Watcher):
        def __repr__(self) -> str:
            raise Stumbled

    token = watch(Secretive(), lamp)
    assert repr(token) == f"<Watch of {Secretive.__module__}.{Secretive.__qualname__}>"
    token.stop()
    assert repr(token).endswith("Secretive, stopped>")

    with watch(fail, lamp) as other:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert repr(other) == f"<Watch of {__name__}.fail ({__file__}:{fail.__code__.co_firstlineno})>"


def test_a_watch_works_until_it_is_stopped(lamp: Lamp) -> None:
    """A watch works without a reference to it until stop() is called, once or twice, or its with block ends."""
    noting = Noting()
    token = watch(noting, lamp)
    assert token.watcher is noting
    assert not token.is_stopped
    lamp.send()
    token.stop()
    token.stop()
    lamp.send()

    assert token.is_stopped
    assert noting.told == METHODS

    with watch(noting, lamp) as again:
        assert not again.is_stopped

    assert again.is_stopped


def test_a_with_block_that_raises_stops_the_watch(lamp: Lamp) -> None:
    """The end of a with block stops the watch, also when the block raises, and the exception goes on."""
    with pytest.raises(Stumbled), watch(Noting(), lamp) as token:
        raise Stumbled

    assert token.is_stopped
    assert is_fast(lamp)


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("is_for_all", [True, False])
def test_watches_are_removed_in_any_order(order: tuple[int, ...], is_for_all: bool, lamp: Lamp) -> None:
    """Each of several watches, of one signal or of all, is stopped by its own token; the others go on in their
    order."""
    told: list[int] = []
    some = [] if is_for_all else [lamp]
    tokens = [watch(lambda _, number=number: told.append(number), *some) for number in range(3)]  # type: ignore[misc]
    left = [0, 1, 2]

    for number in order:
        lamp.send()
        assert told == left
        told.clear()
        tokens[number].stop()
        left.remove(number)

    assert is_fast(lamp)
    assert told == []


def test_the_same_watcher_twice_makes_two_watches(lamp: Lamp) -> None:
    """Watching twice with one watcher makes two watches, and each is stopped separately."""
    noting = Noting()
    first, second = watch(noting, lamp), watch(noting)
    lamp.send()
    assert noting.told == [method for method in METHODS for _ in range(2)]

    first.stop()
    noting.told.clear()
    lamp.send()
    assert noting.told == METHODS
    second.stop()


def test_a_signal_passed_twice_is_watched_once(lamp: Lamp) -> None:
    """A signal that is passed twice in one call is watched once."""
    with watch(noting := Noting(), lamp, lamp):
        lamp.send()

    assert noting.told == METHODS
    assert is_fast(lamp)


def test_several_signals_are_watched_by_one_token(lamp: Lamp) -> None:
    """A watch of several signals reports these signals, and no others, until it is stopped."""
    other, third = Signal(), Signal()
    names: list[str] = []

    with watch(lambda send: names.append(send.signal_name), lamp, other):
        lamp.send()
        other.send()
        third.send()

    assert names == ["lamp", "Signal"]
    assert is_fast(lamp)
    assert is_fast(other)


def test_later_signals_are_watched_too(lamp: Lamp) -> None:
    """A watch of all signals reports existing signals and those that are made later, until it is stopped."""
    names: list[str] = []

    with watch(lambda send: names.append(send.signal_name)):
        lamp.send()
        later = Namespace().signal("later")
        later.connect(hear)
        later.send()

    after = Signal()
    after.send()

    assert names == ["lamp", "later"]
    assert is_fast(lamp)
    assert is_fast(later)
    assert is_fast(after)


def test_watchers_are_called_in_the_order_of_adding(lamp: Lamp) -> None:
    """The watcher that was added first is called first, whether it watches one signal or all."""
    told: list[str] = []

    with (
        watch(lambda send: told.append("one"), lamp),
        watch(lambda send: told.append("all")),
        watch(lambda send: told.append("one again"), lamp),
    ):
        lamp.send()

    assert told == ["one", "all", "one again"]


def test_watching_one_signal_does_not_touch_others(lamp: Lamp) -> None:
    """While one signal is watched, sends of the other signals are as fast as without watches."""
    other = Signal()
    other.connect(hear)
    other.send()

    with watch(Noting(), lamp):
        assert other._registry.plain is not None
        assert touches_of(other.send) == {"Signal.send"}


def test_when_the_last_watch_stops_sends_are_as_before(lamp: Lamp) -> None:
    """After the last watch stops, a send runs no function of the engine other than send."""
    with watch(Noting(), lamp), watch(Noting()):
        lamp.send()
        assert lamp._registry.plain is None

    lamp.send()

    assert lamp._registry.plain is not None
    assert touches_of(lamp.send) == {"Signal.send"}


def test_a_copy_of_a_watched_signal_is_not_watched(lamp: Lamp) -> None:
    """A copy of a watched signal is another signal, which the watch does not report."""
    import copy

    with watch(noting := Noting(), lamp):
        copy.copy(lamp).send()

    assert noting.told == []


# At any moment.


@pytest.mark.parametrize("method", METHODS)
def test_a_watch_that_a_watcher_adds_begins_with_the_next_send(method: str, lamp: Lamp) -> None:
    """A watch that a watcher adds, in any of its methods, reports the sends that begin after it."""
    later = Noting()
    tokens: list[Watch] = []

    def add() -> None:
        if not tokens:
            tokens.append(watch(later, lamp))

    first = Noting(**{method: add})

    with watch(first, lamp):
        lamp.send()
        assert later.told == []
        lamp.send()
        assert later.told == METHODS

    tokens[0].stop()
    assert is_fast(lamp)


@pytest.mark.parametrize("method", METHODS)
def test_a_watch_that_a_watcher_stops_reports_ends_only(method: str, lamp: Lamp) -> None:
    """A watch that is stopped during a send reports the ends of what has begun, and no further beginnings."""
    later = Noting()
    tokens: list[Watch] = []
    first = Noting(**{method: lambda: stop(tokens)})

    with watch(first, lamp):
        tokens.append(watch(later, lamp))
        lamp.send()
        lamp.send()

    begun = [each for each in METHODS[: METHODS.index(method) + 1] if each.endswith("began")]

    if method in METHODS[:2]:
        begun = METHODS[: METHODS.index(method) + 1]

    assert later.told == begun + [each.replace("began", "ended") for each in reversed(begun)]


@pytest.mark.parametrize("method", METHODS)
def test_a_watcher_may_stop_its_own_watch(method: str, lamp: Lamp) -> None:
    """A watcher that stops its own watch gets the ends of what has begun, and then no more events."""
    tokens: list[Watch] = []
    noting = Noting(**{method: lambda: stop(tokens)})
    tokens.append(watch(noting, lamp))
    lamp.send()
    lamp.send()

    assert noting.told == (["send_began", "send_ended"] if method == "send_began" else METHODS)
    assert is_fast(lamp)


def test_receivers_may_add_and_stop_watches(lamp: Lamp) -> None:
    """A watch that a receiver adds reports the next send; a watch that it stops reports the ends of what has begun."""
    early, late = Noting(), Noting()
    tokens = [watch(early, lamp)]

    @lamp.connect(once=True)
    def change(sender: Any) -> None:
        tokens.append(watch(late, lamp))
        tokens[0].stop()

    @lamp.connect(priority=-1)
    def after(sender: Any) -> None: ...

    lamp.send()
    assert early.told == ["send_began", "call_began", "call_ended", "call_began", "call_ended", "send_ended"]
    assert late.told == []

    lamp.send()
    assert early.told[6:] == []
    assert late.told == ["send_began", *["call_began", "call_ended"] * 2, "send_ended"]
    tokens[1].stop()


def test_other_threads_may_add_and_stop_watches(lamp: Lamp) -> None:
    """A watch may be added in one thread and stopped in another, while a send runs in a third."""
    noting = Noting()
    tokens: list[Watch] = []

    @lamp.connect
    def meanwhile(sender: Any) -> None:
        act = tokens[0].stop if tokens else lambda: tokens.append(watch(noting, lamp))
        thread = Thread(target=act)
        thread.start()
        thread.join()

    lamp.send()
    assert noting.told == []
    lamp.send()
    assert noting.told == ["send_began", *["call_began", "call_ended"] * 2, "send_ended"]
    lamp.disconnect(meanwhile)
    assert is_fast(lamp)


@pytest.mark.usefixtures("watchdog", "uncaught")
def test_destructors_may_add_and_stop_watches(lamp: Lamp) -> None:
    """A destructor may add one watch and stop another, even if it runs while the engine makes a change."""
    early, late = Noting(), Noting()
    tokens = [watch(early)]

    class Mortal:
        def __call__(self, sender: Any) -> None: ...

        def __del__(self) -> None:
            tokens.append(watch(late))
            tokens[0].stop()

    lamp.connect(mortal := Mortal(), "desk", weak=False)
    del mortal
    lamp.receivers.clear()  # The object dies during a change.
    gc.collect()
    early.told.clear()
    lamp.send()

    assert early.told == []
    assert late.told == ["send_began", "send_ended"]
    tokens[1].stop()
    assert is_fast(lamp)


def test_sends_of_a_watcher_are_not_watched(lamp: Lamp) -> None:
    """Sends that a watcher makes reach their receivers and are reported to no watcher, because that would never end."""
    heard: list[Any] = []
    alarm = Signal()
    alarm.connect(heard.append, weak=False)
    first = Noting(send_ended=lambda: (alarm.send("first"), lamp.send("again")))

    with watch(first), watch(second := Noting()):
        lamp.send()

    assert heard == ["first"]
    assert first.told == second.told == METHODS


# Watchers that fail.


@pytest.mark.parametrize("method", METHODS)
def test_a_watcher_that_raises_is_removed_and_reported(
    method: str, lamp: Lamp, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher that raises, in any of its methods, is not called again; the send and the other watchers go on."""
    failing, before, after = Noting(**{method: fail}), Noting(), Noting()

    with watch(before, lamp), watch(failing, lamp) as token, watch(after, lamp):
        assert lamp.send("one") == [(hear, "heard")]
        assert token.is_stopped
        assert lamp.send("two") == [(hear, "heard")]

    assert failing.told == METHODS[: METHODS.index(method) + 1]
    assert before.told == after.told == METHODS * 2
    assert is_fast(lamp)
    [report] = caplog.records
    assert (report.name, report.levelno) == ("aldis", logging.ERROR)
    assert report.getMessage() == (
        f"The watcher {__name__}.Noting failed and was removed. Signals and receivers are not affected."
    )
    assert report.exc_info is not None
    assert isinstance(report.exc_info[1], Stumbled)


def test_a_failing_function_is_reported_by_its_name(lamp: Lamp, caplog: pytest.LogCaptureFixture) -> None:
    """The report names a function and its place."""

    def broken(send: SendRecord) -> None:
        raise Stumbled

    with watch(broken):
        lamp.send()

    assert f"broken ({__file__}:{broken.__code__.co_firstlineno}) failed" in caplog.text


def test_a_failing_watcher_changes_no_failure(lamp: Lamp, caplog: pytest.LogCaptureFixture) -> None:
    """When a receiver and a watcher both raise, the send raises the receiver's exception unchanged."""
    lamp.connect(lambda sender: 1 / 0, weak=False)
    watch(Noting(call_ended=fail), lamp)
    watch(Noting(send_ended=fail), lamp)

    with pytest.raises(ZeroDivisionError) as caught:
        lamp.send()

    assert caught.value.__context__ is None
    assert len(caplog.records) == 2


def test_a_watcher_that_fails_in_a_nested_send_is_removed_from_the_outer(
    lamp: Lamp, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher that fails in a nested send does not get the end of the outer send."""
    inner = Signal()
    failing = Noting(send_ended=fail)
    lamp.connect(lambda sender: inner.send(), weak=False, priority=1)

    with watch(failing):
        lamp.send()

    assert failing.told == ["send_began", "call_began", "send_began", "send_ended"]
    assert len(caplog.records) == 1


def test_a_report_that_fails_does_not_disturb_the_send(lamp: Lamp, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the logger raises too, the send still does not raise."""

    def refuse(record: logging.LogRecord) -> bool:
        raise Stumbled

    monkeypatch.setattr(logging.getLogger("aldis"), "filters", [refuse])

    with watch(Noting(send_began=fail), lamp) as token:
        assert lamp.send() == [(hear, "heard")]

    assert token.is_stopped


def test_a_watcher_that_fails_in_two_threads_is_reported_once(lamp: Lamp, caplog: pytest.LogCaptureFixture) -> None:
    """A watcher that fails again, in another thread that was already inside it, is reported once."""

    def nest() -> None:
        if len(failing.told) == 1:
            thread = Thread(target=lamp.send)
            thread.start()
            thread.join()

        fail()

    failing = Noting(send_began=nest)

    with watch(failing, lamp):
        lamp.send()

    assert failing.told == ["send_began", "send_began"]
    assert len(caplog.records) == 1


def test_a_watch_that_fails_while_it_is_added_is_wholly_removed(
    lamp: Lamp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that fails in a send of its first signal, before its last signal is watched, is removed from all of
    them."""
    other = Signal()
    table = type(other._registry)
    watch_table = table.watch

    def watch_and_send(self: Any, watch: Watch, *, is_on: bool) -> None:
        watch_table(self, watch, is_on=is_on)

        if is_on and self is lamp._registry:
            lamp.send()

    monkeypatch.setattr(table, "watch", watch_and_send)
    token = watch(Noting(send_began=fail), lamp, other)

    assert token.is_stopped
    assert lamp._registry.watches == other._registry.watches == ()


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_in_a_watcher_goes_on(method: str, lamp: Lamp) -> None:
    """KeyboardInterrupt in a watcher is raised by the send after all watchers were called, and the watcher stays."""
    acts = {method: interrupt}
    failing, after = Noting(**acts), Noting()
    sends: list[SendRecord] = []

    with watch(failing, lamp) as token, watch(after, lamp), watch(sends.append, lamp):
        with pytest.raises(KeyboardInterrupt):
            lamp.send()

        assert not token.is_stopped
        acts.clear()
        failing.acts.clear()
        lamp.send()

    first = ["send_began", "send_ended"] if method == "send_began" else METHODS
    assert failing.told == after.told == [*first, *METHODS]
    assert [send.exception_type for send in sends] == [None if method == "send_ended" else "KeyboardInterrupt", None]
    assert all(call.duration_s is not None for send in sends for call in send.calls)


def test_an_interrupted_watcher_keeps_receivers_from_running(lamp: Lamp) -> None:
    """If a watcher raises KeyboardInterrupt at the beginning of a send or a call, the receiver is not called."""
    called: list[Any] = []
    lamp.connect(called.append, weak=False, priority=1)

    for method in METHODS[:2]:
        with watch(Noting(**{method: interrupt}), lamp), suppress(KeyboardInterrupt):
            lamp.send()

    assert called == []


def test_of_several_interrupts_the_first_is_raised(lamp: Lamp) -> None:
    """If two watchers raise KeyboardInterrupt or SystemExit, the send raises the first one."""

    def leave() -> None:
        raise SystemExit

    first, second = Noting(send_began=interrupt), Noting(send_began=leave)

    with watch(first, lamp), watch(second, lamp), pytest.raises(KeyboardInterrupt):
        lamp.send()


def test_a_watcher_needs_no_method(lamp: Lamp) -> None:
    """A Watcher that overrides no method can be added, and does nothing."""
    with watch(Watcher(), lamp):
        assert lamp.send() == [(hear, "heard")]


def test_counters_work_like_other_watchers(lamp: Lamp) -> None:
    """A ready-made watcher can watch several signals together with other watchers."""
    with watch(counters := Counters(), lamp), watch(Noting(send_began=fail), lamp):
        lamp.send()

    assert counters.sends() == {"lamp": 1}
