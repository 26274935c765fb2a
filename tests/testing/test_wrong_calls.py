"""Every mistake that a caller can make with aldis.testing, and its error. A failed call leaves nothing on a signal."""

# This file tests wrong calls.
# mypy: disable-error-code="arg-type, call-arg"
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import blinker
import pytest

import aldis
from aldis import InvalidOptionError, InvalidReceiverError, NamedSignal, Namespace, UnboundProxyError
from aldis.testing import Recording, SignalTester, captured_templates, fake, isolate, record

if TYPE_CHECKING:
    from collections.abc import Callable


class Unbound:
    """A proxy that points to nothing."""

    def _get_current_object(self) -> Any:
        raise RuntimeError("working outside of context")

    def __repr__(self) -> str:
        return "<unbound>"


class Mailer:
    def hear(self, sender: Any, **payload: Any) -> None: ...


class NoMapping:
    """An object with half of the methods of a mapping."""

    keys: Any = None
    values: Any = None


class Flask:
    """A class with the name of Flask from another module."""


def connected(sender: Any, **payload: Any) -> None: ...


def other(sender: Any, **payload: Any) -> None: ...


SIGNALS = Namespace()
SAVED: NamedSignal[Any, ..., Any] = SIGNALS.signal("saved")
PLAIN = blinker.NamedSignal("plain")
SAVED.connect(connected)
PLAIN.connect(connected)
APP: Any = type("Flask", (), {"__module__": "flask.app"})()

NO_SIGNALS: dict[str, tuple[Any, str]] = {
    "a name": ("saved", "not a str"),
    "nothing": (None, "not a NoneType"),
    "a number": (7, "not a int"),
    "a receiver": (connected, "not a function"),
    "a class of signals": (aldis.Signal, "not the class Signal"),
    "a class of Blinker's": (blinker.Signal, "not the class Signal"),
    "a class of namespaces": (Namespace, "not the class Namespace"),
    "a list with something else in it": ([SAVED, "saved"], "not a str"),
    "a mapping to something else": ({"saved": connected}, "not a function"),
    "half a mapping": (NoMapping(), "not a NoMapping"),
    "an iterator": (iter([SAVED]), "not a list_iterator"),
}
TAKES = r"\(\) takes signals( of Aldis)?, namespaces, and lists of these, "


def begin(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Begin a block that must fail to begin."""
    with function(*args, **options):
        pytest.fail("the block began")


@pytest.fixture(autouse=True)
def unchanged() -> Any:
    """Assert after the test that the signals are as they were."""
    yield
    assert SAVED._registry.is_ordinary
    assert SAVED.send() == [(connected, None)]
    assert PLAIN.send() == [(connected, None)]
    assert not {"send", "send_async", "receivers_for"} & vars(PLAIN).keys()


@pytest.mark.parametrize("function", [record, fake, isolate])
@pytest.mark.parametrize("what", NO_SIGNALS)
def test_an_invalid_signal_is_refused(function: Any, what: str) -> None:
    """All functions accept signals, namespaces and lists of these, and refuse other arguments with a message that
    says so."""
    value, text = NO_SIGNALS[what]

    with pytest.raises(InvalidOptionError, match=f"^{function.__name__}{TAKES}{text}"):
        begin(function, value)

    with pytest.raises(InvalidOptionError):
        getattr(SignalTester(), function.__name__)(value)


@pytest.mark.parametrize("function", [record, fake])
@pytest.mark.parametrize("nothing", [Namespace(), [], {}, (), [Namespace(), ()]])
def test_no_signals_at_all_are_refused(function: Any, nothing: Any) -> None:
    """An empty namespace is refused, because its signals are made later and the recording would miss them."""
    with pytest.raises(InvalidOptionError, match=rf"^{function.__name__}\(\) found no signals\. .*import"):
        begin(function, nothing)


def test_an_unbound_proxy_as_sender_is_refused() -> None:
    """A proxy outside its context is refused, as connect() refuses it."""
    with pytest.raises(UnboundProxyError, match="<unbound>"):
        begin(record, SAVED, sender=Unbound())

    with pytest.raises(UnboundProxyError, match="<unbound>"):
        begin(captured_templates, Unbound())


@pytest.mark.parametrize(
    ("only", "text"),
    [
        ("connected", "not a str"),
        (7, "not a int"),
        ([], "not a list"),
        ([connected, "other"], "not a list"),
        ((receiver for receiver in [connected]), "not a generator"),
        ({connected: 1}, "not a dict"),
    ],
)
def test_an_invalid_receiver_is_refused(only: Any, text: str) -> None:
    """only= accepts a receiver or a collection of receivers."""
    with pytest.raises(InvalidOptionError, match=rf"^fake\(only=\.\.\.\) takes a receiver or a list of .*, {text}"):
        begin(fake, SAVED, only=only)


@pytest.mark.parametrize("signal", [SAVED, PLAIN], ids=["aldis", "blinker"])
@pytest.mark.parametrize("only", [other, [connected, other], partial(connected), Mailer().hear, Mailer])
def test_receivers_that_are_not_connected_are_refused(signal: Any, only: Any) -> None:
    """A fake that would stop no receiver is refused, because the intended receiver would run."""
    with pytest.raises(InvalidOptionError, match=r"cannot stop .*, because it is not connected\. Begin"):
        begin(fake, signal, only=only)


def test_a_signal_that_is_not_recorded_is_refused() -> None:
    """of() accepts only a signal that is recorded."""
    with record(SAVED, PLAIN) as sent, pytest.raises(InvalidOptionError, match="They are: 'saved' or 'plain'"):
        sent.of("saved")

    with pytest.raises(IndexError):
        sent[0]

    with pytest.raises(TypeError):
        sent["saved"]  # type: ignore[call-overload]

    assert isinstance(sent, Recording)


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (None, "not a NoneType"),
        ("shop", "not a str"),
        (Flask(), "not a Flask"),
        (Flask, "not the class Flask"),
    ],
)
def test_an_invalid_application_is_refused(app: Any, text: str) -> None:
    """captured_templates() accepts an application of Flask or Quart."""
    with pytest.raises(InvalidOptionError, match=rf"^captured_templates\(\) takes an application .*, {text}"):
        begin(captured_templates, app)


@pytest.mark.parametrize("recorded", ["", 7, {}, ()])
def test_an_invalid_list_is_refused(recorded: Any) -> None:
    """captured_templates() accepts any object with append, also an empty list, and refuses other objects."""
    with pytest.raises(InvalidOptionError, match=r"^captured_templates\(\) appends to a list, not to a "):
        begin(captured_templates, APP, recorded)


def test_senders_are_refused_in_other_positions() -> None:
    """isolate() and fake() accept no sender, and record() accepts it by keyword only."""
    for function in (isolate, fake, record):
        with pytest.raises(InvalidOptionError, match=r"not a str\. .*Pass other arguments by keyword"):
            begin(function, SAVED, "ada")

    for function in (isolate, fake):
        with pytest.raises(TypeError):
            begin(function, SAVED, sender="ada")


def test_values_are_not_shown() -> None:
    """The messages name the class of a value, and not its content."""
    with pytest.raises(InvalidOptionError) as error:
        begin(record, {"password": "secret"})

    assert "secret" not in str(error.value)


def test_an_invalid_receiver_is_refused_inside_a_block() -> None:
    """connect() refuses an object that is no receiver, inside a block as outside."""
    with record(SAVED), pytest.raises(InvalidReceiverError):
        SAVED.connect("connected")  # type: ignore[call-overload]


def test_without_flask_the_error_says_so() -> None:
    """A program without Flask gets Python's ModuleNotFoundError, and only when it captures templates."""
    program = """
import sys
sys.modules["flask"] = None
from aldis.testing import captured_templates
app = type("Flask", (), {"__module__": "flask.app"})()
try:
    captured_templates(app).__enter__()
except ImportError as error:
    print(error.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == "flask\n"
