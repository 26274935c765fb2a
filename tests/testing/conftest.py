"""Shared by the tests of aldis.testing: both libraries, and receivers that record their calls."""

from __future__ import annotations

from typing import Any

import blinker
import pytest

import aldis

LIBRARIES: dict[str, Any] = {"aldis": aldis, "blinker": blinker}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    """Return Aldis or Blinker."""
    return LIBRARIES[request.param]


@pytest.fixture
def namespace(library: Any) -> Any:
    """Return a namespace with two signals."""
    made = library.Namespace()
    made.signal("saved")
    made.signal("deleted")
    return made


@pytest.fixture
def saved(namespace: Any) -> Any:
    """Return a signal."""
    return namespace["saved"]


@pytest.fixture
def deleted(namespace: Any) -> Any:
    """Return another signal of the same namespace."""
    return namespace["deleted"]


class Log(list[str]):
    """Makes receivers, and stores their calls."""

    def receiver(self, name: str, *, is_async: bool = False, raises: bool = False) -> Any:
        def note(sender: Any, **payload: Any) -> str:
            self.append(name)

            if raises:
                raise RuntimeError(name)

            return name

        async def note_async(sender: Any, **payload: Any) -> str:
            return note(sender, **payload)

        return note_async if is_async else note


@pytest.fixture
def log() -> Log:
    """Return an empty log."""
    return Log()


class Thing:
    """A sender that can be referenced weakly and matches by identity."""


@pytest.fixture
def thing() -> Thing:
    """Return a sender."""
    return Thing()
