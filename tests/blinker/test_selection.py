"""Which functions accept signals of Blinker beside signals of Aldis."""

from __future__ import annotations

from typing import Any

import blinker
import pytest

from aldis import InvalidOptionError
from aldis.observe import connections, watch
from aldis.testing import fake, isolate, record
from tests.observe.test_selection import Connected, first


@pytest.mark.parametrize("function", [watch, isolate])
@pytest.mark.parametrize("wanted", [blinker.Signal(), blinker.NamedSignal("first"), [blinker.Signal()]])
def test_signals_of_blinker_are_refused(function: Any, wanted: Any) -> None:
    """watch and isolate accept signals of Aldis only, and say so."""
    with pytest.raises(InvalidOptionError, match=r"takes signals of Aldis, .*, not a signal of Blinker"):
        Connected(function).of(wanted)


@pytest.mark.parametrize("function", [connections, record, fake])
def test_signals_of_blinker_are_accepted(function: Any) -> None:
    """connections, record and fake accept signals of Blinker, also in Blinker's namespaces and beside signals of
    Aldis."""
    theirs = blinker.Namespace()
    theirs.signal("theirs")
    assert Connected(function).of(theirs, [first]) == [first]
