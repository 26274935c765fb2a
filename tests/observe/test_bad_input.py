"""aldis.observe: every mistake that a caller can make with the public functions, and its error."""

# This file tests wrong calls.
# mypy: disable-error-code="arg-type, call-overload"
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aldis import InvalidOptionError, Namespace, Signal
from aldis.observe import CallRecord, Counters, SendRecord, Watcher, connections, slow_receivers, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

signals = Namespace()
lamp = signals.signal("lamp")


def look(send: SendRecord) -> None: ...


async def look_async(send: SendRecord) -> None: ...


def look_lazily(send: SendRecord) -> Iterator[None]:
    yield


async def look_lazily_async(send: SendRecord) -> AsyncIterator[None]:
    yield


class LazyCallable:
    def __call__(self, send: SendRecord) -> Iterator[None]:
        yield


class LazyWatcher(Watcher):
    def send_began(self, send: SendRecord) -> Iterator[None]:  # type: ignore[override]
        yield


class AsyncWatcher(Watcher):
    async def call_ended(self, call: CallRecord) -> None:  # type: ignore[override]
        ...


class AsyncCallable:
    async def __call__(self, send: SendRecord) -> None: ...


class Secretive:
    def __repr__(self) -> str:
        return "ada@example.org"


NAN = float("nan")

TABLE: list[tuple[str, Callable[[], Any], str]] = [
    ("no watcher", lambda: watch(None), "takes a function or an aldis.observe.Watcher, not a NoneType"),
    ("a text as watcher", lambda: watch("look"), "not a str"),
    ("a signal as watcher", lambda: watch(lamp), "not a NamedSignal. Pass the watcher first, and then the signals"),
    ("a class of watchers", lambda: watch(Counters), "not the class Counters"),
    ("any class", lambda: watch(int), "not the class int"),
    ("something secret", lambda: watch(Secretive()), "not a Secretive"),
    ("an async function", lambda: watch(look_async), "look_async .*is async, but watchers are called and not awaited"),
    ("an async callable", lambda: watch(AsyncCallable()), "AsyncCallable .*is async"),
    ("an async method", lambda: watch(AsyncWatcher()), "call_ended .*is async"),
    ("a generator", lambda: watch(look_lazily), "look_lazily .*is a generator: a call would run no code of it"),
    ("an async generator", lambda: watch(look_lazily_async), "look_lazily_async .*is a generator"),
    ("a partial generator", lambda: watch(partial(look_lazily)), "look_lazily .*is a generator"),
    ("a callable generator", lambda: watch(LazyCallable()), "LazyCallable .*is a generator"),
    ("a generator method", lambda: watch(LazyWatcher()), "send_began .*is a generator"),
    ("no signals", lambda: watch(look, [], Namespace()), r"watch\(\) found no signals.*import the modules"),
    (
        "a name",
        lambda: watch(look, "lamp"),
        r"watch\(\) takes signals of Aldis, namespaces, and lists .*, not a str. Pass one",
    ),
    ("a class of signals", lambda: watch(look, Signal), "not the class Signal"),
    ("a signal, then none", lambda: watch(look, lamp, None), "not a NoneType"),
    ("no threshold", lambda: slow_receivers(None), "threshold_s must be a number of seconds, 0 or more, not None"),
    ("a signal as threshold", lambda: slow_receivers(lamp), "threshold_s must be a number"),
    ("a text", lambda: slow_receivers("1"), "threshold_s must be a number"),
    ("a truth", lambda: slow_receivers(True), "threshold_s must be a number"),
    ("less than nothing", lambda: slow_receivers(-0.1), "threshold_s must be .*not -0.1"),
    ("not a number", lambda: slow_receivers(NAN), "threshold_s must be .*not nan"),
    ("no rate", lambda: slow_receivers(1, lamp, every_s=None), "every_s must be a number"),
    ("a negative rate", lambda: slow_receivers(1, lamp, every_s=-1), "every_s must be a number"),
    ("not a rate", lambda: slow_receivers(1, lamp, every_s=NAN), "every_s must be a number"),
    ("no logger", lambda: slow_receivers(1, lamp, logger=None), "logger must be the name of a logger, not a NoneType"),
    (
        "a slow name",
        lambda: slow_receivers(1, "lamp"),
        "takes signals of Aldis, namespaces, and lists of these, not a str",
    ),
    ("connections of nothing", lambda: connections(None), "takes signals, namespaces, and lists .*, not a NoneType"),
    ("connections of a name", lambda: connections("lamp"), "not a str"),
    ("connections of a class", lambda: connections(Signal), "not the class Signal"),
    ("connections of a list", lambda: connections([lamp, Secretive()]), "not a Secretive"),
    ("connections of values", lambda: connections({"lamp": Secretive()}), "not a Secretive"),
    ("connections of an iterator", lambda: connections(iter([lamp])), "not a list_iterator"),
]


@pytest.mark.parametrize(("act", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input_is_refused(act: Callable[[], Any], message: str) -> None:
    """A call that cannot work is refused at once, with a message that says what to pass instead."""
    with pytest.raises(InvalidOptionError, match=message) as caught:
        act()

    assert "ada@example.org" not in str(caught.value)
    assert lamp._registry.watches == Signal()._registry.watches == ()
