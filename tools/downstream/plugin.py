"""The pytest plugin that ``tools.downstream`` puts into each suite's environment.

Loaded with ``-p``, so before the suite's own files and before whatever else pytest loads. Told by the
environment what to do:

- ``DOWNSTREAM_LIBRARY``: ``aldis`` takes Blinker's place and counts sends; ``blinker`` leaves all as it is.
- ``DOWNSTREAM_REPORT``: the file to write what came of it to, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from functools import wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

LIBRARY: Final = os.environ["DOWNSTREAM_LIBRARY"]
REPORT: Final = Path(os.environ["DOWNSTREAM_REPORT"])

# What is worse stands for a test that has several outcomes: one can pass and then fail in its teardown.
WORSE: Final = ("passed", "skipped", "failed")

_outcomes: dict[str, str] = {}
_sends = count()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _note(report.nodeid, report.outcome)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.outcome != "passed":
        _note(report.nodeid, report.outcome)


def pytest_sessionfinish(exitstatus: int) -> None:
    found = {
        "exit_status": int(exitstatus),
        "library": _library_in_use(),
        "outcomes": _outcomes,
        "sends": next(_sends),
    }
    REPORT.write_text(json.dumps(found), encoding="utf-8")


def _note(test: str, outcome: str) -> None:
    _outcomes[test] = max(outcome, _outcomes.get(test, outcome), key=WORSE.index)


def _library_in_use() -> str:
    """Whose ``Signal`` the suite got, whatever was meant."""
    blinker = sys.modules.get("blinker")
    return "none" if blinker is None else blinker.Signal.__module__.partition(".")[0]


def _counted(function: Callable[..., Any], sends: Iterator[int]) -> Callable[..., Any]:
    @wraps(function)
    def send(*args: Any, **payload: Any) -> Any:
        next(sends)
        return function(*args, **payload)

    return send


if LIBRARY == "aldis":
    import aldis

    aldis.install_as_blinker()

    # Marks on the verbs, not in the engine: what they call is what it always is.
    aldis.Signal.send = _counted(aldis.Signal.send, _sends)  # type: ignore[method-assign]
    aldis.Signal.send_async = _counted(aldis.Signal.send_async, _sends)  # type: ignore[method-assign]
