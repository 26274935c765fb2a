"""Start and stop watches: of some signals, or of all signals of the process."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.callables import describe, is_async, is_generator, kind_name
from aldis._core.registry import registry_of, watch_all
from aldis._core.watching import FunctionWatcher, Watch, Watcher
from aldis.exceptions import InvalidOptionError

from ._metrics import SlowReceivers
from ._selection import select_some

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis._core.records import SendRecord
    from aldis._core.registry import ConnectionRegistry

    from ._selection import AldisSignals

_METHODS: Final = ("send_began", "call_began", "call_ended", "send_ended")


def watch(watcher: Callable[[SendRecord], object] | Watcher, *signals: AldisSignals) -> Watch:
    """Watch sends.

    A watch is told of the sends that begin after it was started. Several watches are told in the order in which they
    were started. A send that is refused because of its payload has not begun, and no watch is told of it. A watch keeps
    no signal alive.

    :param watcher: a function, called with the :class:`SendRecord` of each send when the send has ended; or a
        :class:`Watcher`, which is told of beginnings too. It is called in the thread of the send, once for each
        watch: if you watch twice, it is told twice.
    :param signals: signals of Aldis; namespaces or other mappings of names to signals; or lists, tuples and sets of
        these. Of a namespace, the watch sees the signals that are in it when the watch starts. Without ``signals``, the
        watch sees all signals of the process, including signals that are made later.
    :return: the watch. Call its ``stop()``, or use it as a ``with`` block that stops it at the end.
    :raises InvalidOptionError: when the watcher is neither a function nor a :class:`Watcher`, when it is async or a
        generator, when one of ``signals`` is something else, or when ``signals`` contain no signal.

    .. versionadded:: 0.1
    """
    watcher = _checked(watcher)
    registries = [registry_of(signal) for signal in select_some("watch", signals)] if signals else []
    stop = _StopOfSome(registries) if signals else _stop_of_all
    watch = Watch(watcher, stop)

    for registry in registries:
        registry.watch(watch, is_on=True)

    if not signals:
        watch_all(watch, is_on=True)

    if watch.is_stopped:
        stop(watch)  # It failed while it was being added.

    return watch


def _checked(watcher: Any) -> Watcher:
    if isinstance(watcher, type) or not (isinstance(watcher, Watcher) or callable(watcher)):
        raise InvalidOptionError(
            f"watch() takes a function or an aldis.observe.Watcher, not {kind_name(watcher)}. Pass the watcher"
            " first, and then the signals."
        )

    methods = [getattr(watcher, name) for name in _METHODS] if isinstance(watcher, Watcher) else [watcher]

    for method in methods:
        if is_async(method):
            raise InvalidOptionError(f"{describe(method)} is async, but watchers are called and not awaited.")

        if is_generator(method):
            raise InvalidOptionError(f"{describe(method)} is a generator: a call would run no code of it.")

    return watcher if isinstance(watcher, Watcher) else FunctionWatcher(watcher)


def _stop_of_all(watch: Watch) -> None:
    """Stop a watch of all signals."""
    watch_all(watch, is_on=False)


@final
class _StopOfSome:
    """Stops a watch of some signals. Refers to their registries weakly, because they refer to the watch."""

    __slots__ = ("_registries",)

    def __init__(self, registries: list[ConnectionRegistry]) -> None:
        self._registries = [weakref.ref(registry) for registry in registries]

    def __call__(self, watch: Watch) -> None:
        for ref in self._registries:
            registry = ref()

            if registry is not None:
                registry.watch(watch, is_on=False)


def slow_receivers(threshold_s: float, *signals: AldisSignals, every_s: float = 60.0, logger: str = "aldis") -> Watch:
    """Log a warning when a receiver takes long.

    The time of a receiver includes all its work, its own sends and awaits too. Receivers that a delivery runs later are
    measured as well.

    :param threshold_s: the shortest time that counts as long, in seconds.
    :param signals: as for :func:`watch`.
    :param every_s: warn of the same receiver of the same signal at most this often, in seconds. The next warning
        counts the warnings that were left out.
    :param logger: the name of the logger.
    :return: the watch, which :func:`watch` describes.
    :raises InvalidOptionError: when one of the times is not a number of seconds, 0 or more; when the logger is not a
        name, or when one of ``signals`` is something else.

    .. versionadded:: 0.1
    """
    times: dict[str, Any] = {"threshold_s": threshold_s, "every_s": every_s}

    for name, seconds in times.items():
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise InvalidOptionError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}.")

    if not isinstance(logger, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidOptionError(f"logger must be the name of a logger, not {kind_name(logger)}.")

    return watch(SlowReceivers(threshold_s, every_s, logging.getLogger(logger)), *signals)
