"""A PostgreSQL server that is stopped and started again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import DBAPIError

from aldis import Namespace
from aldis.relay import Relay
from tests.relay.programs.worker_program import SOON_S
from tests.relay.whole_programs.places import missing, placed
from tools.chaos.processes import Nursery, soon
from tools.chaos.programs import effects, order_placed

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.program


class OwnServer:
    """A PostgreSQL server that may be stopped.

    :ivar url: the URL of its database.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs

        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-h '' -k {self._folder}"  # Without a port that other servers may use.
        self._run("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)

    def stop(self) -> None:
        """Stop it as a power failure would, if it runs."""
        self._run("pg_ctl", "stop", "-w", "-D", "data", "-m", "immediate", is_sure=False)

    def _run(self, program: str, *arguments: str, is_sure: bool = True) -> None:
        user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            check=is_sure,
            timeout=600,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **user,
        )


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """Yield the test's own running server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

    if not found:
        missing("the programs of PostgreSQL's server are not installed")

    folder = Path(f"/tmp/aldis-{random.getrandbits(64):x}")  # A short path, because the socket is in it.
    folder.mkdir(mode=0o700)

    try:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            shutil.chown(folder, "postgres", "postgres")

        server = OwnServer(folder, found[-1].parent)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


def test_a_server_that_is_away(own_server: OwnServer, nursery: Nursery, tmp_path: Path) -> None:
    """R1, R3: While the server is away, a send fails at once or waits, as configured. A worker goes on by itself when
    the server is back, and nothing is lost.
    """
    with placed(own_server.url, tmp_path, nursery) as place:
        patient = Relay(place.shop.engine, wait_s=600)
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
        sends.join(0.5)  # The test is about this wait.
        assert sends.is_alive()
        assert worker.poll() is None
        own_server.start()
        sends.join(SOON_S)
        assert not sends.is_alive()
        place.send(1)
        place.finish(worker)
        assert place.numbers(effects) == Counter([*range(106), 105])  # Both relays have sent 105.
        assert "The database is back" in nursery.log.read_text(errors="replace")
