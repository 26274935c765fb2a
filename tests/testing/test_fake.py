"""fake() keeps receivers from running, on Aldis and on Blinker."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import blinker
import pytest

import aldis
from aldis.delivery import threads
from aldis.testing import fake, record


async def async_receiver(sender: Any, **payload: Any) -> str:
    return "async"


def test_no_receiver_runs(saved: Any, log: Any) -> None:
    """Inside the block no receiver is called and sends return no results; after the block receivers are called
    again."""
    receiver = saved.connect(log.receiver("one"))

    with fake(saved) as sent:
        assert saved.send("ada", title="Home") == []

    assert log == []
    assert (sent.one().sender, sent.one().payload, sent.one().stopped) == ("ada", {"title": "Home"}, (receiver,))
    assert saved.send("ada") == [(receiver, "one")]
    assert log == ["one"]


def test_a_namespace_is_faked_as_a_whole(namespace: Any, saved: Any, deleted: Any, log: Any) -> None:
    """A fake of a namespace stops the receivers of all its signals."""
    one, two = saved.connect(log.receiver("one")), deleted.connect(log.receiver("two"))

    with fake(namespace) as sent:
        saved.send()
        deleted.send()

    assert log == []
    assert [each.stopped for each in sent] == [(one,), (two,)]


def test_other_signals_are_not_faked(saved: Any, deleted: Any, log: Any) -> None:
    """A fake does not change other signals."""
    receiver = deleted.connect(log.receiver("two"))

    with fake(saved) as sent:
        assert deleted.send("ada") == [(receiver, "two")]

    assert not sent


def test_only_some_receivers_are_stopped(saved: Any, log: Any, thing: object) -> None:
    """With only=, other receivers run, and the fake records the sends that would have called a stopped receiver."""
    mail, audit = saved.connect(log.receiver("mail"), thing), saved.connect(log.receiver("audit"))

    with fake(saved, only=mail) as sent:
        assert saved.send(thing, n=1) == [(audit, "audit")]
        assert saved.send("ada", n=2) == [(audit, "audit")]

    assert log == ["audit", "audit"]
    assert sent.one().n == 1
    assert sent.one().stopped == (mail,)


def test_several_receivers_can_be_stopped(namespace: Any, saved: Any, deleted: Any, log: Any) -> None:
    """only= also accepts a collection of receivers, which may be connected to different signals."""
    one, two, three = log.receiver("one"), log.receiver("two"), log.receiver("three")
    saved.connect(one)
    deleted.connect(two)
    deleted.connect(three)

    with fake(namespace, only=[one, two]) as sent:
        saved.send()
        deleted.send()

    assert log == ["three"]
    assert [each.stopped for each in sent] == [(one,), (two,)]


def test_bound_methods_can_be_stopped(saved: Any) -> None:
    """A bound method is the same receiver at each access, and the method of another object is another receiver."""

    class Mailer:
        def __init__(self) -> None:
            self.got = 0

        def hear(self, sender: Any, **payload: Any) -> None:
            self.got += 1

    one, two = Mailer(), Mailer()
    saved.connect(one.hear)
    saved.connect(two.hear)

    with fake(saved, only=one.hear) as sent:
        saved.send()

    assert (one.got, two.got, len(sent)) == (0, 1, 1)


def test_async_sends_are_faked(saved: Any) -> None:
    """Async receivers do not run either, and need no wrapper."""
    saved.connect(async_receiver)

    with fake(saved) as sent:
        assert saved.send("ada") == []
        assert asyncio.run(saved.send_async("bob")) == []

    assert [each.stopped for each in sent] == [(async_receiver,)] * 2
    assert asyncio.run(saved.send_async("bob")) == [(async_receiver, "async")]


def test_receivers_in_other_threads_do_not_run(saved: Any, log: Any) -> None:
    """A fake works in all threads, also in those that began before the block."""
    receiver, go = saved.connect(log.receiver("one")), threading.Event()

    def send() -> None:
        go.wait()
        saved.send("thread")

    thread = threading.Thread(target=send)
    thread.start()

    with fake(saved) as sent:
        go.set()
        thread.join()

    assert log == []
    assert sent.one().stopped == (receiver,)


def test_a_receiver_connected_inside_is_stopped_too(saved: Any, log: Any) -> None:
    """A receiver that is connected inside the block does not run in it, and stays connected."""
    with fake(saved):
        receiver = saved.connect(log.receiver("one"))
        saved.send()

    assert log == []
    assert saved.send() == [(receiver, "one")]


def test_a_muted_send_is_not_recorded(saved: Any, log: Any) -> None:
    """A fake does not record a muted send, because it would have called no receiver."""
    receiver = saved.connect(log.receiver("one"))

    with fake(saved) as sent, saved.muted():
        saved.send()

    assert not sent
    assert log == []
    assert receiver


def test_fakes_and_recordings_nest(saved: Any, log: Any) -> None:
    """Each block counts separately: an inner fake also records the sends that an outer fake stops."""
    one, two = saved.connect(log.receiver("one")), saved.connect(log.receiver("two"))

    with fake(saved, only=one) as outer, record(saved) as sent:
        with fake(saved, only=[one, two]) as inner:
            saved.send(1)

        saved.send(2)

    assert log == ["two"]
    assert [each.stopped for each in outer] == [(one,), (one,)]
    assert set(inner.one().stopped) == {one, two}
    assert [each.stopped for each in sent] == [(), ()]


def test_a_receiver_that_is_connected_twice_is_stopped_once(saved: Any, log: Any) -> None:
    """A receiver that is connected to a sender and to any sender is listed once."""
    receiver = log.receiver("one")
    saved.connect(receiver)
    saved.connect(receiver, "ada")

    with fake(saved) as sent:
        saved.send("ada")

    assert sent.one().stopped == (receiver,)
    assert log == []


def test_a_once_receiver_is_not_used_up(log: Any) -> None:
    """A once receiver that was stopped can still be called once."""
    signal = aldis.Signal()
    receiver = signal.connect(log.receiver("one"), once=True)

    with fake(signal) as sent:
        signal.send()
        signal.send()

    assert len(sent) == 2
    assert signal.send() == [(receiver, "one")]
    assert signal.send() == []


def test_deliveries_receive_no_call(log: Any) -> None:
    """A fake stops a receiver before its delivery gets the call."""
    signal = aldis.Signal()

    with ThreadPoolExecutor(1) as executor:
        receiver = signal.connect(log.receiver("one"), via=threads(executor))

        with fake(signal, only=receiver) as sent:
            assert signal.send() == []

    assert log == []
    assert len(sent) == 1


def test_other_receivers_run_in_order(log: Any) -> None:
    """The order of the other receivers does not change, and a receiver that another one disconnects is not called."""
    signal = aldis.Signal()
    receivers = [signal.connect(log.receiver(str(number)), priority=number) for number in range(5)]

    with fake(signal, only=receivers[2]) as sent:
        signal.send()

    assert log == ["4", "3", "1", "0"]
    assert sent.one().stopped == (receivers[2],)


def test_declared_signals_can_be_faked() -> None:
    """A fake accepts any declared payload, with the defaults filled in."""
    signals, called = aldis.Namespace(), []

    @signals.declare
    def user_registered(sender: object, /, *, user_id: int, plan: str = "free") -> None: ...

    @user_registered.connect
    def welcome(sender: object, /, *, user_id: int, **extra: object) -> None:
        called.append(user_id)

    with fake(user_registered, only=welcome) as sent:
        user_registered.send("app", user_id=7)

    assert called == []
    assert sent.one().payload == {"user_id": 7, "plan": "free"}


def test_signals_that_override_receivers_for_can_be_faked(log: Any) -> None:
    """Receivers that a subclass's receivers_for returns are stopped too, all of them or by name."""
    chosen, other = log.receiver("chosen"), log.receiver("other")

    class Choosing(aldis.Signal[Any, ..., Any]):
        def receivers_for(self, sender: Any) -> Any:
            return iter([chosen, other])

    signal = Choosing()

    with fake(signal, only=chosen) as sent:
        assert signal.send() == [(other, "other")]

    with fake(signal):
        assert signal.send() == []

    assert sent.one().stopped == (chosen,)


def test_dead_receivers_are_not_recorded() -> None:
    """A weak receiver that has died is not listed, and the fake keeps nothing of it alive."""
    signal = aldis.Signal()
    dying = [lambda sender, **payload: None]
    signal.connect(dying[0])

    def kill(sender: Any, **payload: Any) -> None:
        dying.clear()

    signal.connect(kill, priority=1)

    with fake(signal, only=kill) as sent:
        dying.clear()
        assert signal.send() == []

    assert sent.one().stopped == (kill,)


def test_nothing_is_left_on_the_signal(saved: Any, log: Any) -> None:
    """After the block, also after one that raises, the signal is as it was before."""
    receiver = saved.connect(log.receiver("one"))

    with pytest.raises(KeyError), fake(saved):
        raise KeyError

    if isinstance(saved, blinker.Signal):
        assert not {"send", "send_async", "receivers_for"} & vars(saved).keys()
    else:
        assert saved._registry.is_ordinary

    assert list(saved.receivers_for("ada")) == [receiver]
