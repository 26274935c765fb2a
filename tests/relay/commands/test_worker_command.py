"""The command ``worker``: how it starts, what it tells init systems, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from aldis.__main__ import main
from aldis.relay import DrainCounts
from aldis.relay.worker.health import Readiness
from tests.relay.commands.shop_program import SOON_S, Shop, wait_for

USAGE, UNFINISHED, MISCONFIGURED = 2, 75, 78


@pytest.mark.program
def test_a_worker_drains(shop: Shop) -> None:
    """With --drain, the worker ends when no message is due, and prints its counts. With --verbose, it prints a line for
    each message, without the payload.
    """
    shop.place(3)
    shop.module.order_lost.send("shop", order_id=1)
    code, printed = shop.work("--drain", "--verbose")
    assert code == 0
    assert "The worker starts: 4 receivers at a time, for invoice, search, slow" in printed
    assert "The worker has ended: 3 done, 1 dead." in printed
    assert len(re.findall(r"DEBUG aldis.relay: Message [0-9a-f-]{36} for invoice: done$", printed, re.MULTILINE)) == 3
    assert '"order_id"' not in printed
    assert len(list(shop.folder.glob("invoice-*"))) == 3


@pytest.mark.program
def test_several_processes_drain(shop: Shop) -> None:
    """With --processes, each process drains, and the command ends when all have ended."""
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
    """Without tables, the worker ends with the exit code that says that a restart does not help."""
    with shop.module.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE aldis_messages")

    code, printed = shop.work("--processes", processes)
    assert code == MISCONFIGURED
    assert "Error: The database has no table aldis_messages." in printed


@pytest.mark.program
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_stops_when_what_it_has_begun_has_ended(shop: Shop, number: signal.Signals) -> None:
    """After SIGTERM or Ctrl-C the worker begins no receiver, waits, releases the rest, and ends with 0."""
    shop.seal(3)

    with shop.worker("--concurrency", "1") as process:
        wait_for(shop.begun)
        process.send_signal(number)
        time.sleep(0.3)  # It must not end now, and no event can prove that.
        assert process.poll() is None
        (shop.folder / "go-on").touch()
        assert process.wait(SOON_S) == 0

    assert shop.relay.drain() == DrainCounts(done=2)


@pytest.mark.program
def test_a_worker_waits_for_a_while_only(shop: Shop) -> None:
    """After --grace seconds the worker ends, with an exit code that says so, and the message comes again."""
    shop.seal()

    with shop.worker("--grace", "0.2", "--lease", "0.5") as process:
        wait_for(shop.begun)
        process.terminate()
        assert process.wait(SOON_S) == UNFINISHED

    (shop.folder / "go-on").touch()
    wait_for(shop.relay.drain)


@pytest.mark.program
def test_a_file_tells_that_a_worker_is_ready(shop: Shop, tmp_path: Path) -> None:
    """The ready file exists while the worker runs, and its time is renewed."""
    file = tmp_path / "ready"

    with shop.worker("--ready-file", str(file), "--lease", "0.5") as process:
        wait_for(file.exists)
        first = file.stat().st_mtime_ns
        wait_for(lambda: file.stat().st_mtime_ns > first)
        process.terminate()
        assert process.wait(SOON_S) == 0

    assert not file.exists()


@pytest.mark.program
def test_systemd_is_told(shop: Shop, tmp_path: Path) -> None:
    """A service of the type notify tells systemd that the worker is ready, that it lives, and that it stops."""
    name = str(tmp_path / "notify")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON_S)
        systemd.bind(name)

        with shop.worker("--lease", "0.5", NOTIFY_SOCKET=name) as process:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            process.terminate()
            assert process.wait(SOON_S) == 0
            left = iter(lambda: systemd.recv(100), b"STOPPING=1")
            assert set(left) <= {b"WATCHDOG=1"}


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's socket may have an abstract name, which is no file."""
    name = f"@aldis-{uuid4().hex}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON_S)
        systemd.bind(name.replace("@", "\0"))
        Readiness(None).beat()
        assert systemd.recv(100) == b"READY=1"


@pytest.mark.program
@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="this system does not tell who sent a datagram")
def test_systemd_is_told_by_one(shop: Shop, tmp_path: Path) -> None:
    """Of several processes, the first one tells systemd about all, because systemd ignores the others."""
    name = str(tmp_path / "notify")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(SOON_S)
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        systemd.bind(name)

        with shop.worker("--processes", "2", "--lease", "0.5", NOTIFY_SOCKET=name) as process:
            speakers = [spoken(systemd) for _ in range(4)]
            process.terminate()
            assert process.wait(SOON_S) == 0

    assert {*speakers} == {process.pid}


def spoken(systemd: socket.socket) -> int:
    """Return the id of the process that has sent the next datagram."""
    _, [(_, _, credentials)], _, _ = systemd.recvmsg(100, socket.CMSG_SPACE(12))
    pid: int = struct.unpack("iii", credentials)[0]
    return pid


@pytest.mark.parametrize("name", ["tcp:1", "/no/such/socket"])
def test_an_odd_socket_is_nobody(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An invalid address of systemd, or one without a listener, does not disturb the worker."""
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    readiness = Readiness(None)
    readiness.beat()
    readiness.stop()


@pytest.mark.program
def test_a_process_that_dies_is_started_again(shop: Shop, tmp_path: Path) -> None:
    """A process that was killed is replaced, and all processes stop together."""
    file = tmp_path / "ready"
    shop.seal(2)

    with shop.worker("--processes", "2", "--concurrency", "1", "--lease", "3", "--ready-file", str(file)) as process:
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
    """On a terminal, --drain shows its progress."""
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
        except OSError:  # Linux has no other way to report that the terminal was closed.
            return found.decode()

        if not some:
            return found.decode()

        found += some


PROGRAM = """
from sqlalchemy import create_engine
from aldis.relay import Relay

relay = Relay(create_engine("sqlite:///new.sqlite"))
"""


def test_a_drain_without_tables_ends_as_elsewhere(tmp_path: Path) -> None:
    """On a terminal too, a worker without tables prints a message, without a traceback, and ends with 78."""
    (tmp_path / "shop.py").write_text(PROGRAM)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aldis", "relay", "worker", "shop", "--drain"]

    ended = subprocess.run(command, cwd=tmp_path, stderr=theirs, timeout=SOON_S, check=False)
    os.close(theirs)
    said = read_all(ours)
    os.close(ours)

    assert ended.returncode == 78
    assert "The database has no table" in said
    assert "Traceback" not in said
