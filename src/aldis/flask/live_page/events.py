"""What the live page is sent: server-sent events, made of a journal for those who listen.

Listeners look for themselves, several times a second, what has changed since they last looked. So nothing waits for
them: a send costs the same whether anybody listens, and a listener that is slow finds less, and no queue grows.
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
from aldis._cli.format import connected, signal_name

from .journal import KEPT
from .redaction import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .journal import Journal
    from .snapshots import Called, Entry, Sent

MOST_LISTENERS: Final = 3
"""How many may listen at once. Each holds one of the server's threads, and the application needs some, too.
Others are sent what there is and come again, as on servers with one thread."""

_LOOK_EVERY_S: Final = 0.2
_HEARTBEAT_S: Final = 5.0
_CONNECTIONS_EVERY_S: Final = 2.0
_SLOW_S: Final = 5.0
_POLL_EVERY_MS: Final = 1000
_MOST_CHARACTERS: Final = 1_000_000


@final
class Feed:
    """Sends what is in a journal.

    :param journal: the journal.
    :param sources: gives the signals and namespaces whose connections are to be shown.
    :param is_on: whether the page may be shown still.
    :param clock: tells the time in seconds.
    :param wait: waits for some seconds.
    :param has_relay: whether there is a relay to look at.
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
        self._epoch = uuid4().hex[:12]  # Another in each process: an event's number means nothing to the next one.
        self._lock = Lock()

    def events(self, last: str, *, lasts_s: float) -> Iterator[bytes]:
        """The events from the one after ``last`` on.

        :param last: the id of the last event that was seen, or anything.
        :param lasts_s: for how long to listen, in seconds. With 0, there is only what there is already.
        :return: parts of an event stream. It ends by itself; the listener comes again with the last id.
        """
        has_place = lasts_s > 0 and self._enter()

        try:
            yield from self._events(last, lasts_s if has_place else 0)
        finally:
            if has_place:
                self._leave()

    def _events(self, last: str, lasts_s: float) -> Iterator[bytes]:
        began_s = spoke_s = self._clock()
        looked_s = began_s - _CONNECTIONS_EVERY_S
        seen, known = self._version_of(last), ""
        yield self._hello(is_live=lasts_s > 0)

        while self._is_on():
            parts: list[bytes] = []
            self.journal.wake()

            if self.journal.version > seen:
                seen, part = self._changes(seen)
                parts.append(part)

            if self._clock() - looked_s >= _CONNECTIONS_EVERY_S:
                looked_s, text = self._clock(), _connections(self._all_sources())

                if text != known:
                    known = text
                    parts.append(_event("connections", text))

            if not parts and self._clock() - spoke_s >= _HEARTBEAT_S:
                parts.append(b": still here\n\n")

            if parts:
                spoke_s = self._clock()
                yield b"".join(parts)

                if self._clock() - spoke_s > _SLOW_S:
                    return  # Who takes that long to read is dropped, and may come again.

            if self._clock() - began_s >= lasts_s:
                yield _event("again", str(0 if lasts_s else _POLL_EVERY_MS))
                return

            self._wait(_LOOK_EVERY_S)

    def _enter(self) -> bool:
        with self._lock:
            is_free = self.listeners < MOST_LISTENERS
            self.listeners += is_free

        return is_free

    def _leave(self) -> None:
        with self._lock:
            self.listeners -= 1

    def _version_of(self, last: str) -> int:
        epoch, _, version = last.partition("-")
        return int(version) if epoch == self._epoch and version.isascii() and version.isdigit() else 0

    def _hello(self, *, is_live: bool) -> bytes:
        data = {"epoch": self._epoch, "strong_ref": KEPT, "live": is_live, "values": self.journal.shows_values}
        data["relay"] = self._has_relay
        return b"retry: 1000\n" + _event("hello", json.dumps(data))

    def _changes(self, seen: int) -> tuple[int, bytes]:
        texts: list[str] = []
        room = _MOST_CHARACTERS

        for entry in self.journal.changes(seen):
            version, text = _text_of(entry)

            if texts and len(text) > room:
                break  # The rest comes when this has been read.

            room -= len(text)
            seen = max(seen, version)
            texts.append(text)

        data = f'{{"requests": {self.journal.requests}, "entries": [{", ".join(texts)}]}}'
        return seen, _event("entries", data, f"{self._epoch}-{seen}")

    def _all_sources(self) -> list[Any]:
        return [*self._sources(), *self.journal.signals()]


def _event(kind: str, data: str, number: str | None = None) -> bytes:
    lines = [f"event: {kind}", f"data: {data}"]

    if number is not None:
        lines.append(f"id: {number}")

    return "\n".join([*lines, "", ""]).encode()


# Requests.


def _text_of(entry: Entry) -> tuple[int, str]:
    # The version first: what changes meanwhile is sent again.
    version = entry.version

    if entry.text is None or entry.text[0] != version:
        entry.text = (version, json.dumps(_entry(entry), separators=(",", ":")))

    return entry.text


def _entry(entry: Entry) -> dict[str, Any]:
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


def _sent(sent: Sent, zero_s: float) -> dict[str, Any]:
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


def _called(call: Called, zero_s: float) -> dict[str, Any]:
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


# Connections.


def _connections(sources: Iterable[Any]) -> str:
    """The signals of all sources, each once, in the order of their names; and who is connected to them."""
    signals: dict[int, Any] = {}

    for source in sources:
        for signal in list(source.values()) if hasattr(source, "values") else [source]:
            signals[id(signal)] = signal

    shown = sorted((_signal(signal) for signal in signals.values()), key=lambda signal: str(signal["name"]))
    ours = {signal["name"] for signal in shown if signal["library"] == "aldis"}
    return json.dumps([signal for signal in shown if not _is_idle_twin(signal, ours)], separators=(",", ":"))


def _is_idle_twin(signal: dict[str, Any], ours: set[str]) -> bool:
    # Where Flask runs on Blinker, its signals have declared twins, which are shown. Others' receivers are shown, too.
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
    except Exception:  # Senders and receivers may have a repr() of their own ways.
        return None

    for record in records:
        record["place"] = None if record["place"] is None else short_place(record["place"])

    return records


@cache
def roots() -> list[str]:
    """The folders that modules are imported from, the longest first."""
    paths = {str(Path(path or ".").resolve()) for path in (".", *sys.path)}
    return sorted((f"{path}/" for path in paths), key=len, reverse=True)


@cache
def short_place(place: str) -> str:
    """A place without the folder that it was imported from."""
    for root in roots():
        if place.startswith(root):
            return place[len(root) :]

    return place
