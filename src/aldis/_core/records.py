"""Records of what a watched send did.

A record holds what is below it in the tree, and refers weakly to what is above: whatever nobody keeps is
freed by reference counts, and a receiver or a sender lives no longer because somebody watches.
"""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final
from weakref import ref

from .callables import place_of, qualified_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options
    from .signal import Signal

    AnySignal: TypeAlias = Signal[Any, ..., Any]

_MOST_SENDS: Final = 1000


@final
class SendRecord:
    """One send.

    A record holds the sender and the receivers: keep it for as long as you may keep those.

    :ivar signal: the signal.
    :ivar sender: the sender.
    :ivar payload_names: the keywords that were sent.
    :ivar payload: the payload itself, until the watchers have been told of the send's end; then ``None``. It is the
        very dictionary that receivers are called with: look at it, and keep nothing of it.
    :ivar is_muted: whether the whole signal was muted.
    :ivar calls: the calls of receivers, in the order in which they began.
    :ivar started_s: when it began, in seconds since the epoch.
    :ivar duration_s: how long it took, in seconds; ``None`` until it has ended.
    :ivar exception_type: the class of the exception that the send raised, with its module, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "__weakref__",
        "_begin",
        "_parent",
        "calls",
        "duration_s",
        "exception_type",
        "is_muted",
        "payload",
        "payload_names",
        "sender",
        "signal",
        "started_s",
    )

    calls: list[CallRecord]
    duration_s: float | None
    exception_type: str | None
    is_muted: bool
    payload: dict[str, Any] | None
    payload_names: tuple[str, ...]
    sender: Any
    signal: AnySignal
    started_s: float

    def __init__(
        self, signal: AnySignal, sender: Any, payload: dict[str, Any], is_muted: bool, parent: CallRecord | None
    ) -> None:
        self.signal = signal
        self.sender = sender
        self.payload = payload
        self.payload_names = tuple(payload)
        self.is_muted = is_muted
        self.calls = []
        self.duration_s = None
        self.exception_type = None
        self.started_s = time()
        self._parent = None if parent is None else ref(parent)
        self._begin: float | None = None

    @property
    def parent(self) -> CallRecord | None:
        """The call of a receiver inside which this was sent, if that is watched, by whomever.

        ``None`` for what was sent outside of receivers, and by a task that has outlived the receiver which
        started it. A record does not keep its parent: keep the uppermost one, and you keep the tree.
        """
        return None if self._parent is None else self._parent()

    @property
    def signal_name(self) -> str:
        """The signal's name; for a signal without one, the name of its class."""
        return name_of_signal(self.signal)

    def _end(self, error: BaseException | None) -> None:
        """Note that it has ended, and how."""
        self.duration_s = _since(self._begin)
        self.exception_type = None if error is None else name_of(type(error))

    def __repr__(self) -> str:
        return f"<SendRecord of {self.signal_name!r}: {len(self.calls)} calls>"


@final
class CallRecord:
    """One call of a receiver, or its being handed over to a delivery.

    A receiver with a delivery gives two records: one with the outcome ``"delivered"`` in the send, and one when
    the delivery runs it, which may be after the send has ended.

    :ivar signal: the signal.
    :ivar receiver: the receiver.
    :ivar priority: the priority of its connection.
    :ivar is_async: whether the receiver is async.
    :ivar is_delivery: whether this is the handing over to the delivery, and not a run of the receiver.
    :ivar via: the delivery of its connection, if there is one.
    :ivar sends: what was sent inside it, in order: the first 1,000, so that a receiver that never returns, such as a
        main loop, does not pile up all that it ever sends.
    :ivar sends_left_out: how many sends there were after those. Watchers are told of them like of others.
    :ivar outcome: ``"returned"``, ``"raised"`` or ``"delivered"``; ``None`` until it has ended.
    :ivar started_s: when it began, in seconds since the epoch.
    :ivar duration_s: how long it took, in seconds, with all that it called and awaited; ``None`` until it has ended.
    :ivar exception_type: the class of the exception that the receiver raised, with its module, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "__weakref__",
        "_begin",
        "_send",
        "duration_s",
        "exception_type",
        "is_async",
        "is_delivery",
        "outcome",
        "priority",
        "receiver",
        "sends",
        "sends_left_out",
        "signal",
        "started_s",
        "via",
    )

    duration_s: float | None
    exception_type: str | None
    is_async: bool
    is_delivery: bool
    outcome: Literal["returned", "raised", "delivered"] | None
    priority: float
    receiver: Callable[..., Any]
    sends: list[SendRecord]
    sends_left_out: int
    signal: AnySignal
    started_s: float
    via: Any

    def __init__(
        self, send: SendRecord, receiver: Callable[..., Any], is_async: bool, options: Options, is_delivery: bool
    ) -> None:
        self.signal = send.signal
        self.receiver = receiver
        self.priority = options.priority
        self.is_async = is_async
        self.is_delivery = is_delivery
        self.via = options.via
        self.sends = []
        self.sends_left_out = 0
        self.outcome = None
        self.duration_s = None
        self.exception_type = None
        self.started_s = time()
        self._send = ref(send)
        self._begin: float | None = None

    @property
    def send(self) -> SendRecord:
        """The send that it belongs to. A record does not keep its send: who keeps calls keeps sends, too.

        :raises ReferenceError: when nobody has kept it.
        """
        send = self._send()

        if send is None:
            raise ReferenceError("The record of the send is gone. Keep the SendRecord, which keeps its calls.")

        return send

    @property
    def signal_name(self) -> str:
        """The signal's name; for a signal without one, the name of its class."""
        return name_of_signal(self.signal)

    # What follows asks the receiver, which may run its own code: not in the middle of a send.

    @property
    def receiver_name(self) -> str:
        """The receiver's qualified name."""
        return qualified_name(self.receiver)

    @property
    def receiver_place(self) -> str | None:
        """Where the receiver is defined, as ``file:line``, if that is known."""
        return place_of(self.receiver)

    def _add(self, send: SendRecord) -> None:
        """Note a send that was made inside it."""
        if len(self.sends) < _MOST_SENDS:
            self.sends.append(send)
        else:
            self.sends_left_out += 1

    def _end(self, error: BaseException | None) -> None:
        """Note that it has ended, and how."""
        self.duration_s = _since(self._begin)

        if error is not None:
            self.outcome = "raised"
            self.exception_type = name_of(type(error))
        else:
            self.outcome = "delivered" if self.is_delivery else "returned"

    def __repr__(self) -> str:
        return f"<CallRecord of {self.receiver_name}: {self.outcome}>"


def _since(begin: float | None) -> float:
    return 0.0 if begin is None else perf_counter() - begin


def name_of(kind: type[BaseException]) -> str:
    """A class's name, with its module unless that is Python itself."""
    return qualified_name(kind).removeprefix("builtins.")


def name_of_signal(signal: Any) -> str:
    """A signal's name; for a signal without one, the name of its class."""
    return str(getattr(signal, "name", None) or type(signal).__name__)  # Blinker's users may name it by anything.
