"""Serve the shop, have it visited, and show its signals.

``make demo`` runs this; ``make demo SERVE=1`` stays up, in debug mode, with the live page of its signals.

The environment may say:

SERVE     1: no visit; stay up until Ctrl-C.
PORT      the port to listen on. Without it, any that is free.
TMPDIR    where the temporary folder goes that holds the shop's data.
NO_COLOR  no colours.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import chdir, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING

try:
    import aldis

    aldis.install_as_blinker()  # Before Flask is imported, or anything else that imports Blinker.

    from checks import faults
    from click.testing import CliRunner
    from customer import Page, visit
    from flask.cli import FlaskGroup
    from screen import Screen
    from server import HOST, Server, why
    from shop import create_app, mail, models, signals
    from shop.journal import entries
    from timeline import LIVE_PAGE, Request, Timeline
except ModuleNotFoundError as missing:
    package = str(missing.name).partition(".")[0]
    sys.exit(f"demo: {package} is not installed. Run `make demo`, which sets up all that the shop needs.")
except KeyboardInterrupt:
    sys.exit(130)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

# What to show at the end, as one would type it in the folder of this file.
COMMANDS = ("flask --app shop signals list", "flask --app shop signals trace '/lamps/aldis?campaign=spring'")


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)

    requests: list[Request] = []
    screen = Screen(sys.stdout, own=signals.signals)

    def ended(request: Request) -> None:
        requests.append(request)
        screen.request(request)

    timeline = Timeline(ended)

    with data_folder() as folder, open_shop(folder) as app:
        with timeline.watching(app), listen(app) as server:
            screen.say(
                f"The shop is open at {server.address}, on Flask {version('flask')} and Aldis {version('aldis')}."
            )

            if stays_up():
                stay_up(app, server, screen)
                pages = None
            else:
                pages = see_visit(server, screen, timeline)

        if requests:
            screen.summary(requests)

        if pages is None:
            return 0

        found = faults(pages, requests, left_behind(app))
        found += [fault for words in COMMANDS for fault in see_command(app, screen, words)]
        screen.verdict(found)
        return 1 if found else 0


def leave(*_: object) -> None:
    """Tidy up, and go. Whoever presses Ctrl-C once more does not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    raise KeyboardInterrupt


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
    app = create_app(folder)
    app.debug = stays_up()  # For the live page, which is there in debug mode only.

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
    setting = os.environ.get("SERVE") or "0"

    if setting not in ("0", "1"):
        sys.exit(f"demo: SERVE must be 1 or 0, not {setting!r}.")

    return setting == "1"


def stay_up(app: Flask, server: Server, screen: Screen) -> None:
    """Wait for Ctrl-C, or for a polite kill."""
    stop = Event()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    screen.say(f"Watch its signals at {server.address}{LIVE_PAGE}/, or below.")
    screen.say("Press Ctrl-C to close it.")
    stop.wait()
    screen.tell("The shop closes.")
    app.debug = False  # Browsers that watch the live page are let go, and not waited for.


def see_visit(server: Server, screen: Screen, timeline: Timeline) -> list[Page]:
    screen.say("Below each request: when a signal was sent, and who heard of it, in order. In ms.", "quiet")

    try:
        return visit(server.address, screen.tell, lambda page: timeline.wait_for(page.request_id))
    except OSError as error:
        sys.exit(f"demo: the shop does not answer: {error}")


def left_behind(app: Flask) -> dict[str, int]:
    """How much of what the receivers have left in the shop's folder."""
    books = {book: len(entries(app, book)) for book in ("analytics", "access", "views", "errors", "changes")}
    return {**books, "audit": models.audited(app), "mail": len(list(mail.folder(app).glob("*.eml")))}


def see_command(app: Flask, screen: Screen, words: str) -> list[str]:
    """Run a ``flask --app shop`` command on the shop that was visited, and show what it prints.

    :return: that it failed, if it did.
    """
    arguments = shlex.split(words)[3:]

    with chdir(Path(__file__).parent):  # Where the reader would type it.
        ran = CliRunner().invoke(FlaskGroup(create_app=lambda: app), arguments, color=screen.has_colours)

    screen.command(words, ran.output)
    return [f"The command `{words}` ended with {ran.exit_code}."] if ran.exit_code else []


if __name__ == "__main__":
    ArgumentParser(prog="demo", description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
