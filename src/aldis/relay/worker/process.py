"""Run a worker as a program: as one process, as a supervisor of several processes, or as one of those.

This module sets up logging, handles stop signals, reports readiness, and ends the process with the right exit code. The
command-line interface calls :func:`run_worker`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from sqlalchemy.exc import SQLAlchemyError

from aldis.exceptions import InvalidOptionError, RelaySchemaError
from aldis.relay._backoff import check_number

from .health import Readiness
from .parts import HasParts, parts_of
from .settler import in_words
from .supervisor import CHILD, Supervisor
from .worker import Exit, Settings, Worker

if TYPE_CHECKING:
    from collections.abc import Callable


class Relay(HasParts, Protocol):
    """A :class:`~aldis.relay.Relay`, as this module knows it. The class itself is in a higher layer."""

    def status(self) -> list[Any]:
        """Return the status of each receiver."""
        raise NotImplementedError


class ProgressBar(Protocol):
    """Shows how much of a backlog is done. ``click.progressbar`` returns one."""

    def update(self, count: int, /) -> None:
        """Show that this number of further messages is done."""
        raise NotImplementedError

    def render_finish(self) -> None:
        """Show that the work is finished."""
        raise NotImplementedError


def run_worker(
    relay: Relay,
    *,
    processes: int = 1,
    ready_file: Path | None = None,
    verbose: bool = False,
    show_progress: Callable[[int], ProgressBar] | None = None,
    **settings: Any,
) -> NoReturn:
    """Run a worker until a stop signal or the end of the backlog, and end the process with an :class:`Exit` code.

    :param relay: the relay whose messages are received.
    :param processes: how many processes to run.
    :param ready_file: a file that exists while the worker is ready.
    :param verbose: whether to log each message.
    :param show_progress: called with the number of waiting messages before a drain. It returns a bar that shows
        progress.
    :param settings: the options of :class:`~aldis.relay.worker.worker.Settings`.
    :raises InvalidOptionError: when an option has a wrong value.
    """
    found = Settings(**settings)
    check_number("processes", processes, least=1)
    _set_up_logging(verbose)
    child_file = os.environ.get(CHILD)

    if child_file is not None:
        code = _run_child(relay, found, Path(child_file))
    elif processes > 1:
        code = _run_supervisor(processes, found, ready_file)
    else:
        code = _run_alone(relay, found, ready_file, show_progress if found.drains else None)

    _end_process(code)


def _run_alone(
    relay: Relay, settings: Settings, ready_file: Path | None, show_progress: Callable[[int], ProgressBar] | None
) -> int:
    """Run the only worker of a program."""
    readiness = Readiness(ready_file)
    backlog = None if show_progress is None else _backlog(relay)

    if show_progress is None or backlog is None:
        return _run(Worker(relay, settings, beat=lambda _: readiness.beat()), relay, readiness)

    bar = show_progress(backlog)

    try:
        return _run(Worker(relay, settings, beat=lambda _: readiness.beat(), settled=bar.update), relay, readiness)
    finally:
        bar.render_finish()


def _run_child(relay: Relay, settings: Settings, ready_file: Path) -> int:
    """Run one of several workers. It stops when its supervisor dies."""
    readiness = Readiness(ready_file)
    parent = os.getppid()

    def beat(worker: Worker) -> None:
        readiness.beat()

        if os.getppid() != parent:
            worker.stop()

    return _run(Worker(relay, settings, beat=beat), relay, readiness)


def _run(worker: Worker, relay: Relay, readiness: Readiness) -> int:
    _stop_on_signals(worker.stop)
    names = ", ".join(sorted(parts_of(relay).receivers.known())) or "no receiver is connected in this process"
    concurrency = worker.settings.concurrency
    logging.getLogger("aldis.relay").info("The worker starts: %d receivers at a time, for %s", concurrency, names)

    try:
        code = worker.run()
    except (RelaySchemaError, InvalidOptionError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return Exit.MISCONFIGURED
    finally:
        readiness.stop()

    sys.stderr.write(f"The worker has ended: {in_words(worker.counts)}.\n")
    return code


def _run_supervisor(count: int, settings: Settings, ready_file: Path | None) -> int:
    """Run worker processes, and look after them."""
    readiness = Readiness(ready_file)
    supervisor = Supervisor(count, readiness.beat, max(settings.lease_s, 2.0))
    _stop_on_signals(supervisor.stop)

    try:
        return supervisor.run()
    finally:
        readiness.stop()


def _end_process(code: int) -> NoReturn:
    if code == Exit.UNFINISHED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # A normal exit of Python may wait for the receivers that still run.

    sys.exit(code)


def _stop_on_signals(stop: Callable[[], object]) -> None:
    def handle(_number: int, _frame: object) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _set_up_logging(verbose: bool) -> None:
    # This does nothing if the program has set up logging.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("aldis.relay").setLevel(logging.DEBUG if verbose else logging.INFO)


def _backlog(relay: Relay) -> int | None:
    """Return how many messages wait for receivers of this process; ``None`` if the database cannot be queried."""
    try:
        return sum(int(status.backlog) for status in relay.status() if status.is_known)
    except (RelaySchemaError, SQLAlchemyError):  # The worker meets the same error, reports it and handles it.
        return None
