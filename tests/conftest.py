"""What all tests share: the names of cases, Hypothesis profiles, a watchdog, and an eye on what nobody catches."""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Far longer than any test takes on a machine that is busy with other work.
WATCHDOG_S = 600

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")

_COMMON: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}

settings.register_profile("default", **_COMMON)
settings.register_profile("long", max_examples=1500, stateful_step_count=100, **_COMMON)
settings.register_profile("brief", max_examples=20, **_COMMON)
settings.load_profile(PROFILE)


def pytest_collection_finish() -> None:
    """Leave what was imported out of the many collections that tests ask for: these would look at it each time."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: Any) -> str:
    """Name a case by its value, without the address, which is another in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(val))


@pytest.fixture
def effort() -> int:
    """How many times the usual rounds a stress test should do."""
    return 10 if PROFILE == "long" else 1


@pytest.fixture
def stride() -> int:
    """Of how many lines one is tried, where whatever line may be interrupted."""
    return {"long": 1, "brief": 20}.get(PROFILE, 5)


@pytest.fixture
def watchdog(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """End the run with the stacks of all threads if the test hangs: a deadlocked lock would hang all that follow."""
    with capfd.disabled():
        stderr = os.dup(2)

    faulthandler.dump_traceback_later(WATCHDOG_S, exit=True, file=stderr)

    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What reached ``sys.unraisablehook`` and ``threading.excepthook``. Nothing must."""
    caught: list[Any] = []

    # Their text only: an object that is kept here would be one that the engine seems to have kept.
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.append(f"{args.exc_value!r} in {args.object!r}"))
    monkeypatch.setattr(threading, "excepthook", lambda args: caught.append(repr(args.exc_value)))
    yield caught
    assert caught == []


@pytest.fixture
def hasty() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Leave freeing to reference counts: the cyclic collector is off, and begins with nothing to do."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("freeing by reference counts alone is a promise of builds with the GIL")

    was_enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # What other tests left is neither collected nor counted, and collections are quick.

    try:
        yield
    finally:
        gc.collect()

        if was_enabled:
            gc.enable()
