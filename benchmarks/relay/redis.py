"""A temporary Redis server that writes everything to the disk before it answers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from benchmarks.relay.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DURABLE: Final = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


@contextmanager
def durable_redis() -> Iterator[str | None]:
    """Yield the address of such a server while a ``with`` block runs, or ``None`` if Redis is not installed."""
    program = shutil.which("redis-server")

    if program is None:
        print("Redis is not installed")
        yield None
        return

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])

    with tempfile.TemporaryDirectory(prefix="aldis-bench-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--loglevel", "warning", *DURABLE]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)

        try:
            wait_until(lambda: _answers(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False

    return True
