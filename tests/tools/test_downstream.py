"""``tools/downstream``: the results that make a run of another project's test suite a failure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "tools" / "downstream" / "__main__.py"


@pytest.fixture(scope="module")
def downstream() -> Iterator[Any]:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("downstream", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["downstream"] = module  # Dataclasses look up their module.

    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["downstream"]


def compare(downstream: Any, left_out: tuple[str, ...] = (), **aldis: Any) -> list[str]:
    """Return the faults of a run on Aldis, compared with a run on Blinker in which one test passed, failed and was
    skipped."""
    outcomes = {"passes": "passed", "fails": "failed", "skips": "skipped", "layout": "passed"}
    on_blinker = downstream.Run(exit_status=1, library="blinker", outcomes=outcomes, sends=0)
    changed = {**outcomes, **aldis.pop("outcomes", {})}
    outcomes_on_aldis = {test: outcome for test, outcome in changed.items() if outcome}
    on_aldis = downstream.Run(
        **{"exit_status": 1, "library": "aldis", "outcomes": outcomes_on_aldis, "sends": 7, **aldis}
    )
    suite = downstream.Suite("shop", requires=(), left_out=dict.fromkeys(left_out, "a reason"))
    found: list[str] = downstream.compare(suite, on_blinker, on_aldis)
    return found


def test_a_run_like_blinkers_has_no_fault(downstream: Any) -> None:
    """Downstream: a test that also fails on Blinker is not a fault of Aldis."""
    assert compare(downstream) == []


def test_a_run_better_than_blinkers_has_no_fault(downstream: Any) -> None:
    """Downstream: a test may pass on Aldis and fail on Blinker."""
    assert compare(downstream, outcomes={"fails": "passed", "skips": "passed"}) == []


@pytest.mark.parametrize(
    ("aldis", "fault"),
    [
        pytest.param(
            {"outcomes": {"passes": "failed"}}, "passes passed on Blinker and failed on Aldis", id="a new failure"
        ),
        pytest.param(
            {"outcomes": {"passes": "skipped"}}, "passes passed on Blinker and skipped on Aldis", id="a new skip"
        ),
        pytest.param({"outcomes": {"passes": ""}}, "passes ran on Blinker only", id="a test that did not run"),
        pytest.param({"outcomes": {"more": "passed"}}, "more ran on Aldis only", id="a test that should not be"),
        pytest.param({"sends": 0}, "no send went through Aldis", id="no sends"),
        pytest.param({"library": "blinker"}, "the run that was meant for aldis had", id="the wrong library"),
        pytest.param({"exit_status": 3}, "pytest ended with 3 on aldis", id="a broken run"),
    ],
)
def test_faults_of_a_run(downstream: Any, aldis: dict[str, Any], fault: str) -> None:
    """Downstream: new failures, tests that do not run, runs without sends and broken runs are faults."""
    (found,) = compare(downstream, **aldis)

    assert found.startswith(fault)


def test_a_test_that_is_left_out_must_fail(downstream: Any) -> None:
    """Downstream: a test that is left out must fail; otherwise it must not be left out."""
    assert compare(downstream, ("layout",), outcomes={"layout": "failed"}) == []
    assert compare(downstream, ("layout",)) == [
        "layout is left out, but passed on Aldis: take it off the list",
    ]
    assert compare(downstream, ("lost",)) == ["lost is left out, but there is no such test"]
