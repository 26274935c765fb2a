"""What the live page remembers: the last requests, with what was sent in each.

Records of sends hold their signals, senders and receivers. So that remembering changes nothing in how long those
live, a send is copied into plain values when it ends, and its record is let go.

This is on the path of every send while an application is in debug mode: it copies, and leaves all else (texts, JSON)
to those who look at the page.
"""

from __future__ import annotations

import weakref
from collections import deque
from threading import RLock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, final

from aldis import observe
from aldis.observe import Watcher, describe_sender

from .redaction import show_types, show_values
from .snapshots import Called, Entry, Sent, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis.observe import CallRecord, SendRecord

KEPT: Final = 200
"""How many requests are kept; and, apart from them, how many sends outside of requests."""

BUDGET: Final = 400
"""How many sends and calls are noted in a second, about; in the rest of it, nothing is watched. So an application
under load is not slowed down by what nobody could read."""

MOST_ROWS: Final = 500
"""How many sends and calls of one request are kept. Of others, their number."""

_MOST_SIGNALS: Final = 1000

# A destructor may send in the middle of anything, and so come here while its thread holds locks that the thread which
# is here waits for. Rather than that either waits for ever, such a send is not noted.
_PATIENCE_S: Final = 0.1


@final
class _Late:
    """A send that has ended, with calls that had not, or that a delivery is to make."""

    __slots__ = ("entry", "seen", "sent")

    def __init__(self, entry: Entry, sent: Sent, seen: set[int]) -> None:
        self.entry = entry
        self.sent = sent
        self.seen = seen


@final
class Journal:
    """Keeps the last requests of one application.

    :ivar requests: how many there have been.
    :ivar is_awake: whether it was woken, and not put to sleep since.
    :ivar shows_values: whether values of payloads are kept too.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.shows_values = False
        self.requests = 0
        self.is_awake = False
        self._clock = clock
        self._lock = RLock()  # Re-entrant: a destructor may send at any moment.
        self._is_watching = False
        self._stop: Callable[[], object] | None = None
        self._second_s = clock()
        self._spent = 0
        self._pauses = 0
        self._version = 0
        self._number = 0
        self._requests: deque[Entry] = deque(maxlen=KEPT)
        self._others: deque[Entry] = deque(maxlen=KEPT)
        self._last_sender: tuple[Callable[[], Any], str] = (_nothing, "")
        self._nested: dict[int, Sent] = {}
        self._late: weakref.WeakKeyDictionary[SendRecord, _Late] = weakref.WeakKeyDictionary()
        self._signals: dict[int, weakref.ref[Any]] = {}

    # Watching, while the application is in debug mode, and as much of each second as the budget allows.

    @property
    def is_watching(self) -> bool:
        """Whether it watches."""
        return self._is_watching

    def wake(self) -> None:
        """Begin to watch, unless what may be noted in this second has been noted."""
        self.is_awake = True

        with self._lock:
            if self._clock() - self._second_s >= 1:
                self._second_s = self._clock()
                self._spent = 0

            wants = self._spent < BUDGET
            is_right = wants is self._is_watching

        if not is_right and wants:
            self._watch()
        elif not is_right:
            self._pause()

    def sleep(self) -> None:
        """Watch no more, and forget all."""
        self.is_awake = False
        self._pause()

        with self._lock:
            self._requests.clear()
            self._others.clear()
            self._nested.clear()
            self._late.clear()

    # The engine is not called with the lock held: it waits for other threads, in which a destructor may send.

    def _watch(self) -> None:
        with self._lock:
            if self._is_watching:
                return

            self._is_watching = True

        stop: Callable[[], object] = weakref.finalize(self, observe.watch(JournalWatcher(self)).stop)

        with self._lock:
            if self._is_watching:
                self._stop, stop = stop, _nothing

        stop()

    def _pause(self) -> None:
        with self._lock:
            stop, self._stop = self._stop, None
            self._pauses += self._is_watching
            self._is_watching = False

        if stop is not None:
            stop()

    # Requests.

    def begin(self, method: str, path: str) -> Entry:
        """A request begins."""
        self.wake()
        entry = Entry(self, method, path, time())

        with self._lock:
            self.requests += 1
            entry.pauses = self._pauses if self._is_watching else -1
            self._add(entry, self._requests)

        return entry

    def end(self, entry: Entry, failure: str | None = None) -> None:
        """The application has answered, or raised."""
        entry.outer = None
        entry.duration_s = time() - entry.started_s
        entry.is_partial = entry.pauses != self._pauses
        self._fail(entry, failure)

    def close(self, entry: Entry, failure: str | None = None) -> None:
        """The answer has been sent, or sending it has raised."""
        entry.closed_s = time() - entry.started_s
        self._fail(entry, failure)

    def _fail(self, entry: Entry, failure: str | None) -> None:
        if failure is not None:
            entry.failure = failure

        with self._lock:
            self._touch(entry)

    def _add(self, entry: Entry, entries: deque[Entry]) -> None:
        self._number += 1
        entry.number = self._number
        self._touch(entry)
        entries.append(entry)

    def _touch(self, entry: Entry) -> None:
        self._version += 1
        entry.version = self._version

    # Sends.

    def keep(self, send: SendRecord) -> None:
        """A send has ended."""
        entry = current.get()

        if entry is not None and entry.journal is not self:
            return  # Of another application.

        if self._lock.acquire(timeout=_PATIENCE_S):
            try:
                self._keep(send, entry)
            finally:
                self._lock.release()

        if entry is None and self._spent >= BUDGET:
            self._pause()

    def _keep(self, send: SendRecord, entry: Entry | None) -> None:
        self._know(send.signal)
        parent = send.parent
        is_root = parent is None or parent.duration_s is not None or (entry is not None and parent is entry.outer)

        if is_root and entry is None:
            entry = Entry(self, None, "", send.started_s)
            entry.duration_s = send.duration_s
            self._add(entry, self._others)

        sent = self._copy(send, entry)

        if not is_root or entry is None:
            self._nested[id(send)] = sent  # Until the call ends in which it was sent; that keeps the record.
        else:
            self._spent += sent.size

            if _has_room(entry, sent):
                entry.sends.append(sent)
                self._touch(entry)

    def keep_late(self, call: CallRecord) -> None:
        """A call has ended, after its send."""
        if self._lock.acquire(timeout=_PATIENCE_S):
            try:
                self._keep_late(call)
            finally:
                self._lock.release()

    def _keep_late(self, call: CallRecord) -> None:
        late = self._late.get(call.send)

        if late is None or id(call) in late.seen:
            return

        late.seen.add(id(call))  # The send's record, which is alive as long as this is kept, keeps the call.
        size = late.sent.size
        self._copy_call(call, late.sent)
        late.entry.size += late.sent.size - size
        self._touch(late.entry)

    def _copy(self, send: SendRecord, entry: Entry | None) -> Sent:
        payload = send.payload or {}
        arguments = (show_values if self.shows_values else show_types)(payload)
        sent = Sent(send, self._name_sender(send.sender), arguments)
        calls = send.calls

        if not calls:
            return sent

        seen = {id(call) for call in calls if call.outcome is not None}

        for call in calls:
            if id(call) in seen:
                self._copy_call(call, sent)

        if entry is not None and (len(seen) < len(calls) or any(call.via is not None for call in calls)):
            self._late[send] = _Late(entry, sent, seen)

        return sent

    def _name_sender(self, sender: Any) -> str:
        # Nearly always, it is the application, again.
        last, name = self._last_sender

        if last() is sender and name:
            return name

        name = _name_of(sender)

        if type(sender).__weakrefoffset__:
            self._last_sender = (weakref.ref(sender), name)

        return name

    def _copy_call(self, call: CallRecord, sent: Sent) -> None:
        sends = [nested for send in call.sends if (nested := self._nested.pop(id(send), None)) is not None]

        if sent.size >= MOST_ROWS:
            sent.left_out += 1 + sum(nested.size + nested.left_out for nested in sends)
            return

        sent.size += 1
        sent.calls.append(Called(call, [nested for nested in sends if _has_room(sent, nested)]))

    def _know(self, signal: Any) -> None:
        ref = self._signals.get(id(signal))

        if ref is not None and ref() is signal:
            return

        if len(self._signals) >= _MOST_SIGNALS:
            self._signals = {key: ref for key, ref in self._signals.items() if ref() is not None}

        if len(self._signals) < _MOST_SIGNALS:
            self._signals[id(signal)] = weakref.ref(signal)

    # Looking.

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self._version

    def changes(self, since: int) -> list[Entry]:
        """What has changed since a version, from the first change to the last."""
        with self._lock:
            entries = [entry for kept in (self._requests, self._others) for entry in kept if entry.version > since]

        return sorted(entries, key=lambda entry: entry.version)

    def signals(self) -> Iterable[Any]:
        """The signals that were sent, and are alive."""
        with self._lock:
            refs = list(self._signals.values())

        return [signal for ref in refs if (signal := ref()) is not None]


def _name_of(sender: Any) -> str:
    try:
        return describe_sender(sender)
    except Exception:  # A module may have attributes of its own ways.
        return "(a sender without a name)"


def _has_room(whole: Entry | Sent, part: Sent) -> bool:
    """Whether one more send fits. If not, it is counted."""
    if whole.size + part.size > MOST_ROWS:
        whole.left_out += part.size + part.left_out
        return False

    whole.size += part.size
    return True


def _nothing() -> None: ...


@final
class JournalWatcher(Watcher):
    """Watches for a journal, and does not keep it alive."""

    def __init__(self, journal: Journal) -> None:
        self._journal = weakref.ref(journal)

    def send_ended(self, send: SendRecord) -> None:
        journal = self._journal()

        if journal is not None:
            journal.keep(send)

    def call_ended(self, call: CallRecord) -> None:
        if call.send.duration_s is None:
            return  # It is copied with its send.

        journal = self._journal()

        if journal is not None:
            journal.keep_late(call)
