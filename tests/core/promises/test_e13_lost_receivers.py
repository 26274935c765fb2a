"""E13: in development mode, a function that dies while it is weakly connected is reported."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aldis
from aldis import ANY, LostReceiverWarning, NamedSignal, Namespace, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = str(Path(aldis.__file__).parent.parent)


@pytest.fixture
def development() -> Iterator[None]:
    with warnings.catch_warnings():
        was_on = sys.flags.dev_mode
        aldis.debug(True)
        yield
        aldis.debug(was_on)


def lost(act: Callable[[], object]) -> list[warnings.WarningMessage]:
    """Return the warnings of an act, after all objects that it dropped are collected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
        gc.collect()

    return caught


def line_here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def make() -> Callable[..., Any]:
    def receiver(sender: Any, **payload: Any) -> None: ...

    return receiver


EASILY_LOST: dict[str, Callable[[], Callable[..., Any]]] = {
    "function": make,
    "lambda": lambda: lambda sender: None,
    "partial": lambda: partial(print, end=""),
    "partial of a method": lambda: partial([].append),
}


@pytest.mark.usefixtures("development")
@pytest.mark.parametrize("kind", EASILY_LOST.values(), ids=EASILY_LOST.keys())
@pytest.mark.parametrize("sender", [ANY, "x"])
def test_a_lost_function_is_reported(kind: Callable[[], Any], sender: Any) -> None:
    """E13: a function, lambda or partial that is collected while connected causes one warning, which names the signal
    and the remedy."""
    signal = NamedSignal("lamp")

    (warning,) = lost(lambda: signal.connect(kind(), sender))

    assert warning.category is LostReceiverWarning
    assert issubclass(LostReceiverWarning, ResourceWarning)
    assert issubclass(LostReceiverWarning, aldis.AldisWarning)
    assert "'lamp'" in str(warning.message)
    assert "weak=False" in str(warning.message)
    assert not signal.receivers


@pytest.mark.usefixtures("development")
def test_a_warning_that_is_an_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """E13: if warnings are errors, Python reports the warning as an unraisable exception, and the signal still
    works."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    signal = Signal()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signal.connect(make())
        gc.collect()

    assert told == [LostReceiverWarning]
    assert not signal.receivers


@pytest.mark.usefixtures("development")
def test_the_warning_names_the_function_and_the_place_of_the_connect() -> None:
    """E13: the warning has the file and line of the connect, and its message names the function and where it is
    defined."""
    signal = Signal()
    lines: list[int] = []

    def act() -> None:
        receiver = make()
        lines.append(line_here() + 1)
        signal.connect(receiver)

    (warning,) = lost(act)

    assert (warning.filename, warning.lineno) == (__file__, lines[0])
    assert "make.<locals>.receiver" in str(warning.message)
    assert f"{__file__}:{make.__code__.co_firstlineno + 1}" in str(warning.message)


@pytest.mark.usefixtures("development")
def test_the_place_is_the_decorated_function() -> None:
    """E13: for the decorator forms of connect, the place is the decorated function in the caller's file."""
    signals = Namespace()
    signal = signals.signal("lamp")
    spans: list[tuple[int, int]] = []

    def bare() -> None:
        first = line_here() + 2

        @signal.connect
        def receiver(sender: Any) -> None: ...

        spans.append((first, line_here()))

    def with_options() -> None:
        first = line_here() + 2

        @signal.connect(sender="x", priority=3)
        def receiver(sender: Any) -> None: ...

        spans.append((first, line_here()))

    def via() -> None:
        first = line_here() + 2

        @signal.connect_via("x", weak=True)
        def receiver(sender: Any) -> None: ...

        spans.append((first, line_here()))

    for act in (bare, with_options, via):
        (warning,) = lost(act)
        first, last = spans.pop()
        assert warning.filename == __file__
        assert first <= warning.lineno <= last


@pytest.mark.usefixtures("development")
def test_a_function_in_a_cycle_is_reported_when_it_is_collected() -> None:
    """E13: the warning is the same whether the function dies at once or by the garbage collector."""
    signal = Signal()

    def act() -> None:
        def receiver(sender: Any) -> Any:
            return receiver

        signal.connect(receiver)

    assert len(lost(act)) == 1


def disconnected(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()
    signal.connect(receiver)
    signal.disconnect(receiver)


def cleared(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()
    signal.connect(receiver)
    signal.receivers.clear()


def strong(signal: Signal[Any, ..., Any]) -> None:
    signal.connect(make(), weak=False)


def made_strong(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()
    signal.connect(receiver)
    signal.connect(receiver, weak=False)


def strong_and_disconnected(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()
    signal.connect(receiver, weak=False)
    signal.disconnect(receiver)


def block(signal: Signal[Any, ..., Any]) -> None:
    with signal.connected_to(make()):
        pass


def used_up(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()
    signal.connect(receiver, once=True)
    signal.send()


def bound_method(signal: Signal[Any, ..., Any]) -> None:
    class Listener:
        def hear(self, sender: Any) -> None: ...

    signal.connect(Listener().hear)


def callable_object(signal: Signal[Any, ..., Any]) -> None:
    class Listener:
        def __call__(self, sender: Any) -> None: ...

    signal.connect(Listener())


def dead_sender(signal: Signal[Any, ..., Any]) -> None:
    class App:
        pass

    app, receiver = App(), make()
    signal.connect(receiver, app)
    del app
    gc.collect()


def dead_signal(_: Signal[Any, ..., Any]) -> None:
    signal = Signal()
    receiver = make()
    signal.connect(receiver)
    del signal
    gc.collect()


def refused(signal: Signal[Any, ..., Any]) -> None:
    receiver = make()

    with signal.receiver_connected.connected_to(lambda *_, **__: 1 / 0), pytest.raises(ZeroDivisionError):
        signal.connect(receiver)


NOT_LOST = [
    disconnected,
    cleared,
    strong,
    made_strong,
    strong_and_disconnected,
    block,
    used_up,
    bound_method,
    callable_object,
    dead_sender,
    dead_signal,
    refused,
]


@pytest.mark.usefixtures("development")
@pytest.mark.parametrize("act", NOT_LOST)
def test_an_expected_end_is_not_reported(act: Callable[[Signal[Any, ..., Any]], None]) -> None:
    """E13: there is no warning for a receiver that was disconnected, is held strongly, dies with its owner, or has lost
    its sender."""
    signal = Signal()

    assert lost(lambda: act(signal)) == []


def test_without_development_mode_nothing_is_reported() -> None:
    """E13: without development mode there is no warning, and connect does not note its place."""
    if sys.flags.dev_mode:
        aldis.debug(False)

    try:
        assert lost(lambda: Signal().connect(make())) == []
        signal = Signal()
        assert lost(lambda: signal.connect(make())) == []
    finally:
        aldis.debug(sys.flags.dev_mode)


def test_reports_can_be_switched_off() -> None:
    """E13: debug(False) switches the warning off for receivers that are connected afterwards."""
    signal = Signal()

    with warnings.catch_warnings():
        aldis.debug()
        aldis.debug(False)

    assert lost(lambda: signal.connect(make())) == []
    aldis.debug(sys.flags.dev_mode)


@pytest.mark.usefixtures("development")
def test_the_latest_connect_counts() -> None:
    """E13: if a receiver is connected several times, the place is that of the last connect."""
    signal = Signal()
    lines: list[int] = []

    def act() -> None:
        receiver = make()
        signal.connect(receiver)
        lines.append(line_here() + 1)
        signal.connect(receiver, priority=1)

    (warning,) = lost(act)

    assert warning.lineno == lines[0]


PROGRAM = """\
import sys; sys.path.insert(0, sys.argv[1])
import aldis
exec(sys.argv[2])
lamp = aldis.signal('lamp')
lamp.connect(lambda sender: None)
lamp.send()
print('done')
"""


@pytest.mark.parametrize(
    ("arguments", "line", "is_seen"),
    [
        ([], "", False),
        (["-X", "dev"], "", True),
        ([], "aldis.debug(True)", True),
        ([], "aldis.debug()", True),
        (["-X", "dev"], "aldis.debug(False)", False),
        (["-W", "ignore::ResourceWarning"], "aldis.debug()", False),
        (["-W", "default"], "", False),
    ],
    ids=["nothing", "dev", "debug(True)", "debug()", "dev, debug(False)", "ignored by the user", "warnings alone"],
)
def test_the_warning_is_shown_in_development(tmp_path: Path, arguments: list[str], line: str, is_seen: bool) -> None:
    """E13: under -X dev, or with aldis.debug(), the warning is shown with file and line, without further settings."""
    script = tmp_path / "shop.py"
    script.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    done = subprocess.run(
        [sys.executable, *arguments, str(script), ROOT, line],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )

    assert done.stdout == "done\n"
    assert ("LostReceiverWarning" in done.stderr) is is_seen
    assert (f"{script}:5: " in done.stderr) is is_seen


def test_the_end_of_the_program_is_not_reported(tmp_path: Path) -> None:
    """E13: functions that die because the interpreter shuts down are not reported."""
    script = tmp_path / "shop.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import aldis\n"
        "aldis.debug()\n"
        "lamp = aldis.signal('lamp')\n"
        "@lamp.connect\n"
        "def receiver(sender): pass\n"
        "inner = aldis.Signal()\n"
        "@inner.connect\n"
        "def other(sender): return other\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "always", str(script), ROOT], capture_output=True, text=True, check=True
    )

    assert (done.stdout, done.stderr) == ("", "")
