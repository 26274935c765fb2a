"""The pytest plugin that ``tools.downstream`` puts into each suite's environment.

It is loaded with ``-p``, so before the suite's own files and before other plugins. It reads two environment variables:

- ``DOWNSTREAM_LIBRARY``: with ``aldis``, Aldis takes Blinker's place and sends are counted; with ``blinker``, nothing
  changes.
- ``DOWNSTREAM_REPORT``: the file for the results, as JSON.
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

# The worst of several outcomes counts. A test can pass and then fail in its teardown.
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
    """Return the library whose ``Signal`` the suite has really imported."""
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

    # The marks are on the methods, not in the engine, so that the code that they call is unchanged.
    aldis.Signal.send = _counted(aldis.Signal.send, _sends)  # type: ignore[method-assign]
    aldis.Signal.send_async = _counted(aldis.Signal.send_async, _sends)  # type: ignore[method-assign]
