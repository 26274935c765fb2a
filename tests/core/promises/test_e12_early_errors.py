"""E12: a receiver that cannot work is refused at connect, and the message says what to change."""

from __future__ import annotations

import functools
import linecache
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ANY, AldisError, InvalidReceiverError, NamedSignal, Namespace, Signal
from aldis._core.callables import kind_name

if TYPE_CHECKING:
    from collections.abc import Callable


def lamp_lit(sender: Any, /, *, colour: str, seconds: int = 1) -> None: ...


def anything(sender: Any, /, *, colour: str, **extra: Any) -> None: ...


def declared() -> Signal[Any, ..., Any]:
    return Namespace().declare(lamp_lit)


WAYS: dict[str, Callable[[Signal[Any, ..., Any], Any], object]] = {
    "connect": lambda signal, receiver: signal.connect(receiver),
    "connect, sender": lambda signal, receiver: signal.connect(receiver, "x", weak=False),
    "decorator with options": lambda signal, receiver: signal.connect(priority=1)(receiver),
    "connect_via": lambda signal, receiver: signal.connect_via("x")(receiver),
    "connected_to": lambda signal, receiver: signal.connected_to(receiver).__enter__(),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


@each_way
@pytest.mark.parametrize(
    "wrong", [None, 3, "function", [], {}, object(), Signal(), {"a": lambda: 1}], ids=lambda o: type(o).__name__
)
def test_a_receiver_that_is_not_callable_is_refused(way: Any, wrong: Any) -> None:
    """E12: every form of connect refuses a receiver that is not callable, and the message names its type."""
    signal = NamedSignal("lamp")

    with pytest.raises(
        InvalidReceiverError, match=f"receiver of .*'lamp'.* must be callable; {kind_name(wrong)}"
    ) as raised:
        way(signal, wrong)

    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, AldisError)
    assert not signal.receivers


class Methods:
    """Methods of all kinds that are receivers with a fitting signature."""

    def method(self, sender: Any, *, colour: str, seconds: int) -> None: ...

    @classmethod
    def class_method(cls, sender: Any, colour: str, seconds: int) -> None: ...

    @staticmethod
    def static_method(sender: Any, *, colour: str, seconds: int) -> None: ...

    def __call__(self, sender: Any, *, colour: str, **rest: Any) -> None: ...


class Made:
    def __init__(self, sender: Any, *, colour: str, seconds: int) -> None: ...


def full(sender: Any, *, colour: str, seconds: int) -> None: ...


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **payload: Any) -> Any:
        return function(*args, **payload)

    return wrapper


async def in_async(sender: Any, /, *, colour: str, seconds: int) -> None: ...


FITTING: dict[str, Any] = {
    "the same": lamp_lit,
    "positional or keyword": lambda sender, colour, seconds: None,
    "in another order": lambda sender, seconds, colour: None,
    "defaults": lambda sender, colour="red", seconds=2: None,
    "further defaults": lambda sender, colour, seconds, other=1, *, another=2: None,
    "**": lambda sender, **payload: None,
    "* and **": lambda *args, **payload: None,
    "some and **": lambda sender, *, seconds, **rest: None,
    "sender by another name": lambda s, /, *, colour, seconds: None,
    "sender named as in the payload, positional": eval("lambda colour, /, **payload: None"),
    "method": Methods().method,
    "class method": Methods.class_method,
    "static method": Methods.static_method,
    "object": Methods(),
    "class": Made,
    "partial that gives a default": functools.partial(lambda sender, other, colour, seconds: None, other=1),
    "partial of full": functools.partial(full),
    "wrapped": wrapped(full),
    "async": in_async,
    "built-in without a signature": dict,
}


@pytest.mark.parametrize("receiver", FITTING.values(), ids=FITTING.keys())
def test_a_receiver_that_can_take_the_payload_is_connected(receiver: Any) -> None:
    """E12: every receiver that can be called with the declared payload is connected."""
    signal = declared()

    assert signal.connect(receiver, weak=False) is receiver
    assert signal.receivers


MISFITS: dict[str, tuple[Any, str]] = {
    "nothing": (lambda: None, "must take the sender as its first positional parameter"),
    "no sender": (lambda *, colour, seconds: None, "must take the sender as its first positional parameter"),
    "no sender but **": (lambda **payload: None, "must take the sender as its first positional parameter"),
    "sender only": (lambda sender: None, r"cannot take 'colour', 'seconds'.*\*\*extra"),
    "one missing": (lambda sender, *, colour: None, r"cannot take 'seconds'.*\*\*extra"),
    "misspelt": (lambda sender, *, color, seconds: None, "cannot take 'colour' and requires.* 'color'"),
    "surplus": (lambda sender, *, colour, seconds, other: None, "requires.* 'other'"),
    "surplus and **": (lambda sender, *, other, **rest: None, "requires.* 'other'"),
    "two positional": (lambda sender, other, /, *, colour, seconds: None, "requires.* 'other'"),
    "payload positional only": (lambda sender, colour, /, *, seconds: None, "colour"),
    "sender named as in the payload": (
        lambda colour, seconds: None,
        r"'colour', which is also in the payload.* / after",
    ),
    "sender named as in the payload, **": (lambda colour, **rest: None, r"'colour', which is also in the payload"),
    "partial that fills the sender": (functools.partial(full, "x"), "sender"),
    "partial that misses one": (functools.partial(lambda sender, other, colour, seconds: None), "requires.* 'other'"),
    "unbound method": (Methods.method, "sender"),
    "class without parameters": (type("Bare", (), {}), ""),
    "wrapped": (wrapped(lambda sender: None), r"cannot take 'colour', 'seconds'"),
}


@pytest.mark.parametrize(("receiver", "message"), MISFITS.values(), ids=MISFITS.keys())
@each_way
def test_a_receiver_that_cannot_take_the_payload_is_refused(way: Any, receiver: Any, message: str) -> None:
    """E12: a receiver that cannot take the declared payload is refused, and the message names the parameters that do
    not fit."""
    signal = declared()

    with pytest.raises(InvalidReceiverError, match=f"cannot receive .*'lamp-lit'.*{message}") as raised:
        way(signal, receiver)

    assert isinstance(raised.value, TypeError)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert not signal.receivers


@pytest.mark.parametrize("receiver", [case[0] for case in MISFITS.values()], ids=MISFITS.keys())
def test_refused_receivers_cannot_be_called(receiver: Any) -> None:
    """E12: each refused receiver fails when it is called with the payload."""
    with pytest.raises(TypeError):
        receiver(None, colour="red", seconds=1)


@pytest.mark.parametrize("receiver", FITTING.values(), ids=FITTING.keys())
def test_accepted_receivers_can_be_called(receiver: Any) -> None:
    """E12: each accepted receiver can be called with the payload."""
    if receiver is dict:
        with pytest.raises(TypeError):
            dict(None, colour="red", seconds=1)  # type: ignore[call-overload]
    elif receiver is in_async:
        receiver(None, colour="red", seconds=1).close()
    else:
        receiver(None, colour="red", seconds=1)


def test_the_message_names_signal_receiver_place_and_declaration() -> None:
    """E12: the message names the signal, the receiver and its place, the parameters that do not fit, and the
    declaration."""

    def misfit(sender: Any, *, color: str, seconds: int) -> None: ...

    line, declared_line = misfit.__code__.co_firstlineno, lamp_lit.__code__.co_firstlineno

    with pytest.raises(InvalidReceiverError) as raised:
        declared().connect(misfit)

    message = str(raised.value)
    assert "misfit" in message
    assert f"{__file__}:{line}" in message
    assert "def misfit" in linecache.getline(__file__, line)
    assert "'lamp-lit'" in message
    assert "'colour'" in message
    assert "'color'" in message
    assert "seconds" not in message
    assert "lamp_lit" in message
    assert f"{__file__}:{declared_line}" in message


def test_an_open_declaration_needs_receivers_with_extra() -> None:
    """E12: if the declaration has **extra, a receiver must have it too."""
    signal: Signal[Any, ..., Any] = Namespace().declare(anything)

    def narrow(sender: Any, *, colour: str) -> None: ...

    def wide(sender: Any, **payload: Any) -> None: ...

    with pytest.raises(InvalidReceiverError, match=r"must take \*\*extra"):
        signal.connect(narrow)

    signal.connect(wide)
    assert list(signal.receivers_for(ANY)) == [wide]


def test_an_open_declaration_names_surplus_and_missing_parameters() -> None:
    """E12: surplus and missing parameters are named for a declaration with **extra, too."""
    signal: Signal[Any, ..., Any] = Namespace().declare(anything)

    with pytest.raises(InvalidReceiverError, match="cannot take 'colour'"):
        signal.connect(lambda sender: None)

    with pytest.raises(InvalidReceiverError, match=r"requires.* 'other'"):
        signal.connect(lambda sender, *, other, **extra: None)


def test_an_undeclared_signal_accepts_every_callable() -> None:
    """E12: a signal without a declaration connects every callable, as Blinker does, because nothing is known of the
    payload."""
    signal = Signal()
    signal.connect(lambda: None, weak=False)
    signal.connect(lambda a, b, c: None, weak=False)

    assert len(signal.receivers) == 2


def test_a_refused_receiver_leaves_its_earlier_connection() -> None:
    """E12: when connecting again with a wrong option is refused, the earlier connection stays as it was."""
    signal, log = Signal(), list[str]()

    def first(sender: Any) -> None:
        log.append("first")

    def second(sender: Any) -> None:
        log.append("second")

    signal.connect(first)
    signal.connect(second)

    with pytest.raises(ValueError, match="priority"):
        signal.connect(second, weak=False, priority="high")  # type: ignore[call-overload]

    signal.send()

    assert log == ["first", "second"]
