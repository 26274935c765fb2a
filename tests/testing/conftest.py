"""What the tests of aldis.testing share: both libraries, and receivers that note their calls."""

from __future__ import annotations

from typing import Any

import blinker
import pytest

import aldis

LIBRARIES: dict[str, Any] = {"aldis": aldis, "blinker": blinker}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    """Aldis or Blinker."""
    return LIBRARIES[request.param]


@pytest.fixture
def namespace(library: Any) -> Any:
    """A namespace with two signals."""
    made = library.Namespace()
    made.signal("saved")
    made.signal("deleted")
    return made


@pytest.fixture
def saved(namespace: Any) -> Any:
    """A signal."""
    return namespace["saved"]


@pytest.fixture
def deleted(namespace: Any) -> Any:
    """Another signal of the same namespace."""
    return namespace["deleted"]


class Log(list[str]):
    """What receivers that it makes have noted."""

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
    """An empty log."""
    return Log()


class Thing:
    """Something that can send, be referenced weakly, and be told from its like."""


@pytest.fixture
def thing() -> Thing:
    """A sender."""
    return Thing()
