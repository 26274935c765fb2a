"""SignalTester: the object behind pytest's fixture, which unittest users enter in setUp."""

from __future__ import annotations

import io
import unittest
from typing import Any

import pytest

import aldis
from aldis.testing import SignalTester, record


def receiver(sender: Any, **payload: Any) -> str:
    return "called"


def test_blocks_last_until_it_is_closed() -> None:
    """The blocks that a SignalTester begins last until it is closed, and are undone then."""
    namespace = aldis.Namespace()
    saved, deleted = namespace.signal("saved"), namespace.signal("deleted")
    signals = SignalTester()
    signals.isolate(saved)
    saved.connect(receiver)
    sent = signals.record([saved, deleted], sender="ada")
    stopped = signals.fake(saved, only=receiver)

    assert saved.send("ada") == []
    deleted.send("ada")
    deleted.send("bob")
    signals.close()

    assert saved.send("ada") == []
    assert (len(sent), len(stopped)) == (2, 1)
    assert not saved.receivers
    signals.close()


def test_it_is_a_context_manager(saved: Any) -> None:
    """The end of a with block closes a SignalTester, also if the block raises."""
    signals = SignalTester()
    sent = signals.record(saved)

    with pytest.raises(KeyError), signals:
        raise KeyError

    saved.send()
    assert not sent


def test_unittest_can_use_them() -> None:
    """In unittest, enterContext() accepts a SignalTester and each of the functions, and the signal is restored."""
    saved = aldis.Namespace().signal("saved")

    class Tests(unittest.TestCase):
        def setUp(self) -> None:
            self.signals = self.enterContext(SignalTester())
            self.sent = self.enterContext(record(saved))

        def test_send(self) -> None:
            faked = self.signals.fake(saved)
            saved.send("ada", n=1)
            assert self.sent.one().n == 1
            assert faked.one().sender == "ada"

        def test_nothing(self) -> None:
            assert not self.sent

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Tests)
    result = unittest.TextTestRunner(io.StringIO()).run(suite)
    assert (result.testsRun, result.failures, result.errors) == (2, [], [])
    assert not saved.receivers
    assert saved._registry.is_ordinary
