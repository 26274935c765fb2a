"""What the live page remembers of requests, sends and calls: plain values, which keep nothing alive but classes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

from aldis._core.callables import place_of, qualified_name
from aldis._core.watching import _call_that_runs
from aldis.observe import describe_delivery

if TYPE_CHECKING:
    from aldis.observe import CallRecord, SendRecord

    from .journal import Journal
    from .redaction import Argument


@final
class Called:
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

    def __init__(self, call: CallRecord, sends: list[Sent]) -> None:
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
class Sent:
    """One send, in plain values.

    :ivar payload: the names, the classes, and the values where they are shown.
    :ivar size: how many sends and calls are in it, itself included.
    :ivar left_out: how many more there were.
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
        self.calls: list[Called] = []
        self.size = 1
        self.left_out = 0


@final
class Entry:
    """A request, or a send outside of one.

    :ivar version: the number of the journal's last change of it.
    :ivar method: of the request; ``None`` outside of one.
    :ivar duration_s: until the application has given its answer; ``None`` until then.
    :ivar closed_s: until the answer was sent and closed, both in seconds from the beginning.
    :ivar is_partial: whether there was a pause in watching meanwhile.
    :ivar pauses: how many pauses there had been when it began; -1 in a pause.
    :ivar text: what was made of it for those who look, and of which version.
    """

    __slots__ = (
        "closed_s",
        "duration_s",
        "failure",
        "is_partial",
        "journal",
        "left_out",
        "method",
        "number",
        "outer",
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

    def __init__(self, journal: Journal, method: str | None, path: str, started_s: float) -> None:
        self.journal = journal
        self.method = method
        self.path = path
        self.started_s = started_s
        self.duration_s = None
        self.closed_s = None
        self.status = None
        self.failure = None
        self.sends: list[Sent] = []
        self.size = 0
        self.left_out = 0
        self.is_partial = False
        self.pauses = 0
        self.text = None

        # A test client in a receiver makes a request in a send: what is sent there belongs to the request.
        self.outer = None if method is None else _call_that_runs()


current: Final[ContextVar[Entry | None]] = ContextVar("aldis_page_entry", default=None)
"""The request that is being handled."""
