"""The pytest plugin of Aldis: the fixture ``signals``, and the option ``--aldis-leaks``.

pytest finds it by itself. Until one of the two is used, it imports nothing.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final, final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from .testing import Signals
    from .testing._leaks import LeakCheck

__all__ = ["pytest_addoption", "pytest_configure", "signals"]

_HELP: Final = "fail tests that leave connections to Aldis signals behind"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option to the command line and to the configuration file."""
    parser.getgroup("aldis").addoption("--aldis-leaks", action="store_true", help=_HELP)
    parser.addini("aldis_leaks", _HELP, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Look for what tests leave behind, if that is wanted."""
    if config.getoption("aldis_leaks") or config.getini("aldis_leaks"):
        config.pluginmanager.register(_Leaks(), "aldis-leaks")


@pytest.fixture
def signals() -> Generator[Signals, None, None]:
    """Records signals, keeps receivers from running and puts connections back; all of it until the test has ended.

    ``signals.record(...)``, ``signals.fake(...)``, ``signals.isolate(...)`` and ``signals.captured_templates(...)`` are
    the functions of ``aldis.testing`` without a ``with`` block.
    """
    from .testing import Signals

    with Signals() as signals:
        yield signals


@final
class _Leaks:
    """Compares who is connected before each test and after it."""

    def __init__(self) -> None:
        self._check: LeakCheck | None = None
        self._has_passed = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        from .testing._leaks import LeakCheck

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

        # What a failed test has left is still held by its traceback.
        if check is None or not self._has_passed or not check.found():
            return

        _let_go(item)
        left = check.found()

        if left:
            lines = "".join(f"\n  {line}" for line in left)
            pytest.fail(
                f"The test left {len(left)} connection{'s' if len(left) > 1 else ''} behind:{lines}\nDisconnect what it"
                " connects, or connect it in a block: signal.connected_to(), or aldis.testing.isolate().",
                pytrace=False,
            )


def _let_go(item: pytest.Item) -> None:
    """Give up what only the test held: signals, senders and receivers that go with it have not been left behind."""
    getattr(item, "funcargs", {}).clear()  # pytest itself does so right after this.

    # The object of a test class. pytest keeps it in these, and makes another if it needs one again.
    for name in ("_instance", "_obj"):
        vars(item).pop(name, None)

    gc.collect()
