"""after_response on the servers that Flask applications use, each in its own process."""

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

# The command, and the server's abilities: connections that are kept, several threads, and whether the end of a chunked
# response is sent before the response is closed.
SERVERS: dict[str, tuple[list[str], set[str]]] = {
    "werkzeug": (["served.py", "werkzeug", "{}"], {"threads", "end"}),
    "waitress": (["served.py", "waitress", "{}"], {"keep-alive", "threads"}),
    "gunicorn sync": (["-m", "gunicorn", "--bind=fd://{}"], {"end"}),
    "gunicorn gthread": (
        ["-m", "gunicorn", "--bind=fd://{}", "--worker-class=gthread", "--threads=2"],
        {"keep-alive", "threads", "end"},
    ),
}
FOR_GUNICORN = [
    *("--no-control-socket", "--graceful-timeout=1", "served:app"),
    *("--timeout=600", "--keep-alive=600"),  # A test on a busy machine may take long between two requests.
]


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

    def __init__(self, name: str, log: Path) -> None:
        command, self.abilities = SERVERS[name]
        self.phone = Phone()

        with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
            self.port = listening.getsockname()[1]
            descriptor = listening.fileno()
            arguments = [part.format(descriptor) for part in command]
            self.process = subprocess.Popen(
                [sys.executable, *arguments, *(FOR_GUNICORN if "gunicorn" in name else [])],
                cwd=HERE,
                env={**environment(), "PHONE": str(self.phone.port)},
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @contextlib.contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)) as connection:
            yield connection

    def get(self, path: str) -> bytes:
        with self.connect() as connection:
            return get(connection, path)

    def close(self) -> None:
        self.process.terminate()

        try:
            self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.phone.close()


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Make a request, and read the whole response."""
    connection.request("GET", path, headers={"User-Agent": "test"})
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start one of the servers, for all tests of this module."""
    log = tmp_path_factory.mktemp("server") / "log"
    server = Server(request.param, log)

    try:
        yield server
    finally:
        server.close()
        print(log.read_text())  # noqa: T201  # pytest shows it with a failed test.


def test_the_client_does_not_wait(server: Server) -> None:
    """The client has the whole response, by its length, while the receiver still waits; flask.request can be read."""
    with server.connect() as connection:
        connection.request("GET", "/?q=lamps", headers={"User-Agent": "test"})
        response = connection.getresponse()
        assert response.headers["Content-Length"] == "5000"
        assert response.read() == b"index" * 1000

        with server.phone.take() as told:
            assert told == {"path": "/", "query": "lamps", "agent": "test", "order_id": 7}

            # One worker waits with the receiver; the others do not.
            if "threads" in server.abilities:
                assert server.get("/silent") == b"silent"


def test_connections_are_kept(server: Server) -> None:
    """A kept connection stays open, and serves the next request after the receivers have run."""
    with server.connect() as connection:
        assert get(connection, "/") == b"index" * 1000
        kept = connection.sock
        assert (kept is not None) == ("keep-alive" in server.abilities)

        with server.phone.take():
            pass

        assert get(connection, "/?q=again") == b"index" * 1000
        assert connection.sock is kept

        with server.phone.take() as told:
            assert told["query"] == "again"


def test_a_streamed_response(server: Server) -> None:
    """All parts of a stream are sent before the receiver runs; its end is sent too, except by waitress."""
    with server.connect() as connection:
        connection.request("GET", "/stream")
        response = connection.getresponse()
        assert response.headers["Content-Length"] is None

        # Waitress writes the last chunk, which is empty, after it has closed the response.
        body = response.read() if "end" in server.abilities else response.read(len(STREAM))
        assert body == STREAM

        with server.phone.take() as told:
            assert told["path"] == "/stream"

        assert response.read() == b""


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
