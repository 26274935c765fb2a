"""Ctrl-C and SIGTERM: they end the demo, but not in the middle of a step that would leave something open."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def leave(*_: object) -> None:
    """Raise KeyboardInterrupt, so that everything is cleaned up. Further interrupts are ignored."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)

    raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block. Otherwise it could leave a process or a connection that no code closes.

    Python runs signal handlers in the main thread only, so in other threads this does nothing.
    """
    if current_thread() is not main_thread():
        yield
        return

    came: list[int] = []
    usual = {number: signal.signal(number, lambda number, _: came.append(number)) for number in INTERRUPTS}

    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)

        if came:
            leave()
