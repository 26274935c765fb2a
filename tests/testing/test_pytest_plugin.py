"""The pytest plugin, in its own test runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

# Each test runs pytest in its own process. The plugin depends on pytest, which is the same on all Pythons.
pytestmark = pytest.mark.program

SHOP = """
    from aldis import Namespace, Signal

    signals = Namespace()
    saved = signals.signal("saved")

    def audit(sender, **payload):
        return "audited"

    def mail(sender, **payload):
        return "mailed"
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run tests in a new interpreter, with this plugin and no other. The tests may import from ``shop``."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(shop=SHOP)

    def run(tests: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=tests)
        return pytester.runpytest_subprocess("-p", "aldis.pytest_plugin", "-W", "error", *options)

    return run


def text(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines)


def test_the_fixture_ends_with_the_test(run: Any) -> None:
    """A block that the fixture began lasts until the end of the test, and is undone before the next test."""
    result = run(
        """
        from shop import audit, mail, saved, signals

        def test_everything(signal_tester):
            signal_tester.isolate(signals)
            saved.connect(audit)
            saved.connect(mail)
            sent = signal_tester.record(signals, sender="ada")
            faked = signal_tester.fake(saved, only=mail)
            assert saved.send("ada", n=1) == [(audit, "audited")]
            assert sent.one().n == faked.one().n == 1

        def test_it_was_undone():
            assert not saved.receivers
            assert saved.send("ada") == []
            assert saved._registry.is_ordinary

        def test_failures_are_readable(signal_tester):
            sent = signal_tester.record(saved)
            saved.send("ada", n=1)
            saved.send("bob", n=2)
            sent.one()
        """
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["E * AssertionError: Expected one send of 'saved', but 2 were sent:", "E *1. 'saved' by 'ada': n=1"]
    )


def test_a_test_that_leaves_connections_behind_fails(run: Any) -> None:
    """With the option, a test that leaves connections behind fails, and the message lists each connection with its
    place."""
    tests = """
        from shop import audit, mail, saved

        def test_clean():
            with saved.connected_to(audit):
                pass

            saved.connect(mail)
            saved.disconnect(mail)

        def test_leak():
            saved.connect(audit)

        def test_leaks():
            saved.connect(lambda sender: None, "ada", weak=False)
            saved.connect(mail)

        def test_after_them():
            assert len(saved.send("ada")) == 3
    """
    result = run(tests, "--aldis-leaks")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leak *",
            "The test left 1 connection behind:",
            "  shop.audit (*shop.py:6), connected weakly to the signal 'saved', sender ANY",
            "Disconnect what it connects, or connect it in a block: *",
            "*ERROR at teardown of test_leaks *",
            "The test left 2 connections behind:",
            "  test_it.test_leaks.<locals>.<lambda> (*test_it.py:*), connected strongly to the signal 'saved', *'ada'",
            "  shop.mail (*shop.py:9), connected weakly to the signal 'saved', sender ANY",
        ]
    )

    run(tests).assert_outcomes(passed=4)
    run(tests, "-o", "aldis_leaks=true").assert_outcomes(passed=4, errors=2)
    run(tests, "-o", "aldis_leaks=false").assert_outcomes(passed=4)


def test_fixtures_of_wider_scope_are_not_blamed_on_a_test(run: Any) -> None:
    """Connections of a fixture for a class, a module or the session are not a test's leak; those of its own fixtures
    are."""
    result = run(
        """
        import unittest
        import pytest
        from shop import audit, mail, saved

        @pytest.fixture(scope="session", autouse=True)
        def for_all():
            saved.connect(audit, "session")

        @pytest.fixture(scope="module")
        def inner():
            saved.connect(audit, "inner")
            yield
            saved.disconnect(audit, "inner")

        @pytest.fixture(scope="module")
        def outer(inner):
            saved.connect(audit, "outer")

        @pytest.fixture
        def careless():
            saved.connect(audit, "careless")

        @pytest.fixture
        def careful():
            with saved.connected_to(audit, "careful"):
                yield

        def setup_module():
            saved.connect(mail, "module")

        def test_first(): pass
        def test_outer(outer, careful): pass
        def test_late(request): request.getfixturevalue("inner")
        def test_careless(careless, outer): pass

        class TestClass:
            def setup_class(self):
                saved.connect(mail, "class")

            def test_class(self): pass

        class TestUnit(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                saved.connect(mail, "unit class")

            def test_unit(self): pass

        class TestCareless(unittest.TestCase):
            def setUp(self):
                saved.connect(mail, "unit")

            def test_unit(self): pass
        """,
        "--aldis-leaks",
    )
    result.assert_outcomes(passed=7, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_careless *", "*sender 'careless'"])
    result.stdout.fnmatch_lines(["*ERROR at teardown of TestCareless.test_unit *", "*sender 'unit'"])


def test_connections_that_die_with_the_test_are_no_leak(run: Any) -> None:
    """Signals, senders and receivers that only the test or its fixtures held are freed with them."""
    result = run(
        """
        import unittest
        import pytest
        from shop import Signal, audit, saved

        class App:
            def __init__(self):
                self.me = self
                self.signal = Signal()

            def hear(self, sender, **payload):
                pass

        @pytest.fixture
        def app():
            return App()

        def test_app(app):
            saved.connect(audit, app, weak=False)
            saved.connect(app.hear)
            app.signal.connect(audit)

        def test_local():
            app = App()
            saved.connect(app.hear, app)
            app.signal.connect(audit)

        class TestClass:
            def test_class(self):
                self.app = App()
                self.app.signal.connect(audit)

        class TestUnit(unittest.TestCase):
            def test_unit(self):
                self.app = App()
                self.app.signal.connect(audit)
        """,
        "--aldis-leaks",
    )
    result.assert_outcomes(passed=4)


def test_modules_that_a_test_imports_are_not_blamed_on_it(run: Any, pytester: pytest.Pytester) -> None:
    """Receivers of a module that a test imports for the first time may stay; other functions may not."""
    pytester.makepyfile(
        extension="""
        from shop import saved

        class Log:
            def hear(self, sender, **payload): pass

        log = Log()
        saved.connect(log.hear)

        @saved.connect
        def hear(sender, **payload): pass

        def make():
            def inner(sender, **payload): pass
            return inner
        """
    )
    result = run(
        """
        from functools import partial
        from shop import audit, saved

        def test_import():
            import extension

        def test_use():
            import extension
            saved.connect(extension.make(), weak=False)

        def test_object():
            saved.connect(partial(audit), weak=False)
        """,
        "--aldis-leaks",
    )
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_use *", "*extension.make.<locals>.inner *"])
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_object *", "  shop.audit *"])


def test_only_passed_tests_are_checked(run: Any) -> None:
    """A test that failed or was skipped gets no second error, and the next test does not fail for its connections."""
    result = run(
        """
        import pytest
        import unittest
        from shop import audit, mail, saved

        def test_fails():
            saved.connect(audit)
            assert False

        def test_skipped():
            saved.connect(mail)
            pytest.skip("later")

        @pytest.mark.xfail
        def test_expected():
            saved.connect(audit, "x")
            assert False

        @pytest.fixture
        def broken():
            saved.connect(audit, "y")
            raise RuntimeError

        def test_broken(broken): pass

        @pytest.fixture
        def torn():
            yield
            raise RuntimeError

        def test_torn(torn):
            saved.connect(audit, "z")

        class TestUnit(unittest.TestCase):
            def test_unit(self):
                saved.connect(audit, "u")
                self.fail()

        def test_next(): pass
        """,
        "--aldis-leaks",
    )
    result.assert_outcomes(passed=2, failed=2, skipped=1, xfailed=1, errors=2)
    assert "behind" not in text(result)


def test_the_fixture_leaves_nothing_behind(run: Any) -> None:
    """Recordings that the fixture began are gone when the option checks, and isolation has restored the signals."""
    run(
        """
        from shop import audit, saved

        def test_it(signal_tester):
            signal_tester.isolate(saved)
            signal_tester.record(saved)
            saved.connect(audit)
        """,
        "--aldis-leaks",
    ).assert_outcomes(passed=1)


def test_dying_objects_of_a_session_do_no_harm(run: Any) -> None:
    """A signal or a sender that is dead but not yet removed is no leak, and causes no error."""
    run(
        """
        import gc
        from shop import Signal, audit, saved

        class Loop:
            def __init__(self):
                self.me = self
                self.signal = Signal()

        gc.disable()

        def test_dead():
            loop = Loop()
            saved.connect(audit, loop)
            loop.signal.connect(audit)

        def test_next(): pass
        """,
        "--aldis-leaks",
    ).assert_outcomes(passed=2)


def test_the_option_is_documented() -> None:
    """pytest --help describes the option and its setting."""
    command = [sys.executable, "-m", "pytest", "--help", "-p", "aldis.pytest_plugin"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert "--aldis-leaks" in done.stdout
    assert "aldis_leaks (bool):" in done.stdout
