"""Records of watched sends and of their calls.

A record holds the records below it in the tree, and refers weakly to the record above it. So reference counts free a
record that no code keeps, and watching does not make receivers and senders live longer.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any, Literal, final
from weakref import ref

from .callables import place_of, qualified_name, signal_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options
    from .types import AnySignal


@final
class SendRecord:
    """One send.

    A record holds the sender and the receivers. Keep it only as long as you may keep those.

    :ivar signal: the signal.
    :ivar sender: the sender.
    :ivar payload_names: the keywords that were sent.
    :ivar payload: the payload itself, until the watchers were told that the send ended; then ``None``. Receivers are
        called with this same dictionary: look at it, but do not keep it or its values.
    :ivar is_muted: whether the whole signal was muted.
    :ivar calls: the calls of receivers, in the order in which they began.
    :ivar started_s: when it began, in seconds since the epoch.
    :ivar duration_s: how long it took, in seconds; ``None`` until it has ended.
    :ivar exception_type: the class of the exception that the send raised, with its module, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "__weakref__",
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

    @property
    def parent(self) -> CallRecord | None:
        """The call of a receiver inside which this was sent, if any watcher watches that call.

        ``None`` for a send outside of receivers, and for a send by a task that outlived the receiver which
        started it. A record does not keep its parent: keep the topmost record, and you keep the tree.
        """
        return None if self._parent is None else self._parent()

    @property
    def signal_name(self) -> str:
        """The signal's name; for a signal without one, the name of its class."""
        return signal_name(self.signal)

    def __repr__(self) -> str:
        return f"<SendRecord of {self.signal_name!r}: {len(self.calls)} calls>"


@final
class CallRecord:
    """One call of a receiver, or one handing over of a call to a delivery.

    A receiver with a delivery makes two records: one with the outcome ``"delivered"`` in the send, and one when
    the delivery runs the receiver, which may be after the send ended.

    :ivar signal: the signal.
    :ivar receiver: the receiver.
    :ivar priority: the priority of its connection.
    :ivar is_async: whether the receiver is async.
    :ivar is_delivery: whether the call was handed over to the delivery here. The receiver did not run.
    :ivar via: the delivery of its connection, if there is one.
    :ivar sends: the first 1,000 sends inside it, in order. There is a limit because a receiver may never return, such
        as a main loop.
    :ivar sends_left_out: how many sends came after those. Watchers are told of them as of all sends.
    :ivar outcome: ``"returned"``, ``"raised"`` or ``"delivered"``; ``None`` until it has ended.
    :ivar started_s: when it began, in seconds since the epoch.
    :ivar duration_s: how long it took, in seconds, with all that it called and awaited; ``None`` until it has ended.
    :ivar exception_type: the class of the exception that the receiver raised, with its module, or ``None``.

    .. versionadded:: 0.1
    """

    __slots__ = (
        "__weakref__",
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

    @property
    def send(self) -> SendRecord:
        """The send that it belongs to. A record does not keep its send: if you keep calls, keep their sends too.

        :raises ReferenceError: when the record of the send is gone, because no code kept it.
        """
        send = self._send()

        if send is None:
            raise ReferenceError("The record of the send is gone. Keep the SendRecord, which keeps its calls.")

        return send

    @property
    def signal_name(self) -> str:
        """The signal's name; for a signal without one, the name of its class."""
        return signal_name(self.signal)

    # These two properties may run code of the receiver. So they are not computed in the middle of a send.

    @property
    def receiver_name(self) -> str:
        """The receiver's qualified name."""
        return qualified_name(self.receiver)

    @property
    def receiver_place(self) -> str | None:
        """Where the receiver is defined, as ``file:line``, if that is known."""
        return place_of(self.receiver)

    def __repr__(self) -> str:
        return f"<CallRecord of {self.receiver_name}: {self.outcome}>"
