"""The commands that look after the relay: ``status``, ``dead`` and ``purge``, of Flask and of ``python -m aldis``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask.cli
import pytest
from click.testing import CliRunner

import aldis.flask
from aldis.__main__ import main
from aldis.relay import DrainCounts
from tests.relay.commands.shop_program import SOON_S, Shop

USAGE, UNFINISHED, MISCONFIGURED = 2, 75, 78


# Looking after the relay.


def test_status_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without receivers and rows, status says so."""
    (tmp_path / "empty_shop.py").write_text(
        "from sqlalchemy import create_engine\nfrom aldis.relay import Relay\n"
        f"engine = create_engine('sqlite:///{tmp_path}/empty.sqlite')\nrelay = Relay(engine)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("empty_shop")
    module.relay.create_tables()
    result = CliRunner().invoke(main, ["relay", "status", "empty_shop"])
    module.engine.dispose()
    assert (result.exit_code, result.output) == (0, "No durable receiver is connected, and no message waits.\n")


def test_status(shop: Shop) -> None:
    """Status has a line for each receiver, and says of one that is not known that its messages wait."""
    shop.place(2)
    shop.lose()
    shop.place(3)
    shop.module.order_placed.disconnect(shop.module.invoice)
    lines = shop.command("status", shop.name).output.splitlines()
    assert lines[0].split() == ["RECEIVER", "BACKLOG", "OLDEST", "IN", "FLIGHT", "RETRYING", "DEAD"]
    assert [line.split()[:2] for line in lines[1:]] == [["invoice", "3"], ["search", "0"], ["slow", "0"]]
    assert lines[1].endswith("not known to this program: its messages wait")
    assert lines[2].split()[-1] == "1"


def test_ages(shop: Shop) -> None:
    """An age is shown by the largest unit of which there are two. Only what is not there has none."""
    shop.place()

    for past, shown in ((0, "0.0 s"), (3, "3 h")):
        with shop.module.engine.begin() as connection:
            hours_ago = f"CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + 60000 - {past} * 3600000"
            connection.exec_driver_sql(f"UPDATE aldis_messages SET sent_ms = {hours_ago}")

        ages = {line.split("  ")[0]: shown in line for line in shop.command("status", shop.name).output.splitlines()}
        assert ages["invoice"]
        assert not ages["search"]


def test_status_as_json(shop: Shop) -> None:
    """With --json, status is for programs."""
    shop.place()
    found = json.loads(shop.command("status", shop.name, "--json").output)
    assert [status["receiver"] for status in found] == ["invoice", "search", "slow"]
    assert found[0]["backlog"] == 1
    assert found[0]["is_known"] is True
    assert 0 <= found[0]["oldest_age_s"] < SOON_S


def test_no_dead_letters(shop: Shop) -> None:
    """Without dead letters, the list says so."""
    assert shop.command("dead", "list", shop.name).output == "There are no dead letters.\n"
    assert json.loads(shop.command("dead", "list", shop.name, "--json").output) == []


def test_dead_letters_are_listed(shop: Shop) -> None:
    """The list has the number, the receiver, the attempts and the reason, and nothing of the payload."""
    shop.lose(2)
    head, *lines = shop.command("dead", "list", shop.name).output.splitlines()
    assert head.split() == ["NUMBER", "RECEIVER", "ATTEMPTS", "DIED", "REASON"]
    assert [line.split()[:3] for line in lines] == [["1", "search", "1"], ["2", "search", "1"]]
    assert all("raised LookupError, in the last of 1 attempts" in line for line in lines)
    assert "no order" not in "".join(lines)
    assert shop.command("dead", "list", shop.name, "--receiver", "invoice").output == "There are no dead letters.\n"
    found = json.loads(shop.command("dead", "list", shop.name, "--json").output)
    assert [letter["id"] for letter in found] == [1, 2]


def test_one_dead_letter_is_shown(shop: Shop) -> None:
    """Show prints all of one letter; what was sent only if that is asked for."""
    shop.lose()
    shown = shop.command("dead", "show", shop.name, "1").output
    assert re.search(r"^receiver +search$", shown, re.MULTILINE)
    assert "order_id" not in shown
    assert '{"order_id":1}' in shop.command("dead", "show", shop.name, "1", "--payload").output


@pytest.mark.parametrize("number", ["2", "0"])
def test_a_dead_letter_that_is_not_there(shop: Shop, number: str) -> None:
    """A wrong number is told of."""
    shop.lose()
    result = shop.command("dead", "show", shop.name, number)
    assert (result.exit_code, result.output) == (1, f"Error: There is no dead letter {number}.\n")


@pytest.mark.parametrize("chosen", [["1", "2"], ["--all"], ["--receiver", "search"]])
def test_dead_letters_are_received_again(shop: Shop, chosen: list[str]) -> None:
    """Retry makes messages of the chosen letters."""
    shop.lose(2)
    assert shop.command("dead", "retry", shop.name, *chosen).output == "2 will be retried.\n"
    assert shop.relay.dead_letters() == []
    assert shop.relay.drain() == DrainCounts(dead=2)


@pytest.mark.parametrize("chosen", [[], ["1", "--all"], ["--all", "--receiver", "search"]])
@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_what_is_chosen_must_be_clear(shop: Shop, verb: str, chosen: list[str]) -> None:
    """Neither nothing nor two ways of choosing will do."""
    shop.lose()
    result = shop.command("dead", verb, shop.name, *chosen)
    assert result.exit_code == USAGE
    assert "Choose dead letters by their numbers, by --receiver NAME, or by --all." in result.output
    assert len(shop.relay.dead_letters()) == 1


def test_dead_letters_are_dropped(shop: Shop) -> None:
    """Drop asks first, unless it is told not to."""
    shop.lose(3)
    refused = shop.command("dead", "drop", shop.name, "1", says="n\n")
    assert refused.exit_code == 1
    assert "Delete 1 dead letters?" in refused.output
    assert len(shop.relay.dead_letters()) == 3
    assert "1 deleted." in shop.command("dead", "drop", shop.name, "1", says="y\n").output
    assert shop.command("dead", "drop", shop.name, "--all", "--yes").output == "2 deleted.\n"
    assert shop.relay.dead_letters() == []


def test_purging(shop: Shop) -> None:
    """Purge deletes by age, or the messages of one receiver."""
    shop.lose(2)
    shop.place(3)

    with shop.module.engine.begin() as connection:
        shop.relay.first_time(connection, "a message")
        connection.exec_driver_sql("UPDATE aldis_effects SET done_ms = done_ms - 7200000")
        connection.exec_driver_sql("UPDATE aldis_dead_letters SET died_ms = died_ms - 7200000 WHERE id = 1")

    for arguments, count in (
        (["effects", "--older-than", "3h"], 0),
        (["effects", "--older-than", "90m"], 1),
        (["dead", "--older-than", "3600s"], 1),
        (["messages", "--receiver", "invoice"], 3),
    ):
        assert shop.command("purge", shop.name, *arguments, "--yes").output == f"{count} deleted.\n"

    assert len(shop.relay.dead_letters()) == 1
    assert shop.relay.drain() == DrainCounts()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["messages"], "takes --receiver"),
        (["messages", "--receiver", "invoice", "--older-than", "3d"], "but no age"),
        (["dead"], "takes --older-than"),
        (["effects", "--older-than", "3d", "--receiver", "invoice"], "but no --receiver"),
        (["dead", "--older-than", "3 days"], "An age is a number and a unit of s, m, h or d"),
        (["everything"], "'everything' is not one of"),
    ],
)
def test_wrong_purges(shop: Shop, arguments: list[str], words: str) -> None:
    """What purge cannot do is told, and nothing is deleted."""
    shop.place()
    result = shop.command("purge", shop.name, *arguments, "--yes")
    assert result.exit_code == USAGE
    assert words in result.output
    assert shop.relay.drain() == DrainCounts(done=1)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module", "There is no module 'no_such_module' here."),
        ("{}:signals", "is not a relay. Give the path of one: module:name."),
        ("json", "The module 'json' has 0 relays."),
    ],
)
def test_wrong_paths(shop: Shop, path: str, words: str) -> None:
    """A path that leads to no relay is told of."""
    result = shop.command("status", path.format(shop.name))
    assert result.exit_code == USAGE
    assert words in result.output


def test_tables_that_are_missing(shop: Shop) -> None:
    """Without tables, a command says how to make them."""
    with shop.module.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE aldis_messages")

    result = shop.command("status", shop.name)
    assert result.exit_code == 1
    assert "relay.create_tables()" in result.output


def test_what_is_not_installed(tmp_path: Path) -> None:
    """Without what the relay needs, a command says what to install."""
    program = (
        "import sys; sys.modules['msgspec'] = None; from aldis.__main__ import main; main(['relay', 'status', 'x'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SOON_S, cwd=tmp_path, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr == (
        "Error: This needs msgspec, which is not installed. Install it with: pip install 'aldis[relay]'\n"
    )


APPLICATION = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from aldis import Namespace
from aldis.flask import Aldis
from aldis.relay import Relay

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.sqlite"
db = SQLAlchemy(app)
relay = Relay(db)
signals = Namespace()
Aldis(app, show=[signals], relay=relay)


@signals.declare
def order_placed(sender: Flask, /, *, order_id: int) -> None: ...


@order_placed.connect(via=relay.durable("invoice"))
def invoice(sender, *, order_id):
    print("invoice", sender.name, order_id, flush=True)


with app.app_context():
    relay.create_tables()
"""


# Flask.


@pytest.mark.program
def test_commands_of_flask(tmp_path: Path) -> None:
    """``flask relay worker`` and ``flask relay`` are for the relay that the application gave to Aldis."""
    (tmp_path / "app.py").write_text(APPLICATION)
    place = "from app import app, order_placed; c = app.app_context(); c.push(); order_placed.send(app, order_id=7)"

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=SOON_S, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run("-c", place)
    assert run("-m", "flask", "relay", "status").splitlines()[1].split()[:2] == ["invoice", "1"]
    assert run("-m", "flask", "relay", "worker", "--drain") == "invoice app 7\n"
    assert run("-m", "flask", "relay", "status").splitlines()[1].split()[:2] == ["invoice", "0"]


@pytest.mark.parametrize("is_extended", [False, True])
def test_an_application_without_a_relay(is_extended: bool) -> None:
    """Where the application gave no relay, the commands say how to."""
    app = flask.Flask("app")

    if is_extended:
        aldis.flask.Aldis(app)

    commands = flask.cli.FlaskGroup(create_app=lambda: app, load_dotenv=False)
    result = CliRunner().invoke(commands, ["relay", "status"])
    assert result.exit_code == USAGE
    assert "Pass it to the extension: Aldis(app, relay=relay)." in result.output
