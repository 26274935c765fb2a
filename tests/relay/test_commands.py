"""The commands of the relay: ``worker`` and ``relay``, of ``flask signals`` and of ``python -m aldis``."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from aldis.__main__ import main
from aldis.relay import DrainCounts, Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON_S = 30.0
USAGE, UNFINISHED, MISCONFIGURED = 2, 75, 78

# A program without Flask. Receivers note in the folder what they do.
PROGRAM = """
import os
import time
from pathlib import Path

from sqlalchemy import create_engine

from aldis import Namespace
from aldis.relay import Relay

FOLDER = Path(__file__).parent
engine = create_engine(f"sqlite:///{FOLDER / 'shop.sqlite'}")
relay = Relay(engine)
signals = Namespace()


@signals.declare
def order_placed(sender: str, /, *, order_id: int) -> None: ...


@signals.declare
def order_lost(sender: str, /, *, order_id: int) -> None: ...


@signals.declare
def order_sealed(sender: str, /, *, order_id: int) -> None: ...


@order_placed.connect(via=relay.durable("invoice"))
def invoice(sender, *, order_id):
    (FOLDER / f"invoice-{order_id}").touch()


@order_lost.connect(via=relay.durable("search", max_attempts=1))
def search(sender, *, order_id):
    raise LookupError(f"no order {order_id}")


@order_sealed.connect(via=relay.durable("slow"))
def slow(sender, *, order_id):
    (FOLDER / f"begun-{os.getpid()}").touch()

    while not (FOLDER / "go-on").exists():
        time.sleep(0.01)
"""

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


class Shop:
    """The program, imported."""

    def __init__(self, folder: Path, module: Any) -> None:
        self.folder = folder
        self.name: str = module.__name__
        self.module = module
        self.relay: Relay = module.relay

    def command(self, *arguments: str, says: str | None = None) -> Result:
        """Run ``python -m aldis relay``, in this process."""
        return CliRunner().invoke(main, ["relay", *arguments], input=says)

    def place(self, count: int = 1) -> None:
        for number in range(1, count + 1):
            self.module.order_placed.send("shop", order_id=number)

    def lose(self, count: int = 1) -> None:
        """Have that many dead letters."""
        for number in range(1, count + 1):
            self.module.order_lost.send("shop", order_id=number)

        self.relay.drain()

    def seal(self, count: int = 1) -> None:
        for number in range(1, count + 1):
            self.module.order_sealed.send("shop", order_id=number)

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """A worker's process, which is killed at the end if it is still there."""
        process = subprocess.Popen(
            [sys.executable, "-m", "aldis", "relay", "worker", self.name, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=SOON_S)

    def work(self, *arguments: str) -> tuple[int, str]:
        """A worker that ends by itself: with what, and what it printed."""
        with self.worker(*arguments) as process:
            printed, _ = process.communicate(timeout=SOON_S)

        return process.returncode, printed

    def begun(self) -> list[int]:
        """The processes that have begun to run the slow receiver."""
        return [int(path.name.removeprefix("begun-")) for path in self.folder.glob("begun-*")]


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


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SOON_S

    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)

    return found


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
        (["messages", "--receiver", "invoice", "--older-than", "3d"], "and no age"),
        (["dead"], "takes --older-than"),
        (["effects", "--older-than", "3d", "--receiver", "invoice"], "and no receiver"),
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
        ("{}:signals", "is no relay. Give the path of one: module:name."),
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


# Workers.


@pytest.mark.program
def test_a_worker_drains(shop: Shop) -> None:
    """With --drain it ends when nothing is due any more, and says what it did."""
    shop.place(3)
    shop.module.order_lost.send("shop", order_id=1)
    code, printed = shop.work("--drain")
    assert code == 0
    assert "The worker starts: 4 receivers at a time, for invoice, search, slow" in printed
    assert "The worker has ended: 3 done, 1 dead." in printed
    assert len(list(shop.folder.glob("invoice-*"))) == 3


@pytest.mark.program
def test_a_worker_logs_messages_when_it_is_told_to(shop: Shop) -> None:
    """With --verbose, there is a line for each message, and no payload in it."""
    shop.place()
    code, printed = shop.work("--drain", "--verbose")
    assert code == 0
    assert re.search(r"DEBUG aldis.relay: Message [0-9a-f-]{36} for invoice: done$", printed, re.MULTILINE)
    assert "order_id" not in printed


@pytest.mark.program
def test_several_processes_drain(shop: Shop) -> None:
    """With --processes, each drains, and the whole ends when all have."""
    shop.place(20)
    code, printed = shop.work("--drain", "--processes", "2")
    assert code == 0
    assert printed.count("The worker has ended") == 2
    assert len(list(shop.folder.glob("invoice-*"))) == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concurrency", "0"], "concurrency must be a number, 1 or more"),
        (["--lease", "0.1"], "lease must be a number, 0.5 or more"),
        (["--processes", "0"], "processes must be a number, 1 or more"),
    ],
)
def test_wrong_options(shop: Shop, arguments: list[str], words: str) -> None:
    """A worker with wrong options does not start."""
    result = CliRunner().invoke(main, ["relay", "worker", shop.name, *arguments])
    assert result.exit_code == USAGE
    assert words in result.output


@pytest.mark.program
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_without_tables(shop: Shop, processes: str) -> None:
    """It ends with a code that says that it is of no use to start it again."""
    with shop.module.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE aldis_messages")

    code, printed = shop.work("--processes", processes)
    assert code == MISCONFIGURED
    assert "Error: The database has no table aldis_messages." in printed


@pytest.mark.program
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_stops_when_what_it_has_begun_has_ended(shop: Shop, number: signal.Signals) -> None:
    """After SIGTERM or Ctrl-C it begins nothing more, waits, gives back the rest, and ends with 0."""
    shop.seal(3)

    with shop.worker("--concurrency", "1") as process:
        wait_for(shop.begun)
        process.send_signal(number)
        time.sleep(0.3)  # It must not end now, which no event tells.
        assert process.poll() is None
        (shop.folder / "go-on").touch()
        assert process.wait(SOON_S) == 0

    assert shop.relay.drain() == DrainCounts(done=2)


@pytest.mark.program
def test_a_worker_waits_for_a_while_only(shop: Shop) -> None:
    """After --grace seconds it ends all the same, with a code that says so. The message comes again."""
    shop.seal()

    with shop.worker("--grace", "0.2", "--lease", "0.5") as process:
        wait_for(shop.begun)
        process.terminate()
        assert process.wait(SOON_S) == UNFINISHED

    (shop.folder / "go-on").touch()
    wait_for(shop.relay.drain)


@pytest.mark.program
def test_a_file_tells_that_a_worker_is_ready(shop: Shop, tmp_path: Path) -> None:
    """The file is there while the worker is, and is touched now and then."""
    file = tmp_path / "ready"

    with shop.worker("--ready-file", str(file), "--lease", "0.5") as process:
        wait_for(file.exists)
        first = file.stat().st_mtime_ns
        wait_for(lambda: file.stat().st_mtime_ns > first)
        process.terminate()
        assert process.wait(SOON_S) == 0

    assert not file.exists()


@pytest.mark.program
@pytest.mark.parametrize("address", ["{}/notify", "@aldis-{}"])
def test_systemd_is_told(shop: Shop, tmp_path: Path, address: str) -> None:
    """A service of the type notify hears that the worker is ready, that it lives, and that it stops."""
    name = address.format(tmp_path if address.startswith("{") else os.getpid())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON_S)
        systemd.bind(name.replace("@", "\0"))

        with shop.worker("--lease", "0.5", NOTIFY_SOCKET=name) as process:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            process.terminate()
            assert process.wait(SOON_S) == 0
            left = iter(lambda: systemd.recv(100), b"STOPPING=1")
            assert set(left) <= {b"WATCHDOG=1"}


@pytest.mark.program
@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="this system does not tell who sent a datagram")
def test_systemd_is_told_by_one(shop: Shop, tmp_path: Path) -> None:
    """Of several processes the first speaks for all: systemd hears no others."""
    name = str(tmp_path / "notify")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON_S)
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        systemd.bind(name)

        with shop.worker("--processes", "2", "--lease", "0.5", NOTIFY_SOCKET=name) as process:
            speakers = [spoken(systemd) for _ in range(6)]
            process.terminate()
            assert process.wait(SOON_S) == 0

    assert {*speakers} == {process.pid}


def spoken(systemd: socket.socket) -> int:
    """Who says something."""
    _, [(_, _, credentials)], _, _ = systemd.recvmsg(100, socket.CMSG_SPACE(12))
    pid: int = struct.unpack("iii", credentials)[0]
    return pid


@pytest.mark.program
def test_an_odd_socket_is_nobody(shop: Shop) -> None:
    """What is no address of systemd's, or has nobody behind it, does not disturb the worker."""
    for name in ("tcp:1", "/no/such/socket"):
        with shop.worker("--drain", NOTIFY_SOCKET=name) as process:
            assert process.wait(SOON_S) == 0


@pytest.mark.program
def test_a_process_that_dies_is_started_again(shop: Shop, tmp_path: Path) -> None:
    """Of several processes, another takes the place of one that was killed; all stop together."""
    file = tmp_path / "ready"
    shop.seal(2)

    with shop.worker("--processes", "2", "--concurrency", "1", "--lease", "1", "--ready-file", str(file)) as process:
        wait_for(file.exists)
        first = set(wait_for(lambda: len(shop.begun()) == 2 and shop.begun()))
        os.kill(min(first), signal.SIGKILL)
        wait_for(lambda: set(shop.begun()) - first)
        (shop.folder / "go-on").touch()
        process.terminate()
        printed, _ = process.communicate(timeout=SOON_S)

    assert process.returncode == 0
    assert "A worker process ended with -9. Another starts in 2 seconds" in printed
    assert not file.exists()
    assert shop.relay.drain() == DrainCounts()


@pytest.mark.program
def test_processes_do_not_outlive_their_parent(shop: Shop) -> None:
    """When the parent is killed, its processes stop by themselves."""
    shop.seal(2)

    with shop.worker("--processes", "2", "--concurrency", "1", "--lease", "0.5") as process:
        children = wait_for(lambda: len(shop.begun()) == 2 and shop.begun())
        process.kill()
        (shop.folder / "go-on").touch()
        wait_for(lambda: not any(map(is_running, children)))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.program
def test_a_drain_is_shown_on_a_terminal(shop: Shop) -> None:
    """On a terminal, --drain shows how far it is."""
    shop.place(5)
    here, there = pty.openpty()

    with subprocess.Popen(
        [sys.executable, "-m", "aldis", "relay", "worker", shop.name, "--drain"],
        cwd=shop.folder,
        stdout=there,
        stderr=there,
    ) as process:
        os.close(there)
        printed = read_all(here)

    os.close(here)
    assert process.returncode == 0
    assert "Draining" in printed
    assert "5/5" in printed


def read_all(terminal: int) -> str:
    found = b""

    while True:
        try:
            some = os.read(terminal, 1000)
        except OSError:  # Linux has no other way to say that the terminal was closed.
            return found.decode()

        if not some:
            return found.decode()

        found += some


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


@pytest.mark.program
@pytest.mark.parametrize("extension", ["", "from aldis.flask import Aldis; Aldis(app)"])
def test_an_application_without_a_relay(tmp_path: Path, extension: str) -> None:
    """Where the application gave no relay, the commands say how to."""
    (tmp_path / "app.py").write_text(f"from flask import Flask\napp = Flask(__name__)\n{extension}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "flask", "relay", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    assert ran.returncode == USAGE
    assert "Give it to the extension: Aldis(app, relay=relay)." in ran.stderr
