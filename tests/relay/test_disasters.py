"""Full disks, clocks that are wrong, two deploys at once, forks, and a server that stops: with real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages
from tools.chaos.processes import Nursery, soon
from tools.chaos.programs import deliveries, effects, order_placed, orders
from tools.chaos.scenarios import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.program

PROGRAMS = Path(__file__).with_name("disaster_programs.py")
SECRET = "Rosebud"


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where the programs run."""
    with Nursery(PROGRAMS, tmp_path_factory.mktemp("nursery") / "log") as found:
        yield found


@contextmanager
def placed(url: str, folder: Path, nursery: Nursery) -> Iterator[Place]:
    """The programs' database."""
    place = Place(url, folder, nursery, random.Random(1))

    try:
        yield place
    finally:
        place.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[Place]:
    """A place in each database."""
    with placed(request.getfixturevalue(f"{request.param}_url"), tmp_path, nursery) as found:
        yield found


def missing(what: str) -> None:
    """Skip a test for want of something; in CI, that is a failure."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


# Full disks.


class Disk:
    """A small disk.

    :ivar folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, place: Place) -> None:
        """Leave no space at all, neither on the disk nor in the files of the database."""
        with place.shop.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

        with self._filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def clear(self) -> None:
        """Make space."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 2 megabytes, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount", path=f"{os.environ['PATH']}:/bin:/sbin")

    if mount is None:
        pytest.skip("there is no mount here")

    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    if done.returncode:
        pytest.skip(f"a disk of the test's own cannot be mounted here: {done.stderr.strip()}")

    yield Disk(folder)
    subprocess.run(["umount", folder], check=True, timeout=30)


@pytest.fixture
def disk_place(disk: Disk, nursery: Nursery) -> Iterator[Place]:
    """A place on the small disk."""
    with placed(f"sqlite:///{disk.folder}/test.sqlite", disk.folder, nursery) as found:
        yield found


def note_sent(sender: str, /, *, text: str) -> object:
    """Carries a text."""


def test_sends_on_a_full_disk(disk: Disk, disk_place: Place) -> None:
    """R1: Where the disk is full, a send fails whole, inside a transaction and outside, and says why, not what was in
    it. When there is space again, all is well.
    """
    place = disk_place
    sent = Namespace().declare(note_sent)
    sent.connect(lambda sender, *, text: None, weak=False, via=place.shop.relay.durable("notes"))
    payload = SECRET * 20_000
    place.shop.connect("billing")
    place.send(3)
    before = place.rows()
    disk.fill(place)

    with pytest.raises(OperationalError) as outside:
        sent.send("sender", text=payload)

    with place.shop.sessions() as session, pytest.raises(OperationalError) as inside:
        session.connection().exec_driver_sql("PRAGMA cache_size = 10")  # Or all would be in memory till the commit.
        session.execute(orders.insert(), {"number": 7, "is_kept": True})
        sent.send("sender", text=payload)

    with place.shop.sessions() as session, pytest.raises(OperationalError) as at_commit:
        session.execute(orders.insert(), {"number": 8, "is_kept": True})
        place.shop.signal.send("shop", number=8)
        session.commit()

    for error in (outside.value, inside.value):
        assert "the disk is full" in "".join(error.__notes__)

    for error in (outside.value, inside.value, at_commit.value):
        assert "database or disk is full" in str(error)
        assert SECRET not in str(error) + "".join(getattr(error, "__notes__", ()))

    assert (place.rows(), place.count(orders)) == (before, 0)
    disk.clear()
    sent.send("sender", text="short")
    place.send(1)
    assert len(place.rows()) == len(before) + 2


def test_a_worker_on_a_full_disk(disk: Disk, disk_place: Place, nursery: Nursery) -> None:
    """R3: A worker lives through a full disk: what it could not do or say is done when there is space, once."""
    place = disk_place
    place.shop.connect("billing")
    log = nursery.log.stat().st_size
    worker = place.start("work", lease=1.0)
    place.send(3)
    soon(lambda: place.count(effects) == 3 and not place.count(messages), "the first effects")
    worker.send_signal(signal.SIGSTOP)
    place.send(20)
    disk.fill(place)
    worker.send_signal(signal.SIGCONT)

    soon(lambda: "disk is full" in nursery.log.read_text(errors="replace")[log:], "the worker's word")
    assert worker.poll() is None
    disk.clear()
    place.finish(worker)
    assert place.numbers(effects) == Counter(range(23))


# Clocks.

# Loaded before the library of C: whatever a program asks the time of day by, it is told another one. How long something
# takes is not touched.
SHIFT = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *found) {
    int failed = syscall(SYS_clock_gettime, clock, found);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        found->tv_sec += BY;
    return failed;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}
"""


@contextmanager
def shifted(folder: Path, by: int) -> Iterator[Nursery]:
    """Programs whose clocks are wrong by so many seconds."""
    compiler = shutil.which("cc")

    if compiler is None or not sys.platform.startswith("linux"):
        missing("there is no compiler of C, or this is not Linux: clocks cannot be set wrong for a program alone")

    assert compiler
    library = folder / "shift.so"
    (folder / "shift.c").write_text(SHIFT)
    command = [compiler, "-shared", "-fPIC", f"-DBY={by}", "-o", str(library), str(folder / "shift.c")]
    subprocess.run(command, check=True, timeout=60)

    with Nursery(PROGRAMS, folder / "log", LD_PRELOAD=str(library)) as nursery:
        told = nursery.start("tell_time").heard("time")
        now = time.time()
        assert [round((told[kind] - now - by) / 60) for kind in ("time", "now")] == [0, 0]
        yield nursery


@pytest.fixture(scope="module")
def fast_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Programs that are an hour ahead."""
    with shifted(tmp_path_factory.mktemp("fast"), 3600) as found:
        yield found


@pytest.fixture(scope="module")
def slow_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Programs that are an hour behind."""
    with shifted(tmp_path_factory.mktemp("slow"), -3600) as found:
        yield found


@pytest.fixture
def fast(postgresql_url: str, tmp_path: Path, fast_nursery: Nursery) -> Iterator[Place]:
    """An hour ahead."""
    with placed(postgresql_url, tmp_path, fast_nursery) as found:
        yield found


@pytest.fixture
def slow(postgresql_url: str, tmp_path: Path, slow_nursery: Nursery) -> Iterator[Place]:
    """An hour behind, in the same database."""
    with placed(postgresql_url, tmp_path, slow_nursery) as found:
        yield found


def test_clocks_of_senders(fast: Place, slow: Place) -> None:
    """R3: Whatever the clocks of senders and workers say, messages come at once, and in the order of the sends."""
    for number, place in enumerate((fast, slow, fast, slow)):
        assert place.start("send", numbers=[*range(number * 5, number * 5 + 5)]).ended() == 0

    for place in (fast, slow):
        worker = place.start("work", lease=30.0, concurrency=1)
        began = time.monotonic()
        place.finish(worker)
        assert time.monotonic() - began < 20
        place.start("send", numbers=[*range(20, 25)]).ended()

    assert place.column(select(deliveries.c.number).order_by(deliveries.c.id)) == [*range(25)]


def test_clocks_of_workers(fast: Place, slow: Place, tmp_path: Path) -> None:
    """R3: A lease holds and ends by the database's clock, whoever looks at it."""
    for number, (holder, other) in enumerate(((fast, slow), (slow, fast))):
        gate = tmp_path / f"gate-{number}"
        holds = holder.start("linger", lease=1.0, gate=str(gate))
        other.start("send", numbers=[number]).ended()
        holds.heard("begun")
        looks = other.start("linger", lease=1.0, gate=str(gate))
        time.sleep(2.5)  # For longer than the lease. That nothing happens is what this is about.
        assert other.numbers(deliveries)[number] == 1

        holds.kill()
        killed_at = time.monotonic()
        looks.heard("begun")
        assert time.monotonic() - killed_at < 20
        gate.touch()
        other.finish(looks)
        assert other.numbers(deliveries)[number] == 2

    assert fast.numbers(effects) == Counter(range(2))


def test_clocks_and_backoffs(fast: Place, slow: Place) -> None:
    """R3: What has failed is tried again when its backoff is over, by the database's clock: not early, not late."""
    for place, sender in ((fast, slow), (slow, fast)):
        worker = place.start("fail_once", lease=30.0, backoff=1.5)
        sender.start("send", numbers=[1]).ended()
        worker.heard("tried")
        began = time.monotonic()
        assert worker.heard("tried")["attempt"] == 2
        assert 1.4 < time.monotonic() - began < 20
        place.finish(worker)


# Deploys.


def test_two_deploys_at_once(place: Place) -> None:
    """R4: While the old deploy and the new one send and work on one database, everything is received once: what the
    new one has sent by the new one only, which has another name for a receiver and for a keyword.
    """

    def have_sent(first: int) -> None:
        senders = [place.start("deploy_sends", version=v, first=first + 100 * v, count=20) for v in (1, 2)]
        assert [sender.ended() for sender in senders] == [0, 0]

    def left() -> list[int]:
        return place.column(select(messages.c.version))

    have_sent(0)
    old = place.start("deploy_works", version=1)
    soon(lambda: 1 not in left(), "the end of what the old deploy had sent")
    assert left() == [2] * 40
    assert {*place.column(select(messages.c.attempts))} == {0}

    new = place.start("deploy_works", version=2)
    have_sent(20)
    place.finish(old, new)

    with place.shop.engine.begin() as connection:
        received = [tuple(row) for row in connection.execute(select(deliveries.c.number, deliveries.c.attempt))]

    numbers = [*range(100, 140), *range(200, 240)]
    assert Counter(number for number, _ in received) == Counter([*numbers, *(1000 + number for number in numbers)])
    assert {by for number, by in received if number % 1000 >= 200} == {2}


# Forks.


def test_a_fork_after_the_database_was_used(place: Place) -> None:
    """R1: Children of a process that has used the relay send with connections of their own, and so does it again."""
    assert place.start("fork_and_send", children=3, each=20).ended() == 0
    place.finish(place.start("work", lease=30.0))
    assert place.numbers(effects) == Counter(range(62))


GUNICORN = """
import os
from tools.chaos.programs import Shop

shop = Shop(os.environ["TEST_URL"])
shop.connect("billing")
shop.signal.send("shop", number=0)

def app(environ, start_response):
    number = int(environ["QUERY_STRING"])
    shop.signal.send("shop", number=number)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
GUNICORN_SETTINGS = """
preload_app = True
workers = 2

def post_fork(server, worker):
    from served import shop
    shop.engine.dispose(close=False)
"""


def test_gunicorn_that_loads_before_it_forks(place: Place, tmp_path: Path) -> None:
    """R1: Behind ``gunicorn --preload``, an application that has sent before the fork sends after it."""
    (tmp_path / "served.py").write_text(GUNICORN)
    (tmp_path / "settings.py").write_text(GUNICORN_SETTINGS)
    tools = str(Path(__file__).parents[2] / "tools")
    paths = os.pathsep.join([str(tmp_path), tools, os.environ.get("PYTHONPATH", "")])

    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "log").open("wb") as log:
        port = server.getsockname()[1]
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                "settings.py",
                f"--bind=fd://{server.fileno()}",
                "served:app",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, "TEST_URL": place.url},
            pass_fds=[server.fileno()],
            stderr=log,
        )

        try:
            pids = {ask(port, number) for number in range(1, 31)}
        finally:
            process.terminate()
            assert process.wait(30) == 0

    assert str(process.pid) not in pids
    assert place.count(messages) == 31
    place.finish(place.start("work", lease=30.0))
    assert place.numbers(effects) == Counter(range(31))


def ask(port: int, number: int) -> str:
    """Send a request. Gives what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET /?{number} HTTP/1.0\r\n\r\n".encode())
        answer = connection.makefile("rb").read().decode()

    assert answer.startswith(("HTTP/1.1 200", "HTTP/1.0 200")), answer
    return answer.rpartition("\r\n")[2]


# A server that stops.


class OwnServer:
    """A server of PostgreSQL that may be stopped.

    :ivar url: of its database.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs

        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder}"
        self._run("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)

    def stop(self) -> None:
        """Stop it as a loss of power would, if it runs."""
        self._run("pg_ctl", "stop", "-w", "-D", "data", "-m", "immediate", is_sure=False)

    def _run(self, program: str, *arguments: str, is_sure: bool = True) -> None:
        user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            check=is_sure,
            timeout=60,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **user,
        )


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A server of the test's own, which runs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

    if not found:
        missing("the programs of PostgreSQL's server are not installed")

    folder = Path(f"/tmp/aldis-{random.getrandbits(64):x}")  # A short path, for the socket is in it.
    folder.mkdir(mode=0o700)

    try:
        if os.geteuid() == 0:  # It refuses to run as root.
            shutil.chown(folder, "postgres", "postgres")

        server = OwnServer(folder, found[-1].parent)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


def test_a_server_that_is_away(own_server: OwnServer, nursery: Nursery, tmp_path: Path) -> None:
    """R1, R3: While the server is away, a send fails at once, or waits as it was told to. A worker goes on by itself
    when it is back, and nothing is lost.
    """
    with placed(own_server.url, tmp_path, nursery) as place:
        patient = Relay(place.shop.engine, wait_s=20)
        waits = Namespace().declare(order_placed)
        waits.connect(lambda sender, *, number: None, weak=False, via=patient.durable("billing"))
        place.shop.connect("billing")
        worker = place.start("work", lease=1.0)
        place.send(5)
        soon(lambda: place.count(effects) == 5, "the first effects")
        place.send(100)
        own_server.stop()

        with pytest.raises(DBAPIError) as failed:
            place.shop.signal.send("shop", number=1234)

        assert "1234" not in str(failed.value)
        sends = Thread(target=lambda: waits.send("shop", number=105))
        sends.start()
        sends.join(2)
        assert sends.is_alive()
        assert worker.poll() is None
        own_server.start()
        sends.join(30)
        assert not sends.is_alive()
        place.send(1)
        place.finish(worker)
        assert place.numbers(effects) == Counter([*range(106), 105])  # 105 was sent by both relays.
        assert "The database is back" in nursery.log.read_text(errors="replace")
