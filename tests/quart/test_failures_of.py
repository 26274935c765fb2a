"""``failures_of``, and ``ALDIS_ERRORS`` as ``"collect"``."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from aldis import InvalidOptionError
from aldis.quart import Aldis, failures_of, request_started


def make(errors: str) -> Quart:
    app = Quart("shop")
    app.config["ALDIS_ERRORS"] = errors
    Aldis(app)
    return app


async def broken(sender: Any) -> None:
    raise OSError("disk full")


async def test_counts_by_signal_and_receiver() -> None:
    """Each failure counts for its signal and receiver."""
    app = make("log")
    app.logger.disabled = True
    request_started.connect(broken)
    await request_started.send_async(app)
    assert failures_of(app) == {("request-started", f"{__name__}.broken"): 1}


def test_an_application_without_aldis() -> None:
    """For an application without Aldis, the error says what to do."""
    with pytest.raises(InvalidOptionError, match=r"The application 'bare' has no Aldis\. Call Aldis\(app\)"):
        failures_of(Quart("bare"))


async def test_collect() -> None:
    """With "collect", all receivers run before the send raises."""
    app = make("collect")
    ran: list[str] = []

    async def next_one(sender: Any) -> None:
        ran.append("next")

    request_started.connect(broken)
    request_started.connect(next_one)

    with pytest.raises(OSError, match="disk full"):
        await request_started.send_async(app)

    assert (ran, failures_of(app)) == (["next"], {})
