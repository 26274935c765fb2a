"""after_response on hypercorn, in its own process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TIMEOUT_S = 120
STREAM = b"part\n" * 100 * 1000


class Phone:
    """Receivers call it and wait for its answer."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(TIMEOUT_S)
        self.port: int = self._socket.getsockname()[1]

    @contextlib.contextmanager
    def take(self) -> Iterator[dict[str, Any]]:
        """Yield the next caller's message. The caller goes on when the block ends."""
        connection, _ = self._socket.accept()

        with connection, connection.makefile("rb") as file:
            connection.settimeout(TIMEOUT_S)
            yield json.loads(file.readline())

    def close(self) -> None:
        self._socket.close()


def environment() -> dict[str, str]:
    """Return this process's environment without the variables of coverage: other tests measure it in this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


class Server:
    """A server in its own process."""

    def __init__(self, log: Path) -> None:
        self.phone = Phone()
        self.log = log

        with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
            self.port = listening.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "served.py"), str(listening.fileno())],
                env={**environment(), "PHONE": str(self.phone.port)},
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @contextlib.contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)) as connection:
            yield connection

    def close(self) -> None:
        try:
            if self.process.poll() is None:
                self.process.terminate()

                with self.phone.take() as told:
                    assert told == {"shutdown": True}

                self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.phone.close()
            print(self.log.read_text())  # noqa: T201  # pytest shows it with a failed test.


def get(connection: http.client.HTTPConnection, path: str, status: int = 200) -> bytes:
    """Make a request, and read the whole response."""
    connection.request("GET", path, headers={"User-Agent": "test"})
    response = connection.getresponse()
    assert response.status == status
    return response.read()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Return the servers that were started: one, unless a test ends it earlier."""
    servers: list[Server] = []

    with contextlib.ExitStack() as stack:
        yield servers

        for server in servers:
            stack.callback(server.close)


@pytest.fixture
def server(servers: list[Server], tmp_path: Path) -> Server:
    """Return the server for all tests of this module."""
    if not servers or servers[-1].process.poll() is not None:
        servers.append(Server(tmp_path / "log"))

    return servers[-1]


def test_the_client_does_not_wait(server: Server) -> None:
    """The client has the whole response while the receiver still waits, and its connection serves it meanwhile."""
    with server.connect() as connection:
        assert get(connection, "/?q=lamps") == b"index" * 1000
        kept = connection.sock
        assert kept is not None

        with server.phone.take() as told:
            assert told == {"path": "/", "query": "lamps", "agent": "test", "order_id": 7}
            assert get(connection, "/silent") == b"silent"
            assert connection.sock is kept


def test_a_streamed_response(server: Server) -> None:
    """A stream has ended before the receiver runs."""
    with server.connect() as connection:
        assert get(connection, "/stream") == STREAM

        with server.phone.take() as told:
            assert told["path"] == "/stream"


def test_a_client_that_leaves(server: Server) -> None:
    """The receiver runs even if the client leaves in the middle of a stream."""
    with server.connect() as connection:
        connection.request("GET", "/endless")
        assert connection.getresponse().read(20) == b"part\n" * 4

    with server.phone.take() as told:
        assert told["path"] == "/endless"


def test_a_failing_receiver(server: Server) -> None:
    """The client has its response, the application logs the failure, and the next request is served."""
    with server.connect() as connection:
        assert get(connection, "/fails") == b"fails"

        with server.phone.take() as told:
            assert told["logger"] == "shop"
            assert "broken" in told["message"]
            assert told["error"] == "OSError('disk full')"

        assert get(connection, "/silent") == b"silent"


def test_an_error_that_the_server_answers(server: Server) -> None:
    """If an exception leaves the application, the client has its 500 while the receiver still waits."""
    with server.connect() as connection:
        assert get(connection, "/error", 500) == b""

        with server.phone.take() as told:
            assert told["path"] == "/error"


def test_a_server_that_shuts_down(server: Server) -> None:
    """A server that shuts down runs all waiting receivers first, and then ends."""
    with server.connect() as connection:
        assert get(connection, "/slow") == b"slow"

    with server.phone.take() as told:
        assert told == {"path": "/slow"}
        server.process.terminate()

    with server.phone.take() as told:
        assert told == {"behind": "/slow"}

    with server.phone.take() as told:
        assert told == {"shutdown": True}

    assert server.process.wait(TIMEOUT_S) == 0
