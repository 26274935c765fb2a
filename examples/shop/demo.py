"""Serve the shop, visit it, and show its signals.

``make demo`` runs this program. ``make demo SERVE=1`` keeps the shop running, in debug mode and with the live page.
Workers in their own processes call the durable receivers. The demo kills two of the workers.

Environment variables:

SERVE     1: do not visit the shop; serve it until Ctrl-C.
PORT      the port to listen on. Default: any free port.
TMPDIR    the folder in which the temporary folder with the shop's data is made.
NO_COLOR  print no colours.
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

    aldis.install_as_blinker()  # Before the import of Flask, and of anything else that imports Blinker.

    from checks import answer_faults, faults, work_faults
    from click.testing import CliRunner
    from customer import Page, rush, visit
    from flask.cli import FlaskGroup
    from interrupts import INTERRUPTS, leave, uninterrupted
    from screen import Screen
    from server import HOST, Server, why
    from shop import create_app, mail, models, signals
    from shop.journal import entries
    from timeline import LIVE_PAGE, Request, Timeline
    from workers import COMMAND, StrayWorkerError, Worker, books, in_hand, kill_in_the_middle, waiting
except ModuleNotFoundError as missing:
    package = str(missing.name).partition(".")[0]
    sys.exit(f"demo: {package} is not installed. Run `make demo`, which installs what the shop needs.")
except KeyboardInterrupt:
    sys.exit(130)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

# The commands that are shown after the visit and at the end, as a user types them in the folder of this file.
COMMANDS = (
    "flask --app shop signals list",
    "flask --app shop signals trace '/lamps/aldis?campaign=spring'",
    "flask --app shop relay status",
)
LAST_COMMAND = "flask --app shop relay dead list"

# Another worker claims the messages of a killed worker when their leases end. The default lease is a minute, which is
# too long for a demo. TAKES_S is how long an invoice takes, so that a worker can be killed during one.
OPTIONS = ("--lease", "1.5", "--batch", "4")
TAKES_S = 0.1


def main() -> int:
    for number in INTERRUPTS:
        signal.signal(number, leave)

    requests: list[Request] = []
    screen = Screen(sys.stdout, own=signals.signals)

    def ended(request: Request) -> None:
        requests.append(request)
        screen.request(request)

    timeline = Timeline(ended)

    with data_folder() as folder, open_shop(folder) as app:
        with timeline.watching(app), open_door(app, screen) as server:
            pages = stay_up(app, server, screen, folder) if stays_up() else see_visit(server, screen, timeline)

        if requests:
            screen.summary(requests)

        if not pages:
            return 0

        found = faults(pages, requests, left_behind(app))
        found += [fault for words in COMMANDS for fault in see_command(app, screen, words)]
        found += see_workers(app, screen, folder, pages)
        found += see_command(app, screen, LAST_COMMAND)
        screen.verdict(found)
        return 1 if found else 0


@contextmanager
def data_folder() -> Iterator[Path]:
    parent = os.environ.get("TMPDIR") or None

    try:
        made = TemporaryDirectory(prefix="aldis-shop-", dir=parent)
    except OSError as error:
        where = f" in {parent}" if parent else ""
        sys.exit(f"demo: cannot make a temporary folder{where}: {why(error)}. Set TMPDIR to a writable folder.")

    with made as folder:
        yield Path(folder)


@contextmanager
def open_shop(folder: Path) -> Iterator[Flask]:
    logging.basicConfig(filename=folder / "shop.log", level=logging.INFO)
    app = create_app(folder)
    app.debug = stays_up()  # The live page exists in debug mode only.

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
        sys.exit(f"demo: cannot listen on port {setting} of {HOST}: {why(error)}. Set PORT to a free port.")


def stays_up() -> bool:
    setting = os.environ.get("SERVE") or "0"

    if setting not in ("0", "1"):
        sys.exit(f"demo: SERVE must be 1 or 0, not {setting!r}.")

    return setting == "1"


@contextmanager
def open_door(app: Flask, screen: Screen) -> Iterator[Server]:
    with listen(app) as server:
        screen.say(f"The shop is open at {server.address}, on Flask {version('flask')} and Aldis {version('aldis')}.")
        yield server


def stay_up(app: Flask, server: Server, screen: Screen, folder: Path) -> list[Page]:
    """Serve until Ctrl-C or SIGTERM, with a worker beside the shop."""
    stop = Event()

    with working(folder) as worker:
        try:
            worker.wait_until_ready()
        except StrayWorkerError as stray:
            sys.exit(f"demo: {stray}")

        for number in INTERRUPTS:
            signal.signal(number, lambda *_: stop.set())

        screen.say(f"See its signals at {server.address}{LIVE_PAGE}/, or below.")
        screen.say(f"A worker writes the invoices, and the mails into {mail.folder(app)}.")
        screen.say("Press Ctrl-C to close the shop.")
        stop.wait()
        screen.tell("The shop closes.")
        app.debug = False  # Closes the streams of open live pages. Otherwise the shop waits for them.
        worker.stop()
        screen.say(worker.last_words())

    return []


def see_visit(server: Server, screen: Screen, timeline: Timeline) -> list[Page]:
    screen.say("Below each request: when each signal was sent, and its receivers in order. Times are in ms.", "quiet")

    try:
        return visit(server.address, screen.tell, lambda page: timeline.wait_for(page.request_id))
    except OSError as error:
        sys.exit(f"demo: the shop does not answer: {error}")


def see_workers(app: Flask, screen: Screen, folder: Path, visited: list[Page]) -> list[str]:
    """Place many orders, kill workers while they write the invoices, and check that nothing is lost or done twice."""
    screen.tell("Four customers place their orders at the same time. No worker runs yet, so there are no invoices.")

    with listen(app) as server:
        pages = rush(server.address)

    orders, kills, found = len(models.invoiced(app)), 0, answer_faults(pages)
    screen.say(f"There are {orders} orders now, and {waiting()} messages for workers.")
    screen.tell(f"$ {' '.join((*COMMAND, *OPTIONS))}")
    screen.say(
        "Three workers run in turn. The first two are killed with -9 right after they have written an invoice.", "quiet"
    )

    try:
        for share in (0.25, 0.5):
            with working(folder, *OPTIONS, takes_s=TAKES_S) as worker:
                kill_in_the_middle(app, worker, int(orders * share))

            kills, made = kills + 1, sum(models.invoiced(app).values())
            hands = f"{in_hand()} messages that killed workers had claimed"
            screen.say(f"Worker {kills}, process {worker.id}: killed. There are {made} invoices, and {hands}.")

        with working(folder, *OPTIONS, takes_s=TAKES_S) as worker:
            worker.wait_until(lambda: not waiting(), "all messages were done")
            code = worker.stop()

        screen.say(f"Worker {kills + 1}, process {worker.id}: stopped when all was done. {worker.last_words()}")
        found += [f"The last worker ended with {code}."] if code else []
    except StrayWorkerError as stray:
        found.append(str(stray))

    ended = books(app, kills)
    screen.books(ended)
    return found + work_faults(visited + pages, ended)


@contextmanager
def working(folder: Path, *options: str, takes_s: float = 0.0) -> Iterator[Worker]:
    worker: Worker | None = None

    try:
        with uninterrupted():
            worker = Worker(folder, *options, takes_s=takes_s)

        yield worker
    finally:
        if worker is not None:
            worker.kill()  # It has ended already if all went well.


def left_behind(app: Flask) -> dict[str, int]:
    """Return the number of entries that the receivers have written, by kind."""
    books = {book: len(entries(app, book)) for book in ("analytics", "access", "views", "errors", "changes")}
    return {**books, "audit": models.audited(app), "mail": len(list(mail.folder(app).glob("*.eml")))}


def see_command(app: Flask, screen: Screen, words: str) -> list[str]:
    """Run a ``flask --app shop`` command on the shop that was visited, and show its output.

    :return: the failure in words, or an empty list.
    """
    arguments = shlex.split(words)[3:]

    with chdir(Path(__file__).parent):  # Where a user would type it.
        ran = CliRunner().invoke(FlaskGroup(create_app=lambda: app), arguments, color=screen.has_colours)

    screen.command(words, ran.output)
    return [f"The command `{words}` ended with {ran.exit_code}."] if ran.exit_code else []


if __name__ == "__main__":
    ArgumentParser(prog="demo", description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
