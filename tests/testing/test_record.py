"""record() stores the sends of signals, on Aldis and on Blinker."""

from __future__ import annotations

import asyncio
import copy
import threading
from functools import partial
from typing import Any

import blinker
import pytest

import aldis
from aldis import ANY, AsyncReceiverError, Namespace
from aldis.aio import Concurrent
from aldis.testing import Recording, Sent, record


async def async_receiver(sender: Any, **payload: Any) -> str:
    return "async"


def is_left_alone(signal: Any) -> bool:
    """Return whether nothing is left on a signal."""
    if isinstance(signal, aldis.Signal):
        return not signal.receivers and signal._registry.interceptors == () and signal._registry.is_ordinary

    return not signal.receivers and not {"send", "send_async", "receivers_for"} & vars(signal).keys()


def test_each_send_is_recorded_with_signal_sender_and_payload(saved: Any) -> None:
    """A send in the block is recorded; a send before it or after it is not."""
    saved.send("before")

    with record(saved) as sent:
        saved.send("ada", title="Home", number=7)

    saved.send("after")
    (one,) = sent
    assert (one.signal, one.sender, one.payload, one.stopped) == (saved, "ada", {"title": "Home", "number": 7}, ())
    assert is_left_alone(saved)


def test_a_recording_is_a_sequence(saved: Any) -> None:
    """A recording has a length, truth, indices, slices and iteration, and grows while the block runs."""
    with record(saved) as sent:
        assert not sent
        assert len(sent) == 0
        saved.send(1)
        assert sent
        saved.send(2)

    assert isinstance(sent, Recording)
    assert [each.sender for each in sent] == [1, 2]
    assert (sent[0].sender, sent[-1].sender, len(sent)) == (1, 2, 2)
    assert [each.sender for each in sent[1:]] == [2]
    assert sent[0] in sent
    assert next(reversed(sent)) is sent.last()


def test_one_returns_the_only_send(saved: Any) -> None:
    """one() returns the send if there was exactly one."""
    with record(saved) as sent:
        saved.send("ada", title="Home")

    assert sent.one() is sent[0] is sent.last()


def test_one_fails_if_nothing_was_sent(saved: Any) -> None:
    """one() and last() fail with the name of the signal if nothing was sent."""
    with record(saved) as sent:
        pass

    with pytest.raises(AssertionError, match=r"^Expected one send of 'saved', but nothing was sent\.$"):
        sent.one()

    with pytest.raises(AssertionError, match=r"^Expected a send of 'saved', but nothing was sent\.$"):
        _ = sent.last()


def test_one_lists_the_sends_if_there_are_several(saved: Any, thing: object) -> None:
    """one() fails with a list of all sends, with their senders, names and values, if there are several."""
    with record(saved) as sent:
        saved.send("ada", title="Home", number=7)
        saved.send("bob")

    with pytest.raises(AssertionError) as error:
        sent.one()

    assert str(error.value) == (
        "Expected one send of 'saved', but 2 were sent:\n"
        "  1. 'saved' by 'ada': title='Home', number=7\n"
        "  2. 'saved' by 'bob': no payload"
    )


def test_messages_stay_short() -> None:
    """Long values and long lists are cut, and a value whose repr raises does no harm."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    signals = Namespace()
    saved, more = signals.signal("saved"), [signals.signal(str(number)) for number in range(3)]

    with record([saved, more]) as sent:
        for _ in range(25):
            saved.send("x" * 500, bad=Bad(), items=list(range(1000)))

    text = repr(sent)
    assert text.startswith("<Recording of 4 signals: 25 were sent:\n  1. 'saved' by 'xxx")
    assert text.endswith("\n  and 5 more>")
    assert len(text) < 20 * 300


def test_messages_name_signals_without_a_name() -> None:
    """A signal without a name is named by its class, and a sender that the recording filters by is named too."""
    signal = aldis.Signal()

    with record(signal, sender="ada") as sent:
        pass

    with pytest.raises(AssertionError, match=r"^Expected one send of a Signal by 'ada', but nothing was sent"):
        sent.one()

    assert repr(sent) == "<Recording of a Signal by 'ada': nothing was sent.>"


def test_the_payload_can_be_read_as_attributes(saved: Any) -> None:
    """Each payload keyword is an attribute of the recorded send, unless the send itself has an attribute of that
    name."""
    with record(saved) as sent:
        saved.send("ada", title="Home", signal="shadowed")

    one = sent.one()
    assert one.title == "Home"
    assert one.signal is saved
    assert one.payload["signal"] == "shadowed"
    assert repr(one) == "<Sent 'saved' by 'ada': title='Home', signal='shadowed'>"

    with pytest.raises(AttributeError, match="no 'titel' in its payload, but 'title', 'signal'"):
        _ = one.titel

    saved_nothing = Sent(saved, None, {}, ())

    with pytest.raises(AttributeError, match="no 'title' in its payload, but nothing"):
        _ = saved_nothing.title


def test_a_send_can_be_copied(saved: Any) -> None:
    """A copy of a recorded send is equal to it, and attribute access during the copy does not recurse without end."""
    sent = Sent(saved, "ada", {"title": "Home"}, ())
    twin = copy.copy(sent)

    assert (twin.signal, twin.sender, twin.payload) == (saved, "ada", {"title": "Home"})
    assert not hasattr(Sent.__new__(Sent), "payload")


def test_only_the_sends_of_one_sender_are_recorded(saved: Any, thing: object) -> None:
    """With a sender, sends by other senders are not recorded; objects match by identity, values by value."""
    with (
        record(saved, sender=thing) as by_thing,
        record(saved, sender="ada") as by_ada,
        record(saved, sender=saved.ANY) as by_any,
    ):
        saved.send(thing)
        saved.send(type(thing)())
        saved.send(str(b"ada", "ascii"))
        saved.send("bob")
        saved.send()

    assert [each.sender for each in by_thing] == [thing]
    assert [each.sender for each in by_ada] == ["ada"]
    assert len(by_any) == 5
    assert by_any.last().sender is None


def test_a_proxy_as_sender_counts_as_the_object_it_points_to(thing: object, saved: Any) -> None:
    """record() with a proxy as sender records the sends of the object that the proxy points to."""

    class Proxy:
        def _get_current_object(self) -> object:
            return thing

    with record(saved, sender=Proxy()) as sent:
        saved.send(thing)

    assert sent.one().sender is thing


def test_a_sender_that_asks_for_receivers_first_is_recorded(saved: Any, thing: object) -> None:
    """Inside the block the signal has receivers, for code that asks before it sends."""
    assert not saved.receivers

    with record(saved):
        assert saved.receivers
        assert saved.has_receivers_for(thing)

    with record(saved, sender=thing):
        assert saved.has_receivers_for(thing)
        assert not saved.has_receivers_for("another") or not isinstance(saved, aldis.Signal)

    assert not saved.receivers


def test_results_are_the_same_as_without_a_recording(saved: Any, log: Any) -> None:
    """The results of a send contain no entry of the recording."""
    receiver = saved.connect(log.receiver("one"))

    with record(saved):
        assert saved.send("ada") == [(receiver, "one")]
        assert list(saved.receivers_for("ada")).count(receiver) == 1

    assert log == ["one"]


def test_a_receiver_that_raises_hides_no_send(saved: Any, log: Any) -> None:
    """A send is recorded before its first receiver runs, so that a receiver that raises does not hide it."""
    receivers = [saved.connect(log.receiver(str(number), raises=True)) for number in range(5)]

    with record(saved) as sent, pytest.raises(RuntimeError):
        saved.send("ada")

    assert len(sent) == 1
    assert len(receivers) == 5


@pytest.mark.parametrize("policy", ["propagate", "collect", lambda failure: None])
def test_failure_policies_do_not_matter(policy: Any, log: Any) -> None:
    """Under each failure policy, each send is recorded once, and has the same result as without the recording."""
    signal = aldis.Signal(errors=policy)
    receiver = signal.connect(log.receiver("one", raises=True), priority=float("inf"))
    raised = []

    with record(signal) as sent:
        try:
            signal.send("ada")
        except RuntimeError as error:
            raised.append(str(error))

    assert len(sent) == 1
    assert raised == ([] if callable(policy) else ["one"])
    assert log == ["one"]
    assert receiver


def test_async_sends_are_recorded_too(saved: Any) -> None:
    """A recording needs no wrapper: send_async and send are both recorded, with receivers and without."""

    async def main() -> Any:
        await saved.send_async("ada", title="Home")
        saved.connect(async_receiver)
        return await saved.send_async("bob")

    with record(saved) as sent:
        saved.send("sync")
        assert asyncio.run(main()) == [(async_receiver, "async")]

    assert [each.sender for each in sent] == ["sync", "ada", "bob"]
    assert sent[1].payload == {"title": "Home"}


def test_wrappers_are_not_in_the_payload(saved: Any, log: Any) -> None:
    """Wrappers that are passed to one send are not recorded as payload, and are used."""
    receiver, crossed = saved.connect(log.receiver("one")), []

    def to_async(function: Any) -> Any:
        async def run(*args: Any, **payload: Any) -> Any:
            crossed.append("async")
            return function(*args, **payload)

        return run

    def to_sync(function: Any) -> Any:
        def run(*args: Any, **payload: Any) -> Any:
            crossed.append("sync")
            return asyncio.run(function(*args, **payload))

        return run

    with record(saved) as sent:
        assert asyncio.run(saved.send_async("ada", _sync_wrapper=to_async, n=1)) == [(receiver, "one")]
        saved.disconnect(receiver)
        saved.connect(async_receiver)
        assert saved.send("bob", _async_wrapper=to_sync, n=2) == [(async_receiver, "async")]

    assert [each.payload for each in sent] == [{"n": 1}, {"n": 2}]
    assert crossed == ["async", "sync"]


def test_async_policies_do_not_matter() -> None:
    """With concurrent receivers, too, a send is recorded once, and the results contain no entry of the recording."""
    signal = aldis.Signal(async_policy=Concurrent())
    signal.connect(async_receiver)

    with record(signal) as sent:
        assert asyncio.run(signal.send_async("ada")) == [(async_receiver, "async")]

    assert len(sent) == 1


def test_a_send_without_a_needed_wrapper_still_raises() -> None:
    """A send to async receivers that fails without the recording also fails with it."""
    signal = aldis.Signal()
    signal.connect(async_receiver)

    with record(signal), pytest.raises(AsyncReceiverError):
        signal.send("ada")


def test_muted_sends_are_not_recorded(saved: Any) -> None:
    """A send while the signal is muted is not recorded."""
    with record(saved) as sent:
        with saved.muted():
            saved.send("muted")

        saved.is_muted = True
        saved.send("muted")
        saved.is_muted = False
        saved.send("ada")

    assert sent.one().sender == "ada"


def test_sends_with_some_receivers_muted_are_recorded(log: Any) -> None:
    """A send with some receivers muted is recorded."""
    signal = aldis.Signal()
    receiver = signal.connect(log.receiver("one"))

    with record(signal) as sent, signal.muted(receiver):
        signal.send("ada")

    assert len(sent) == 1
    assert log == []


def test_other_threads_are_recorded(saved: Any) -> None:
    """Sends of other threads are recorded, also of threads that began before the block."""
    go = threading.Event()

    def send() -> None:
        go.wait()
        saved.send("thread")

    threads = [threading.Thread(target=send) for _ in range(4)]

    for thread in threads:
        thread.start()

    with record(saved) as sent:
        go.set()

        for thread in threads:
            thread.join()

    assert [each.sender for each in sent] == ["thread"] * 4


def test_blocks_nest(saved: Any) -> None:
    """Blocks on the same signal are independent, in whatever order they end."""
    outer, inner = record(saved), record(saved)

    with outer as all_of_it:
        saved.send(1)
        inner_sent = inner.__enter__()
        saved.send(2)

    saved.send(3)
    inner.__exit__(None, None, None)
    saved.send(4)

    assert [each.sender for each in all_of_it] == [1, 2]
    assert [each.sender for each in inner_sent] == [2, 3]
    assert is_left_alone(saved)


def test_a_block_that_raises_ends_too(saved: Any) -> None:
    """A block that raises leaves nothing on the signal, and the exception goes on."""
    with pytest.raises(KeyError), record(saved):
        raise KeyError

    assert is_left_alone(saved)


def test_a_recording_that_cannot_connect_leaves_nothing() -> None:
    """When connecting to a signal fails, nothing is left on this signal or on those before it."""

    class Closed(aldis.Signal[Any, ..., Any]):
        def connect(self, *args: Any, **options: Any) -> Any:
            raise PermissionError

    good, closed = aldis.Signal(), Closed()

    with pytest.raises(PermissionError), record([good, closed]):
        pytest.fail("the block must not begin")

    assert is_left_alone(good)
    assert is_left_alone(closed)


def test_several_signals_are_recorded_in_the_order_of_sending(namespace: Any, saved: Any, deleted: Any) -> None:
    """A namespace or a list of signals makes one recording, with each signal once; of() returns the part of one
    signal."""
    with record(namespace) as all_of_it, record((saved, [deleted, saved], namespace)) as both:
        saved.send(1)
        deleted.send(2)
        saved.send(3)

    for sent in (all_of_it, both):
        assert [(each.signal.name, each.sender) for each in sent] == [("saved", 1), ("deleted", 2), ("saved", 3)]
        assert [each.sender for each in sent.of(saved)] == [1, 3]
        assert sent.of(deleted).one().sender == 2

    with pytest.raises(AssertionError, match="Expected one send of 'saved' or 'deleted', but 3 were sent"):
        both.one()


def test_a_recording_can_be_cleared(saved: Any) -> None:
    """clear() removes all earlier sends from the recording."""
    with record(saved) as sent:
        saved.send(1)
        sent.clear()
        saved.send(2)

    assert sent.one().sender == 2


def test_declared_signals_are_recorded_with_their_defaults() -> None:
    """The payload of a declared signal is recorded as receivers get it, and a send that does not fit is not
    recorded."""
    signals = Namespace()

    @signals.declare
    def user_registered(sender: object, /, *, user_id: int, plan: str = "free") -> None: ...

    with record(user_registered) as sent:
        user_registered.send("app", user_id=7)

        with pytest.raises(aldis.PayloadError):
            user_registered.send("app", user=7)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    assert sent.one().payload == {"user_id": 7, "plan": "free"}


def test_a_record_does_not_change_with_the_payload(saved: Any) -> None:
    """The recorded payload is a separate dict, with the very values that were sent."""
    items: list[int] = []
    payload = {"items": items}

    with record(saved) as sent:
        saved.send("ada", **payload)

    payload.clear()
    items.append(1)
    assert sent.one().payload == {"items": items}


def test_signals_that_override_receivers_for_are_recorded() -> None:
    """A signal whose class overrides receivers_for is recorded like any other."""

    def chosen(sender: Any, **payload: Any) -> str:
        return "chosen"

    class Choosing(aldis.Signal[Any, ..., Any]):
        def receivers_for(self, sender: Any) -> Any:
            return iter([chosen])

    signal = Choosing()

    with record(signal) as sent:
        assert signal.send("ada") == [(chosen, "chosen")]

    assert len(sent) == 1


def test_code_that_calls_receivers_itself_still_works(saved: Any) -> None:
    """Code that calls the receivers of receivers_for() may call the recording's own receiver, which does nothing."""
    with record(saved) as sent:
        for receiver in saved.receivers_for("ada"):
            receiver("ada", title="Home")

    assert not sent


def test_a_replaced_method_is_restored() -> None:
    """If a Blinker signal had its own attribute in place of a method, it is called inside the block and restored
    after it."""
    signal: Any = blinker.Signal()
    calls: list[Any] = []

    def send(*args: Any, **payload: Any) -> list[Any]:
        calls.append(args)
        return []

    signal.send = send

    with record(signal) as sent:
        signal.send("ada")

    assert signal.send is send
    assert calls == [("ada",)]
    assert len(sent) == 1


def test_a_method_replaced_inside_stays() -> None:
    """A method of a Blinker signal that other code replaces inside the block stays replaced, and works."""
    signal: Any = blinker.Signal()

    with record(signal) as sent:
        inner = signal.send
        signal.send = partial(inner)

    assert signal.send("ada") == []
    assert not sent
    del signal.send
    assert is_left_alone(signal)


def test_old_signals_without_send_async_are_recorded() -> None:
    """Signals of a library with fewer methods than Blinker 1.9 can be recorded."""

    class Old:
        def __init__(self) -> None:
            self.receivers: dict[int, Any] = {}

        def connected_to(self, receiver: Any) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def connected() -> Any:
                self.receivers[id(receiver)] = receiver
                yield
                del self.receivers[id(receiver)]

            return connected()

        def receivers_for(self, sender: Any) -> Any:
            return list(self.receivers.values())

        def send(self, sender: Any, **payload: Any) -> list[Any]:
            return [receiver(sender, **payload) for receiver in self.receivers_for(sender)]

    signal = Old()

    with record(signal) as sent:
        assert signal.send("ada", n=1) == []

    assert sent.one().payload == {"n": 1}
    assert vars(signal) == {"receivers": {}}


def test_any_is_the_default_sender() -> None:
    """Aldis' own ANY as sender means any sender, as no sender does."""
    signal = aldis.Signal()

    with record(signal, sender=ANY) as sent:
        signal.send(1)

    assert len(sent) == 1


def test_many_threads_record_the_same_signal() -> None:
    """Blocks that begin and end in many threads at once each record their own sender's sends, each send once."""
    saved: Any = aldis.NamedSignal("saved")  # Blinker's connect and disconnect are not thread-safe.
    wrong: list[str] = []

    def run(name: str) -> None:
        for number in range(50):
            with record(saved, sender=name) as sent:
                saved.send(name, n=number)
                saved.send(name, n=number)

            if [each.n for each in sent] != [number, number]:
                wrong.append(repr(sent))

    threads = [threading.Thread(target=run, args=(f"thread {number}",)) for number in range(6)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    assert wrong == []
    assert is_left_alone(saved)
