"""The main job: ``make demo`` and ``make demo SERVE=1``, and the shop's own tests.

All run in processes of their own, since the shop puts Aldis in Blinker's place.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from urllib.request import ProxyHandler, build_opener

import pytest

HERE = Path(__file__).parent
SHOP = HERE.parents[1] / "examples" / "shop"
DEMO = SHOP / "demo.py"


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """That of this process, without what the demo reads, and with an empty folder for its data."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SERVE", "PORT", "PYTHONIOENCODING")}
    return {**kept, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1", **variables}


def run(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", *arguments],
        env=environment(tmp_path, **variables),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a demo prints that was run to its end."""
    folder = tmp_path_factory.mktemp("data")
    ended = run(folder, str(DEMO))
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert list(folder.iterdir()) == []
    return ended.stdout


def test_demo(demo: str) -> None:
    """Main job: the demo visits the shop, shows each request and its receivers in order, and ends by itself."""
    assert "\x1b[" not in demo
    assert re.search(r"^ +1  GET /  200  [\d.]+ ms$", demo, re.MULTILINE)
    assert re.search(r"GET /lamps/lava  404", demo)
    assert re.search(r"GET /offers  500[^\n]+\n(?: .*\n)*.*got-request-exception +report_error", demo)
    assert re.search(
        r"user-registered +audit_registration [\d.]+ → welcome_mail [\d.]+ → count_registration [\d.]+$",
        demo,
        re.MULTILINE,
    )
    assert re.search(r"welcome_mail [\d.]+ ✗ UndeliverableError → count_registration", demo)
    assert re.search(r"order-placed +audit_order [\d.]+ → confirmation_mail [\d.]+ → count_order", demo)
    assert re.search(r"^order-placed +1 +3 +0$", demo, re.MULTILINE)
    assert re.search(r"^user-registered +2 +6 +1$", demo, re.MULTILINE)
    assert demo.endswith("✓ All of it is what the visit implies.\n")


def test_summary_adds_up(demo: str) -> None:
    """Main job: the summary counts what the timeline shows, line by line."""
    timeline, summary = demo.split("\nSignal ")
    shown: dict[str, list[int]] = {}

    for name, heard in re.findall(r"^ +[\d.]+  +([a-z-]+)(?: +(\S.*))?$", timeline, re.MULTILINE):
        counts = shown.setdefault(name, [0, 0, 0])
        counts[0] += 1
        counts[1] += len(heard.split(" → ")) if heard else 0
        counts[2] += heard.count(" ✗ ")

    rows = re.findall(r"^([a-z-]+|\d+ requests) +(\d+) +(\d+) +(\d+)$", summary, re.MULTILINE)
    counted = {name: [int(number) for number in numbers] for name, *numbers in rows}
    total = counted.pop(f"{len(re.findall('^ +[0-9]+  (GET|POST) ', timeline, re.MULTILINE))} requests")
    assert counted == shown
    assert total == [sum(column) for column in zip(*shown.values(), strict=True)]


def break_and_run(tmp_path: Path, act: str) -> list[str]:
    """Do something to the shop before it is visited, and see that the demo fails.

    :return: the faults that the demo names.
    """
    script = f"""
import sys
sys.path.insert(0, {str(SHOP)!r})
import demo, timeline
from shop import receivers, signals

honest = demo.create_app

def create_app(*args, **options):
    app = honest(*args, **options)
    exec({dedent(act)!r}, globals() | {{"app": app}})
    return app

demo.create_app = create_app
sys.exit(demo.main())
"""
    ended = run(tmp_path, "-c", script)
    _, _, faults = ended.stdout.partition("not what the visit implies:\n")

    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stderr + ended.stdout
    assert faults
    assert list(tmp_path.iterdir()) == []
    return [" ".join(fault.split()) for fault in faults.split("  · ")]


def has(faults: list[str], what: str) -> bool:
    return any(what in fault for fault in faults)


def test_demo_notices_a_disconnected_receiver(tmp_path: Path) -> None:
    """Main job: one receiver that is not called where the visit implies it makes the demo fail, and say so."""
    faults = break_and_run(tmp_path, "signals.order_placed.disconnect(receivers.count_order, app)")

    assert len(faults) == 3, faults
    assert has(faults, "Request 10, POST /orders: receivers of order-placed: audit_order, confirmation_mail, but")
    assert has(faults, "The shop's folder: entries in 'analytics': 18, but the visit implies 19.")


def test_demo_notices_what_is_broken(tmp_path: Path) -> None:
    """Main job: failures, a wrong order, a signal that is not sent: the demo names each, and fails."""
    faults = break_and_run(
        tmp_path,
        """
        def audit_order(sender, **payload):
            raise RuntimeError

        def log_access(sender, response, **payload):
            if response.status_code == 200:
                raise RuntimeError

        signals.user_registered.is_muted = True
        signals.order_placed.disconnect(receivers.audit_order, app)
        signals.order_placed.connect(audit_order, app, weak=False, via=timeline.Timed())
        signals.request_finished.disconnect(receivers.log_access, app)
        signals.request_finished.connect(log_access, app, weak=False, via=timeline.Timed())
        """,
    )

    assert has(faults, "POST /account/register: sends of user-registered: 0, but the visit implies 1.")
    assert has(faults, "POST /orders: receivers of order-placed: confirmation_mail, count_order, audit_order, but")
    assert has(faults, "POST /orders: receivers that failed: audit_order, ")
    assert has(faults, "GET /cart: receivers that failed: log_access")
    assert has(faults, "GET /cart: status: 500, but the visit implies 200.")
    assert has(faults, "GET /lamps/aldis: the page does not say 'Blinks from ship to ship'.")
    assert has(faults, "entries in 'access': 0, but the visit implies 19.")


def test_serve(tmp_path: Path) -> None:
    """Main job: with SERVE=1 the shop stays up, answers, and shows each visit."""
    with serving(tmp_path) as (process, address):
        with build_opener(ProxyHandler({})).open(address, timeout=30) as response:
            assert response.status == 200
            assert "Aldis lamp" in response.read().decode()

        out, err = stop(process, signal.SIGINT)

    assert (process.returncode, err) == (0, "")
    assert re.search(r"GET /  200(?s:.)+The shop closes(?s:.)+^1 requests +8 +3 +0$", out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_serve_with_a_browser_connected(tmp_path: Path) -> None:
    """Main job: a polite kill closes the shop too, with connections still open, and the exit code is 0."""
    with serving(tmp_path) as (process, address):
        port = int(address.rsplit(":", 1)[1])

        with socket.create_connection(("127.0.0.1", port), timeout=30) as browser:
            browser.sendall(b"GET /cart HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert browser.recv(12) == b"HTTP/1.1 200"
            out, err = stop(process, signal.SIGTERM)

    assert (process.returncode, err) == (0, "")
    assert "The shop closes." in out
    assert list(tmp_path.iterdir()) == []


class serving:
    """A shop that stays up, for a ``with`` block that stops it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(DEMO)],
            env=environment(self.tmp_path, SERVE="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        first, _, third = (self.process.stdout.readline() for _ in range(3))
        assert "Ctrl-C" in third, self.process.communicate(timeout=30)
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found is not None
        return self.process, found[0]

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    process.send_signal(number)
    return process.communicate(timeout=60)


def test_busy_port(tmp_path: Path) -> None:
    """Main job: a port that somebody else has is named, with what to do, and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(tmp_path, str(DEMO), PORT=str(port))

    assert ended.returncode == 1
    assert ended.stderr == (
        f"demo: cannot listen on port {port} of 127.0.0.1: Address already in use. Set PORT to one that is free.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", ["http", "65536"])
def test_bad_port(tmp_path: Path, port: str) -> None:
    """Main job: what is no port is refused in words."""
    ended = run(tmp_path, str(DEMO), PORT=port)
    assert ended.returncode == 1
    assert ended.stderr == f"demo: PORT must be a number up to 65535, not {port!r}.\n"


def test_unwritable_folder(tmp_path: Path) -> None:
    """Main job: a folder that cannot be made is named, with what to do, and without a traceback."""
    file = tmp_path / "file"
    file.touch()
    ended = run(tmp_path, str(DEMO), TMPDIR=str(file))

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"demo: cannot make a temporary folder in {file}: Not a directory.")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("package", ["aldis", "flask", "flask_sqlalchemy", "waitress"])
def test_missing_dependency(tmp_path: Path, package: str) -> None:
    """Main job: a package that is not installed is named, with what to do, and without a traceback."""
    script = f"import sys, runpy; sys.path.insert(0, {str(SHOP)!r}); sys.modules[{package!r}] = None;"
    ended = run(tmp_path, "-c", f"{script} runpy.run_path({str(DEMO)!r}, run_name='__main__')")

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"demo: {package} is not installed. Run `make demo`")
    assert "Traceback" not in ended.stderr


def test_reader_who_has_seen_enough(tmp_path: Path) -> None:
    """Main job: a demo whose output nobody reads to the end, as in ``make demo | head``, ends without a traceback."""
    process = subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(timeout=60), err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_shop_in_its_own_process(tmp_path: Path) -> None:
    """Main job: the shop's unit tests pass, with Aldis in Blinker's place."""
    ended = run(
        tmp_path,
        *("-m", "pytest", "-q", "-p", "instead", "-p", "no:cacheprovider", str(HERE / "shop_unit.py")),
        PYTHONPATH=os.pathsep.join([str(SHOP), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^\d+ passed", ended.stdout, re.MULTILINE)
