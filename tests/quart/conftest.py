"""Fixtures of the Quart room's tests: async tests, and applications."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING

import pytest
from quart import Quart

from aldis.quart import _core_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 120


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run each async test in its own event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None

    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TIMEOUT_S))
    return True


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave Quart's signals and the loggers as they were: without receivers, and with the usual failure policy."""
    for name in ("shop", "other", "quiet", "loud", "plain", "second"):
        logging.getLogger(name).disabled = False

    yield

    for signal in _core_signals.CORE_SIGNALS:
        signal.receivers.clear()
        signal.errors = "propagate"


@pytest.fixture
def app() -> Quart:
    return Quart("shop")
