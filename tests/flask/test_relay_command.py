"""``flask relay`` in an application that has no relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from aldis.flask import Aldis
from aldis.flask._cli import relay

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("command", [["status"], ["worker"], ["dead", "list"], ["create-tables"]])
@pytest.mark.parametrize("set_up", [lambda app: None, Aldis], ids=["without Aldis", "without a relay"])
def test_without_a_relay(set_up: Callable[[Flask], Any], command: list[str]) -> None:
    """Every command says how the application gets a relay."""
    app = Flask("shop")
    set_up(app)
    app.cli.add_command(relay)
    result = app.test_cli_runner().invoke(args=["relay", *command])
    assert result.exit_code == 2
    assert "This application has no relay. Pass it to the extension: Aldis(app, relay=relay)." in result.output
