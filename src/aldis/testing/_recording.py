"""Record sends, keep receivers from running, and show a test what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, final, overload

from aldis._core.callables import describe, kind_name
from aldis._core.identity import ANY, receiver_key, resolve_bound
from aldis._core.registry import registry_of
from aldis.exceptions import InvalidOptionError
from aldis.observe._selection import is_aldis, is_like_blinker, select_some

from ._taps import Recorder, connected_receivers, tap_sends

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator

    from aldis.observe._selection import AnySignals

    from ._taps import Note, Receivers

_COLLECTIONS: Final[Any] = (list, tuple, set, frozenset)
_MOST_NAMES: Final = 3
_MOST_LINES: Final = 20
_short: Final = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100


@contextmanager
def record(*signals: AnySignals, sender: Any = ANY) -> Generator[Recording, None, None]:
    """Record what is sent while a ``with`` block runs.

    Receivers run as they do without the block. Each send is recorded before the first receiver runs, so a receiver
    that raises hides nothing. A send of a muted signal reaches no receiver, and is not recorded. ``signal.receivers``
    is true inside the block, as if a receiver were connected; ``send`` returns the same as without the block.

    :param signals: signals; namespaces or other mappings of names to signals; or lists, tuples and sets of these.
        Without ``signals``, all signals of Aldis in the process are recorded. Signals that are made after the block has
        begun, or come into a namespace later, are not recorded.
    :param sender: record sends by this sender only. A sender matches as for ``connect``.
    :return: a context manager that returns a :class:`Recording`.
    :raises InvalidOptionError: when one of ``signals`` is something else, or when ``signals`` contain no signal.
    :raises UnboundProxyError: when the sender is a proxy that points to no object.

    .. versionadded:: 0.1
    """
    found = select_some("record", signals, is_like_blinker)
    sender = _resolved(found, sender)
    sent: list[Sent] = []
    recorder = Recorder(_adds_to(sent), sender)

    with ExitStack() as taps:
        for signal in found:
            taps.enter_context(tap_sends(signal, recorder, sender))

        yield Recording(tuple(found), sent, sender)


@contextmanager
def fake(
    *signals: AnySignals, only: Callable[..., Any] | Collection[Callable[..., Any]] | None = None
) -> Generator[Recording, None, None]:
    """Keep receivers from running while a ``with`` block runs, and record the sends that would have called them.

    This holds in all threads and tasks, so that a server's threads can be tested too; to silence the current one
    only, use ``signal.muted()``. Connections do not change: a ``once`` receiver that was kept from running stays
    connected, and no delivery gets a call.

    :param signals: as for :func:`record`: all receivers of these signals are kept from running.
    :param only: keep this receiver, or these, from running, and let the other receivers run. Then only those sends are
        recorded that would have called one of them.
    :return: a context manager that returns a :class:`Recording`. The ``stopped`` of each :class:`Sent` lists the
        receivers that would have been called.
    :raises InvalidOptionError: as :func:`record`; when ``only`` is neither a receiver nor a collection of receivers; or
        when one of its receivers is not connected to any of the signals, because another object may run in its place.

    .. versionadded:: 0.1
    """
    found = select_some("fake", signals, is_like_blinker)
    receivers = None if only is None else _wanted_receivers(found, only)
    sent: list[Sent] = []
    recorder = Recorder(_adds_to(sent), is_fake=True, only=receivers)

    with ExitStack() as taps:
        for signal in found:
            taps.enter_context(tap_sends(signal, recorder))

        yield Recording(tuple(found), sent)


def _adds_to(sent: list[Sent]) -> Note:
    def note(signal: Any, sender: Any, payload: dict[str, Any], stopped: Receivers) -> None:
        sent.append(Sent(signal, sender, payload, stopped))

    return note


def _resolved(signals: list[Any], sender: Any) -> Any:
    """Return a sender as signals match it. The ``ANY`` of Blinker becomes the ``ANY`` of Aldis."""
    if any(sender is getattr(signal, "ANY", None) for signal in signals):
        return ANY

    return resolve_bound(sender)


def _wanted_receivers(signals: list[Any], only: Any) -> tuple[Callable[..., Any], ...]:
    """Return the receivers in ``only``.

    :raises InvalidOptionError: when an item is not a receiver, or is not connected.
    """
    receivers: tuple[Any, ...] = ()

    if callable(only):
        receivers = (only,)
    elif isinstance(only, _COLLECTIONS):
        receivers = tuple(only)

    if not receivers or not all(map(callable, receivers)):
        raise InvalidOptionError(f"fake(only=...) takes a receiver or a list of receivers, not {kind_name(only)}.")

    known = {receiver_key(receiver) for signal in signals for receiver in connected_receivers(signal)}
    are_all_known = not any(is_aldis(signal) and registry_of(signal).is_custom for signal in signals)

    for receiver in receivers:
        if are_all_known and receiver_key(receiver) not in known:
            raise InvalidOptionError(
                f"fake(only=...) cannot stop {describe(receiver)}, because it is not connected. Begin the block after"
                " it was connected, and pass the very object that was connected: not one that is wrapped or bound to"
                " another object."
            )

    return receivers


@final
class Sent:
    """One send, as a :class:`Recording` holds it.

    A value of the payload is an attribute, too: ``sent.user_id`` is ``sent.payload["user_id"]``. A keyword with the
    name of one of the attributes below is in ``payload`` only.

    :ivar signal: the signal.
    :ivar sender: the sender.
    :ivar payload: the keyword arguments. The values are the sent objects, not copies.
    :ivar stopped: the receivers that :func:`aldis.testing.fake` kept from running, in order.

    .. versionadded:: 0.1
    """

    __slots__ = ("payload", "sender", "signal", "stopped")

    payload: dict[str, Any]
    sender: Any
    signal: Any
    stopped: tuple[Callable[..., Any], ...]

    def __init__(
        self, signal: Any, sender: Any, payload: dict[str, Any], stopped: tuple[Callable[..., Any], ...]
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.payload = payload
        self.stopped = stopped

    def __getattr__(self, name: str) -> Any:
        if name in Sent.__slots__ or name.startswith("__"):
            raise AttributeError(name)  # copy() reads these attributes before the payload is set.

        if name not in self.payload:
            names = ", ".join(map(repr, self.payload)) or "nothing"
            raise AttributeError(f"This send of {_name_of(self.signal)} has no {name!r} in its payload, but {names}.")

        return self.payload[name]

    def __repr__(self) -> str:
        return f"<Sent {self.text}>"

    @property
    def text(self) -> str:
        """The signal, the sender and the payload in one line. Long values are cut."""
        payload = ", ".join(f"{name}={_short.repr(value)}" for name, value in self.payload.items())
        return f"{_name_of(self.signal)} by {_short.repr(self.sender)}: {payload or 'no payload'}"


@final
class Recording(Sequence[Sent]):
    """The sends in a block, in order. It grows while the block runs, and does not change after that.

    A sequence: it has a length, can be indexed and iterated, and is true when something was sent. Use it from any
    thread.

    .. versionadded:: 0.1
    """

    __slots__ = ("_sender", "_sent", "_signals")

    def __init__(self, signals: tuple[Any, ...], sent: list[Sent], sender: Any = ANY) -> None:
        self._signals = signals
        self._sent = sent  # Taps append to it.
        self._sender = sender

    def one(self) -> Sent:
        """Return the only send.

        :raises AssertionError: when nothing was sent, or more than once. The message lists the sends.
        """
        sent = tuple(self._sent)

        if len(sent) != 1:
            raise AssertionError(f"Expected one send of {self._subject}, but {_summary(sent)}")

        return sent[0]

    def last(self) -> Sent:
        """Return the latest send.

        :raises AssertionError: when nothing was sent.
        """
        sent = tuple(self._sent)

        if not sent:
            raise AssertionError(f"Expected a send of {self._subject}, but {_summary(sent)}")

        return sent[-1]

    def of(self, signal: Any) -> Recording:
        """Return the sends of one signal until now, if several signals are recorded.

        :param signal: one of the recorded signals.
        :return: a recording of its own, which does not grow.
        :raises InvalidOptionError: when the signal is not one of the recorded signals.
        """
        if not any(each is signal for each in self._signals):
            raise InvalidOptionError(
                f"of() takes one of the recorded signals, not {signal!r}. They are: {self._subject}."
            )

        return Recording((signal,), [sent for sent in self._sent if sent.signal is signal], self._sender)

    def clear(self) -> None:
        """Forget the sends until now."""
        self._sent.clear()

    @overload
    def __getitem__(self, index: int) -> Sent: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sent]: ...

    def __getitem__(self, index: int | slice) -> Sent | list[Sent]:
        return self._sent[index]

    def __len__(self) -> int:
        return len(self._sent)

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._sent)

    def __repr__(self) -> str:
        return f"<Recording of {self._subject}: {_summary(tuple(self._sent))}>"

    @property
    def _subject(self) -> str:
        names = [_name_of(signal) for signal in self._signals]
        what = " or ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} signals"
        return what if self._sender is ANY else f"{what} by {_short.repr(self._sender)}"


def _name_of(signal: Any) -> str:
    """Return a signal's name in quotes, or its class if it has no name."""
    return f"a {type(signal).__name__}" if getattr(signal, "name", None) is None else repr(signal.name)


def _summary(sent: tuple[Sent, ...]) -> str:
    if not sent:
        return "nothing was sent."

    lines = [f"\n  {place}. {each.text}" for place, each in enumerate(sent[:_MOST_LINES], 1)]

    if len(sent) > _MOST_LINES:
        lines.append(f"\n  and {len(sent) - _MOST_LINES} more")

    return f"{len(sent)} {'was' if len(sent) == 1 else 'were'} sent:{''.join(lines)}"
