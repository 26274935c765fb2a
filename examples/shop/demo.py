"""Serve the shop, have it visited, and show its signals. ``make demo`` runs this; ``make demo SERVE=1`` stays up.

The environment may say:

SERVE     1: no visit; stay up until Ctrl-C.
PORT      the port to listen on. Without it, any that is free.
TMPDIR    where the temporary folder goes that holds the shop's data.
NO_COLOR  no colours.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any

try:
    from checks import faults
    from customer import Page, visit
    from screen import Screen
    from server import HOST, Server, why
    from shop import create_app, mail, models, signals
    from shop.journal import entries
    from timeline import Request, Timed, Timeline

    import aldis
except ModuleNotFoundError as missing:
    sys.exit(f"demo: {missing.name} is not installed. Run `make demo`, which sets up all that the shop needs.")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Asked to go in whatever way: tidy up first.
    requests: list[Request] = []
    screen = Screen(sys.stdout, own=signals.signals)

    def ended(request: Request) -> None:
        requests.append(request)
        screen.request(request)

    with data_folder() as folder, open_shop(folder) as app:
        Timeline(ended).watch(app, every_signal())

        with listen(app) as server:
            screen.say(
                f"The shop is open at {server.address}, on Flask {version('flask')} and Aldis {version('aldis')}."
            )
            screen.say("Below each request: when a signal was sent, and who heard of it, in order. In ms.", "quiet")

            if stays_up():
                stay_up(screen)
                pages = None
            else:
                pages = see_visit(server, screen)

        screen.summary(requests)

        if pages is None:
            return 0

        found = faults(pages, requests, left_behind(app))
        screen.verdict(found)
        return 1 if found else 0


def every_signal() -> list[aldis.NamedSignal[Any, ..., Any]]:
    return [signal for signal in vars(signals).values() if isinstance(signal, aldis.NamedSignal)]


@contextmanager
def data_folder() -> Iterator[Path]:
    parent = os.environ.get("TMPDIR") or None

    try:
        made = TemporaryDirectory(prefix="aldis-shop-", dir=parent)
    except OSError as error:
        where = f" in {parent}" if parent else ""
        sys.exit(
            f"demo: cannot make a temporary folder{where}: {why(error)}. Set TMPDIR to a folder that it may go to."
        )

    with made as folder:
        yield Path(folder)


@contextmanager
def open_shop(folder: Path) -> Iterator[Flask]:
    logging.basicConfig(filename=folder / "shop.log", level=logging.INFO)
    app = create_app(folder, via=Timed())

    try:
        yield app
    finally:
        models.close(app)
        logging.shutdown()


def listen(app: Flask) -> Server:
    setting = os.environ.get("PORT") or "0"

    if not setting.isdecimal() or int(setting) > 65535:
        sys.exit(f"demo: PORT must be a number up to 65535, not {setting!r}.")

    try:
        return Server(app, int(setting))
    except OSError as error:
        sys.exit(f"demo: cannot listen on port {setting} of {HOST}: {why(error)}. Set PORT to one that is free.")


def stays_up() -> bool:
    return os.environ.get("SERVE", "") not in ("", "0")


def stay_up(screen: Screen) -> None:
    """Wait for Ctrl-C, or for a polite kill."""
    stop = Event()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    screen.say("Press Ctrl-C to close it.")
    stop.wait()
    screen.tell("The shop closes.")


def see_visit(server: Server, screen: Screen) -> list[Page]:
    try:
        return visit(server.address, screen.tell)
    except OSError as error:
        sys.exit(f"demo: the shop does not answer: {error}")


def left_behind(app: Flask) -> dict[str, int]:
    """How much of what the receivers have left in the shop's folder."""
    books = {book: len(entries(app, book)) for book in ("audit", "analytics", "access", "errors", "changes")}
    return {**books, "mail": len(list(mail.folder(app).glob("*.eml")))}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
