"""Shared by all tests: names of test cases, Hypothesis profiles, a watchdog, and a check for uncaught exceptions."""

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

# Much longer than any test takes on a busy machine.
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
    """Exclude imported objects from the many collections that tests start: each collection would look at them."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: Any) -> str:
    """Name a test case by its value, without the address, which differs in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(val))


@pytest.fixture
def effort() -> int:
    """Return the factor by which a stress test multiplies its usual rounds."""
    return 10 if PROFILE == "long" else 1


@pytest.fixture
def stride() -> int:
    """Return the step between the lines that are tried by tests that interrupt the engine at a line."""
    return {"long": 1, "brief": 20}.get(PROFILE, 5)


@pytest.fixture
def watchdog(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """End the run with the stacks of all threads if the test hangs: a deadlocked lock would also block all later
    tests."""
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
    """Fail the test if an exception reaches ``sys.unraisablehook`` or ``threading.excepthook``."""
    caught: list[Any] = []

    # Only their text: an exception that is kept here would look as if the engine had kept it.
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.append(f"{args.exc_value!r} in {args.object!r}"))
    monkeypatch.setattr(threading, "excepthook", lambda args: caught.append(repr(args.exc_value)))
    yield caught
    assert caught == []


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Switch the cyclic collector off after one collection, so that only reference counts free objects."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("only builds with the GIL promise that reference counts alone free objects")

    was_enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # Objects of other tests are neither collected nor counted, and collections are quick.

    try:
        yield
    finally:
        gc.collect()

        if was_enabled:
            gc.enable()
