"""Tools for tests of leaks: count the entries, objects and memory that are left behind."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Stumbled(Exception):
    """The exception that receivers raise here."""


class Thing:
    """An object that serves as receiver, owner of a receiver method, sender and payload."""

    def __call__(self, sender: Any, **payload: Any) -> Any:
        return self

    def method(self, sender: Any, **payload: Any) -> Any:
        return self


class Failing(Thing):
    def __call__(self, sender: Any, **payload: Any) -> Any:
        here = Thing()
        raise Stumbled(str(here))


class AsyncThing(Thing):
    async def __call__(self, sender: Any, **payload: Any) -> Any:
        return self


class AsyncFailing(Thing):
    async def __call__(self, sender: Any, **payload: Any) -> Any:
        raise Stumbled


def finish(coroutine: Any) -> Any:
    """Run a coroutine that waits for nothing without an event loop, because event loops leave garbage."""
    # Not suppress(): since Python 3.12 it raises groups anew, and its frame then holds the exception.
    try:
        coroutine.send(None)
    except StopIteration:
        return

    raise AssertionError("a send waited for something")


def left(signal: Any) -> dict[str, int]:
    """Return the number of entries in each of the engine's tables, without the empty tables."""
    registry = signal._registry
    slots = [name for kind in type(registry).__mro__ for name in getattr(kind, "__slots__", ())]
    sizes = {name: len(part) for name in slots if isinstance(part := getattr(registry, name), dict)}
    sizes["any sender"] = len(registry.for_any.connections)
    return {name: size for name, size in sizes.items() if size}


def engine_objects() -> int:
    """Return the number of objects of the engine's own classes."""
    return sum(type(thing).__module__.startswith("aldis") for thing in gc.get_objects())


def growth_of(play: Callable[[], None]) -> int:
    """Return the number of bytes by which memory grows in each hundred rounds, after the first forty.

    It is the smallest of three measurements. A leak grows in each of them. A dictionary that gets and loses entries all
    the time is made larger in one of them, and smaller in another.
    """

    def rounds(count: int) -> int:
        for _ in range(count):
            play()

        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()

    try:
        rounds(20)
        memory = [rounds(20), *(rounds(100) for _ in range(3))]
        return min(later - before for before, later in pairwise(memory))
    finally:
        tracemalloc.stop()
