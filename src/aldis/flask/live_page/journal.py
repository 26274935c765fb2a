"""The journal of one application in debug mode: its last requests, with the sends in each.

A record of a send refers to its signal, sender and receivers. The journal must not change how long those objects live.
So it copies each send into plain values when the send ends, and drops the record.

Every send comes through here while the application is in debug mode. So the journal only copies; the texts and the
JSON are made for the listeners of the page, when they ask.
"""

from __future__ import annotations

import weakref
from collections import deque
from operator import itemgetter
from threading import RLock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, final

from aldis import observe
from aldis.observe import Watcher, describe_sender

from .redaction import show_types, show_values
from .snapshots import CallSnapshot, RequestSnapshot, SendSnapshot, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis.observe import CallRecord, SendRecord

MAX_REQUESTS: Final = 200
"""How many requests the journal keeps; and, counted separately, how many sends outside of requests."""

BUDGET: Final = 400
"""About how many sends and calls the journal copies in one second. For the rest of that second it watches nothing, so
that an application under load is not slowed down by more rows than a person can read."""

MAX_ROWS: Final = 500
"""How many sends and calls of one request the journal keeps. It counts the rest."""

_MAX_SIGNALS: Final = 1000

# A destructor may send at any moment, so it may come here while its thread holds a lock that the thread inside the
# journal waits for. Neither may wait for ever: after this time, the journal leaves the send out.
_LOCK_TIMEOUT_S: Final = 0.1


@final
class LateCalls:
    """A send that ended before some of its calls: async ones, or calls that a delivery makes later."""

    __slots__ = ("entry", "seen", "sent")

    def __init__(self, entry: RequestSnapshot, sent: SendSnapshot, seen: set[int]) -> None:
        self.entry = entry
        self.sent = sent
        self.seen = seen


@final
class Journal:
    """Keeps the last requests of one application, and the sends in them.

    It watches all signals while the application is in debug mode, as far as the budget of each second allows.

    :param clock: returns the time in seconds.
    :ivar requests: the number of requests since the journal was made.
    :ivar is_awake: whether :meth:`wake` was called, and :meth:`sleep` was not called after it.
    :ivar shows_values: whether the journal keeps values of payloads, too.
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
        self._requests: deque[RequestSnapshot] = deque(maxlen=MAX_REQUESTS)
        self._outside_requests: deque[RequestSnapshot] = deque(maxlen=MAX_REQUESTS)
        self._last_sender: tuple[Callable[[], Any], str] = (_nothing, "")
        self._nested: dict[int, SendSnapshot] = {}
        self._late: weakref.WeakKeyDictionary[SendRecord, LateCalls] = weakref.WeakKeyDictionary()
        self._signals: dict[int, weakref.ref[Any]] = {}

    # Watching.

    @property
    def is_watching(self) -> bool:
        """Whether the journal watches sends at this moment."""
        return self._is_watching

    def wake(self) -> None:
        """Begin to watch, unless this second's budget is used up."""
        self.is_awake = True

        with self._lock:
            if self._clock() - self._second_s >= 1:
                self._second_s = self._clock()
                self._spent = 0

            has_budget = self._spent < BUDGET

            if has_budget is self._is_watching:
                return

        if has_budget:
            self._watch()
        else:
            self._pause()

    def sleep(self) -> None:
        """Stop watching, and forget all requests and sends."""
        self.is_awake = False
        self._pause()

        with self._lock:
            self._requests.clear()
            self._outside_requests.clear()
            self._nested.clear()
            self._late.clear()

    # Never call the engine with the lock held: it may wait for a thread in which a destructor sends.

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

    def begin(self, method: str, path: str) -> RequestSnapshot:
        """Note that a request begins, and return its snapshot."""
        self.wake()
        entry = RequestSnapshot(self, method, path, time())

        with self._lock:
            self.requests += 1
            entry.pauses = self._pauses if self._is_watching else -1
            self._add(entry, self._requests)

        return entry

    def end(self, entry: RequestSnapshot, failure: str | None = None) -> None:
        """Note that the application has answered, or raised.

        :param failure: the name of the class of the exception, if one was raised.
        """
        entry.outer = None
        entry.duration_s = time() - entry.started_s
        entry.is_partial = entry.pauses != self._pauses
        self._note_failure(entry, failure)

    def close(self, entry: RequestSnapshot, failure: str | None = None) -> None:
        """Note that the response was closed.

        :param failure: the name of the class of the exception, if making the response's body raised one.
        """
        entry.closed_s = time() - entry.started_s
        self._note_failure(entry, failure)

    def _note_failure(self, entry: RequestSnapshot, failure: str | None) -> None:
        if failure is not None:
            entry.failure = failure

        with self._lock:
            self._touch(entry)

    def _add(self, entry: RequestSnapshot, entries: deque[RequestSnapshot]) -> None:
        self._number += 1
        entry.number = self._number
        self._touch(entry)
        entries.append(entry)

    def _touch(self, entry: RequestSnapshot) -> None:
        self._version += 1
        entry.version = self._version

    # Sends.

    def add_send(self, send: SendRecord) -> None:
        """Copy a send that has ended."""
        entry = current.get()

        if entry is not None and entry.owner is not self:
            return  # The send belongs to another application.

        if self._lock.acquire(timeout=_LOCK_TIMEOUT_S):
            try:
                self._add_send(send, entry)
            finally:
                self._lock.release()

        if entry is None and self._spent >= BUDGET:
            self._pause()

    def _add_send(self, send: SendRecord, entry: RequestSnapshot | None) -> None:
        self._remember_signal(send.signal)
        parent = send.parent
        is_root = parent is None or parent.duration_s is not None or (entry is not None and parent is entry.outer)

        if is_root and entry is None:
            entry = RequestSnapshot(self, None, "", send.started_s)
            entry.duration_s = send.duration_s
            self._add(entry, self._outside_requests)

        sent = self._copy(send, entry)

        if not is_root or entry is None:
            # The send waits here until the call around it ends. That call keeps the record, and so its id.
            self._nested[id(send)] = sent
        else:
            self._spent += sent.size

            if _has_room(entry, sent):
                entry.sends.append(sent)
                self._touch(entry)

    def add_late_call(self, call: CallRecord) -> None:
        """Copy a call that ended after its send."""
        if self._lock.acquire(timeout=_LOCK_TIMEOUT_S):
            try:
                self._add_late_call(call)
            finally:
                self._lock.release()

    def _add_late_call(self, call: CallRecord) -> None:
        late = self._late.get(call.send)

        if late is None or id(call) in late.seen:
            return

        # The id stays unique: the send's record keeps the call, and this note is dropped with the record.
        late.seen.add(id(call))
        size = late.sent.size
        self._copy_call(call, late.sent)
        late.entry.size += late.sent.size - size
        self._touch(late.entry)

    def _copy(self, send: SendRecord, entry: RequestSnapshot | None) -> SendSnapshot:
        payload = send.payload or {}
        arguments = (show_values if self.shows_values else show_types)(payload)
        sent = SendSnapshot(send, self._name_sender(send.sender), arguments)
        calls = send.calls

        if not calls:
            return sent

        seen = {id(call) for call in calls if call.outcome is not None}

        for call in calls:
            if id(call) in seen:
                self._copy_call(call, sent)

        if entry is not None and (len(seen) < len(calls) or any(call.via is not None for call in calls)):
            self._late[send] = LateCalls(entry, sent, seen)

        return sent

    def _name_sender(self, sender: Any) -> str:
        # The sender is nearly always the same application as before.
        last, name = self._last_sender

        if last() is sender and name:
            return name

        name = _name_of(sender)

        if type(sender).__weakrefoffset__:
            self._last_sender = (weakref.ref(sender), name)

        return name

    def _copy_call(self, call: CallRecord, sent: SendSnapshot) -> None:
        sends = [nested for send in call.sends if (nested := self._nested.pop(id(send), None)) is not None]

        if sent.size >= MAX_ROWS:
            sent.left_out += 1 + sum(nested.size + nested.left_out for nested in sends)
            return

        sent.size += 1
        sent.calls.append(CallSnapshot(call, [nested for nested in sends if _has_room(sent, nested)]))

    def _remember_signal(self, signal: Any) -> None:
        ref = self._signals.get(id(signal))

        if ref is not None and ref() is signal:
            return

        if len(self._signals) >= _MAX_SIGNALS:
            self._signals = {key: ref for key, ref in self._signals.items() if ref() is not None}

        if len(self._signals) < _MAX_SIGNALS:
            self._signals[id(signal)] = weakref.ref(signal)

    # Reads by listeners.

    @property
    def version(self) -> int:
        """The number of the last change: it grows by one with each."""
        return self._version

    def changes(self, since: int) -> list[RequestSnapshot]:
        """Return the requests, and the sends outside of requests, that changed after a version, in order of change."""
        return [entry for _, entry in self.versions(since)]

    def versions(self, since: int) -> list[tuple[int, RequestSnapshot]]:
        """Return the same as :meth:`changes`, each with its version at one moment.

        A request may change right after this, and its own version with it. A listener that took the new version for the
        one that it has seen would miss the change in between.
        """
        with self._lock:
            entries = [*self._requests, *self._outside_requests]
            found = [(entry.version, entry) for entry in entries if entry.version > since]

        return sorted(found, key=itemgetter(0))

    def signals(self) -> Iterable[Any]:
        """Return the signals that were sent and still exist."""
        with self._lock:
            refs = list(self._signals.values())

        return [signal for ref in refs if (signal := ref()) is not None]


def _name_of(sender: Any) -> str:
    try:
        return describe_sender(sender)
    except Exception:  # A sender's attributes may raise anything.
        return "(a sender without a name)"


def _has_room(whole: RequestSnapshot | SendSnapshot, part: SendSnapshot) -> bool:
    """Return whether one more send fits. Count its rows as kept, or as left out."""
    if whole.size + part.size > MAX_ROWS:
        whole.left_out += part.size + part.left_out
        return False

    whole.size += part.size
    return True


def _nothing() -> None: ...


@final
class JournalWatcher(Watcher):
    """Passes sends and calls on to a journal, which it holds weakly."""

    def __init__(self, journal: Journal) -> None:
        self._journal = weakref.ref(journal)

    def send_ended(self, send: SendRecord) -> None:
        """Let the journal copy the send."""
        journal = self._journal()

        if journal is not None:
            journal.add_send(send)

    def call_ended(self, call: CallRecord) -> None:
        """Let the journal copy the call, if its send has ended before."""
        if call.send.duration_s is None:
            return  # The journal copies it with its send.

        journal = self._journal()

        if journal is not None:
            journal.add_late_call(call)
