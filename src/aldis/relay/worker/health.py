"""Report the health of a worker to its supervisor: by a file, and by systemd's socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from pathlib import Path


@final
class Readiness:
    """Reports that a worker is ready, that it is still alive, and that it stops.

    The file is created when the check of the tables has passed, touched with each heartbeat, and removed at the end. So
    it exists while the worker is ready, and its age shows whether the worker is still alive.

    :param file: the file; ``None`` for no file.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._is_ready = False

    def beat(self) -> None:
        """Report that the worker is ready, or still alive."""
        if self._file is not None:
            self._file.touch()

        _tell_systemd("WATCHDOG=1" if self._is_ready else "READY=1")
        self._is_ready = True

    def stop(self) -> None:
        """Report that the worker stops."""
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
