"""Tap a signal: see each send before the receivers run, and keep receivers from running.

A *tap* is on a signal while at least one block needs it, and serves all of these blocks. On a signal of Aldis, the tap
is an interceptor, which the engine asks for the connections to call. On a signal of Blinker, it replaces methods of
that one object.

Each block also connects a placeholder, a receiver that does nothing. So ``signal.receivers`` is true, and code that
tests this before it sends still sends. The tap removes the placeholder from each send: it appears in no results, and
the send may be sync or async.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.identity import ANY, filter_key, receiver_key
from aldis._core.registry import registry_of
from aldis.observe._selection import is_aldis

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import TypeAlias

    from aldis._core.connections import Connection
    from aldis._core.identity import ReceiverKey

    Receivers: TypeAlias = tuple[Callable[..., Any], ...]
    Note: TypeAlias = Callable[[Any, Any, dict[str, Any], Receivers], object]

_NOTHING: Final[Any] = object()
_REF: Final[Any] = weakref.ref
_NO_PAYLOAD: Final = frozenset({"_async_wrapper", "_sync_wrapper"})


@final
class Recorder:
    """Records the sends of one block, and says which receivers the block keeps from running.

    :ivar note: called with each send, before any receiver runs: with the signal, the sender, a copy of the payload, and
        the receivers that the block keeps from running.
    :ivar is_fake: whether the block keeps receivers from running.
    :ivar only: the receivers that it keeps from running; ``None`` for all.
    """

    __slots__ = ("_filter", "_keys", "_sender", "is_fake", "note", "only")

    is_fake: bool
    note: Note
    only: Receivers | None

    def __init__(
        self,
        note: Note,
        sender: Any = ANY,
        *,
        is_fake: bool = False,
        only: Receivers | None = None,
    ) -> None:
        self.note = note
        self.is_fake = is_fake
        self.only = only  # Keeps the receivers alive, so that no other object gets their keys. The sender too.
        self._sender = sender
        self._filter = filter_key(sender)
        self._keys: frozenset[ReceiverKey] = frozenset(receiver_key(receiver) for receiver in only or ())

    def stops(self, receiver: Callable[..., Any]) -> bool:
        """Return whether the block keeps a receiver from running."""
        return self.is_fake and (self.only is None or receiver_key(receiver) in self._keys)

    def record(self, signal: Any, sender: Any, payload: dict[str, Any], receivers: list[Callable[..., Any]]) -> None:
        """Record a send, if the block records sends of this sender to these receivers.

        :param receivers: the receivers that would be called without any block.
        """
        if self._filter is not None and filter_key(sender) != self._filter:
            return

        stopped = tuple(receiver for receiver in receivers if self.stops(receiver))

        if stopped or self.only is None:
            self.note(signal, sender, dict(payload), stopped)


@final
class Placeholder:
    """The receiver that a block connects. It does nothing."""

    def __call__(self, sender: Any, /, **payload: Any) -> None:
        """Do nothing. Only code that calls receivers without a send calls this."""


class Tap:
    """A tap on one signal. Each subclass knows how to put itself on a signal."""

    __slots__ = ("recorders", "signal")

    recorders: tuple[Recorder, ...]
    signal: Any

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.recorders = ()

    def put(self, is_on: bool) -> None:
        """Put the tap on the signal, or take it off."""
        raise NotImplementedError

    def stops(self, receiver: Callable[..., Any]) -> bool:
        """Return whether any block keeps a receiver from running."""
        return any(recorder.stops(receiver) for recorder in self.recorders)

    def record(self, sender: Any, payload: dict[str, Any], receivers: list[Callable[..., Any]]) -> None:
        """Let each block record a send."""
        for recorder in self.recorders:
            recorder.record(self.signal, sender, payload, receivers)


@final
class AldisTap(Tap):
    """A tap on a signal of Aldis: an interceptor."""

    __slots__ = ()

    def put(self, is_on: bool) -> None:
        registry_of(self.signal).intercept(self, is_on=is_on)

    def __call__(
        self, connections: tuple[Connection, ...], sender: Any, payload: dict[str, Any]
    ) -> tuple[Connection, ...]:
        """Return the connections to call. The engine asks at the beginning of each send, in the send's context."""
        found = [(connection, connection.ref()) for connection in connections]
        living = [
            (c, receiver) for c, receiver in found if receiver is not None and not isinstance(receiver, Placeholder)
        ]

        if not self.signal.is_muted:
            # A dict by key: a receiver that is connected both to the sender and to any sender is here twice, and called
            # once.
            self.record(sender, payload, list({c.key: receiver for c, receiver in living}.values()))

        return tuple(connection for connection, receiver in living if not self.stops(receiver))


@final
class BlinkerTap(Tap):
    """A tap on a signal of Blinker: attributes of this one object hide the methods of its class."""

    __slots__ = ("_before", "_hidden")

    def __init__(self, signal: Any) -> None:
        super().__init__(signal)
        ours: dict[str, Any] = {"send": self.send, "send_async": self.send_async, "receivers_for": self.receivers_for}
        self._hidden: dict[str, Any] = {name: getattr(signal, name) for name in ours if hasattr(signal, name)}
        attributes: dict[str, Any] = signal.__dict__
        self._before = {name: (own, attributes.get(name, _NOTHING)) for name, own in ours.items()}

    def put(self, is_on: bool) -> None:
        attributes: dict[str, Any] = self.signal.__dict__

        for name in self._hidden:
            own, before = self._before[name]

            if is_on:
                attributes[name] = own
            elif attributes.get(name) is not own:
                continue  # Other code has replaced it, and may still call ours. Ours passes every call through now.
            elif before is _NOTHING:
                del attributes[name]
            else:
                attributes[name] = before

    def send(self, sender: Any = None, /, **keywords: Any) -> Any:
        """Let each block record the send, and call the signal's own method."""
        self._record(sender, keywords)
        return self._hidden["send"](sender, **keywords)

    async def send_async(self, sender: Any = None, /, **keywords: Any) -> Any:
        """Let each block record the send, and call the signal's own method."""
        self._record(sender, keywords)
        return await self._hidden["send_async"](sender, **keywords)

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
        """Return what the signal's own method returns, without the receivers that are kept from running."""
        return (receiver for receiver in self._receivers_for(sender) if not self.stops(receiver))

    def _receivers_for(self, sender: Any) -> list[Callable[..., Any]]:
        return [each for each in self._hidden["receivers_for"](sender) if not isinstance(each, Placeholder)]

    def _record(self, sender: Any, keywords: dict[str, Any]) -> None:
        if getattr(self.signal, "is_muted", False):
            return

        payload = {name: value for name, value in keywords.items() if name not in _NO_PAYLOAD}
        self.record(sender, payload, self._receivers_for(sender))


@contextmanager
def tap_sends(signal: Any, recorder: Recorder, sender: Any = ANY) -> Generator[None, None, None]:
    """Let a recorder record the sends of one signal while a ``with`` block runs."""
    tap = _open(signal, recorder)

    try:
        # Blinker has an ANY of its own, and uses it if no sender is passed.
        with signal.connected_to(Placeholder(), *(() if sender is ANY else (sender,))):
            yield
    finally:
        _close(tap, recorder)


def connected_receivers(signal: Any) -> list[Callable[..., Any]]:
    """Return the receivers that are connected and alive, for any sender."""
    if is_aldis(signal):
        found: list[Any] = [connection.ref() for connection in registry_of(signal).connections()]
    else:
        values: list[Any] = list(signal.receivers.values())
        found = [each() if isinstance(each, _REF) else each for each in values]

    return [receiver for receiver in found if receiver is not None]


def _open(signal: Any, recorder: Recorder) -> Tap:
    with _lock:
        tap = _taps.get(id(signal))

        if tap is None:
            tap = _taps[id(signal)] = AldisTap(signal) if is_aldis(signal) else BlinkerTap(signal)
            tap.put(is_on=True)

        tap.recorders = (*tap.recorders, recorder)
        return tap


def _close(tap: Tap, recorder: Recorder) -> None:
    with _lock:
        tap.recorders = tuple(other for other in tap.recorders if other is not recorder)

        if not tap.recorders:
            del _taps[id(tap.signal)]
            tap.put(is_on=False)


_lock: Final = RLock()  # Re-entrant, because a destructor may run at any moment and begin or end a block.
_taps: Final[dict[int, Tap]] = {}
"""The taps, by the ``id`` of their signals. Each tap keeps its signal alive."""
