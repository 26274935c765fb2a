"""The relay behind PgBouncer, which pools transactions: there is no LISTEN, and no session to keep anything in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
SETTINGS = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile = {folder}/log
"""


@pytest.fixture
def pooled(postgresql_url: str) -> Iterator[Engine]:
    """An engine for PostgreSQL, through a PgBouncer of the test's own."""
    if PGBOUNCER is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("pgbouncer is not installed")

    server = make_url(postgresql_url)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with TemporaryDirectory() as folder, running(PGBOUNCER, server, port, Path(folder)):
        # As its documentation has it for this pool mode: no prepared statements that outlive a transaction.
        engine = create_engine(server.set(host="127.0.0.1", port=port), connect_args={"prepare_threshold": None})
        yield engine
        engine.dispose()


@contextmanager
def running(program: str, server: URL, port: int, folder: Path) -> Iterator[None]:
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(host=server.host, port=server.port or 5432, user=server.username, own_port=port, folder=folder)
    )
    user: dict[str, Any] = {}

    if os.geteuid() == 0:  # It refuses to run as root.
        user = {"user": "nobody"}
        shutil.chown(folder, "nobody")
        shutil.chown(settings, "nobody")

    with subprocess.Popen([program, "-q", str(settings)], **user) as process:
        try:
            wait_for(port)
            yield
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10

    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "PgBouncer does not listen"
            time.sleep(0.05)


def test_messages_are_received_in_order_without_listen(pooled: Engine) -> None:
    """Two workers behind PgBouncer receive all that is sent while they look, each key in order, and nothing twice."""
    relay, signals = Relay(pooled), Namespace()
    relay.create_tables()
    received: list[tuple[int, int]] = []

    @signals.declare
    def counted(sender: str, /, *, key: int, number: int) -> None: ...

    def receiver(sender: str, *, key: int, number: int) -> None:
        received.append((key, number))

    counted.connect(receiver, weak=False, via=relay.durable("counter", key="key"))
    workers = [Worker(relay, Settings(concurrency=2, poll_s=0.05)) for _ in range(2)]
    threads = [Thread(target=worker.run) for worker in workers]

    for thread in threads:
        thread.start()

    try:
        for number in range(20):
            with Session(pooled) as session, session.begin():
                session.execute(text("SELECT 1"))

                for key in range(3):
                    counted.send("shop", key=key, number=number)

        deadline = time.monotonic() + 30

        while len(received) < 60 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.stop()

        for thread in threads:
            thread.join(20)

    assert [[number for key, number in received if key == wanted] for wanted in range(3)] == [[*range(20)]] * 3
    assert sum(status.backlog + status.in_flight + status.dead for status in relay.status()) == 0
