"""aldis.testing with the signals of aldis.flask, while Flask itself runs on Blinker."""

from __future__ import annotations

from typing import Any

import flask
import pytest

import aldis.flask as signals_of_flask
from aldis.testing import fake, isolate, record


@pytest.fixture
def app() -> flask.Flask:
    """Return an application with one page."""
    app = flask.Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "hello")
    return app


def receiver(sender: Any, **payload: Any) -> None:
    pytest.fail("called")


def test_recordings_get_the_signals_that_flask_sends(app: flask.Flask) -> None:
    """A recording of an Aldis signal gets Flask's sends, even without other receivers, and leaves nothing on Flask's
    signal."""
    with record([signals_of_flask.request_started, signals_of_flask.request_finished], sender=app) as sent:
        app.test_client().get("/")

    assert [each.signal.name for each in sent] == ["request-started", "request-finished"]
    assert sent.last().response.status_code == 200
    assert not flask.request_started.receivers


def test_fakes_stop_receivers_of_both(app: flask.Flask) -> None:
    """A fake of an Aldis signal stops its receivers; a fake of Flask's signal also stops the Aldis receivers behind
    it."""
    signals_of_flask.request_started.connect(receiver, app)

    with fake(signals_of_flask.request_started, only=receiver) as ours:
        app.test_client().get("/")

    with fake(flask.request_started) as theirs:
        app.test_client().get("/")

    assert ours.one().stopped == (receiver,)
    assert len(theirs.one().stopped) == 1
    signals_of_flask.request_started.disconnect(receiver)
    assert not flask.request_started.receivers


def test_isolation_also_restores_the_link_to_flask(app: flask.Flask) -> None:
    """Flask's sends reach the receivers that isolate restores, and not the receivers that it removes."""
    calls = []

    def note(sender: Any, **payload: Any) -> None:
        calls.append(sender)

    with isolate(signals_of_flask.request_started):
        signals_of_flask.request_started.connect(receiver)

    assert not flask.request_started.receivers
    signals_of_flask.request_started.connect(note)

    with isolate(signals_of_flask.request_started):
        signals_of_flask.request_started.disconnect(note)
        assert not flask.request_started.receivers

    app.test_client().get("/")
    signals_of_flask.request_started.disconnect(note)
    assert calls == [app]
