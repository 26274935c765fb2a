"""Serves an app on this machine, and stops when it is told to."""

from __future__ import annotations

import os
import socket
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import waitress  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
THREADS = 8  # The live page holds one for each browser that looks at it, up to three.


class Server:
    """A waitress in a thread, for a ``with`` block.

    :param port: 0 for any that is free.
    :raises OSError: when the port is not to be had.
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
        self._server.task_dispatcher.shutdown()  # Requests that are being served are finished.
        self._server.trigger.pull_trigger(self._close)
        self._thread.join()

    def _close(self) -> None:
        # Called in the server's thread, which ends when it has no socket left.
        for channel in list(self._sockets.values()):
            channel.close()


def why(error: OSError) -> str:
    """What an error of the operating system says, without the rest."""
    return os.strerror(error.errno) if error.errno else str(error)
