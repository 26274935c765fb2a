"""Shared by the conformance tests: the two libraries, and a way to state an intended difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import blinker as blinker_itself
import pytest

import aldis as aldis_itself

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = {"blinker": blinker_itself, "aldis": aldis_itself}

PROMISES = frozenset(f"E{number}" for number in range(1, 14))


class OrderedSet(dict[Any, None]):
    """A ``set_class`` as users of Blinker write it to call receivers in order."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    """Return Blinker or Aldis."""
    return LIBRARIES[request.param]


@pytest.fixture
def differs(library: Any) -> Callable[..., Any]:
    """Return the result of one library where Aldis differs on purpose, because of one of its promises."""

    def differs(promise: str, *, blinker: Any, aldis: Any) -> Any:
        assert promise in PROMISES
        assert blinker != aldis
        return blinker if library is blinker_itself else aldis

    return differs


@pytest.fixture
def ordered(library: Any) -> Any:
    """Return a class of signals whose receivers are called in order on both libraries."""

    class OrderedSignal(library.Signal):  # type: ignore[misc]
        set_class = OrderedSet

    return OrderedSignal


@pytest.fixture
def signal(ordered: Any) -> Any:
    """Return a signal whose receivers are called in order on both libraries."""
    return ordered()


@pytest.fixture
def log() -> list[Any]:
    """Return the list to which the receivers of :func:`named` append."""
    return []


@pytest.fixture
def named(log: list[Any]) -> Callable[[str], Any]:
    """Return a function that makes receivers, which append their name to the log and return it."""

    def make(name: str) -> Any:
        def receiver(sender: Any, **payload: Any) -> str:
            log.append(name)
            return name

        return receiver

    return make
