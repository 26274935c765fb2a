"""The event streams of listeners."""

from __future__ import annotations

import itertools
from typing import Any

import flask
import pytest

import aldis
from aldis import Namespace
from aldis.flask.live_page.events import MAX_LISTENERS, Feed, short_place
from aldis.flask.live_page.journal import MAX_REQUESTS, Journal

from .conftest import Shop, parse


class Clock:
    """A clock that goes on when a thread waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1


@pytest.fixture
def clock() -> Clock:
    """Return a clock at 0."""
    return Clock()


@pytest.fixture
def feed(journal: Journal, clock: Clock) -> Feed:
    """Return a feed of the journal only."""
    return Feed(journal, tuple, lambda: True, clock, clock.wait)


def kinds(parts: Any) -> list[str]:
    """Return the kinds of all events in parts of a stream."""
    return [kind for kind, _, _ in parse(b"".join(parts).decode())]


def test_stream(feed: Feed, journal: Journal) -> None:
    """A listener gets all earlier requests, and then each new request."""
    journal.end(journal.begin("GET", "/first"))
    events = feed.events("", lasts_s=60)
    assert kinds([next(events)]) == ["hello"]
    [(kind, data, number), (other, connections, _)] = parse(next(events).decode())
    assert (kind, [entry["path"] for entry in data["entries"]], data["requests"]) == ("entries", ["/first"], 1)
    assert number == f"{feed._epoch}-{journal.version}"
    assert (other, connections) == ("connections", [])
    journal.begin("GET", "/second")
    [(kind, data, number)] = parse(next(events).decode())
    assert [entry["path"] for entry in data["entries"]] == ["/second"]
    assert data["entries"][0]["duration"] is None


def test_resume(feed: Feed, journal: Journal) -> None:
    """A listener that returns with its last id gets the later events; with the id of another server, it gets all
    events.
    """
    journal.begin("GET", "/first")
    _, (_, _, last), _, _ = parse(b"".join(feed.events("", lasts_s=0)).decode())
    journal.begin("GET", "/second")

    def paths(last: str) -> list[str]:
        events = parse(b"".join(feed.events(last, lasts_s=0)).decode())
        return [entry["path"] for kind, data, _ in events if kind == "entries" for entry in data["entries"]]

    assert paths(last) == ["/second"]
    assert paths(f"{feed._epoch}-{journal.version}") == []

    for other in ("", "x", "other-1", f"{feed._epoch}-x", f"{feed._epoch}-²", f"{feed._epoch}"):
        assert paths(other) == ["/first", "/second"]


def test_resume_by_header_and_query(shop: Shop) -> None:
    """The last id comes in the browser's header or, from the page itself, in the address."""
    shop.get("/lamps/first")
    last = shop.events()[1][2]
    shop.get("/lamps/second")
    assert [entry["path"] for entry in shop.entries(last)] == ["/lamps/second"]
    response = shop.get(f"/_aldis/events?after={last}", environ_overrides={"wsgi.multithread": False})
    assert [data["entries"][0]["path"] for kind, data, _ in parse(response.text) if kind == "entries"] == [
        "/lamps/second"
    ]


def test_heartbeat(feed: Feed, clock: Clock) -> None:
    """A stream without events has a heartbeat every few seconds, so that the server notices a client that has left."""
    events = feed.events("", lasts_s=60)
    first = [next(events), next(events)]
    assert kinds(first) == ["hello", "connections"]
    assert next(events) == b": still here\n\n"
    assert 5 <= clock.now < 6
    assert next(events) == b": still here\n\n"
    assert 10 <= clock.now < 12


def test_end(feed: Feed, clock: Clock) -> None:
    """A stream ends after its time, with a message that the client may come again at once."""
    parts = list(feed.events("", lasts_s=12))
    assert 12 <= clock.now < 13
    assert parse(parts[-1].decode()) == [("again", 0, "")]
    assert feed.listeners == 0


def test_client_that_goes(feed: Feed) -> None:
    """A client that leaves frees its place, even before its first event."""
    events = feed.events("", lasts_s=60)
    next(events)
    assert feed.listeners == 1
    events.close()  # type: ignore[attr-defined]
    assert feed.listeners == 0
    feed.events("", lasts_s=60).close()  # type: ignore[attr-defined]
    assert feed.listeners == 0


def test_many_listeners(feed: Feed, clock: Clock) -> None:
    """With more listeners than places, the other listeners ask again and again, and none is refused."""
    streams = [feed.events("", lasts_s=60) for _ in range(MAX_LISTENERS)]

    for events in streams:
        next(events)

    more = parse(b"".join(feed.events("", lasts_s=60)).decode())
    assert [kind for kind, _, _ in more] == ["hello", "connections", "again"]
    assert (more[0][1]["live"], more[-1][1]) == (False, 1000)
    assert clock.waits == 0
    streams[0].close()  # type: ignore[attr-defined]
    assert parse(next(feed.events("", lasts_s=60)).decode())[0][1]["live"]


def test_slow_listener(feed: Feed, journal: Journal, clock: Clock) -> None:
    """A listener that reads for seconds is dropped, and its buffer does not grow."""
    events = feed.events("", lasts_s=60)
    next(events)

    for _ in range(5 * MAX_REQUESTS):
        journal.begin("GET", "/")

    part = next(events)
    assert len(parse(part.decode())[0][1]["entries"]) == MAX_REQUESTS
    clock.now += 6
    assert next(events, None) is None
    assert feed.listeners == 0


def test_large_entries(feed: Feed, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long content comes in several parts, each with its own id, and each request in one part."""
    monkeypatch.setattr("aldis.flask.live_page.events._MAX_CHARACTERS", 500)

    for number in range(5):
        journal.begin("GET", f"/{number}" + "x" * 200)

    events = feed.events("", lasts_s=60)
    entries = [
        data for part in itertools.islice(events, 6) for kind, data, _ in parse(part.decode()) if kind == "entries"
    ]
    assert [len(data["entries"]) for data in entries] == [1, 1, 1, 1, 1]


def test_text_is_made_once(feed: Feed, journal: Journal) -> None:
    """Several listeners share the JSON of a request."""
    entry = journal.begin("GET", "/")
    list(feed.events("", lasts_s=0))
    text = entry.text
    list(feed.events("", lasts_s=0))
    assert entry.text is text
    journal.end(entry)
    list(feed.events("", lasts_s=0))
    assert entry.text is not text


def test_nothing_is_made_for_nobody(shop: Shop) -> None:
    """Without listeners, no JSON is made."""
    shop.get("/order")
    assert [entry.text for entry in shop.journal.changes(0)] == [None]


def test_connections(shop: Shop) -> None:
    """Connections are shown for known namespaces and for all signals that were sent."""
    other = Namespace().signal("other")
    shop.placed.__doc__ = "Sent after an order.\n\nMore."
    aldis.signal("of-the-page").connect(shop.get, weak=False)

    @shop.placed.connect(sender=shop.app, priority=2)
    def pack(sender: Any, **payload: Any) -> None: ...

    shop.placed.connect(print, weak=False)
    assert "other" not in shop.connections()
    other.send()
    connections = shop.connections()
    assert {"other", "order-placed", "of-the-page", "request-started"} <= set(connections)
    placed = connections["order-placed"]
    assert (placed["doc"], placed["library"]) == ("Sent after an order.", "aldis")
    first, second = placed["connections"]
    assert first["receiver"].endswith("pack")
    assert first["place"].endswith(f"page/test_feed.py:{pack.__code__.co_firstlineno}")
    assert (first["priority"], first["is_weak"]) == (2, True)
    assert (second["receiver"], second["place"], second["is_weak"]) == ("builtins.print", None, False)
    aldis.signal("of-the-page").disconnect(shop.get)


def test_signals_of_flask(shop: Shop) -> None:
    """Flask's own signals are shown once, unless a receiver is connected to Blinker's signal."""

    def listed() -> list[tuple[str, int]]:
        [signals] = [data for kind, data, _ in shop.events() if kind == "connections"]
        found = [signal for signal in signals if signal["name"] == "request-started"]
        return [(signal["library"], len(signal["connections"])) for signal in found]

    def receive(sender: Any, **extra: Any) -> None: ...

    assert listed() == [("aldis", 0)]

    with flask.request_started.connected_to(receive):
        assert sum(connected for _, connected in listed()) == 1

    assert listed() == [("aldis", 0)]


def test_what_cannot_be_listed(shop: Shop) -> None:
    """An object that is no signal, but was given as one, does no harm to the list."""
    shop.page.feed._sources = lambda: [shop.signals, 7]
    connections = shop.connections()
    assert connections["int"]["connections"] is None
    assert connections["order-placed"]["connections"] == []


def test_connections_as_they_change(clock: Clock, journal: Journal) -> None:
    """A listener gets the connections when they have changed."""
    signals = Namespace()
    signal = signals.signal("a")
    feed = Feed(journal, lambda: [signals], lambda: True, clock, clock.wait)
    events = feed.events("", lasts_s=60)
    assert kinds([next(events), next(events)]) == ["hello", "connections"]
    signal.connect(print, weak=False)
    assert kinds([next(events)]) == ["connections"]
    assert next(events) == b": still here\n\n"


def test_places(tmp_path: Any) -> None:
    """Places are shown without the folder of the import, and unknown places as they are."""
    assert short_place(f"{aldis.__file__}:7") == "aldis/__init__.py:7"
    assert short_place("/nowhere/at/all.py:7") == "/nowhere/at/all.py:7"


def test_threads(shop: Shop) -> None:
    """A server with threads holds the streams open; the development server is asked less often, because it logs each
    request and does not wait for its threads when it stops.
    """
    lasts: list[float] = []

    def events(last: str, *, lasts_s: float) -> Any:
        lasts.append(lasts_s)
        return iter(())

    shop.page.feed.events = events  # type: ignore[method-assign]

    for software, is_threaded in (("waitress", True), ("Werkzeug/3.1", True), ("Werkzeug/3.1", False)):
        environ = {"wsgi.multithread": is_threaded, "SERVER_SOFTWARE": software}
        assert shop.get("/_aldis/events", environ_overrides=environ).mimetype == "text/event-stream"

    assert lasts == [4, 600, 0]
