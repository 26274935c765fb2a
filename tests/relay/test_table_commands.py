"""The commands ``create-tables`` and ``check-tables`` of ``python -m aldis relay``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect

from aldis.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
from pathlib import Path
from sqlalchemy import create_engine
from aldis.relay import Relay

engine = create_engine(f"sqlite:///{Path(__file__).parent / 'shop.sqlite'}")
relay = Relay(engine)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module with a relay whose database is empty."""
    name = f"tables_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__(name)
    yield module
    module.engine.dispose()
    del sys.modules[name]


def relay_command(program: Any, name: str) -> Result:
    """Run a command of ``python -m aldis relay``."""
    return CliRunner().invoke(main, ["relay", name, f"{program.__name__}:relay"])


def test_create_tables_creates_them_once(program: Any) -> None:
    """The first call creates the tables; the second finds them and changes nothing."""
    for _ in range(2):
        result = relay_command(program, "create-tables")
        assert (result.exit_code, result.output) == (0, "The relay's tables are there.\n")
        tables = [name for name in inspect(program.engine).get_table_names() if name.startswith("aldis_")]
        assert tables == ["aldis_dead_letters", "aldis_effects", "aldis_messages", "aldis_relay"]


def test_check_tables_accepts_tables_of_this_version(program: Any) -> None:
    """After create-tables, check-tables succeeds."""
    program.relay.create_tables()
    result = relay_command(program, "check-tables")
    assert (result.exit_code, result.output) == (0, "The relay's tables are there, and their version is right.\n")


def test_check_tables_reports_missing_tables(program: Any) -> None:
    """In an empty database check-tables fails, names the tables, and creates none."""
    result = relay_command(program, "check-tables")
    assert result.exit_code == 1
    assert result.output.startswith("Error: The database has no table aldis_messages")
    assert inspect(program.engine).get_table_names() == []


@pytest.mark.parametrize("name", ["check-tables", "create-tables"])
def test_tables_of_another_version_are_refused(program: Any, name: str) -> None:
    """Neither command accepts or changes tables of another version."""
    program.relay.create_tables()

    with program.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE aldis_relay SET value = '999'")

    result = relay_command(program, name)
    assert result.exit_code == 1
    assert "999" in result.output
