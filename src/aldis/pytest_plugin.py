"""The pytest plugin of Aldis: the fixture ``signal_tester``, and the option ``--aldis-leaks``.

Load it by name, in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["aldis.pytest_plugin"]

PYTEST_DONT_REWRITE: this module has no assertions to rewrite, and a program may import it before pytest loads it.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final, final

import pytest

from .testing import SignalTester
from .testing._leaks import LeakCheck

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["pytest_addoption", "pytest_configure", "signal_tester"]

_HELP: Final = "fail tests that leave connections to Aldis signals behind"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option to the command line and to the configuration file."""
    parser.getgroup("aldis").addoption("--aldis-leaks", action="store_true", help=_HELP)
    parser.addini("aldis_leaks", _HELP, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Look for connections that tests leave behind, if the option is on."""
    if config.getoption("aldis_leaks") or config.getini("aldis_leaks"):
        config.pluginmanager.register(_Leaks(), "aldis-leaks")


@pytest.fixture
def signal_tester() -> Generator[SignalTester, None, None]:
    """Record signals, keep receivers from running and put connections back, until the test has ended.

    ``signal_tester.record(...)``, ``.fake(...)``, ``.isolate(...)`` and ``.captured_templates(...)`` are the functions
    of ``aldis.testing`` without a ``with`` block.
    """
    with SignalTester() as tester:
        yield tester


@final
class _Leaks:
    """Compares the connections before each test with those after it."""

    def __init__(self) -> None:
        self._check: LeakCheck | None = None
        self._has_passed = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        self._check = LeakCheck()
        self._has_passed = False
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        if self._check is None or fixturedef.scope == "function":
            return (yield)

        with self._check.excusing():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield

        if call.when == "call":
            self._has_passed = report.passed

        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        yield
        check, self._check = self._check, None

        # The traceback of a failed test still holds the test's objects.
        if check is None or not self._has_passed or not check.found():
            return

        _release_objects_of(item)
        left = check.found()

        if left:
            lines = "".join(f"\n  {line}" for line in left)
            pytest.fail(
                f"The test left {len(left)} connection{'s' if len(left) > 1 else ''} behind:{lines}\nDisconnect what it"
                " connects, or connect it in a block: signal.connected_to(), or aldis.testing.isolate().",
                pytrace=False,
            )


def _release_objects_of(item: pytest.Item) -> None:
    """Release the objects that only the test holds. Signals, senders and receivers that die with the test are not left
    behind.
    """
    getattr(item, "funcargs", {}).clear()  # pytest does the same right afterwards.

    # The instance of a test class. pytest keeps it in these attributes, and makes a new one when it needs one.
    for name in ("_instance", "_obj"):
        vars(item).pop(name, None)

    gc.collect()
