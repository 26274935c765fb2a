"""The page's event stream (server-sent events), made of the journal.

Each listener looks several times a second for changes since its last look. So a send never waits for a listener and
costs the same with or without one; a slow listener gets fewer events, and no queue grows.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, final
from uuid import uuid4

from aldis import Signal
from aldis._cli.lookup import connected
from aldis._core.callables import signal_name

from .journal import MAX_REQUESTS
from .redaction import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .journal import Journal
    from .snapshots import CallSnapshot, RequestSnapshot, SendSnapshot

MAX_LISTENERS: Final = 3
"""How many listeners may keep their stream open. Each holds one of the server's threads, and the application needs
threads, too. A further listener gets the current events and asks again after a second, as on a server with one thread.
"""

_LOOK_EVERY_S: Final = 0.2
_HEARTBEAT_S: Final = 5.0
_CONNECTIONS_EVERY_S: Final = 2.0
_SLOW_S: Final = 5.0
_POLL_EVERY_MS: Final = 1000
_MAX_CHARACTERS: Final = 1_000_000


@final
class Feed:
    """The event streams of one journal.

    :param journal: the journal.
    :param sources: returns the signals and namespaces whose connections the page shows.
    :param is_on: returns whether the page may still be shown.
    :param clock: returns the time in seconds.
    :param wait: waits for a number of seconds.
    :param has_relay: whether the application has a relay, so that the page shows a tab for it.
    :ivar listeners: the number of listeners that keep their stream open.
    """

    def __init__(
        self,
        journal: Journal,
        sources: Callable[[], Iterable[Any]],
        is_on: Callable[[], bool],
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], object] = sleep,
        has_relay: bool = False,
    ) -> None:
        self.journal = journal
        self.listeners = 0
        self._sources = sources
        self._is_on = is_on
        self._clock = clock
        self._wait = wait
        self._has_relay = has_relay
        self._epoch = uuid4().hex[:12]  # One for each process: its versions mean nothing to another process.
        self._lock = Lock()

    def events(self, last: str, *, lasts_s: float) -> Iterator[bytes]:
        """Return the events after ``last``, as parts of an event stream.

        The stream ends by itself. The listener then connects again with the id of the last event.

        :param last: the id of the last event that the listener has seen. Any other text means "from the start".
        :param lasts_s: how long the stream stays open, in seconds. With 0, it holds only the events that exist already.
        """
        has_place = lasts_s > 0 and self._enter()

        try:
            yield from self._events(last, lasts_s if has_place else 0)
        finally:
            if has_place:
                self._leave()

    def _events(self, last: str, lasts_s: float) -> Iterator[bytes]:
        began_s = self._clock()
        stream = EventStream(self.journal, self._all_sources, self._epoch, self._version_of(last), self._clock)
        yield self._hello(is_live=lasts_s > 0)

        while self._is_on():
            self.journal.wake()
            part = stream.next_part()

            if part:
                yield part

                if stream.is_slow():
                    return  # This listener reads too slowly. It may connect again.

            if self._clock() - began_s >= lasts_s:
                yield _event("again", str(0 if lasts_s else _POLL_EVERY_MS))
                return

            self._wait(_LOOK_EVERY_S)

    def _enter(self) -> bool:
        with self._lock:
            is_free = self.listeners < MAX_LISTENERS
            self.listeners += is_free

        return is_free

    def _leave(self) -> None:
        with self._lock:
            self.listeners -= 1

    def _version_of(self, last: str) -> int:
        epoch, _, version = last.partition("-")
        return int(version) if epoch == self._epoch and version.isascii() and version.isdigit() else 0

    def _hello(self, *, is_live: bool) -> bytes:
        data = {"epoch": self._epoch, "kept": MAX_REQUESTS, "live": is_live, "values": self.journal.shows_values}
        data["relay"] = self._has_relay
        return b"retry: 1000\n" + _event("hello", json.dumps(data))

    def _all_sources(self) -> list[Any]:
        return [*self._sources(), *self.journal.signals()]


@final
class EventStream:
    """The stream of one listener: remembers what it has sent, and makes the next part.

    :param journal: the journal.
    :param sources: returns the signals and namespaces whose connections the page shows.
    :param epoch: the part of an event's id that names this process.
    :param version: the journal's version that the listener has seen.
    :param clock: returns the time in seconds.
    """

    def __init__(
        self,
        journal: Journal,
        sources: Callable[[], Iterable[Any]],
        epoch: str,
        version: int,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._sources = sources
        self._epoch = epoch
        self._version = version
        self._connections = ""
        self._clock = clock
        self._sent_s = clock()
        self._looked_s = self._sent_s - _CONNECTIONS_EVERY_S

    def next_part(self) -> bytes:
        """Return the changes; a heartbeat if nothing was sent for a while; or nothing."""
        part = self._requests() + self._changed_connections()

        if not part and self._clock() - self._sent_s >= _HEARTBEAT_S:
            part = b": still here\n\n"

        if part:
            self._sent_s = self._clock()

        return part

    def is_slow(self) -> bool:
        """Return whether the listener took too long to read the last part."""
        return self._clock() - self._sent_s > _SLOW_S

    def _requests(self) -> bytes:
        if self._journal.version <= self._version:
            return b""

        texts: list[str] = []
        room = _MAX_CHARACTERS

        for version, entry in self._journal.versions(self._version):
            text = _text_of(entry)

            if texts and len(text) > room:
                break  # The next part has the remaining changes.

            room -= len(text)
            self._version = version
            texts.append(text)

        data = f'{{"requests": {self._journal.requests}, "entries": [{", ".join(texts)}]}}'
        return _event("entries", data, f"{self._epoch}-{self._version}")

    def _changed_connections(self) -> bytes:
        if self._clock() - self._looked_s < _CONNECTIONS_EVERY_S:
            return b""

        self._looked_s = self._clock()
        text = _connections(self._sources())

        if text == self._connections:
            return b""

        self._connections = text
        return _event("connections", text)


def _event(kind: str, data: str, number: str | None = None) -> bytes:
    lines = [f"event: {kind}", f"data: {data}"]

    if number is not None:
        lines.append(f"id: {number}")

    return "\n".join([*lines, "", ""]).encode()


# Requests as JSON.


def _text_of(entry: RequestSnapshot) -> str:
    # Read the version first: a change that comes meanwhile makes a new text.
    version = entry.version

    if entry.text is None or entry.text[0] != version:
        entry.text = (version, json.dumps(_entry(entry), separators=(",", ":")))

    return entry.text[1]


def _entry(entry: RequestSnapshot) -> dict[str, Any]:
    return {
        "number": entry.number,
        "method": entry.method,
        "path": entry.path,
        "status": entry.status,
        "failure": entry.failure,
        "started": entry.started_s,
        "duration": _ms(entry.duration_s),
        "closed": _ms(entry.closed_s),
        "left_out": entry.left_out,
        "partial": entry.is_partial,
        "sends": [_sent(sent, entry.started_s) for sent in tuple(entry.sends)],
    }


def _sent(sent: SendSnapshot, zero_s: float) -> dict[str, Any]:
    return {
        "signal": sent.name,
        "sender": sent.sender,
        "payload": [(name, type_name(kind), *value) for name, kind, *value in sent.payload],
        "muted": sent.is_muted,
        "failure": sent.failure,
        "offset": _ms(sent.started_s - zero_s),
        "duration": _ms(sent.duration_s),
        "left_out": sent.left_out,
        "calls": [_called(call, zero_s) for call in tuple(sent.calls)],
    }


def _called(call: CallSnapshot, zero_s: float) -> dict[str, Any]:
    return {
        "receiver": call.name,
        "place": None if call.place is None else short_place(call.place),
        "outcome": call.outcome,
        "failure": call.failure,
        "async": call.is_async,
        "priority": call.priority,
        "via": call.via,
        "offset": _ms(call.started_s - zero_s),
        "duration": _ms(call.duration_s),
        "sends": [_sent(sent, zero_s) for sent in call.sends],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 4)


# Connections as JSON.


def _connections(sources: Iterable[Any]) -> str:
    """Return the signals of all sources, each once, by name, with their connections, as JSON."""
    signals: dict[int, Any] = {}

    for source in sources:
        for signal in list(source.values()) if hasattr(source, "values") else [source]:
            signals[id(signal)] = signal

    shown = sorted((_signal(signal) for signal in signals.values()), key=lambda signal: str(signal["name"]))
    ours = {signal["name"] for signal in shown if signal["library"] == "aldis"}
    return json.dumps([signal for signal in shown if not _is_idle_twin(signal, ours)], separators=(",", ":"))


def _is_idle_twin(signal: dict[str, Any], ours: set[str]) -> bool:
    # Where Flask runs on Blinker, the page shows the declared twins of its signals. It shows Blinker's signal as well
    # if that has receivers of its own.
    return signal["library"] != "aldis" and signal["connections"] == [] and signal["name"] in ours


def _signal(signal: Any) -> dict[str, Any]:
    doc: Any = getattr(signal, "__doc__", None)
    is_own = doc != type(signal).__doc__

    return {
        "name": str(signal_name(signal)),
        "doc": str(doc).strip().partition("\n")[0] if doc and is_own else "",
        "library": "aldis" if isinstance(signal, Signal) else "blinker",
        "connections": _connected(signal),
    }


def _connected(signal: Any) -> list[dict[str, Any]] | None:
    try:
        records = [record._asdict() for record in connected(signal)]
    except Exception:  # The repr() of a sender or a receiver may raise anything.
        return None

    for record in records:
        record["place"] = None if record["place"] is None else short_place(record["place"])

    return records


@cache
def roots() -> list[str]:
    """Return the folders that modules are imported from, the longest path first."""
    paths = {str(Path(path or ".").resolve()) for path in (".", *sys.path)}
    return sorted((f"{path}/" for path in paths), key=len, reverse=True)


@cache
def short_place(place: str) -> str:
    """Return a place ("file:line") without the folder that its module is imported from."""
    for root in roots():
        if place.startswith(root):
            return place[len(root) :]

    return place
