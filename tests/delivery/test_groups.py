"""Groups of deliveries: the engine opens a group before any receiver of a send runs, and closes it after the last
turn."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from aldis import AsyncReceiverError, Failure, InvalidOptionError, Namespace, PayloadError, Signal
from aldis.aio import Concurrent
from aldis.delivery import Call
from aldis.testing import fake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Broken(Exception):
    """The exception that the receivers of these tests raise."""


class Refused(Exception):
    """The exception that the groups raise."""


class Group:
    """A group that logs its calls, and raises where the test asks for it."""

    def __init__(self, log: list[Any], name: str = "group", *, refuses: str = "", is_slow: bool = False) -> None:
        self.log = log
        self.name = name
        self.refuses = refuses
        self.is_slow = is_slow

    def open(self, signal: Any, sender: Any, payload: dict[str, Any], is_awaited: bool, /) -> dict[str, Any]:
        self.log.append(f"{self.name} opened")

        if self.refuses == "open":
            raise Refused(self.name)

        return {"signal": signal, "sender": sender, "payload": payload, "is_awaited": is_awaited, "calls": []}

    def close(self, opened: Any, /) -> Any:
        if self.is_slow:
            return self.close_later()

        self.log.append(f"{self.name} closed")

        if self.refuses == "close":
            raise Refused(self.name)

        return None

    async def close_later(self) -> None:
        await asyncio.sleep(0)
        self.log.append(f"{self.name} closed")

        if self.refuses == "close":
            raise Refused(self.name)


class Via:
    """A delivery of a group. It stores its calls."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self.calls: list[Call] = []

    def check(self, signal: Signal[Any, ..., Any], receiver: Callable[..., Any], is_async: bool, /) -> None: ...

    def deliver(self, call: Call, /) -> str:
        self.calls.append(call)
        self.group.log.append("delivered")
        return "delivered"


class Desk:
    """A signal, a log, and receivers that write into the log."""

    def __init__(self, **settings: Any) -> None:
        self.signal: Signal[Any, ..., Any] = Signal(**settings)
        self.log: list[Any] = []

    def at_once(self, word: str, **options: Any) -> None:
        self.signal.connect(lambda sender, **payload: self.log.append(word), weak=False, **options)

    def failing(self, error: BaseException, **options: Any) -> None:
        def fail(sender: Any, **payload: Any) -> None:
            self.log.append("raised")
            raise error

        self.signal.connect(fail, weak=False, **options)

    def via(self, group: Group, **options: Any) -> Via:
        made = Via(group)
        self.signal.connect(lambda sender, **payload: None, weak=False, via=made, **options)
        return made

    def send(self, is_awaited: bool, sender: Any = "x", **payload: Any) -> Any:
        if is_awaited:
            return asyncio.run(self.signal.send_async(sender, _sync_wrapper=in_async, **payload))

        return self.signal.send(sender, **payload)


def in_async(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Run a sync receiver in the event loop, as a sync_wrapper."""

    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


both = pytest.mark.parametrize("is_awaited", [False, True], ids=["send", "send_async"])
policies = pytest.mark.parametrize(
    "errors", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "callable"]
)


# The moments of open and close.


@both
def test_a_group_opens_first_and_closes_last(is_awaited: bool) -> None:
    """A send opens a group once, before any receiver runs, and closes it once, after the last turn."""
    desk = Desk()
    group = Group(desk.log)
    desk.at_once("first")
    desk.via(group)
    desk.via(group)
    desk.at_once("last")

    results = desk.send(is_awaited)

    assert desk.log == ["group opened", "first", "delivered", "delivered", "last", "group closed"]
    assert [value for _, value in results] == [None, "delivered", "delivered", None]


@both
def test_the_arguments_of_open_and_the_result_that_deliveries_get(is_awaited: bool) -> None:
    """open receives the signal, the sender, the payload and whether close is awaited, and deliveries get its result."""
    desk = Desk()
    group = Group(desk.log)
    one, two = desk.via(group), desk.via(group)
    desk.send(is_awaited, "sender", a=1)

    opened = one.calls[0].opened
    assert opened == {
        "signal": desk.signal, "sender": "sender", "payload": {"a": 1}, "is_awaited": is_awaited, "calls": [],
    }  # fmt: skip
    assert two.calls[0].opened is opened

    desk.send(is_awaited)
    assert one.calls[1].opened is not opened


def test_a_group_receives_the_whole_payload() -> None:
    """The payload has the defaults of the declaration, and a payload that does not fit is refused before the group
    is opened."""

    def happened(sender: Any, /, *, a: int, b: int = 2) -> None: ...

    log: list[Any] = []
    via = Via(Group(log))
    signal: Signal[Any, ..., Any] = Namespace().declare(happened)
    signal.connect(lambda sender, **payload: None, weak=False, via=via)
    signal.send(None, a=1)
    assert via.calls[0].opened["payload"] == {"a": 1, "b": 2}

    with pytest.raises(PayloadError):
        signal.send(None)

    assert log.count("group opened") == 1


@both
def test_a_closing_that_is_awaited(is_awaited: bool) -> None:
    """send_async awaits the coroutine that close returns; send ignores the value that close returns."""
    desk = Desk()
    group = Group(desk.log, is_slow=is_awaited)
    desk.via(group)
    desk.send(is_awaited)

    assert desk.log == ["group opened", "delivered", "group closed"]


@both
def test_concurrent_receivers_and_a_group(is_awaited: bool) -> None:
    """With an async policy the group opens before any receiver begins, and closes when all receivers have ended."""
    desk = Desk(async_policy=Concurrent())
    group = Group(desk.log, is_slow=is_awaited)

    async def slow(sender: Any) -> None:
        desk.log.append("began")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        desk.log.append("ended")

    desk.signal.connect(slow)
    desk.via(group)
    asyncio.run(desk.signal.send_async("x"))

    assert desk.log == ["group opened", "began", "delivered", "ended", "group closed"]


@both
def test_several_groups(is_awaited: bool) -> None:
    """A send opens its groups in the receivers' order, and closes each of them."""
    desk = Desk()
    one, two = Group(desk.log, "one"), Group(desk.log, "two", is_slow=is_awaited)
    desk.via(two)
    desk.via(one)
    desk.via(two)
    desk.send(is_awaited)

    assert desk.log == ["two opened", "one opened", *["delivered"] * 3, "two closed", "one closed"]


def test_groups_are_compared_by_identity() -> None:
    """Groups that are equal or unhashable are still separate groups."""

    class Equal(Group):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    desk = Desk()
    one, two = desk.via(Equal(desk.log, "one")), desk.via(Equal(desk.log, "two"))
    desk.send(is_awaited=False)

    assert desk.log == ["one opened", "two opened", "delivered", "delivered", "one closed", "two closed"]
    assert one.calls[0].opened is not two.calls[0].opened


def test_a_delivery_without_a_group() -> None:
    """A delivery whose group is None gets no opened group."""

    class Alone(Via):
        def deliver(self, call: Call, /) -> str:
            self.calls.append(call)
            return "delivered"

    desk, via = Desk(), Alone(None)
    desk.signal.connect(lambda sender: None, weak=False, via=via)
    desk.send(is_awaited=False)

    assert via.calls[0].opened is None


# The sends that open a group.


def test_only_sends_with_receivers_of_the_group_open_it() -> None:
    """Receivers of another sender, muted receivers and disconnected receivers open no group."""
    desk = Desk()
    via = Via(Group(desk.log))

    def receiver(sender: Any) -> None: ...

    desk.signal.connect(receiver, "desk", via=via)
    desk.at_once("ran")
    desk.send(False, "other")

    with desk.signal.muted(receiver):
        desk.send(False, "desk")

    with desk.signal.muted():
        desk.send(False, "desk")

    desk.signal.disconnect(receiver)
    desk.send(False, "desk")

    assert desk.log == ["ran", "ran", "ran"]


def test_a_fake_opens_no_group() -> None:
    """A fake opens no group, because nothing is delivered."""
    desk = Desk()
    desk.via(Group(desk.log))

    with fake(desk.signal) as recording:
        desk.send(is_awaited=False)

    assert len(recording) == 1
    assert desk.log == []


def test_the_group_of_the_connection_at_the_send() -> None:
    """A receiver that is connected again with another delivery during a send is delivered as at the beginning of the
    send."""
    desk = Desk()
    one, two = Via(Group(desk.log, "one")), Via(Group(desk.log, "two"))

    def receiver(sender: Any) -> None: ...

    def change(sender: Any) -> None:
        desk.signal.connect(receiver, via=two)

    desk.signal.connect(change, priority=1)
    desk.signal.connect(receiver, via=one)
    desk.send(is_awaited=False)
    assert desk.log == ["one opened", "delivered", "one closed"]

    desk.log.clear()
    desk.send(is_awaited=False)
    assert desk.log == ["two opened", "delivered", "two closed"]


def test_a_nested_send_has_its_own_group() -> None:
    """A send inside a receiver opens and closes its own group, before the outer group is closed."""
    desk = Desk()
    via = Via(Group(desk.log))

    def nest(sender: Any) -> None:
        if sender == "outer":
            desk.signal.send("inner")

    desk.signal.connect(lambda sender: None, weak=False, via=via)
    desk.signal.connect(nest)
    desk.send(False, "outer")

    each = ["group opened", "delivered"]
    assert desk.log == [*each, *each, "group closed", "group closed"]
    assert via.calls[0].opened is not via.calls[1].opened


@both
def test_a_once_receiver_and_a_group(is_awaited: bool) -> None:
    """A once receiver of a group is delivered once, and afterwards no send opens its group."""
    desk = Desk()
    desk.via(Group(desk.log), once=True)
    desk.send(is_awaited)
    desk.send(is_awaited)

    assert desk.log == ["group opened", "delivered", "group closed"]


# Failures.


@both
@policies
def test_a_group_that_refuses_the_send(errors: Any, is_awaited: bool) -> None:
    """An exception of open is raised by the send under every policy, and no receiver runs."""
    desk = Desk(errors=errors)
    desk.at_once("ran", priority=1)
    desk.via(Group(desk.log, refuses="open"))

    with pytest.raises(Refused):
        desk.send(is_awaited)

    assert desk.log == ["group opened"]


def test_an_open_group_is_not_closed_if_another_refuses() -> None:
    """If one group refuses a send, no group is closed."""
    desk = Desk()
    desk.via(Group(desk.log, "one"))
    desk.via(Group(desk.log, "two", refuses="open"))

    with pytest.raises(Refused, match="two"):
        desk.send(is_awaited=False)

    assert desk.log == ["one opened", "two opened"]


@both
@policies
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_group_that_cannot_be_closed(errors: Any, is_awaited: bool, is_slow: bool) -> None:
    """An exception of close, or of its coroutine, is raised by the send under every policy, after the turns of all
    receivers."""
    desk = Desk(errors=errors)
    desk.via(Group(desk.log, refuses="close", is_slow=is_slow and is_awaited))
    desk.at_once("ran")

    with pytest.raises(Refused):
        desk.send(is_awaited)

    assert desk.log == ["group opened", "delivered", "ran", "group closed"]


@both
def test_a_failing_group_does_not_prevent_the_others_from_closing(is_awaited: bool) -> None:
    """All groups are closed, and the failures of several groups are raised as an exception group."""
    desk = Desk()
    desk.via(Group(desk.log, "one", refuses="close"))
    desk.via(Group(desk.log, "two", refuses="close"))
    desk.via(Group(desk.log, "three"))

    with pytest.raises(ExceptionGroup) as raised:
        desk.send(is_awaited)

    assert [str(error) for error in raised.value.exceptions] == ["one", "two"]
    assert desk.log[-3:] == ["one closed", "two closed", "three closed"]


@both
def test_a_receiver_that_stops_the_send(is_awaited: bool) -> None:
    """When a receiver's exception stops the send, the group is closed with the calls of the receivers before it."""
    desk, error = Desk(), Broken()
    group = Group(desk.log, is_slow=is_awaited)
    desk.via(group)
    desk.failing(error)
    desk.via(group)

    with pytest.raises(Broken) as raised:
        desk.send(is_awaited)

    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert desk.log == ["group opened", "delivered", "raised", "group closed"]


@both
def test_a_delivery_that_stops_the_send(is_awaited: bool) -> None:
    """An exception of deliver is the receiver's failure, and the group is still closed."""
    desk = Desk()
    via = desk.via(Group(desk.log))

    def refuse(call: Call, /) -> str:
        raise Broken

    via.deliver = refuse  # type: ignore[method-assign]

    with pytest.raises(Broken):
        desk.send(is_awaited)

    assert desk.log == ["group opened", "group closed"]


@both
def test_a_note_says_that_a_group_failed_too(is_awaited: bool) -> None:
    """If a receiver's exception stops the send and a group fails too, the receiver's exception is raised with a note
    that names the group's failure without its message."""
    desk, error = Desk(), Broken("of the receiver")
    desk.via(Group(desk.log, "secret", refuses="close"))
    desk.failing(error)

    with pytest.raises(Broken) as raised:
        desk.send(is_awaited)

    assert raised.value is error
    assert error.__notes__ == ["The deliveries of this send failed, too: Refused."]


@both
def test_failures_of_receivers_and_of_groups_together(is_awaited: bool) -> None:
    """Under "collect", the failure of a group is one more exception in the exception group."""
    desk, error = Desk(errors="collect"), Broken()
    desk.via(Group(desk.log, refuses="close"))
    desk.failing(error)

    with pytest.raises(ExceptionGroup) as raised:
        desk.send(is_awaited)

    assert [type(each) for each in raised.value.exceptions] == [Broken, Refused]


@both
def test_a_callable_policy_is_not_asked_about_groups(is_awaited: bool) -> None:
    """A policy that swallows the failures of receivers never receives the failures of groups."""
    failures: list[Failure] = []
    desk = Desk(errors=failures.append)
    desk.via(Group(desk.log, refuses="close"))
    desk.failing(Broken())

    with pytest.raises(Refused):
        desk.send(is_awaited)

    assert [type(failure.exception) for failure in failures] == [Broken]


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_an_interrupted_send_closes_no_group(is_awaited: bool, error: BaseException) -> None:
    """A send that KeyboardInterrupt, SystemExit or a cancellation stops closes no group."""
    desk = Desk()
    desk.via(Group(desk.log))
    desk.failing(error)

    with pytest.raises(type(error)):
        desk.send(is_awaited)

    assert desk.log == ["group opened", "delivered", "raised"]


# Concurrent receivers.


def test_concurrent_a_failure_stops_no_receiver() -> None:
    """If receivers run concurrently, the group is closed before the failure of a receiver is raised."""
    desk = Desk(async_policy=Concurrent(), sync_wrapper=in_async)
    desk.failing(Broken())
    desk.via(Group(desk.log, is_slow=True))

    with pytest.raises(Broken):
        asyncio.run(desk.signal.send_async("x"))

    assert desk.log == ["group opened", "raised", "delivered", "group closed"]


@policies
@pytest.mark.parametrize("refuses", ["open", "close"])
def test_concurrent_groups_fail_under_every_policy(errors: Any, refuses: str) -> None:
    """If receivers run concurrently, the send raises the exception of a group, as it does for receivers in turn."""
    desk = Desk(async_policy=Concurrent(), errors=errors, sync_wrapper=in_async)
    desk.at_once("ran")
    desk.via(Group(desk.log, refuses=refuses))

    with pytest.raises(Refused):
        asyncio.run(desk.signal.send_async("x"))

    assert ("ran" in desk.log) == (refuses == "close")


def test_concurrent_a_cancelled_send_closes_no_group() -> None:
    """A send whose task is cancelled closes no group."""
    desk = Desk(async_policy=Concurrent())
    started = asyncio.Event()

    async def wait(sender: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    desk.via(Group(desk.log))
    desk.signal.connect(wait)

    async def main() -> None:
        task = asyncio.create_task(desk.signal.send_async("x"))
        await started.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert desk.log == ["group opened", "delivered"]


class GivesUp:
    """An async policy that runs the calls, and then raises TimeoutError."""

    async def run(self, calls: Sequence[Callable[[], Any]], /) -> None:
        for call in calls:
            await call()

        raise TimeoutError("of the policy")


@pytest.mark.parametrize("refuses", ["", "close"])
def test_a_policy_that_raises_stops_the_send(refuses: str) -> None:
    """An exception of the async policy itself is raised, and the group is closed with the calls of the turns that
    were reached."""
    desk = Desk(async_policy=GivesUp(), sync_wrapper=in_async, errors="collect")
    desk.via(Group(desk.log, refuses=refuses))
    desk.failing(Broken())

    with pytest.raises(TimeoutError, match="of the policy") as raised:
        asyncio.run(desk.signal.send_async("x"))

    assert desk.log == ["group opened", "delivered", "raised", "group closed"]
    assert getattr(raised.value, "__notes__", []) == (
        ["The deliveries of this send failed, too: Refused."] if refuses else []
    )


# Early errors.


class Half:
    """An object with only one of the two methods."""

    def open(self, signal: Any, sender: Any, payload: Any, is_awaited: bool, /) -> None: ...


@pytest.mark.parametrize("group", ["a name", 3, Half(), object()])
def test_an_invalid_group_is_refused_at_connect(group: Any) -> None:
    """E12: A delivery whose group is invalid is refused at connect, and the message says which methods a group has."""
    signal: Signal[Any, ..., Any] = Signal()

    with pytest.raises(InvalidOptionError, match=r"methods open\(.*\) and close\(opened\)"):
        signal.connect(lambda sender: None, weak=False, via=Via(group))

    assert not signal.receivers


def test_receivers_that_cannot_run_are_refused_before_groups_open() -> None:
    """E9: send refuses async receivers before it opens any group."""
    desk = Desk()

    async def receiver(sender: Any) -> None: ...

    desk.signal.connect(receiver)
    desk.via(Group(desk.log))

    with pytest.raises(AsyncReceiverError):
        desk.send(is_awaited=False)

    assert desk.log == []


# E5: nothing is kept alive.


class Witness:
    """An object whose death a test can see."""


@pytest.mark.parametrize("refuses", ["", "open", "close"])
@pytest.mark.parametrize("is_failing", [False, True])
@pytest.mark.parametrize("errors", ["propagate", "collect"])
@pytest.mark.usefixtures("no_gc")
def test_sends_with_groups_leave_no_cycles(refuses: str, is_failing: bool, errors: Any) -> None:
    """E5: When the caller drops the exception of a send, everything that its frames held is freed without the
    collector."""
    desk = Desk(errors=errors)
    desk.via(Group(desk.log, refuses=refuses))
    desk.via(Group(desk.log, "other", refuses=refuses))

    if is_failing:

        def fail(sender: Any, payload: Any) -> None:
            raise Broken

        desk.signal.connect(fail)

    payload = Witness()
    died = weakref.ref(payload)

    with suppress(Refused, Broken, ExceptionGroup):
        desk.signal.send("x", payload=payload)

    for connection in desk.signal._registry.connections():
        via: Any = connection.options.via

        if via is not None:
            via.calls.clear()

    del payload
    assert died() is None
    assert gc.collect() == 0
