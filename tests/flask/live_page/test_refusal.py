"""Which clients may read the live page."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

PAGES = ["/_aldis/", "/_aldis/events", "/_aldis/page.js", "/_aldis/page.css", "/_aldis/icon.svg"]


@pytest.fixture(autouse=True)
def one_thread(shop: Any) -> None:
    """End event streams at once."""
    shop.client.environ_base["wsgi.multithread"] = False


@pytest.mark.parametrize("path", PAGES)
def test_page_is_there_in_debug_mode(shop: Any, path: str) -> None:
    """In debug mode, the page and its files exist."""
    assert shop.get(path).status_code == 200


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "shop", [{"ALDIS_PAGE_HOSTS": ["localhost"], "ALDIS_PAGE": True, "TESTING": True}], indirect=True
)
def test_page_is_not_there_outside_debug_mode(shop: Any, path: str) -> None:
    """Outside of debug mode there is no page, whatever the configuration says, and nothing is watched."""
    shop.app.debug = False
    assert shop.get(path).status_code == 404
    shop.get("/order")
    assert not shop.journal.is_watching
    assert shop.journal.changes(0) == []


def test_debug_mode_is_looked_at_by_each_request(shop: Any) -> None:
    """An application that leaves debug mode loses its page and all entries."""
    shop.get("/order")
    assert shop.journal.is_watching
    shop.app.debug = False
    assert shop.get("/_aldis/").status_code == 404
    assert not shop.journal.is_watching
    assert shop.journal.changes(0) == []
    shop.app.debug = True
    assert shop.get("/_aldis/").status_code == 200


def test_stream_ends_with_debug_mode(shop: Any) -> None:
    """A listener gets no more events after the application has left debug mode."""
    events = shop.page.feed.events("", lasts_s=1e9)
    next(events)
    shop.app.debug = False
    assert list(events) == []


@pytest.mark.parametrize("path", ["/_aldisx", "/x/_aldis/", "/_aldi"])
def test_other_paths_are_those_of_the_application(shop: Any, path: str) -> None:
    """Only paths below the page's own path are taken from the application."""
    assert shop.get(path).status_code == 404
    assert [entry.path for entry in shop.journal.changes(0)] == [path]


def test_page_reaches_nothing_of_the_application(shop: Any) -> None:
    """The page's own requests run no hook of the application, and are not recorded."""
    ran: list[int] = []
    shop.app.before_request(lambda: ran.append(1))

    for path in PAGES:
        shop.get(path)

    assert ran == []
    assert shop.journal.changes(0) == []


def test_unknown_file(shop: Any) -> None:
    """A file that is not one of the page's own is not found, in or outside of its folder."""
    for path in ("/_aldis/other", "/_aldis//", "/_aldis/../_page.py", "/_aldis/page.html"):
        assert shop.get(path).status_code == 404


def test_missing_slash(shop: Any) -> None:
    """A path without the slash is redirected to the page, also in an application that is mounted below a path."""
    response = shop.get("/_aldis")
    assert (response.status_code, response.headers["Location"]) == (308, "/_aldis/")
    response = shop.get("/_aldis", environ_overrides={"SCRIPT_NAME": "/caf\xc3\xa9"})
    assert response.headers["Location"] == "/caf%C3%A9/_aldis/"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_get_only(shop: Any, method: str) -> None:
    """The page accepts GET only."""
    response = shop.client.open("/_aldis/", method=method)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", [*PAGES, "/_aldis", "/_aldis/other"])
def test_headers(shop: Any, path: str) -> None:
    """Each response has headers that forbid foreign code, frames and caches."""
    headers = shop.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


HOSTS = {
    "localhost": 200,
    "localhost:5000": 200,
    "LOCALHOST.": 200,
    "shop.localhost:80": 200,
    "127.0.0.1:5000": 200,
    "127.8.8.8": 200,
    "[::1]:5000": 200,
    "evil.example": 403,
    "localhost.evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "evil.example:80@localhost": 403,
    "10.0.0.7:5000": 403,
    "0.0.0.0:5000": 403,
    "[::1": 403,
    "": 403,
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_host_header(shop: Any, host: str, status: int) -> None:
    """A page of another name that resolves to this machine (DNS rebinding) is refused."""
    response = shop.get("/_aldis/", environ_overrides={"HTTP_HOST": host})
    assert response.status_code == status
    assert status == 200 or "ALDIS_PAGE_HOSTS" in response.text
    assert not host or status == 200 or host not in response.text


CLIENTS = {"127.0.0.1": 200, "127.1.2.3": 200, "::1": 200, "::ffff:127.0.0.1": 200, "10.0.0.7": 403, "": 403, "x": 403}


@pytest.mark.parametrize(("client", "status"), CLIENTS.items())
def test_client(shop: Any, client: str, status: int) -> None:
    """Clients on other machines are refused, with a message that says what to do."""
    response = shop.get("/_aldis/events", environ_overrides={"REMOTE_ADDR": client})
    assert response.status_code == status
    assert status == 200 or "ALDIS_PAGE_HOSTS" in response.text


def test_nothing_known_of_the_client(shop: Any) -> None:
    """A request without a client address or host is refused like one of another machine."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/_aldis/"}
    statuses: list[str] = []

    for known in ({}, {"REMOTE_ADDR": "127.0.0.1"}):
        list(shop.app(environ | known, lambda status, headers: statuses.append(status)))

    assert statuses == ["403 FORBIDDEN", "403 FORBIDDEN"]


PROXIES = [
    ({"HTTP_X_FORWARDED_FOR": "10.0.0.7"}, 403),
    ({"HTTP_X_FORWARDED_FOR": "127.0.0.1, 10.0.0.7"}, 403),
    ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, 200),
    ({"HTTP_X_REAL_IP": "10.0.0.7"}, 403),
    ({"HTTP_FORWARDED": 'for="[2001:db8::1]:80"'}, 403),
    ({"HTTP_FORWARDED": "for=127.0.0.1;proto=http"}, 200),
    ({"HTTP_X_FORWARDED_HOST": "evil.example"}, 403),
    ({"HTTP_X_FORWARDED_HOST": "localhost, evil.example"}, 403),
    ({"HTTP_X_FORWARDED_HOST": "localhost:5000"}, 200),
    ({"HTTP_FORWARDED": "for=127.0.0.1;host=evil.example"}, 403),
    ({"HTTP_FORWARDED": 'for=127.0.0.1; Host="localhost:5000"'}, 200),
]


@pytest.mark.parametrize(("environ", "status"), PROXIES)
def test_proxy(shop: Any, environ: dict[str, Any], status: int) -> None:
    """A client behind a proxy on this machine counts as a client on another machine."""
    assert shop.get("/_aldis/", environ_overrides=environ).status_code == status


FIXED = [
    ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost"}, 200),
    ({"REMOTE_ADDR": "10.0.0.7", "HTTP_HOST": "localhost"}, 403),
    ({"REMOTE_ADDR": "", "HTTP_HOST": "localhost"}, 403),
    ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "evil.example"}, 403),
    ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": ""}, 403),
]


@pytest.mark.parametrize(("environ", "status"), FIXED)
def test_proxy_that_is_believed(shop: Any, environ: dict[str, str], status: int) -> None:
    """If the application trusts a proxy's headers, neither a client nor another site's page may send them itself."""
    shop.app.wsgi_app = ProxyFix(shop.app.wsgi_app, x_for=1, x_host=1)
    headers = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"}
    assert shop.get("/_aldis/", headers=headers, environ_overrides=environ).status_code == status


ALLOWED = [
    (["shop.test"], {"HTTP_HOST": "shop.test:5000"}, 200),
    ("shop.test", {"HTTP_HOST": "SHOP.test"}, 200),
    (["shop.test"], {"HTTP_HOST": "other.test"}, 403),
    (["shop.test"], {"HTTP_HOST": "shop.test", "REMOTE_ADDR": "172.17.0.1"}, 403),
    (["shop.test", "172.17.0.0/16"], {"HTTP_HOST": "shop.test", "REMOTE_ADDR": "172.17.0.1"}, 200),
    (["172.17.0.1"], {"REMOTE_ADDR": "172.17.0.1"}, 200),
    (["172.17.0.1"], {"REMOTE_ADDR": "172.17.0.2"}, 403),
    (["10.0.0.0/8"], {"HTTP_HOST": "10.0.0.7:5000", "REMOTE_ADDR": "10.0.0.9"}, 200),
]


@pytest.mark.parametrize(("hosts", "environ", "status"), ALLOWED)
def test_more_hosts(shop: Any, hosts: Any, environ: dict[str, str], status: int) -> None:
    """``ALDIS_PAGE_HOSTS`` lists names of the application, and addresses and networks of clients."""
    shop.app.config["ALDIS_PAGE_HOSTS"] = hosts
    assert shop.get("/_aldis/", environ_overrides=environ).status_code == status


SITES = [
    ({"HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
    ({"HTTP_SEC_FETCH_SITE": "none"}, 200),
    ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"}, 200),
    ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "no-cors"}, 403),
    ({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_SEC_FETCH_MODE": "cors"}, 403),
]


@pytest.mark.parametrize(("environ", "status"), SITES)
def test_other_sites(shop: Any, environ: dict[str, str], status: int) -> None:
    """Another site may link to the page, and may not read it or hold its connections."""
    assert shop.get("/_aldis/events", environ_overrides=environ).status_code == status


def test_files_hold_nothing_foreign(shop: Any) -> None:
    """The page loads nothing from other servers, and has no code or style inside its HTML."""
    html, css, js = (shop.get(f"/_aldis/{name}").text for name in ("", "page.css", "page.js"))
    assert "http" not in html + css
    assert "style=" not in html
    assert " on" + "click" not in html
    assert "<style" not in html

    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http"):
        assert word not in js
