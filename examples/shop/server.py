"""Serves an app on this machine until it is stopped."""

from __future__ import annotations

import os
import socket
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import waitress  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
THREADS = 8  # The live page uses one for each browser that shows it, up to three.


class Server:
    """A waitress server in a thread, for a ``with`` block.

    :param port: the port, or 0 for any free port.
    :raises OSError: when the port cannot be used.
    """

    def __init__(self, app: Flask, port: int = 0) -> None:
        self._sockets: dict[int, Any] = {}
        listening = socket.create_server((HOST, port))
        create: Any = waitress.create_server  # pyright: ignore[reportAttributeAccessIssue]  # It is not typed.
        self._server = create(app, map=self._sockets, sockets=[listening], threads=THREADS)
        self._thread = Thread(target=self._server.run, name="waitress")
        self.address = f"http://{HOST}:{self._server.effective_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.task_dispatcher.shutdown()  # Waits for the requests that are being served.
        self._server.trigger.pull_trigger(self._close)
        self._thread.join()

    def _close(self) -> None:
        # This runs in the server's thread, which ends when it has no socket left.
        for channel in list(self._sockets.values()):
            channel.close()


def why(error: OSError) -> str:
    """Return the operating system's message of an error, without its number."""
    return os.strerror(error.errno) if error.errno else str(error)
