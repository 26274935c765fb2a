"""Every mistake that a caller can make with the public functions, and its error. A failed call changes nothing."""

# Each row of the table is a mistake, and a type checker would find most of them.
# mypy: disable-error-code="call-overload, call-arg, arg-type, index, type-var, operator, misc, no-untyped-call"

# This file tests wrong calls.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import (
    ANY,
    AldisError,
    AsyncReceiverError,
    BlinkerImportedError,
    ContractError,
    InvalidOptionError,
    InvalidReceiverError,
    NamedSignal,
    Namespace,
    PayloadError,
    Signal,
    UnboundProxyError,
)
from aldis.aio import Concurrent
from aldis.delivery import ThreadDelivery, threads

if TYPE_CHECKING:
    from collections.abc import Callable


class Slotted:
    """An object that cannot be referenced weakly."""

    __slots__ = ()

    def __call__(self, sender: Any, **payload: Any) -> None: ...

    def hear(self, sender: Any, **payload: Any) -> None: ...


class Unbound:
    """A proxy that points to nothing."""

    def _get_current_object(self) -> Any:
        raise RuntimeError("working outside of context")

    def __repr__(self) -> str:
        return "<unbound>"


class HalfDelivery:
    """An object with only one of the two methods of a delivery."""

    def deliver(self, call: Any, /) -> None: ...


class WrongDelivery:
    """An object whose attributes have the names of a delivery's methods and are something else."""

    check = "a cheque"
    deliver = True


class Delivery:
    """A correct delivery, passed as the class instead of an instance."""

    def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

    def deliver(self, call: Any, /) -> None: ...


def lamp_lit(sender: Any, /, *, colour: str, seconds: int = 1) -> None: ...


async def in_async(sender: Any, **payload: Any) -> None: ...


def good(sender: Any, **payload: Any) -> None: ...


class Stage:
    """Signals with receivers, and everything about them that a test can see."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.namespace = Namespace(errors="collect")
        self.signal: NamedSignal[Any, ..., Any] = self.namespace.signal("lamp", "A lamp.")
        self.declared: NamedSignal[Any, ..., Any] = self.namespace.declare(lamp_lit)
        self.mixed: NamedSignal[Any, ..., Any] = self.namespace.signal("mixed")

        for signal in (self.signal, self.declared, self.mixed):
            signal.connect(self.first)
            signal.connect(self.second, "x", priority=1)

        self.mixed.connect(in_async)

    def first(self, sender: Any, **payload: Any) -> None:
        self.log.append("first")

    def second(self, sender: Any, **payload: Any) -> None:
        self.log.append("second")

    def seen(self) -> list[Any]:
        return [
            [
                signal.name,
                signal.__doc__,
                signal.errors,
                signal.async_wrapper,
                signal.sync_wrapper,
                signal.async_policy,
                signal.is_muted,
                signal.contract,
                list(signal.receivers),
                list(signal.receivers_for("x")),
                list(signal.receivers_for(ANY)),
                list(signal.receiver_connected.receivers),
            ]
            for signal in (self.signal, self.declared, self.mixed)
        ] + [list(self.namespace), list(aldis.default_namespace), list(sys.meta_path)]

    def set(self, name: str, value: Any) -> None:
        setattr(self.signal, name, value)


def enter(block: Any) -> None:
    block.__enter__()


def unknown(error: str) -> str:
    return rf"unexpected keyword argument '{error}'|'{error}' is an invalid keyword"


MISSING = "missing 1 required positional argument"
TOO_MANY = "takes .* positional argument"
NO_POLICY = r'errors must be "propagate", "collect", "log" or a callable'
NO_NUMBER = "priority must be a number"
NO_BOOL = "once must be True or False"
NO_DELIVERY = "via must be a delivery, such as aldis.delivery.threads"
NO_CALLABLE = "receiver of .*'lamp'.* must be callable"
NOT_WEAK = r"Slotted.* cannot be referenced weakly\. Connect it with weak=False"
UNBOUND = "<unbound> is a proxy that points to no object"

# Each row: the call, the exact class of the error, the built-in class that also catches it, and a part of the message.
Row = tuple["Callable[[Stage], object]", type[Exception], type[Exception], str]
TABLE: dict[str, Row] = {
    # Signal, NamedSignal and Namespace.
    "Signal(errors=None)": (lambda s: Signal(errors=None), InvalidOptionError, ValueError, NO_POLICY),
    "Signal(errors=word)": (lambda s: Signal(errors="no"), InvalidOptionError, ValueError, NO_POLICY + ".*'no'"),
    "Signal(errors=bytes)": (lambda s: Signal(errors=b"collect"), InvalidOptionError, ValueError, NO_POLICY),
    "Signal(errors=list)": (lambda s: Signal(errors=["collect"]), InvalidOptionError, ValueError, NO_POLICY),
    "Signal(errors=number)": (lambda s: Signal(errors=0), InvalidOptionError, ValueError, NO_POLICY),
    "Signal(async_wrapper)": (lambda s: Signal(async_wrapper=3), InvalidOptionError, ValueError, "async_wrapper"),
    "Signal(sync_wrapper)": (lambda s: Signal(sync_wrapper="x"), InvalidOptionError, ValueError, "sync_wrapper"),
    "Signal(async_policy)": (lambda s: Signal(async_policy=object()), InvalidOptionError, ValueError, "async_policy"),
    "Signal(async_policy=class)": (
        lambda s: Signal(async_policy=Concurrent),
        InvalidOptionError,
        ValueError,
        "async_policy",
    ),
    "Signal(unknown)": (lambda s: Signal(error="collect"), TypeError, TypeError, unknown("error")),
    "Signal(too many)": (lambda s: Signal("doc", "collect"), TypeError, TypeError, TOO_MANY),
    "NamedSignal()": (lambda s: NamedSignal(), TypeError, TypeError, MISSING),
    "NamedSignal(errors)": (lambda s: NamedSignal("x", errors="no"), InvalidOptionError, ValueError, NO_POLICY),
    "NamedSignal(async_wrapper)": (
        lambda s: NamedSignal("x", async_wrapper=3),
        InvalidOptionError,
        ValueError,
        "async_wrapper",
    ),
    "Namespace(errors)": (lambda s: Namespace(errors="no"), InvalidOptionError, ValueError, NO_POLICY),
    "Namespace(async_wrapper)": (lambda s: Namespace(async_wrapper=3), InvalidOptionError, ValueError, "async_wrapper"),
    "Namespace(sync_wrapper)": (lambda s: Namespace(sync_wrapper=3), InvalidOptionError, ValueError, "sync_wrapper"),
    "Namespace(async_policy)": (lambda s: Namespace(async_policy=3), InvalidOptionError, ValueError, "async_policy"),
    "Namespace(unknown)": (lambda s: Namespace(error="collect"), TypeError, TypeError, "'error'"),
    "Namespace(number)": (lambda s: Namespace(3), TypeError, TypeError, "not iterable"),
    # Namespace.signal and aldis.signal.
    "Namespace.signal()": (lambda s: s.namespace.signal(), TypeError, TypeError, MISSING),
    "Namespace.signal(unhashable)": (lambda s: s.namespace.signal([]), TypeError, TypeError, "unhashable"),
    "Namespace.signal(too many)": (lambda s: s.namespace.signal("n", "d", "collect"), TypeError, TypeError, TOO_MANY),
    "signal()": (lambda s: aldis.signal(), TypeError, TypeError, MISSING),
    "signal(unhashable)": (lambda s: aldis.signal({}), TypeError, TypeError, "unhashable"),
    # Namespace.declare.
    "declare(number)": (lambda s: s.namespace.declare(3), ContractError, TypeError, "takes a function.*not 3"),
    "declare(class)": (lambda s: s.namespace.declare(int), ContractError, TypeError, "int"),
    "declare(lambda without sender)": (
        lambda s: s.namespace.declare(lambda: None),
        ContractError,
        TypeError,
        "must take the sender first",
    ),
    "declare(async)": (lambda s: s.namespace.declare(in_async), ContractError, TypeError, "not async def"),
    "declare(positional)": (
        lambda s: s.namespace.declare(lambda sender, a: None),
        ContractError,
        TypeError,
        r"put a \* before 'a'",
    ),
    "declare(errors)": (
        lambda s: s.namespace.declare(errors="no"),
        InvalidOptionError,
        ValueError,
        NO_POLICY,
    ),
    "declare(function, errors)": (
        lambda s: s.namespace.declare(lambda sender, /: None, errors="no"),
        InvalidOptionError,
        ValueError,
        NO_POLICY,
    ),
    "declare(unknown)": (lambda s: s.namespace.declare(error="no"), TypeError, TypeError, unknown("error")),
    # connect.
    "connect(None)": (lambda s: s.signal.connect(None), InvalidReceiverError, TypeError, NO_CALLABLE + "; a NoneType"),
    "connect(word)": (lambda s: s.signal.connect("first"), InvalidReceiverError, TypeError, NO_CALLABLE + "; a str"),
    "connect(unhashable)": (lambda s: s.signal.connect([good]), InvalidReceiverError, TypeError, NO_CALLABLE),
    "connect(signal)": (lambda s: s.signal.connect(s.declared), InvalidReceiverError, TypeError, NO_CALLABLE),
    "connect(coroutine)": (
        lambda s: s.signal.connect(type("Coroutine", (), {"__await__": lambda self: None})()),
        InvalidReceiverError,
        TypeError,
        NO_CALLABLE + "; a Coroutine",
    ),
    "connect(slotted)": (lambda s: s.signal.connect(Slotted()), InvalidReceiverError, TypeError, NOT_WEAK),
    "connect(slotted method)": (
        lambda s: s.signal.connect(Slotted().hear),
        InvalidReceiverError,
        TypeError,
        r"hear.* cannot be referenced weakly\. Connect it with weak=False",
    ),
    "connect(misfit)": (
        lambda s: s.declared.connect(lambda sender: None),
        InvalidReceiverError,
        TypeError,
        "cannot receive .*'lamp-lit'.* cannot take 'colour', 'seconds'",
    ),
    "connect(sender=unbound)": (lambda s: s.signal.connect(good, Unbound()), UnboundProxyError, RuntimeError, UNBOUND),
    "connect(priority=word)": (
        lambda s: s.signal.connect(s.first, priority="high"),
        InvalidOptionError,
        ValueError,
        NO_NUMBER + ".*'high'",
    ),
    "connect(priority=None)": (
        lambda s: s.signal.connect(s.first, priority=None),
        InvalidOptionError,
        ValueError,
        NO_NUMBER,
    ),
    "connect(priority=nan)": (
        lambda s: s.signal.connect(s.first, priority=float("nan")),
        InvalidOptionError,
        ValueError,
        NO_NUMBER,
    ),
    "connect(priority=unhashable)": (
        lambda s: s.signal.connect(s.first, priority=[]),
        InvalidOptionError,
        ValueError,
        NO_NUMBER,
    ),
    "connect(priority=complex)": (
        lambda s: s.signal.connect(s.first, priority=1j),
        InvalidOptionError,
        ValueError,
        NO_NUMBER,
    ),
    "connect(once=number)": (lambda s: s.signal.connect(s.first, once=1), InvalidOptionError, ValueError, NO_BOOL),
    "connect(once=None)": (lambda s: s.signal.connect(s.first, once=None), InvalidOptionError, ValueError, NO_BOOL),
    "connect(once=word)": (lambda s: s.signal.connect(s.first, once="no"), InvalidOptionError, ValueError, NO_BOOL),
    "connect(once=unhashable)": (lambda s: s.signal.connect(s.first, once=[]), InvalidOptionError, ValueError, NO_BOOL),
    "connect(via=word)": (lambda s: s.signal.connect(good, via="threads"), InvalidOptionError, ValueError, NO_DELIVERY),
    "connect(via=False)": (lambda s: s.signal.connect(good, via=False), InvalidOptionError, ValueError, NO_DELIVERY),
    "connect(via=unhashable)": (lambda s: s.signal.connect(good, via={}), InvalidOptionError, ValueError, NO_DELIVERY),
    "connect(via=function)": (lambda s: s.signal.connect(good, via=len), InvalidOptionError, ValueError, NO_DELIVERY),
    "connect(via=executor)": (
        lambda s: s.signal.connect(good, via=ThreadPoolExecutor(1)),
        InvalidOptionError,
        ValueError,
        NO_DELIVERY,
    ),
    "connect(via=class)": (lambda s: s.signal.connect(good, via=Delivery), InvalidOptionError, ValueError, NO_DELIVERY),
    "connect(via=half)": (
        lambda s: s.signal.connect(good, via=HalfDelivery()),
        InvalidOptionError,
        ValueError,
        NO_DELIVERY,
    ),
    "muted(None)": (lambda s: s.signal.muted(None).__enter__(), InvalidReceiverError, TypeError, "must be callable"),
    "Signal(errors=async)": (lambda s: Signal(errors=in_async), InvalidOptionError, ValueError, "no code would await"),
    "connect(via=wrong)": (
        lambda s: s.signal.connect(good, via=WrongDelivery()),
        InvalidOptionError,
        ValueError,
        NO_DELIVERY,
    ),
    "connect(async, via=threads)": (
        lambda s: s.signal.connect(in_async, via=threads(ThreadPoolExecutor(1))),
        InvalidOptionError,
        ValueError,
        "cannot run via threads",
    ),
    "connect(unknown)": (lambda s: s.signal.connect(good, prio=1), TypeError, TypeError, unknown("prio")),
    "connect(too many)": (lambda s: s.signal.connect(good, "x", True, 5), TypeError, TypeError, TOO_MANY),
    "connect()(None)": (lambda s: s.signal.connect()(None), InvalidReceiverError, TypeError, NO_CALLABLE),
    "connect(priority=word)(good)": (
        lambda s: s.signal.connect(priority="high")(good),
        InvalidOptionError,
        ValueError,
        NO_NUMBER,
    ),
    "connect(unknown)(good)": (lambda s: s.signal.connect(prio=1)(good), TypeError, TypeError, unknown("prio")),
    # connect_via, connected_to, disconnect.
    "connect_via()": (lambda s: s.signal.connect_via(), TypeError, TypeError, MISSING),
    "connect_via(x)(None)": (lambda s: s.signal.connect_via("x")(None), InvalidReceiverError, TypeError, NO_CALLABLE),
    "connect_via(unbound)": (lambda s: s.signal.connect_via(Unbound())(good), UnboundProxyError, RuntimeError, UNBOUND),
    "connect_via(weak)(slotted)": (
        lambda s: s.signal.connect_via("x", weak=True)(Slotted()),
        InvalidReceiverError,
        TypeError,
        NOT_WEAK,
    ),
    "connect_via(unknown)": (lambda s: s.signal.connect_via("x", once=True), TypeError, TypeError, unknown("once")),
    "connected_to()": (lambda s: s.signal.connected_to(), TypeError, TypeError, MISSING),
    "connected_to(None)": (
        lambda s: enter(s.signal.connected_to(None)),
        InvalidReceiverError,
        TypeError,
        NO_CALLABLE,
    ),
    "connected_to(unbound)": (
        lambda s: enter(s.signal.connected_to(good, Unbound())),
        UnboundProxyError,
        RuntimeError,
        UNBOUND,
    ),
    "connected_to(misfit)": (
        lambda s: enter(s.declared.connected_to(lambda sender: None)),
        InvalidReceiverError,
        TypeError,
        "cannot receive",
    ),
    "connected_to(unknown)": (lambda s: s.signal.connected_to(good, once=True), TypeError, TypeError, unknown("once")),
    "disconnect()": (lambda s: s.signal.disconnect(), TypeError, TypeError, MISSING),
    "disconnect(unbound)": (
        lambda s: s.signal.disconnect(s.first, Unbound()),
        UnboundProxyError,
        RuntimeError,
        UNBOUND,
    ),
    "disconnect(too many)": (lambda s: s.signal.disconnect(good, "x", True), TypeError, TypeError, TOO_MANY),
    # send and send_async.
    "send(too many)": (lambda s: s.signal.send("x", "y"), TypeError, TypeError, TOO_MANY),
    "send(missing)": (lambda s: s.declared.send("x"), PayloadError, TypeError, "is missing 'colour'"),
    "send(unknown)": (
        lambda s: s.declared.send("x", colour="red", size=1),
        PayloadError,
        TypeError,
        "does not declare 'size'",
    ),
    "send(async receiver)": (
        lambda s: s.mixed.send("x"),
        AsyncReceiverError,
        RuntimeError,
        r"cannot run the async receiver .*in_async.*async_wrapper",
    ),
    "send(declared, too many)": (lambda s: s.declared.send("x", "red"), TypeError, TypeError, TOO_MANY),
    "send_async(missing)": (
        lambda s: asyncio.run(s.declared.send_async("x")),
        PayloadError,
        TypeError,
        "is missing 'colour'",
    ),
    "send_async(sync receiver)": (
        lambda s: asyncio.run(s.mixed.send_async("x")),
        AsyncReceiverError,
        RuntimeError,
        r"has no way to run the sync receiver .*second.*sync_wrapper",
    ),
    "send_async(too many)": (lambda s: s.signal.send_async("x", "y"), TypeError, TypeError, TOO_MANY),
    # Attributes and queries.
    "errors = word": (lambda s: s.set("errors", "ignore"), InvalidOptionError, ValueError, NO_POLICY),
    "errors = None": (lambda s: s.set("errors", None), InvalidOptionError, ValueError, NO_POLICY),
    "receivers = full": (lambda s: s.set("receivers", {1: good}), InvalidOptionError, ValueError, "something empty"),
    "receivers[unknown]": (lambda s: s.signal.receivers["x"], KeyError, KeyError, "x"),
    "receivers[...] = good": (
        lambda s: s.signal.receivers.__setitem__("x", good),
        AttributeError,
        AttributeError,
        "__setitem__",
    ),
    "receiver_connected = good": (lambda s: s.set("receiver_connected", good), AttributeError, AttributeError, "set"),
    "contract = good": (lambda s: s.set("contract", good), AttributeError, AttributeError, "set"),
    "receivers_for()": (lambda s: s.signal.receivers_for(), TypeError, TypeError, MISSING),
    "has_receivers_for()": (lambda s: s.signal.has_receivers_for(), TypeError, TypeError, MISSING),
    "muted(unknown)": (lambda s: s.signal.muted(receiver=good), TypeError, TypeError, unknown("receiver")),
    "debug(too many)": (lambda s: aldis.debug(True, True), TypeError, TypeError, TOO_MANY),
    "install_as_blinker(too many)": (lambda s: aldis.install_as_blinker(True), TypeError, TypeError, TOO_MANY),
    # aldis.delivery and aldis.aio.
    "threads()": (lambda s: threads(), TypeError, TypeError, MISSING),
    "threads(None)": (lambda s: threads(None), InvalidOptionError, ValueError, "takes an executor"),
    "threads(number)": (lambda s: threads(4), InvalidOptionError, ValueError, "takes an executor.*not 4"),
    "ThreadDelivery(number)": (lambda s: ThreadDelivery(4), InvalidOptionError, ValueError, "takes an executor"),
    "Concurrent(True)": (lambda s: Concurrent(True), TypeError, TypeError, TOO_MANY),
    "Concurrent(unknown)": (lambda s: Concurrent(cancel=True), TypeError, TypeError, unknown("cancel")),
}  # fmt: skip


@pytest.mark.parametrize(("act", "error", "base", "message"), TABLE.values(), ids=TABLE.keys())
def test_bad_input(act: Callable[[Stage], object], error: type[Exception], base: type[Exception], message: str) -> None:
    """E12: each mistake raises its error, whose message says what is wrong, and leaves everything as it was."""
    stage = Stage()
    before = stage.seen()

    with pytest.raises(error, match=message) as raised:
        act(stage)

    assert type(raised.value) is error
    assert isinstance(raised.value, base)
    assert isinstance(raised.value, AldisError) is (error.__module__ == "aldis.exceptions")
    assert stage.seen() == before
    assert stage.log == []

    stage.signal.send("x")
    assert stage.log == ["second", "first"]


@pytest.mark.parametrize("users", [[], ["flask"], ["flask", "quart"]])
def test_install_as_blinker_too_late(monkeypatch: pytest.MonkeyPatch, users: list[str]) -> None:
    """If Blinker is already imported, install_as_blinker names the module that imported it, says what to do, and
    changes nothing."""
    finders = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("aldis")]
    real = ModuleType("blinker")
    monkeypatch.setattr(sys, "meta_path", finders.copy())
    monkeypatch.setitem(sys.modules, "blinker", real)

    for name in ("flask", "quart"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    for name in users:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    with pytest.raises(BlinkerImportedError, match=" and ".join(users) + ".*before the first import") as raised:
        aldis.install_as_blinker()

    assert isinstance(raised.value, RuntimeError)
    assert sys.meta_path == finders
    assert sys.modules["blinker"] is real


@pytest.mark.parametrize(
    "error", [error for error in vars(aldis).values() if isinstance(error, type) and issubclass(error, AldisError)]
)
def test_the_table_has_every_error(error: type[AldisError]) -> None:
    """The table has a row for each error class of Aldis, except the base class and the one that has its own test."""
    assert error in {row[1] for row in TABLE.values()} | {AldisError, BlinkerImportedError}


def test_messages_show_no_sender_and_no_payload() -> None:
    """Messages name signals, receivers and parameters, and never show a value of the payload."""
    stage = Stage()

    for act in (
        lambda: stage.declared.send("the sender", password="hunter2"),
        lambda: stage.mixed.send("the sender", password="hunter2"),
        lambda: asyncio.run(stage.mixed.send_async("the sender", password="hunter2")),
    ):
        with pytest.raises(AldisError) as raised:
            act()

        assert "hunter2" not in str(raised.value)
        assert "the sender" not in str(raised.value)
