"""Copies of requests, sends and calls in plain values, which keep no sender, receiver or payload alive."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

from aldis._core.callables import place_of, qualified_name
from aldis._core.watching import running_call
from aldis.observe import describe_delivery

if TYPE_CHECKING:
    from aldis.observe import CallRecord, SendRecord

    from .redaction import Argument


@final
class CallSnapshot:
    """One call of a receiver, in plain values."""

    __slots__ = (
        "duration_s",
        "failure",
        "is_async",
        "name",
        "outcome",
        "place",
        "priority",
        "sends",
        "started_s",
        "via",
    )

    def __init__(self, call: CallRecord, sends: list[SendSnapshot]) -> None:
        self.name = qualified_name(call.receiver)
        self.place = place_of(call.receiver)
        self.outcome = call.outcome
        self.failure = call.exception_type
        self.started_s = call.started_s
        self.duration_s = call.duration_s
        self.is_async = call.is_async
        self.priority = call.priority
        self.via = None if call.via is None else describe_delivery(call.via)
        self.sends = sends


@final
class SendSnapshot:
    """One send, in plain values. It also keeps the classes of the payload's values, as classes.

    :ivar payload: for each argument its name, its class and, if values are shown, its value as text.
    :ivar size: the number of sends and calls in this tree, this send included.
    :ivar left_out: the number of sends and calls that were not kept because the tree was full.
    """

    __slots__ = (
        "calls",
        "duration_s",
        "failure",
        "is_muted",
        "left_out",
        "name",
        "payload",
        "sender",
        "size",
        "started_s",
    )

    def __init__(self, send: SendRecord, sender: str, payload: tuple[Argument, ...]) -> None:
        self.name = send.signal_name
        self.sender = sender
        self.payload = payload
        self.failure = send.exception_type
        self.is_muted = send.is_muted
        self.started_s = send.started_s
        self.duration_s = send.duration_s
        self.calls: list[CallSnapshot] = []
        self.size = 1
        self.left_out = 0


@final
class RequestSnapshot:
    """One request, or one send outside of requests.

    :ivar owner: the journal that keeps it. It is compared by identity and never called.
    :ivar version: the journal's version at the last change of this request.
    :ivar method: the request's method; ``None`` outside of requests.
    :ivar duration_s: the time until the application answered; ``None`` until then.
    :ivar closed_s: the time until the response was sent and closed; ``None`` until then.
    :ivar is_partial: whether watching paused while the application worked on the request.
    :ivar pauses: the journal's number of pauses when the request began; -1 if it began in a pause.
    :ivar outer: the call of a receiver in which the request was made, as a test client may do.
    :ivar text: the JSON of one version, made for the first listener that asks: (version, JSON).
    """

    __slots__ = (
        "closed_s",
        "duration_s",
        "failure",
        "is_partial",
        "left_out",
        "method",
        "number",
        "outer",
        "owner",
        "path",
        "pauses",
        "sends",
        "size",
        "started_s",
        "status",
        "text",
        "version",
    )

    number: int
    version: int
    duration_s: float | None
    closed_s: float | None
    failure: str | None
    status: int | None
    text: tuple[int, str] | None

    def __init__(self, owner: object, method: str | None, path: str, started_s: float) -> None:
        self.owner = owner
        self.method = method
        self.path = path
        self.started_s = started_s
        self.duration_s = None
        self.closed_s = None
        self.status = None
        self.failure = None
        self.sends: list[SendSnapshot] = []
        self.size = 0
        self.left_out = 0
        self.is_partial = False
        self.pauses = 0
        self.text = None

        # A receiver may make a request with a test client. Sends in that request belong to it.
        self.outer = None if method is None else running_call()


current: Final[ContextVar[RequestSnapshot | None]] = ContextVar("aldis_page_entry", default=None)
"""The request that the application handles in this context."""
