"""Fixtures of the commands' tests: a shop in its own folder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.relay.commands.shop_program import PROGRAM, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    name = f"shop_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__(name)
    module.relay.create_tables()
    yield Shop(tmp_path, module)
    module.engine.dispose()
    del sys.modules[name]
