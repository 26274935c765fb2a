"""A web framework's own signals, as declared signals of Aldis.

Where the framework runs on Aldis, its signal itself is declared. Where it runs on Blinker, a declared signal of Aldis
mirrors it: while the mirror has receivers or is watched, a receiver of the framework's signal sends the mirror each
time. No part of the framework is replaced.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, final

from aldis._core.contract import Contract
from aldis._core.namespace import NamedSignal, declare_signal
from aldis._core.registry import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis._core.types import P, R, S


def declared(source: Any, *, is_async: bool = False) -> Declarer:
    """Return a decorator that declares a framework's signal by a function, and returns the declared signal.

    :param source: the framework's signal.
    :param is_async: whether the framework sends it with ``send_async``.
    """

    def declare(function: Callable[Concatenate[S, P], R], /) -> NamedSignal[S, P, R]:
        # A foreign contract: a newer version of the framework may send more than this version of Aldis knows.
        contract = Contract(function, is_foreign=True)

        runs_on_aldis = isinstance(source, NamedSignal)
        signal: Any = source if runs_on_aldis else NamedSignal(source.name)
        declare_signal(signal, contract)

        if not runs_on_aldis:
            registry_of(signal).on_change = SignalMirror(source, signal, is_async=is_async).update

        return signal  # type: ignore[no-any-return]

    return declare  # type: ignore[return-value]  # mypy binds the type variables too early.


class Declarer(Protocol):
    """The decorator that :func:`declared` returns."""

    def __call__(self, function: Callable[Concatenate[S, P], R], /) -> NamedSignal[S, P, R]:
        """Declare the signal."""
        raise NotImplementedError


@final
class SignalMirror:
    """Sends a signal of Aldis each time a signal of Blinker is sent.

    :param source: the signal of Blinker.
    :param target: the signal of Aldis.
    :param is_async: whether the source is sent with ``send_async``.
    """

    def __init__(self, source: Any, target: NamedSignal[Any, ..., Any], *, is_async: bool) -> None:
        self._source = source
        self._target = target
        self._forward = self._send_async if is_async else self._send
        self._is_connected = False
        self._lock = RLock()  # Re-entrant: a destructor may connect or disconnect at any moment.

    def update(self) -> None:
        """Connect to the source if the target has receivers or is watched; else disconnect."""
        with self._lock:
            while self._is_wanted() is not self._is_connected:
                self._is_connected = not self._is_connected

                if self._is_connected:
                    self._source.connect(self._forward, weak=False)
                else:
                    self._source.disconnect(self._forward)

    def _is_wanted(self) -> bool:
        registry = registry_of(self._target)
        return bool(registry.watches) or registry.has_any()

    def _send(self, sender: Any, **payload: Any) -> None:
        # Pass the wrapper with each send, as the framework does for Blinker.
        self._target.send(sender, _async_wrapper=getattr(sender, "ensure_sync", None), **payload)

    async def _send_async(self, sender: Any, **payload: Any) -> None:
        await self._target.send_async(sender, _sync_wrapper=getattr(sender, "ensure_async", None), **payload)
