"""The pytest plugin is loaded by name and has no entry point. Each run of pytest is a process; warnings are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

TESTS = """
    from aldis import Signal

    def test_it(signal_tester):
        signal = Signal()
        sent = signal_tester.record(signal)
        signal.send("ada", n=1)
        assert sent.one().n == 1
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run the test in a new interpreter, with only the plugins that are named."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(test_it=TESTS)

    def run(conftest: str = "", *options: str) -> pytest.RunResult:
        pytester.makeconftest(conftest)
        return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)

    return run


LOADS = 'pytest_plugins = ["aldis.pytest_plugin"]'


@pytest.mark.parametrize(
    "conftest",
    [
        LOADS,
        f"import aldis\n{LOADS}",
        f"import aldis.testing\nimport aldis.observe\n{LOADS}",
        f"import aldis.pytest_plugin\n{LOADS}",
        f"from aldis.pytest_plugin import signal_tester\n{LOADS}",
    ],
)
def test_it_is_loaded_by_name_whatever_was_imported_before(run: Callable[..., pytest.RunResult], conftest: str) -> None:
    """A conftest that has imported Aldis, or the plugin itself, can load the plugin without a warning of pytest."""
    run(conftest, "--aldis-leaks").assert_outcomes(passed=1)


def test_it_is_loaded_by_an_option(run: Callable[..., pytest.RunResult]) -> None:
    """-p loads the plugin, on the command line or in addopts, even if Aldis is imported before."""
    run("import aldis", "-p", "aldis.pytest_plugin").assert_outcomes(passed=1)
    run("import aldis", "-o", "addopts=-p aldis.pytest_plugin").assert_outcomes(passed=1)


def test_without_its_name_there_is_no_fixture(run: Callable[..., pytest.RunResult]) -> None:
    """A project that does not name the plugin has no fixture of Aldis."""
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'signal_tester' not found*"])


def test_the_package_has_no_entry_point_for_pytest() -> None:
    """A run of pytest that does not use Aldis does not import it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert "pytest11" not in project["entry-points"]
