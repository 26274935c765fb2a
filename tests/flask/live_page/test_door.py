"""How the live page is added to an application."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.test import Client

from aldis import Namespace
from aldis.flask import Aldis, after_response

from .conftest import Shop, page_of

LOADED = """
import sys
from flask import Flask
from aldis.flask import Aldis

app = Flask("shop")
Aldis(app)
client = app.test_client()
parts = ("middleware", "access", "journal", "events", "snapshots", "redaction")
missing = client.get("/_aldis/").status_code
early = [part for part in parts if f"aldis.flask.live_page.{part}" in sys.modules]
app.debug = True
found = client.get("/_aldis/").status_code
late = [part for part in parts if f"aldis.flask.live_page.{part}" in sys.modules]
app.debug = False
print(missing, early, found, late == list(parts), client.get("/_aldis/").status_code)
"""


def test_loaded_in_debug_mode_only() -> None:
    """The page's modules are imported by the first request in debug mode, which may come long after the set-up."""
    command = [sys.executable, "-c", LOADED]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout == "404 [] 200 True 404\n"


@pytest.mark.parametrize("path", ["/", "/_aldis/", "/_aldis"])
def test_requests_go_on_as_they_came(path: str) -> None:
    """Outside of debug mode, also after it, the application gets the server's own arguments."""
    app = Flask("shop")
    Aldis(app)
    calls: list[Any] = []
    door: Any = app.wsgi_app
    door._inner = lambda *arguments: calls.append(arguments)
    environ, start = {"PATH_INFO": path}, print
    door(environ, start)
    app.debug = True
    page_of(app)
    app.debug = False
    door(environ, start)
    assert [(given is environ, answer is start) for given, answer in calls] == [(True, True)] * 2
    assert environ == {"PATH_INFO": path}


def test_page_is_made_once(shop: Shop) -> None:
    """Concurrent first requests in debug mode share one page, which has all of them."""
    assert page_of(shop.app) is page_of(shop.app)
    shop.get("/order")
    assert [entry["path"] for entry in shop.entries()] == ["/order"]


def test_routes_of_the_application(shop: Shop) -> None:
    """Outside of debug mode, the path belongs to the application, which may have a route there."""
    shop.app.add_url_rule("/_aldis/", view_func=lambda: "ours")
    shop.app.debug = False
    assert shop.get("/_aldis/").text == "ours"
    shop.app.debug = True
    assert "Aldis" in shop.get("/_aldis/").text


@pytest.mark.parametrize("in_test", [True, False])
def test_after_response(shop: Shop, in_test: bool) -> None:
    """Receivers that run after the response are shown with their request, with their own sends."""
    warmed = shop.signals.signal("cache-warmed")

    @shop.placed.connect(via=after_response)
    def warm(sender: Any, **payload: Any) -> None:
        warmed.send("warm")

    client: Any = shop.client if in_test else Client(shop.app)

    with client.get("/order") as response:
        assert response.text == "thanks"

    [entry] = shop.entries()
    [sent] = [sent for sent in entry["sends"] if sent["signal"] == "order-placed"]
    handed, ran = sent["calls"]
    assert (handed["outcome"], ran["outcome"], ran["via"]) == ("delivered", "returned", "after_response")
    assert [nested["signal"] for nested in ran["sends"]] == ["cache-warmed"]


def test_after_a_stream(shop: Shop) -> None:
    """Receivers that run after a stream are shown too, if the stream was closed after one part."""
    shop.placed.connect(lambda sender: None, weak=False, via=after_response)

    @shop.app.get("/stream")
    def stream() -> Response:
        shop.placed.send(shop.app)
        return Response(iter(["a", "b"]))

    response = Client(shop.app).get("/stream")
    assert next(response.response) == b"a"  # type: ignore[call-overload]
    response.close()
    [entry] = shop.entries()
    [sent] = [sent for sent in entry["sends"] if sent["signal"] == "order-placed"]
    assert [call["outcome"] for call in sent["calls"]] == ["delivered", "returned"]


def test_several_applications_set_up_by_one_extension() -> None:
    """Each application has its own page, with the signals that the extension was given."""
    signals = Namespace()
    signals.signal("order-placed")
    extension = Aldis(show=[signals])
    apps = [Flask("shop"), Flask("other")]

    for app in apps:
        app.debug = True
        extension.init_app(app)

    pages = [page_of(app) for app in apps]
    assert pages[0] is not pages[1]
    assert all(signals in page.feed._sources() for page in pages)
