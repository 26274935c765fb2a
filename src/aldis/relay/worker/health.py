"""How a worker tells whoever supervises it that it works: a file, and systemd's socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from pathlib import Path


@final
class Readiness:
    """Says that a worker is ready, that it still is, and that it stops.

    The file is made when the database was found in order, touched with each heartbeat, and removed at the end: it is
    there while the worker is ready, and its age tells whether that still lives.

    :param file: the file, if there is to be one.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._is_ready = False

    def beat(self) -> None:
        """The worker is ready, or still is."""
        if self._file is not None:
            self._file.touch()

        _tell_systemd("WATCHDOG=1" if self._is_ready else "READY=1")
        self._is_ready = True

    def stop(self) -> None:
        """The worker stops."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()

        _tell_systemd("STOPPING=1")


def _tell_systemd(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")

    if not address.startswith(("/", "@")):
        return

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        there.send(state.encode())
