"""A framework's own signals as declared signals of Aldis.

Where the framework runs on Aldis, its signal itself is declared. Where it runs on Blinker, a signal of ours
stands beside it: a forwarder sits on the framework's signal while somebody is connected to ours or watches
it, and sends ours in turn. Nothing of the framework is replaced.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, final

from aldis._core.contract import Contract
from aldis._core.namespace import NamedSignal
from aldis._core.registry import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis._core.types import P, R, S


def declared(source: Any, *, is_async: bool = False) -> Declarer:
    """Decorate the function that says what a framework's signal carries; gives the declared signal.

    :param source: the framework's signal.
    :param is_async: whether the framework sends it with ``send_async``.
    """

    def declare(function: Callable[Concatenate[S, P], R], /) -> NamedSignal[S, P, R]:
        # Foreign: a newer framework may send more than is known here.
        contract = Contract(function, is_foreign=True)

        is_ours = isinstance(source, NamedSignal)
        signal: Any = source if is_ours else NamedSignal(source.name)
        signal._declare(contract)

        if not is_ours:
            registry_of(signal).on_change = Forwarder(source, signal, is_async=is_async).follow

        return signal  # type: ignore[no-any-return]

    return declare  # type: ignore[return-value]  # mypy binds the type variables too early.


class Declarer(Protocol):
    """What :func:`declared` returns."""

    def __call__(self, function: Callable[Concatenate[S, P], R], /) -> NamedSignal[S, P, R]:
        """Declare the signal."""
        raise NotImplementedError


@final
class Forwarder:
    """Sends one signal whenever another library's is sent."""

    def __init__(self, source: Any, target: NamedSignal[Any, ..., Any], *, is_async: bool) -> None:
        self._source = source
        self._target = target
        self._forward = self._send_async if is_async else self._send
        self._is_connected = False
        self._lock = RLock()  # Re-entrant: a destructor may change who is connected at any moment.

    def follow(self) -> None:
        """Sit on the source exactly while the target has receivers or is watched."""
        with self._lock:
            while self._is_wanted() is not self._is_connected:
                self._is_connected = not self._is_connected

                if self._is_connected:
                    self._source.connect(self._forward, weak=False)
                else:
                    self._source.disconnect(self._forward)

    def _is_wanted(self) -> bool:
        table = registry_of(self._target)
        return bool(table.watches) or table.has_any()

    def _send(self, sender: Any, **payload: Any) -> None:
        # The framework has told its own library how to cross to async receivers, so ours is told the same.
        self._target.send(sender, _async_wrapper=getattr(sender, "ensure_sync", None), **payload)

    async def _send_async(self, sender: Any, **payload: Any) -> None:
        await self._target.send_async(sender, _sync_wrapper=getattr(sender, "ensure_async", None), **payload)
