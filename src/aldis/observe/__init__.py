"""See what signals do: who is connected, what is sent, what runs, how long it takes and what fails.

Watching costs nothing while nobody watches. A watcher that fails is removed and reported to the logger
``aldis``; sends and receivers are not affected.

>>> from aldis import Namespace
>>> from aldis.observe import watch
>>> saved = Namespace().signal("saved")
>>> @saved.connect
... def index(sender): ...
>>> with watch(lambda send: print(send.signal_name, [call.outcome for call in send.calls])):
...     _ = saved.send("pages")
saved ['returned']
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core import registry
from aldis._core.callables import describe, is_async, is_generator
from aldis._core.records import CallRecord, SendRecord
from aldis._core.registry import registry_of
from aldis._core.signal import Signal
from aldis._core.watching import FunctionWatcher, Watch, Watcher
from aldis.exceptions import InvalidOptionError

from ._inspect import ConnectionRecord, connections, describe_delivery, describe_sender
from ._metrics import BUCKETS_S, Counters, Histogram, SlowReceivers

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis._core.registry import ConnectionRegistry

__all__ = [
    "BUCKETS_S",
    "CallRecord",
    "ConnectionRecord",
    "Counters",
    "Histogram",
    "SendRecord",
    "Watch",
    "Watcher",
    "connections",
    "describe_delivery",
    "describe_sender",
    "slow_receivers",
    "watch",
]

_METHODS: Final = ("send_began", "call_began", "call_ended", "send_ended")


def watch(watcher: Callable[[SendRecord], object] | Watcher, *signals: Signal[Any, ..., Any]) -> Watch:
    """Watch sends.

    A watch is told of the sends that begin after it. With several, the one that was added first is told first.
    A send that is refused for its payload has not begun, and is not told of. A signal that is watched lives no
    longer for it.

    :param watcher: a function, called with the :class:`SendRecord` of each send when that has ended; or a
        :class:`Watcher`, which is told of beginnings too. Called in the thread of the send, one call for each
        watch: to watch twice is to be told twice.
    :param signals: watch these; without any, all signals of the process, also those that are made later.
    :return: what stops it, by ``stop()`` or at the end of a ``with`` block.
    :raises InvalidOptionError: when the watcher is neither, when it is async or a generator, or when something else
        than signals is given.

    .. versionadded:: 0.1
    """
    watcher = _checked(watcher)

    for signal in signals:
        if not _is_signal(signal):
            raise InvalidOptionError(
                f"watch() watches signals of Aldis, not a {type(signal).__qualname__}. Give it signals one by one,"
                " or none to watch all."
            )

    stop = _Stop([registry_of(signal) for signal in signals])
    watch = Watch(watcher, stop)

    for signal in signals:
        registry_of(signal).watch(watch, is_on=True)

    if not signals:
        registry.watch_all(watch, is_on=True)

    if watch.is_stopped:
        stop(watch)  # It failed while it was being added.

    return watch


def _checked(watcher: Any) -> Watcher:
    if isinstance(watcher, type) or not (isinstance(watcher, Watcher) or callable(watcher)):
        raise InvalidOptionError(
            f"watch() takes a function or an aldis.observe.Watcher, not {_kind(watcher)}: give that first, and"
            " then the signals."
        )

    methods = [getattr(watcher, name) for name in _METHODS] if isinstance(watcher, Watcher) else [watcher]

    for method in methods:
        if is_async(method):
            raise InvalidOptionError(f"{describe(method)} is async, and watchers are called, not awaited.")

        if is_generator(method):
            raise InvalidOptionError(f"{describe(method)} is a generator: calling it would run nothing of it.")

    return watcher if isinstance(watcher, Watcher) else FunctionWatcher(watcher)


def _kind(value: object) -> str:
    return f"the class {value.__qualname__}" if isinstance(value, type) else f"a {type(value).__qualname__}"


def _is_signal(value: object) -> bool:
    return isinstance(value, Signal)


@final
class _Stop:
    """How to stop a watch. Refers to tables weakly, for they refer to the watch."""

    __slots__ = ("_tables",)

    def __init__(self, tables: list[ConnectionRegistry]) -> None:
        self._tables = [weakref.ref(table) for table in tables]

    def __call__(self, watch: Watch) -> None:
        for ref in self._tables:
            table = ref()

            if table is not None:
                table.watch(watch, is_on=False)

        if not self._tables:
            registry.watch_all(watch, is_on=False)


def slow_receivers(
    threshold_s: float, *signals: Signal[Any, ..., Any], every_s: float = 60.0, logger: str = "aldis"
) -> Watch:
    """Log a warning when a receiver takes long.

    The time of a receiver is that of all it does, what it sends itself and what it awaits included. What a
    delivery runs later is looked at too.

    :param threshold_s: how long is long, in seconds.
    :param signals: as for :func:`watch`.
    :param every_s: warn of the same receiver of the same signal at most this often, in seconds. What was left
        out is counted in the next warning.
    :param logger: the name of the logger.
    :return: what stops it.
    :raises InvalidOptionError: when one of the times is not a number of seconds from 0 on, when the logger is not
        a name, or when something else than signals is given.

    .. versionadded:: 0.1
    """
    times: dict[str, Any] = {"threshold_s": threshold_s, "every_s": every_s}

    for name, seconds in times.items():
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise InvalidOptionError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}.")

    if not isinstance(logger, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOptionError(f"logger must be the name of a logger, not {_kind(logger)}.")

    return watch(SlowReceivers(threshold_s, every_s, logging.getLogger(logger)), *signals)
