"""``flask signals`` and ``python -m aldis``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import flask
import flask.cli
import flask.signals
import pytest
from click.testing import CliRunner

import aldis
from aldis.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IS_INSTEAD = isinstance(flask.signals.request_started, aldis.Signal)

PROGRAM = """
import os

if os.environ.get("INSTEAD"):
    import aldis
    aldis.install_as_blinker()

import blinker
import flask
from flask import Flask, flash, request

from aldis import Namespace, Signal, signal
from aldis.flask import Aldis, after_response, request_finished

shop_signals = Namespace()
theirs = blinker.Namespace()
imported = theirs.signal("imported")
lonely = Signal()


@shop_signals.declare
def order_placed(sender: Flask, /, *, order_id: int, currency: str = "GBP") -> None:
    '''Sent after an order is committed.'''


mail_sent = shop_signals.signal("mail-sent")
by_default = signal("by-default")
app = Flask(__name__)
Aldis(app, show=[shop_signals, lonely])


@order_placed.connect(priority=5)
def charge(sender, *, order_id, currency):
    mail_sent.send("desk", to="ada@example.org")


@order_placed.connect(via=after_response)
def thank(sender, *, order_id, currency): ...


@order_placed.connect(sender=app, once=True)
async def first(sender, *, order_id, currency): ...


@mail_sent.connect(sender="desk", weak=False)
def note(sender, to): ...


@mail_sent.connect(sender=lonely)
class Notes:
    def __init__(self, sender, to): ...


@request_finished.connect
def finish(sender, response): ...


@flask.request_finished.connect
def finish_too(sender, response): ...


@imported.connect
def on_import(sender): ...


mail_sent.errors = "collect"


@app.get("/")
def index():
    order_placed.send(app, order_id=1)
    return "index"


@app.post("/echo")
def echo():
    flash(request.headers["X-Name"] + request.get_data(as_text=True))
    return request.headers["X-Name"]


@app.get("/broken")
def broken():
    with mail_sent.muted():
        mail_sent.send("desk", to="x")

    @mail_sent.connect
    def failing(sender, to):
        raise OSError("secret")

    mail_sent.send("elsewhere", to="x")


app.secret_key = "x"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a folder with a program that has signals of all kinds."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "empty.py").write_text("value = 3\n")
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    (tmp_path / "bare.py").write_text(
        "from aldis import Namespace\n"
        "signals = Namespace()\n@signals.declare\ndef lamp_lit(sender, /, *, colour): ...\n"
    )
    (tmp_path / "muted.py").write_text(
        "from aldis import Namespace\nsignals = Namespace(errors=print)\nsignals.signal('x').is_muted = True\n"
    )
    return tmp_path


class Command:
    """Runs a command in the program's folder, and keeps its output, without places and durations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = 0

    def __call__(self, *arguments: str) -> str:
        environment = {**os.environ, "INSTEAD": "yes" if IS_INSTEAD else ""}
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.status = done.returncode
        text = re.sub(r"  \S+\.py:\d+", "", done.stdout + done.stderr)
        return re.sub(r"\d+\.\d\d ms", "N ms", text)

    def here(self, *arguments: str) -> str:
        """Run ``python -m aldis`` in this process, with modules that change nothing here."""
        result = CliRunner().invoke(main, arguments)
        self.status = result.exit_code
        return result.output or str(result.exception)

    def flask(self, *arguments: str) -> str:
        # The flask command imports Flask before the program. So Aldis can take Blinker's place only in a program of its
        # own.
        if IS_INSTEAD:
            (self.folder / "manage.py").write_text(
                "import aldis\naldis.install_as_blinker()\nfrom flask.cli import main\nmain()\n"
            )
            return self("manage", "--app", "shop", "signals", *arguments)

        return self("flask", "--app", "shop", "signals", *arguments)


@pytest.fixture
def command(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    monkeypatch.chdir(program)
    monkeypatch.syspath_prepend(program)
    yield Command(program)

    for name in ("empty", "broken", "bare", "muted"):
        sys.modules.pop(name, None)


OF_THE_SHOP = """\
├─ order-placed
│  ├─ shop.charge (priority 5)
│  ├─ shop.thank (via after_response)
│  └─ shop.first (for Flask 'shop', async, once)
└─ mail-sent
   ├─ shop.note (for 'desk')
   └─ shop.Notes (for a aldis._core.signal.Signal)
"""


def test_list(command: Command) -> None:
    """The command shows Flask's signals, the application's signals and all others, with their receivers in order."""
    text = command.flask("list")
    assert command.status == 0
    assert "├─ request-started  no receivers\n" in text
    assert f"signals of Aldis(app)\n{OF_THE_SHOP}" in text
    assert "signals of Aldis(app), 2\n└─ Signal  no receivers\n" in text
    assert "by-default  no receivers\n" in text
    assert "shop.on_import" in text
    assert "SignalMirror" not in text

    if IS_INSTEAD:
        assert "├─ request-finished\n│  ├─ shop.finish\n│  └─ shop.finish_too\n" in text
    else:
        assert "├─ request-finished\n│  └─ shop.finish\n" in text
        assert "├─ request-finished\n│  └─ shop.finish_too (on Blinker's signal)\n" in text


def test_list_as_json(command: Command) -> None:
    """With --json, the command prints the same as data."""
    data: list[dict[str, Any]] = json.loads(command.flask("list", "--json"))
    (placed,) = [each for each in data if each["signal"] == "order-placed"]
    assert placed["group"] == "signals of Aldis(app)"
    assert placed["is_declared"] is True
    assert [connection["receiver"] for connection in placed["connections"]] == [
        "shop.charge",
        "shop.thank",
        "shop.first",
    ]
    assert placed["connections"][0]["priority"] == 5


def test_show(command: Command) -> None:
    """The command shows the contract with types, the receivers in order, and what their sender filters mean."""
    text = command.flask("show", "order-placed")
    assert text.startswith(
        "order-placed\n  Sent after an order is committed.\n  sender   Flask\n"
        "  payload  order_id: int\n  payload  currency: str = 'GBP'\n\n1. shop.charge (priority 5)\n   held weakly"
    )
    assert "3. shop.first (for Flask 'shop', async, once)\n   held weakly" in text
    assert "called only when that sender sends" in text
    assert text.endswith("\n\nSent by this application, it calls: shop.charge, shop.thank, shop.first\n")
    text = command.flask("show", "mail-sent")
    assert text.startswith(
        "mail-sent\n  not declared: any payload\n  errors   collect\n\n1. shop.note (for 'desk')\n   held strongly"
    )
    assert text.endswith("\n\nSent by this application, it calls: no receiver\n")


def test_show_says_whom_the_application_calls_only_where_that_is_a_question(command: Command) -> None:
    """The command does not say which receivers the application calls if no receiver has a sender filter, if the signal
    is muted, or if there is no application.
    """
    assert "Sent by" not in command.flask("show", "request-finished")
    assert "Sent by" not in command("aldis", "show", "shop:mail_sent")
    connecting = "signals['x'].connect(print, 'y')\nfrom flask import Flask\napp = Flask(__name__)\n"

    with (command.folder / "muted.py").open("a") as program:
        program.write(connecting)

    assert "Sent by" not in command("flask", "--app", "muted", "signals", "show", "x")


def test_show_says_why_nobody_is_called(command: Command) -> None:
    """For a signal without receivers, the command lists possible reasons."""
    text = command.flask("show", "by-default")
    assert "No receiver is connected" in text
    assert "weak=False" in text


def test_show_what_is_not_there(command: Command) -> None:
    """For an unknown name, the command lists similar names, or all names."""
    assert "There is no signal 'order-plced'. Is it order-placed?" in command.flask("show", "order-plced")
    assert command.status == 2
    assert "There are: " in command.flask("show", "xyz")


def test_trace(command: Command) -> None:
    """The command makes one request, and shows its sends as a tree, with nested sends and deliveries."""
    text = command.flask("trace", "/")
    assert command.status == 0
    assert text.startswith("GET /: 200 OK\nappcontext-pushed  N ms\nrequest-started  N ms\n")
    assert (
        "order-placed(currency, order_id)  N ms\n"
        "├─ shop.charge  N ms\n"
        "│  └─ mail-sent(to)  N ms\n"
        "│     └─ shop.note  N ms\n"
        "├─ shop.thank  N ms  handed over to after_response\n"
        "├─ shop.first  N ms\n"
        "└─ shop.thank (via after_response)  N ms\n"
    ) in text or (
        "order-placed(order_id, currency)  N ms\n"
        "├─ shop.charge  N ms\n"
        "│  └─ mail-sent(to)  N ms\n"
        "│     └─ shop.note  N ms\n"
        "├─ shop.thank  N ms  handed over to after_response\n"
        "├─ shop.first  N ms\n"
        "└─ shop.thank (via after_response)  N ms\n"
    ) in text
    assert "request-finished(response)  N ms\n" in text
    assert "ada@example.org" not in text


def test_trace_a_failure(command: Command) -> None:
    """The command shows a failed receiver with its exception's class, a muted send as muted, and the status."""
    text = command.flask("trace", "/broken")
    assert text.count("GET /broken: 500 INTERNAL SERVER ERROR\n") == 1
    assert "mail-sent(to)  N ms  muted\n" in text
    assert "shop.broken.<locals>.failing  N ms  raised OSError\n" in text


def test_trace_with_a_method_data_and_headers(command: Command) -> None:
    """The command takes the method, the body and the headers of the request."""
    text = command.flask("trace", "/echo", "-X", "POST", "-d", "body", "-H", "X-Name: ada")
    assert text.startswith("POST /echo: 200 OK\n")
    assert "message-flashed(category, message)" in text or "message-flashed(message, category)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["page"], "PATH must begin with a slash, as in '/page'"),
        (["/", "-H", "X-Name"], "A header is NAME:VALUE, not 'X-Name'"),
    ],
)
def test_trace_what_cannot_be(arguments: list[str], message: str) -> None:
    """An invalid path or header is refused, with an example of a valid one."""
    commands = flask.cli.FlaskGroup(create_app=lambda: flask.Flask("shop"), load_dotenv=False)
    result = CliRunner().invoke(commands, ["signals", "trace", *arguments])
    assert message in result.output
    assert result.exit_code == 2


# Without Flask's command.


@pytest.mark.parametrize("path", ["shop:shop_signals", "shop:order_placed"])
def test_list_without_flask(command: Command, path: str) -> None:
    """The command shows a namespace or a signal of a module."""
    text = command("aldis", "list", path)
    assert command.status == 0
    expected = OF_THE_SHOP if path == "shop:shop_signals" else "└─ order-placed\n"
    assert text.startswith(f"{path}\n{expected}")


def test_list_a_module(command: Command) -> None:
    """The command shows all signals of a module, each once; for a module without signals, it shows the default
    namespace.
    """
    text = command("aldis", "list", "shop")
    assert text.count("─ order-placed") == 1
    assert f"shop:shop_signals\n{OF_THE_SHOP}" in text
    assert "shop:theirs\n└─ imported\n   └─ shop.on_import" in text
    assert command("aldis", "list", "empty") == "default namespace\n"


def test_list_as_json_without_flask(command: Command) -> None:
    """With --json, the command prints the same as data."""
    data = json.loads(command("aldis", "list", "shop:mail_sent", "--json"))
    assert [each["group"] for each in data] == ["shop:mail_sent"]


def test_show_what_says_little(command: Command) -> None:
    """A contract without documentation and types is shown as it is."""
    assert command.here("show", "bare:signals").startswith("lamp-lit\n  sender   any\n  payload  colour: any\n")


def test_show_without_flask(command: Command) -> None:
    """The command shows one signal of several, or all."""
    assert command("aldis", "show", "shop:shop_signals", "mail-sent").startswith("mail-sent\n")
    assert "order-placed\n" in command("aldis", "show", "shop:shop_signals")
    text = command.here("show", "muted:signals")
    assert "  muted: sends call no receiver\n  errors   print\n" in text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "There is no module 'nothing' here."),
        ("empty:nothing", "The module 'empty' has no 'nothing'."),
        ("empty:value", "empty:value is neither a signal nor a namespace."),
        ("broken", "No module named 'nothing_of_the_kind'"),
    ],
)
def test_what_is_not_there(command: Command, path: str, message: str) -> None:
    """The command says that an object does not exist or is no signal, and shows a failure of the module itself as it
    is.
    """
    assert message in command.here("list", path)
    assert command.status != 0


def test_show_in_an_empty_namespace(command: Command) -> None:
    """Without any signal, the command suggests no name."""
    assert "There is no signal 'x'.\n" in command("aldis", "show", "empty", "x")
