"""What a test gets to see of the sends in a block."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, final, overload

from aldis._core.identity import ANY
from aldis._core.signal import Signal
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@final
class Sent:
    """One send, as a :class:`Recording` holds it.

    What is in the payload can be read as an attribute, too: ``sent.user_id`` is ``sent.payload["user_id"]``. Keywords
    that are called like one of the attributes below are in ``payload`` only.

    :ivar signal: the signal.
    :ivar sender: the sender.
    :ivar payload: the keyword arguments. The values are those that were sent, not copies of them.
    :ivar stopped: the receivers that this would have called, and that :func:`aldis.testing.fake` kept from running,
        in order.

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
            raise AttributeError(name)  # A copy in the making asks for these.

        if name not in self.payload:
            names = ", ".join(map(repr, self.payload)) or "nothing"
            raise AttributeError(f"This send of {name_of(self.signal)} has no {name!r} in its payload, but {names}.")

        return self.payload[name]

    def __repr__(self) -> str:
        return f"<Sent {self.text}>"

    @property
    def text(self) -> str:
        """The signal, the sender and the payload in one line; values that are long are cut."""
        payload = ", ".join(f"{name}={_short.repr(value)}" for name, value in self.payload.items())
        return f"{name_of(self.signal)} by {_short.repr(self.sender)}: {payload or 'no payload'}"


@final
class Recording(Sequence[Sent]):
    """What was sent in a block, in order. It grows while the block runs, and stays as it is after that.

    A sequence: it has a length, can be indexed and iterated, and is true when something was sent. All of it may be
    used from any thread.

    .. versionadded:: 0.1
    """

    __slots__ = ("_sender", "_sent", "_signals")

    def __init__(self, signals: tuple[Any, ...], sender: Any = ANY, sent: tuple[Sent, ...] = ()) -> None:
        self._signals = signals
        self._sender = sender
        self._sent = list(sent)

    def one(self) -> Sent:
        """The one send that there was.

        :raises AssertionError: when there was none, or more than one. Its text lists what was sent.
        """
        sent = tuple(self._sent)

        if len(sent) != 1:
            raise AssertionError(f"Expected one send of {self._what}, but {_told(sent)}")

        return sent[0]

    @property
    def last(self) -> Sent:
        """The latest send.

        :raises AssertionError: when there was none.
        """
        sent = tuple(self._sent)

        if not sent:
            raise AssertionError(f"Expected a send of {self._what}, but {_told(sent)}")

        return sent[-1]

    def of(self, signal: Any) -> Recording:
        """What was sent of one of the signals until now, where several are recorded.

        :param signal: one of the signals that are recorded.
        :return: a recording of its own, which does not grow.
        :raises InvalidOptionError: when it is not among those that are recorded.
        """
        if not any(each is signal for each in self._signals):
            raise InvalidOptionError(f"of() takes one of the recorded signals, not {signal!r}. They are: {self._what}.")

        return Recording((signal,), self._sender, tuple(sent for sent in self._sent if sent.signal is signal))

    def clear(self) -> None:
        """Forget what was sent until now."""
        self._sent.clear()

    def _add(self, sent: Sent) -> None:
        self._sent.append(sent)

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
        return f"<Recording of {self._what}: {_told(tuple(self._sent))}>"

    @property
    def _what(self) -> str:
        names = [name_of(signal) for signal in self._signals]
        what = " or ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} signals"
        return what if self._sender is ANY else f"{what} by {_short.repr(self._sender)}"


def name_of(signal: Any) -> str:
    """A signal's name in quotes; of a signal without one, what it is."""
    name = getattr(signal, "name", None)
    return f"a {type(signal).__name__}" if name is None else repr(name)


def is_aldis(signal: Any) -> bool:
    """Whether a signal is one of ours, and not one of Blinker's."""
    return isinstance(signal, Signal)


def _told(sent: tuple[Sent, ...]) -> str:
    if not sent:
        return "nothing was sent."

    lines = [f"\n  {place}. {each.text}" for place, each in enumerate(sent[:_MOST_LINES], 1)]

    if len(sent) > _MOST_LINES:
        lines.append(f"\n  and {len(sent) - _MOST_LINES} more")

    return f"{len(sent)} {'was' if len(sent) == 1 else 'were'} sent:{''.join(lines)}"


_MOST_NAMES: Final = 3
_MOST_LINES: Final = 20
_short: Final = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100
