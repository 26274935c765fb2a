"""The relay behind PgBouncer, which pools transactions: no LISTEN, and no state in a session."""

from __future__ import annotations

import os
import shutil
import subprocess
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
from tests.relay.programs.worker_program import SOON_S, soon

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = "6432"
"""PgBouncer's own port, which is a part of its socket's name."""

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
SETTINGS = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile = {folder}/log
"""


@pytest.fixture
def pooled(postgresql_url: str) -> Iterator[Engine]:
    """Return an engine for PostgreSQL, through the test's own PgBouncer."""
    if PGBOUNCER is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("pgbouncer is not installed")

    server = make_url(postgresql_url)

    with TemporaryDirectory() as folder, running(PGBOUNCER, server, Path(folder)):
        # As PgBouncer's documentation demands for this pool mode: no prepared statements that outlive a transaction.
        engine = create_engine(
            URL.create(
                server.drivername, server.username, database=server.database, query={"host": folder, "port": PORT}
            ),
            connect_args={"prepare_threshold": None},
        )
        yield engine
        engine.dispose()


@contextmanager
def running(program: str, server: URL, folder: Path) -> Iterator[None]:
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(host=server.host, port=server.port or 5432, user=server.username, folder=folder)
    )
    user: dict[str, Any] = {}

    if os.geteuid() == 0:  # PgBouncer refuses to run as root.
        user = {"user": "nobody"}
        shutil.chown(folder, "nobody")
        shutil.chown(settings, "nobody")

    with subprocess.Popen([program, "-q", str(settings)], **user) as process:
        try:
            soon((folder / f".s.PGSQL.{PORT}").exists, "PgBouncer")
            yield
        finally:
            process.terminate()


def test_messages_are_received_in_order_without_listen(pooled: Engine) -> None:
    """Two workers behind PgBouncer receive all messages by polling, each key in order, and no message twice."""
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

        soon(lambda: len(received) >= 60)
    finally:
        for worker in workers:
            worker.stop()

        for thread in threads:
            thread.join(SOON_S)

    assert [[number for key, number in received if key == wanted] for wanted in range(3)] == [[*range(20)]] * 3
    assert sum(status.backlog + status.in_flight + status.dead for status in relay.status()) == 0
