"""``failures_of``, and ``ALDIS_ERRORS`` as ``"collect"``."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask

from aldis import InvalidOptionError
from aldis.flask import Aldis, failures_of, request_started


def make(errors: str) -> Flask:
    app = Flask("shop")
    app.config["ALDIS_ERRORS"] = errors
    app.get("/")(lambda: "index")
    Aldis(app)
    return app


def broken(sender: Any) -> None:
    raise OSError("disk full")


def test_counts_by_signal_and_receiver() -> None:
    """Each failure counts for its signal and receiver, and an earlier result does not change."""
    app = make("log")
    app.logger.disabled = True
    request_started.connect(broken)
    assert failures_of(app) == {}
    app.test_client().get("/")
    before = failures_of(app)
    app.test_client().get("/")
    assert before == {("request-started", f"{__name__}.broken"): 1}
    assert failures_of(app) == {("request-started", f"{__name__}.broken"): 2}


def test_an_application_without_aldis() -> None:
    """For an application without Aldis, the error says what to do."""
    with pytest.raises(InvalidOptionError, match=r"The application 'bare' has no Aldis\. Call Aldis\(app\)"):
        failures_of(Flask("bare"))


@pytest.mark.parametrize("errors", ["propagate", "collect"])
def test_what_is_raised_is_not_counted(errors: str) -> None:
    """A failure that the send raises is not counted, because the caller knows of it."""
    app = make(errors)
    request_started.connect(broken)

    with pytest.raises(OSError, match="disk full"):
        request_started.send(app)

    assert failures_of(app) == {}


def test_collect() -> None:
    """With "collect", all receivers run before the send raises, and an application beside it keeps its own policy."""
    app, other = make("collect"), Flask("other")
    ran: list[str] = []
    request_started.connect(broken)
    request_started.connect(lambda sender: ran.append("next"), weak=False)

    with pytest.raises(OSError, match="disk full"):
        request_started.send(app)

    assert ran == ["next"]

    with pytest.raises(OSError, match="disk full"):
        request_started.send(other)

    assert ran == ["next"]


def test_log_names_the_signal_and_the_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """With "log", the application's logger gets the names and the traceback, and no payload."""
    app = make("log")
    request_started.connect(broken)

    with caplog.at_level(logging.ERROR):
        request_started.send(app)

    [record] = caplog.records
    assert record.name == "shop"
    assert record.getMessage().startswith(f"{__name__}.broken (")
    assert record.getMessage().endswith("failed on the signal 'request-started'.")
