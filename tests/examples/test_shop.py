"""The main job: ``make demo`` and ``make demo SERVE=1``, and the shop's own tests.

All of them run in their own processes, because the demo puts Aldis in Blinker's place.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.cookiejar import CookieJar
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.request import OpenerDirector

pytestmark = pytest.mark.program

HERE = Path(__file__).parent
SHOP = HERE.parents[1] / "examples" / "shop"
DEMO = SHOP / "demo.py"


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile packages once, because many processes import the same packages here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
        yield


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment without the demo's variables, and with an empty folder for its data.

    Coverage is not measured in the demo: that would take a third of the time, and other tests cover the demo's code.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SERVE", "PORT", "PYTHONIOENCODING") and not name.startswith("COVERAGE_")
    }
    return {**kept, "TMPDIR": str(tmp_path), "PYTHONUTF8": "1", **variables}


def run(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", *arguments],
        env=environment(tmp_path, **variables),
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run a demo to its end, and return what it prints."""
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
    assert re.search(r"GET /\?campaign=spring  200[^\n]+\n.* → count_campaign [\d.]+ ✗ ValueError$", demo, re.MULTILINE)
    assert re.search(
        r"user-registered +audit_registration [\d.]+ → welcome_mail queued → count_registration waits\n"
        r".*models-committed +log_changes [\d.]+\n.* after_commit +count_registration [\d.]+\n",
        demo,
    )
    assert re.search(
        r"order-placed +audit_order [\d.]+ → invoice queued → confirmation_mail queued → count_order waits\n", demo
    )
    assert re.search(r"count_view waits\n +[\d.]+ +after_response +count_view [\d.]+\n", demo)
    assert re.search(r"^order-placed +1 +2 +0 +2$", demo, re.MULTILINE)
    assert re.search(r"^user-registered +2 +4 +0 +2$", demo, re.MULTILINE)
    assert demo.endswith("\n\n✓ Everything is as expected.\n")


def test_demo_ends_with_what_the_commands_show(demo: str) -> None:
    """Main job: after the summary, the demo shows the commands for connections, one request's trace, waiting messages
    and dead letters, with their output.
    """
    listed, traced, status, worked, dead = re.split(r"\n\n\$ flask --app shop (?:signals|relay) ", demo)[1:]

    assert listed.startswith("list\nflask\n├─ request-started\n")
    assert re.search(
        r"^│  └─ shop\.receivers\.count_registration \(.*via after_commit.*\)  shop/receivers", listed, re.MULTILINE
    )
    assert traced.startswith("trace '/lamps/aldis?campaign=spring'\nGET /lamps/aldis?campaign=spring: 200 OK\n")
    assert re.search(r"^└─ shop\.receivers\.count_campaign  [\d.]+ ms  raised ValueError$", traced, re.MULTILINE)
    assert max(map(len, (listed + traced + status + worked).splitlines())) <= 130
    assert status.startswith("status\nRECEIVER ")
    assert re.search(r"^billing\.invoice +1 .*\nmail\.confirmation +1 .*\nmail\.welcome +2 ", status, re.MULTILINE)
    assert dead.startswith("dead list\nNUMBER ")
    assert re.search(
        r"^ +1  mail\.welcome +3 .*welcome_mail .* raised UndeliverableError, in the last", dead, re.MULTILINE
    )


def test_demo_kills_workers(demo: str) -> None:
    """Main job: two workers are killed after an invoice, the third does the rest, and the printed numbers agree."""
    assert "There are 25 orders now, and 56 messages for workers.\n" in demo
    killed = re.findall(
        r"^Worker (\d), process \d+: killed\. There are (\d+) invoices, and (\d+) mess", demo, re.MULTILINE
    )
    assert [number for number, _, _ in killed] == ["1", "2"]
    assert 6 <= int(killed[0][1]) < int(killed[1][1]) < 25
    assert all(int(in_hand) >= 1 for _, _, in_hand in killed)
    assert re.search(
        r"^Worker 3, process \d+: stopped when .*\. The worker has ended: \d+ done, .*1 dead\.$", demo, re.MULTILINE
    )

    numbers = dict(
        re.findall(
            r"^([A-Z ][a-z ]+?) +(\d+)(?:  .*)?$", demo.partition("when all workers have ended\n")[2], re.MULTILINE
        )
    )
    assert numbers["Orders"] == numbers["Invoices"] == numbers["Confirmation mails"] == "25"
    assert (numbers["Workers killed"], numbers["Welcome mails"], numbers["Dead letters"]) == ("2", "5", "1")
    assert int(numbers["Attempts at an invoice"]) >= 25 + int(numbers["  that found an invoice"]) > 25
    assert demo.count("  exactly one for each order\n") == 2


def test_command_as_typed(tmp_path: Path) -> None:
    """Main job: the first command also works as it is shown, in the shop's folder, with Flask on Blinker."""
    shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns("instance"))
    listed = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", "signals", "list"],
        cwd=tmp_path / "shop",
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )

    assert (listed.returncode, listed.stderr) == (0, "")
    assert "count_view (for Flask 'shop', via after_response)" in listed.stdout
    assert "log_changes (for Flask 'shop', on Blinker's signal)" in listed.stdout


def test_summary_adds_up(demo: str) -> None:
    """Main job: the summary adds up the lines of the timeline."""
    timeline, summary = demo.split("\nSignal ")
    shown: dict[str, list[int]] = {}
    waiting = ran_later = failures = 0

    for name, heard in re.findall(r"^ +[\d.]+  +([a-z_-]+) +(\S.*)$", timeline, re.MULTILINE):
        receivers = heard.split(" → ")
        failures += heard.count(" ✗ ")

        if name.startswith("after_"):
            ran_later += len(receivers)
        else:
            waiting += heard.count(" waits")
            counts = shown.setdefault(name, [0, 0, 0])
            queued = heard.count(" queued")
            counts[0] += 1
            counts[1] += len(receivers) - queued  # Receivers that wait are called later.
            counts[2] += queued

    row = r"^([a-z-]+|signals without receivers|\d+ requests) +(\d+) +(\d+) +(\d+) +(\d+)$"
    counted = {name: list(map(int, numbers)) for name, *numbers in re.findall(row, summary, re.MULTILINE)}
    total = counted.pop(f"{len(re.findall('^ +[0-9]+  (GET|POST) ', timeline, re.MULTILINE))} requests")
    assert waiting == ran_later > 0
    assert total == [sum(column) for column in zip(*counted.values(), strict=True)]
    assert total[2] == failures > 0
    assert counted.pop("signals without receivers")[1:] == [0, 0, 0]
    assert {name: [numbers[0], numbers[1], numbers[3]] for name, numbers in counted.items()} == shown


def break_and_run(tmp_path: Path, act: str) -> list[str]:
    """Change the shop before its visit, check that the demo fails, and return the faults.

    :return: the faults that the demo prints.
    """
    script = f"""
import sys
sys.path.insert(0, {str(SHOP)!r})
import demo
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
    _, _, faults = ended.stdout.partition("not as expected:\n")

    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stderr + ended.stdout
    assert faults
    assert list(tmp_path.iterdir()) == []
    return [" ".join(fault.split()) for fault in faults.split("  · ")]


def has(faults: list[str], what: str) -> bool:
    return any(what in fault for fault in faults)


def test_demo_notices_what_is_broken(tmp_path: Path) -> None:
    """Main job: the demo prints each fault, and fails: a failed receiver, a wrong order, a missing wait, a missing
    signal.
    """
    faults = break_and_run(
        tmp_path,
        """
        def log_access(sender, response, **payload):
            if response.status_code == 200:
                response.status_code = 503
                response.set_data("")
                raise RuntimeError

        signals.user_registered.is_muted = True
        signals.order_placed.disconnect(receivers.audit_order, app)
        signals.order_placed.connect(receivers.audit_order, app)
        signals.order_placed.disconnect(receivers.confirmation_mail, app)
        signals.order_placed.connect(receivers.confirmation_mail, app)
        receivers.request_finished.disconnect(receivers.log_access, app)
        receivers.request_finished.connect(log_access, app, weak=False)
        """,
    )

    assert has(
        faults,
        "POST /orders: receivers of order-placed: invoice, audit_order, confirmation_mail, count_order, expected",
    )
    assert has(faults, "POST /orders: confirmation_mail did not wait for a worker.")
    assert has(faults, "POST /orders: receivers that failed: confirmation_mail, expected none.")
    assert has(faults, "POST /account/register: receivers of user-registered: none, expected")
    assert has(faults, "GET /cart: receivers that failed: log_access")
    assert has(faults, "GET /cart: status: 503, expected 200.")
    assert has(faults, "GET /lamps/aldis: the page does not say 'Blinks from ship to ship'.")
    assert has(faults, "Entries in 'access': 0, expected 21.")
    assert has(faults, "Welcome mails: 0, expected 5.")


def break_shop_and_run(tmp_path: Path, old: str, new: str) -> list[str]:
    """Change a line of the shop's receivers, for the workers too, and check that the demo fails.

    :return: the faults that the demo prints.
    """
    shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns("instance"))
    file = tmp_path / "shop" / "shop" / "receivers.py"
    text = file.read_text("utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), "utf-8")
    (tmp_path / "data").mkdir()

    ended = run(tmp_path / "data", str(tmp_path / "shop" / "demo.py"))
    assert ended.returncode == 1, ended.stdout
    assert list((tmp_path / "data").iterdir()) == []
    return ended.stdout.partition("not as expected:\n")[2].splitlines()


def test_demo_notices_two_invoices(tmp_path: Path) -> None:
    """Main job: without relay.first_time(), kills lead to two invoices, and the demo names the orders and fails."""
    faults = break_shop_and_run(tmp_path, "relay.first_time(db.session)", "True")
    doubles = [fault for fault in faults if re.fullmatch(r"  · Order \d+ has 2 invoices\.", fault)]

    assert len(doubles) >= 2
    assert faults == [
        *doubles,
        "  · No invoice was attempted twice: no worker was killed between its invoice and the end of its row.",
    ]


def test_demo_notices_a_worker_that_does_nothing(tmp_path: Path) -> None:
    """Main job: for a worker that cannot start, the demo prints the worker's last line, and what was not done."""
    faults = break_shop_and_run(
        tmp_path, "patience = Exp", "import sys; 'worker' in sys.argv and sys.exit('no lamps'); patience = Exp"
    )
    text = " ".join(" ".join(faults).split())

    assert "A worker ended, or was too slow, before there were 6 invoices, and one of them with its row." in text
    assert "Log: no lamps" in text
    assert "Order 1 has 0 invoices." in text
    assert "Order 25 has 0 confirmation mails." in text
    assert "Messages that still wait: 56, expected 0." in text


def read(browser: OpenerDirector, address: str) -> str:
    with browser.open(address, timeout=120) as response:
        text: str = response.read().decode()
        return text


def open_page(address: str) -> tuple[int, str]:
    with build_opener(ProxyHandler({})).open(address, timeout=120) as response:
        return response.status, response.read().decode()


def test_serve(tmp_path: Path) -> None:
    """Main job: with SERVE=1 the shop keeps running, shows each visit, and prints the address of the live page."""
    with serving(tmp_path) as (process, address, live):
        status, text = open_page(address)
        live_status, live_text = open_page(live)
        out, err = stop(process, signal.SIGINT)

    assert (status, live_status) == (200, 200)
    assert "Aldis lamp" in text
    assert "live signals" in live_text
    assert (process.returncode, err) == (0, "")
    assert re.search(r"GET /  200(?s:.)+The shop closes(?s:.)+^1 requests +11 +5 +0 +0$", out, re.MULTILINE)
    assert "\nThe worker has ended: no messages.\n" in out
    assert list(tmp_path.iterdir()) == []


def test_serve_has_a_worker(tmp_path: Path) -> None:
    """Main job: with SERVE=1, a worker writes the invoice and the mail of an order soon."""
    browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))

    def post(url: str, **fields: str) -> str:
        with browser.open(url, urlencode(fields).encode(), timeout=120) as response:
            text: str = response.read().decode()
            return text

    with serving(tmp_path) as (process, address, _):
        post(f"{address}/account/register", name="Ada", email="ada@example.org", password="moonlight")
        post(f"{address}/cart", slug="storm")
        assert "Thank you." in post(f"{address}/orders")
        give_up_at = time.monotonic() + 120

        while "Invoice 1 is made out, over € 39.50." not in (text := read(browser, f"{address}/orders/1")):
            assert "Your invoice is being made out." in text
            assert time.monotonic() < give_up_at
            time.sleep(0.05)

        while len(list(tmp_path.glob("*/mail/*.eml"))) < 2:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)

        out, err = stop(process, signal.SIGINT)

    assert (process.returncode, err) == (0, "")
    assert "\nThe worker has ended: 3 done.\n" in out
    assert list(tmp_path.iterdir()) == []


def test_serve_with_browsers_connected(tmp_path: Path) -> None:
    """Main job: SIGTERM closes the shop with exit code 0, also with open connections and an open live page."""
    with serving(tmp_path) as (process, address, live):
        port = int(address.rsplit(":", 1)[1])

        with (
            socket.create_connection(("127.0.0.1", port), timeout=120) as browser,
            build_opener(ProxyHandler({})).open(f"{live}events", timeout=120) as events,
        ):
            browser.sendall(b"GET /cart HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert browser.recv(12) == b"HTTP/1.1 200"
            assert b"retry" in events.readline()
            out, err = stop(process, signal.SIGTERM)

    assert (process.returncode, err) == (0, "")
    assert "The shop closes." in out
    assert list(tmp_path.iterdir()) == []


class serving:
    """A shop that keeps running, for a ``with`` block that stops it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path

    def __enter__(self) -> tuple[subprocess.Popen[str], str, str]:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(DEMO)],
            env=environment(self.tmp_path, SERVE="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        first, second, third, fourth = (self.process.stdout.readline() for _ in range(4))
        assert "Ctrl-C" in fourth, self.process.communicate(timeout=120)
        assert f"the mails into {self.tmp_path}/aldis-shop-" in third
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found is not None
        assert f" {found[0]}/_aldis/" in second
        return self.process, found[0], f"{found[0]}/_aldis/"

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    process.send_signal(number)
    return process.communicate(timeout=120)


def test_busy_port(tmp_path: Path) -> None:
    """Main job: for a port in use, the demo names the port and says what to do, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(tmp_path, str(DEMO), PORT=str(port))

    assert ended.returncode == 1
    assert ended.stderr == (
        f"demo: cannot listen on port {port} of 127.0.0.1: Address already in use. Set PORT to a free port.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_wrong_argument(tmp_path: Path) -> None:
    """Main job: the demo takes no arguments, says so, and does nothing."""
    ended = run(tmp_path, str(DEMO), "--serve")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("demo: error: unrecognized arguments: --serve\n")


def test_bad_serve(tmp_path: Path) -> None:
    """Main job: a SERVE that is neither 0 nor 1 is refused with a message, and no data stays behind."""
    ended = run(tmp_path, str(DEMO), SERVE="no")
    assert ended.returncode == 1
    assert ended.stderr == "demo: SERVE must be 1 or 0, not 'no'.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", ["http", "65536"])
def test_bad_port(tmp_path: Path, port: str) -> None:
    """Main job: a PORT that is no port is refused with a message."""
    ended = run(tmp_path, str(DEMO), PORT=port)
    assert ended.returncode == 1
    assert ended.stderr == f"demo: PORT must be a number up to 65535, not {port!r}.\n"


def test_unwritable_folder(tmp_path: Path) -> None:
    """Main job: for a folder that cannot be made, the demo names it and says what to do, without a traceback."""
    file = tmp_path / "file"
    file.touch()
    ended = run(tmp_path, str(DEMO), TMPDIR=str(file))

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"demo: cannot make a temporary folder in {file}: Not a directory.")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("package", ["aldis", "flask", "flask_sqlalchemy", "waitress"])
def test_missing_dependency(tmp_path: Path, package: str) -> None:
    """Main job: for a package that is not installed, the demo names the package and says what to do, without a
    traceback.
    """
    script = f"import sys, runpy; sys.path.insert(0, {str(SHOP)!r}); sys.modules[{package!r}] = None;"
    ended = run(tmp_path, "-c", f"{script} runpy.run_path({str(DEMO)!r}, run_name='__main__')")

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"demo: {package} is not installed. Run `make demo`")
    assert "Traceback" not in ended.stderr


def test_reader_who_has_seen_enough(tmp_path: Path) -> None:
    """Main job: the demo ends without a traceback when its reader stops early, as in ``make demo | head``."""
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

    assert (process.wait(timeout=120), err) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_interrupt_while_it_starts(tmp_path: Path) -> None:
    """Main job: Ctrl-C before the shop is open ends the demo without a traceback."""
    script = f"""
import runpy, sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "flask":
            raise KeyboardInterrupt

sys.path.insert(0, {str(SHOP)!r})
sys.meta_path.insert(0, Impatient())
runpy.run_path({str(DEMO)!r}, run_name="__main__")
"""
    ended = run(tmp_path, "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize("until", ["GET /lamps/aldis", "Three workers"])
def test_interrupt_on_the_way(tmp_path: Path, until: str) -> None:
    """Main job: two times Ctrl-C end the demo without a traceback, during the visit and during the kills, and the data
    is deleted.
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", str(DEMO)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None

    for line in process.stdout:
        if until in line:
            break

    process.send_signal(signal.SIGINT)
    out, err = stop(process, signal.SIGINT)

    assert (process.returncode, err) == (130, "")
    assert "expected" not in out
    assert list(tmp_path.iterdir()) == []


# The library behind Flask's signals matters for receivers of Flask's own signals and of Flask-SQLAlchemy's.
ON_BLINKER = (
    "test_registration",
    "test_mail_waits_for_the_commit",
    "test_views_are_counted_after_the_response",
    "test_order_of_receivers",
    "test_two_shops",
    "test_failing_receiver_of_a_core_signal",
    "test_metrics",
    "test_live_page",
)


@pytest.mark.parametrize(
    ("options", "tests"),
    [
        ([], [f"shop_unit.py::{name}" for name in ON_BLINKER]),
        (["-p", "instead"], ["shop_unit.py", "demo_unit.py"]),
    ],
    ids=["on Blinker", "on Aldis"],
)
def test_units(tmp_path: Path, options: list[str], tests: list[str]) -> None:
    """Main job: the shop's unit tests pass with Aldis in Blinker's place, the tests of core signals also on Blinker,
    and no connection stays behind.
    """
    folders = map(str, [SHOP, HERE, HERE.parent])
    ended = run(
        tmp_path,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "-p", "aldis.pytest_plugin", "--aldis-leaks"),
        *("-p", "shops", *(str(HERE / name) for name in tests)),
        PYTHONPATH=os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])]),
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^\d+ passed", ended.stdout, re.MULTILINE)
