"""E3: failures are handled by the signal's failure policy: propagate, collect, or a callable."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from aldis import AldisError, Failure, NamedSignal, Namespace, Signal
from aldis.aio import Concurrent

if TYPE_CHECKING:
    from collections.abc import Callable


class Broken(Exception):
    """The exception that the receivers of these tests raise."""


def inline(receiver: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return call


def send(signal: Signal[Any, ..., Any], sender: Any = None, **payload: Any) -> Any:
    return signal.send(sender, **payload)


def send_async(signal: Signal[Any, ..., Any], sender: Any = None, **payload: Any) -> Any:
    return asyncio.run(signal.send_async(sender, _sync_wrapper=inline, **payload))


def send_concurrently(signal: Signal[Any, ..., Any], sender: Any = None, **payload: Any) -> Any:
    signal.sync_wrapper, signal.async_policy = inline, Concurrent()
    return asyncio.run(signal.send_async(sender, **payload))


Sender = Any
each_send = pytest.mark.parametrize("send", [send, send_async, send_concurrently])
each_ordered_send = pytest.mark.parametrize("send", [send, send_async])


def raising(log: list[str], name: str, error: BaseException) -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None:
        log.append(name)
        raise error

    return receiver


def good(log: list[str], name: str) -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> str:
        log.append(name)
        return name

    return receiver


def fill(signal: Signal[Any, ..., Any], log: list[str], *receivers: str | BaseException, sender: Any = None) -> None:
    for place, what in enumerate(receivers):
        made = good(log, what) if isinstance(what, str) else raising(log, f"failure {place}", what)

        if sender is None:
            signal.connect(made, weak=False)
        else:
            signal.connect(made, sender, weak=False)


def test_the_default_is_propagate() -> None:
    """E3: the default failure policy is "propagate", for a signal made by hand and for a signal of a namespace."""
    assert Signal().errors == "propagate"
    assert NamedSignal("x").errors == "propagate"
    assert Namespace().signal("x").errors == "propagate"


@each_ordered_send
@pytest.mark.parametrize("sender", [None, "x"])
def test_propagate_stops_at_the_first_failure(send: Sender, sender: Any) -> None:
    """E3: under "propagate", the first exception stops the send and is raised unchanged."""
    signal, log, error = Signal(), list[str](), Broken()
    fill(signal, log, "a", error, "b", Broken("second"), sender=sender)

    with pytest.raises(Broken) as raised:
        send(signal, sender)

    assert raised.value is error
    assert log == ["a", "failure 1"]


@each_send
@pytest.mark.parametrize("sender", [None, "x"])
def test_collect_raises_one_failure_unchanged(send: Sender, sender: Any) -> None:
    """E3: under "collect", all receivers run, and a single exception is raised unchanged."""
    signal, log, error = Signal(errors="collect"), list[str](), Broken()
    fill(signal, log, "a", error, "b", sender=sender)

    with pytest.raises(Broken) as raised:
        send(signal, sender)

    assert raised.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert log == ["a", "failure 1", "b"]


@each_send
def test_collect_raises_several_failures_as_a_group(send: Sender) -> None:
    """E3: under "collect", several exceptions are raised as one ExceptionGroup, in the receivers' order."""
    signal, log = NamedSignal("lamp", errors="collect"), list[str]()
    errors = [Broken("1"), KeyError("2"), ExceptionGroup("3", [Broken("3")])]
    fill(signal, log, errors[0], "a", errors[1], errors[2], "b")

    with pytest.raises(ExceptionGroup, match=r"3 receivers of .*'lamp'.* failed") as raised:
        send(signal)

    assert list(raised.value.exceptions) == errors
    assert log == ["failure 0", "a", "failure 2", "failure 3", "b"]
    assert not isinstance(raised.value, AldisError)


@each_send
def test_collect_returns_all_when_nothing_fails(send: Sender) -> None:
    """E3: under "collect", a send without failures returns what any send returns."""
    signal, log = Signal(errors="collect"), list[str]()
    fill(signal, log, "a", "b")

    assert [value for _, value in send(signal)] == ["a", "b"]


@each_send
@pytest.mark.parametrize("sender", [None, "x"])
def test_a_callable_receives_each_failure(send: Sender, sender: Any) -> None:
    """E3: a callable policy receives each failure, all receivers run, and the send does not raise."""
    failures: list[Failure] = []
    signal, log = Signal(errors=failures.append), list[str]()
    errors = [Broken("1"), Broken("2")]
    fill(signal, log, errors[0], "a", errors[1], "b", sender=sender)
    failing = [r for r in signal.receivers.values() if r in list(signal.receivers_for(sender))][0::2]

    results = send(signal, sender)

    assert [value for _, value in results] == ["a", "b"]
    assert [f.exception for f in failures] == errors
    assert [f.receiver for f in failures] == failing
    assert all(f.signal is signal and f.sender == sender for f in failures)
    assert log == ["failure 0", "a", "failure 2", "b"]


def test_a_callable_receives_the_failure_as_it_happens() -> None:
    """E3: the callable runs after the receiver that failed and before the next receiver."""
    log: list[str] = []
    signal = Signal(errors=lambda failure: log.append(type(failure.exception).__name__))
    fill(signal, log, Broken(), "a")

    signal.send()

    assert log == ["failure 0", "Broken", "a"]


@each_send
def test_a_policy_that_raises_lets_the_other_receivers_run(send: Sender) -> None:
    """E3: if the callable policy itself raises, all receivers still run, and the send raises its exception at the
    end."""
    refusal = RuntimeError("policy")

    def policy(failure: Failure) -> None:
        raise refusal

    signal, log = Signal(errors=policy), list[str]()
    fill(signal, log, "a", Broken(), "b")

    with pytest.raises(RuntimeError) as raised:
        send(signal)

    assert raised.value is refusal
    assert log == ["a", "failure 1", "b"]


@each_ordered_send
@pytest.mark.parametrize("policy", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a_base_exception_stops_every_send(send: Sender, policy: Any, stop: type[BaseException]) -> None:
    """E3: KeyboardInterrupt, SystemExit, CancelledError and GeneratorExit stop the send under every policy."""
    signal, log = Signal(errors=policy), list[str]()
    fill(signal, log, "a", stop(), "b")

    with pytest.raises(stop):
        send(signal)

    assert log == ["a", "failure 1"]


def test_errors_may_be_set_at_any_time() -> None:
    """E3: the attribute `errors` may be set at any time, and the next send follows it."""
    failures: list[Failure] = []
    signal, log = Signal(), list[str]()
    fill(signal, log, Broken(), "a")

    for policy, expected in [
        ("propagate", ["failure 0"]),
        ("collect", ["failure 0", "a"]),
        ("propagate", ["failure 0"]),
    ]:
        signal.errors = policy  # type: ignore[assignment]
        log.clear()

        with pytest.raises(Broken):
            signal.send()

        assert log == expected
        assert signal.errors == policy

    signal.errors = failures.append
    log.clear()
    signal.send()
    assert log == ["failure 0", "a"]
    assert len(failures) == 1

    signal.errors = "propagate"
    log.clear()

    with pytest.raises(Broken):
        signal.send("x")

    assert log == ["failure 0"]


def test_a_namespace_passes_its_policy_to_its_signals() -> None:
    """E3: a namespace's policy is the default of the signals that it makes, by name or declared; each signal may change
    its own."""
    signals = Namespace(errors="collect")

    def happened(sender: Any, /) -> None: ...

    def odd(sender: Any, /) -> None: ...

    assert signals.signal("x").errors == "collect"
    assert signals.declare(happened).errors == "collect"
    assert signals.declare(errors="propagate")(odd).errors == "propagate"
    assert signals.signal("x").errors == "collect"


def test_one_signal_s_policy_is_independent_of_another_s() -> None:
    """E3: setting the policy of one signal of a namespace does not change the other signals."""
    signals = Namespace()
    signals.signal("a").errors = "collect"

    assert signals.signal("b").errors == "propagate"
    assert signals.signal("c").errors == "propagate"


def test_a_wrong_policy_changes_nothing() -> None:
    """E3: an invalid policy is refused, and the old policy stays."""
    signal = Signal(errors="collect")

    with pytest.raises(ValueError, match='errors must be "propagate", "collect", "log" or a callable'):
        signal.errors = "ignore"  # type: ignore[assignment]

    assert signal.errors == "collect"


def test_a_failing_receiver_stays_connected() -> None:
    """E3: a receiver that raises stays connected under every policy."""
    failures: list[Failure] = []

    for policy in ("propagate", "collect", failures.append):
        signal, log = Signal(errors=policy), list[str]()
        fill(signal, log, Broken())

        for _ in range(2):
            with suppress(Broken):
                signal.send()

        assert log == ["failure 0", "failure 0"]

    assert len(failures) == 2


def test_a_once_receiver_that_fails_is_used_up() -> None:
    """E3: a once receiver that raises is used up, as if it had returned."""
    signal, log = Signal(), list[str]()
    signal.connect(raising(log, "once", Broken()), weak=False, once=True)

    with pytest.raises(Broken):
        signal.send()

    assert signal.send() == []
    assert log == ["once"]


def test_a_failure_shows_names_and_no_values() -> None:
    """E3: the repr of a failure shows the signal, the receiver and the exception's class, but no message and no
    payload."""
    failures: list[Failure] = []
    signal = NamedSignal("lamp", errors=failures.append)

    @signal.connect
    def fails(sender: Any, *, password: str) -> None:
        raise Broken(password)

    signal.send(password="hunter2")

    assert "lamp" in repr(failures[0])
    assert "fails" in repr(failures[0])
    assert "Broken" in repr(failures[0])
    assert "hunter2" not in repr(failures[0])


@pytest.mark.parametrize("count", [1, 2])
def test_collected_failures_are_freed(count: int) -> None:
    """E3: once the caller drops the raised exception, nothing keeps it alive, not even a cycle of tracebacks."""

    class Thing:
        pass

    signal, seen = Signal(errors="collect"), list[Any]()

    def make() -> Callable[..., Any]:
        def fails(sender: Any) -> None:
            thing = Thing()
            seen.append(weakref.ref(thing))
            raise Broken

        return fails

    for _ in range(count):
        signal.connect(make(), weak=False)

    gc.collect()
    gc.disable()

    try:
        with suppress(Broken, ExceptionGroup):
            signal.send()

        assert [ref() for ref in seen] == [None] * count
    finally:
        gc.enable()


def test_subclasses_of_signal_have_the_policies() -> None:
    """E3: the failure policies also work in a subclass that overrides receivers_for."""

    class Own(Signal):
        def receivers_for(self, sender: Any) -> Any:
            return iter([*super().receivers_for(sender)])

    signal, log = Own(errors="collect"), list[str]()
    fill(signal, log, Broken(), "a")

    with pytest.raises(Broken):
        signal.send()

    assert log == ["failure 0", "a"]
