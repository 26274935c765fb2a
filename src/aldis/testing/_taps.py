"""Between a signal and its receivers, while a test records it or stands in for its receivers.

A *tap* sits on a signal while at least one block wants it, and serves all of them. On a signal of Aldis it is
what the engine asks who is to be called. On one of Blinker it is put before the verbs of that one object.

Each block also connects a receiver that does nothing, so that ``signal.receivers`` is true and code that asks
before it sends does send. The tap keeps it out of the calls: it is in nobody's results, and it does not matter
whether a send is async.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.connections import filter_key
from aldis._core.identity import ANY, receiver_key
from aldis._core.registry import registry_of

from ._recording import Sent, is_aldis

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from aldis._core.connections import Connection
    from aldis._core.identity import ReceiverKey


@final
class Recorder:
    """What one block wants of the signals that it taps.

    :ivar note: called with each send, before any receiver runs.
    :ivar is_fake: whether it keeps receivers from running.
    :ivar only: which receivers; ``None`` for all.
    """

    __slots__ = ("_filter", "_keys", "_sender", "is_fake", "note", "only")

    is_fake: bool
    note: Callable[[Sent], object]
    only: tuple[Callable[..., Any], ...] | None

    def __init__(
        self,
        note: Callable[[Sent], object],
        sender: Any = ANY,
        *,
        is_fake: bool = False,
        only: tuple[Callable[..., Any], ...] | None = None,
    ) -> None:
        self.note = note
        self.is_fake = is_fake
        self.only = only  # Kept alive, so that the keys stay theirs; and so is the sender.
        self._sender = sender
        self._filter = filter_key(sender)
        self._keys: frozenset[ReceiverKey] = frozenset(receiver_key(receiver) for receiver in only or ())

    def stops(self, receiver: Callable[..., Any]) -> bool:
        """Whether a receiver is kept from running."""
        return self.is_fake and (self.only is None or receiver_key(receiver) in self._keys)

    def hear(self, signal: Any, sender: Any, payload: dict[str, Any], receivers: list[Callable[..., Any]]) -> None:
        """Note a send, if it is one of those that are wanted.

        :param receivers: who would be called without any block.
        """
        if self._filter is not None and filter_key(sender) != self._filter:
            return

        stopped = tuple(receiver for receiver in receivers if self.stops(receiver))

        if stopped or self.only is None:
            self.note(Sent(signal, sender, dict(payload), stopped))


@final
class Marker:
    """The receiver that a block connects. It does nothing."""

    def __call__(self, sender: Any, /, **payload: Any) -> None:
        """Nothing: who calls this did not ask the tap."""


class Tap:
    """What the two kinds of taps share."""

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
        """Whether any block keeps a receiver from running."""
        return any(recorder.stops(receiver) for recorder in self.recorders)

    def hear(self, sender: Any, payload: dict[str, Any], receivers: list[Callable[..., Any]]) -> None:
        """Tell each block of a send."""
        for recorder in self.recorders:
            recorder.hear(self.signal, sender, payload, receivers)


@final
class AldisTap(Tap):
    """Sits on a signal of Aldis."""

    __slots__ = ()

    def put(self, is_on: bool) -> None:
        registry_of(self.signal).intercept(self, is_on=is_on)

    def __call__(
        self, connections: tuple[Connection, ...], sender: Any, payload: dict[str, Any]
    ) -> tuple[Connection, ...]:
        """The engine asks, at the beginning of each send and in its context, who is to be called."""
        found = [(connection, connection.ref()) for connection in connections]
        living = [(c, receiver) for c, receiver in found if receiver is not None and not isinstance(receiver, Marker)]

        if not self.signal.is_muted:
            # By key: one that is connected for the sender and for any sender is there twice, and called once.
            self.hear(sender, payload, list({c.key: receiver for c, receiver in living}.values()))

        return tuple(connection for connection, receiver in living if not self.stops(receiver))


@final
class BlinkerTap(Tap):
    """Sits on a signal of Blinker: its verbs are hidden behind attributes of this one object."""

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
                continue  # Somebody has put something before it since. It lets everything through now.
            elif before is _NOTHING:
                del attributes[name]
            else:
                attributes[name] = before

    def send(self, sender: Any = None, /, **keywords: Any) -> Any:
        """As the signal's own, with each block told."""
        self._hear(sender, keywords)
        return self._hidden["send"](sender, **keywords)

    async def send_async(self, sender: Any = None, /, **keywords: Any) -> Any:
        """As the signal's own, with each block told."""
        self._hear(sender, keywords)
        return await self._hidden["send_async"](sender, **keywords)

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
        """As the signal's own, without those that are kept from running."""
        return (receiver for receiver in self._receivers_for(sender) if not self.stops(receiver))

    def _receivers_for(self, sender: Any) -> list[Callable[..., Any]]:
        return [each for each in self._hidden["receivers_for"](sender) if not isinstance(each, Marker)]

    def _hear(self, sender: Any, keywords: dict[str, Any]) -> None:
        if getattr(self.signal, "is_muted", False):
            return

        payload = {name: value for name, value in keywords.items() if name not in _NO_PAYLOAD}
        self.hear(sender, payload, self._receivers_for(sender))


@contextmanager
def tapped(signal: Any, recorder: Recorder, sender: Any = ANY) -> Generator[None, None, None]:
    """Have a recorder hear what one signal sends while a ``with`` block runs."""
    tap = _open(signal, recorder)

    try:
        # Blinker has an ANY of its own, which is what it takes when it is given none.
        with signal.connected_to(Marker(), *(() if sender is ANY else (sender,))):
            yield
    finally:
        _close(tap, recorder)


def connected_receivers(signal: Any) -> list[Callable[..., Any]]:
    """Who is connected and alive, for whatever sender."""
    if is_aldis(signal):
        found: list[Any] = [connection.ref() for connection in registry_of(signal).connections()]
    else:
        kept: list[Any] = list(signal.receivers.values())
        found = [each() if isinstance(each, _REF) else each for each in kept]

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


_NOTHING: Final[Any] = object()
_REF: Final[Any] = weakref.ref
_NO_PAYLOAD: Final = frozenset({"_async_wrapper", "_sync_wrapper"})
_lock: Final = RLock()  # Re-entrant: a destructor may do anything at any moment.
_taps: Final[dict[int, Tap]] = {}
"""By the ``id`` of the signal, which each tap keeps alive."""
