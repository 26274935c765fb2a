"""Fixtures of the live page's tests: a journal, an application, and its responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from aldis import Namespace
from aldis.flask import Aldis
from aldis.flask._extension import LivePageLoader
from aldis.flask.live_page.journal import Journal
from aldis.flask.live_page.middleware import LivePageMiddleware


class Shop:
    """An application with its page and a signal, on Blinker or on Aldis."""

    def __init__(self, relay: Any = None, **config: Any) -> None:
        self.signals = Namespace(errors=lambda failure: None)
        self.placed = self.signals.signal("order-placed")
        self.app = Flask("shop")
        self.app.debug = True
        self.app.config.update(config)
        self.payload: dict[str, Any] = {"order_id": 7}

        @self.app.get("/order")
        def order() -> str:
            self.placed.send(self.app, **self.payload)
            return "thanks"

        @self.app.get("/lamps/<name>")
        def lamp(name: str) -> str:
            return name

        Aldis(self.app, show=[self.signals], relay=relay)
        self.page = page_of(self.app)
        self.journal = self.page.journal
        self.client = self.app.test_client()

    def get(self, path: str, **options: Any) -> Any:
        with self.client.get(path, **options) as response:
            response.get_data()
            return response

    def events(self, last: str = "", **options: Any) -> list[tuple[str, Any, str]]:
        """Return the kind, data and id of each event that a listener gets, on a server with one thread."""
        options.setdefault("environ_overrides", {"wsgi.multithread": False})
        return parse(self.get("/_aldis/events", headers={"Last-Event-ID": last}, **options).text)

    def entries(self, last: str = "") -> list[Any]:
        """Return the requests, and the sends outside of requests, in the order of their last changes."""
        return [entry for kind, data, _ in self.events(last) if kind == "entries" for entry in data["entries"]]

    def connections(self) -> dict[str, Any]:
        """Return the connections by the signal's name."""
        return {s["name"]: s for kind, data, _ in self.events() if kind == "connections" for s in data}


def page_of(app: Flask) -> LivePageMiddleware:
    """Return the live page of an application. Make it if there has been no request yet."""
    door: Any = app.wsgi_app
    assert isinstance(door, LivePageLoader)
    page = door._make()
    assert isinstance(page, LivePageMiddleware)
    return page


def parse(text: str) -> list[tuple[str, Any, str]]:
    """Return the events in a stream."""
    events: list[tuple[str, Any, str]] = []

    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))

        if "event" in fields:
            events.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))

    return events


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Any:
    """Return a shop in debug mode, with the test's configuration."""
    shop = Shop(**getattr(request, "param", {}))
    yield shop
    shop.journal.sleep()


@pytest.fixture
def journal() -> Any:
    """Return a journal that watches."""
    journal = Journal(clock=lambda: 0.0)
    journal.wake()
    yield journal
    journal.sleep()
