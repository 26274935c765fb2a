"""The command ``worker``, for ``flask signals`` and for ``python -m aldis``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis.relay import Relay
    from aldis.relay.worker.worker import Settings, Worker


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a worker."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Log each message."),
        click.option("--ready-file", type=click.Path(path_type=Path), help="A file that is there while it is ready."),
        click.option("--drain", is_flag=True, help="End when nothing is due any more."),
        click.option("--grace", default=30.0, show_default=True, help="Seconds that receivers have when it stops."),
        click.option("--poll", default=1.0, show_default=True, help="The most seconds between two looks."),
        click.option(
            "--lease",
            default=60.0,
            show_default=True,
            help="Seconds until the messages of a dead worker come again.",
        ),
        click.option("--batch", default=100, show_default=True, help="The most messages to claim at once."),
        click.option("--processes", "-p", default=1, show_default=True, help="How many processes."),
        click.option("--concurrency", "-c", default=4, show_default=True, help="Receivers at once, in each process."),
    ):
        command = option(command)

    return command


def run_worker(
    relay: Relay,
    *,
    concurrency: int,
    processes: int,
    batch: int,
    lease: float,
    poll: float,
    grace: float,
    drain: bool,
    ready_file: Path | None,
    verbose: bool,
) -> None:
    """Work until a signal or the end of the backlog, and exit with a code that says how that went."""
    from aldis.exceptions import InvalidOptionError
    from aldis.relay.worker.supervisor import CHILD
    from aldis.relay.worker.worker import Exit, Settings

    _set_up_logging(verbose)

    try:
        settings = Settings(
            concurrency=concurrency, batch=batch, lease_s=lease, poll_s=poll, grace_s=grace, drains=drain
        )
    except InvalidOptionError as error:
        raise click.UsageError(str(error).replace("_s must", " must")) from None

    if processes < 1:
        raise click.UsageError(f"processes must be 1 or more, not {processes}.")

    child_file = os.environ.get(CHILD)

    if child_file is not None:
        code = _run_one(relay, settings, Path(child_file), is_child=True)
    elif processes > 1:
        code = _run_several(processes, settings, ready_file)
    else:
        code = _run_one(relay, settings, ready_file, is_child=False)

    if code == Exit.UNFINISHED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # What Python does at its end may wait for what has not ended.

    sys.exit(code)


def _run_one(relay: Relay, settings: Settings, ready_file: Path | None, *, is_child: bool) -> int:
    from aldis.exceptions import InvalidOptionError, RelaySchemaError
    from aldis.relay.worker.health import Readiness
    from aldis.relay.worker.worker import Exit, Worker

    readiness = Readiness(ready_file)
    parent = os.getppid()

    def beat(worker: Worker) -> None:
        readiness.beat()

        if is_child and os.getppid() != parent:
            worker.stop()  # Nobody looks after it any more.

    progress = _Progress(relay) if settings.drains and not is_child else None
    worker = Worker(relay, settings, beat=beat, settled=progress or _ignore)
    _stop_on_signals(worker.stop)
    logging.getLogger("aldis.relay").info("The worker starts: %s", _described(relay, settings))

    try:
        code = worker.run()
    except (RelaySchemaError, InvalidOptionError) as error:
        click.echo(f"Error: {error}", err=True)
        return Exit.MISCONFIGURED
    finally:
        readiness.stop()

        if progress is not None:
            progress.close()

    ends = ", ".join(f"{count} {end}" for end, count in worker.tally.items() if count)
    click.echo(f"The worker has ended: {ends or 'nothing received'}.", err=True)
    return code


def _run_several(count: int, settings: Settings, ready_file: Path | None) -> int:
    from aldis.relay.worker.health import Readiness
    from aldis.relay.worker.supervisor import Processes

    readiness = Readiness(ready_file)
    processes = Processes(count, readiness.beat, max(settings.lease_s, 2.0))
    _stop_on_signals(processes.stop)

    try:
        return processes.run()
    finally:
        readiness.stop()


def _described(relay: Relay, settings: Settings) -> str:
    names = ", ".join(sorted(relay._registry.known())) or "no receiver is connected in this process"
    return f"{settings.concurrency} at once, for {names}"


def _stop_on_signals(stop: Callable[[], object]) -> None:
    def handle(_number: int, _frame: object) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _set_up_logging(verbose: bool) -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    logging.getLogger("aldis.relay").setLevel(logging.DEBUG if verbose else logging.INFO)


def _ignore(_count: int) -> None:
    """Shows no progress."""


class _Progress:
    """A bar on a terminal, of a backlog that is drained."""

    def __init__(self, relay: Relay) -> None:
        self._bar: Any = None

        if sys.stderr.isatty() and (backlog := _backlog(relay)) is not None:
            self._bar = click.progressbar(length=backlog, label="Draining", file=sys.stderr, show_pos=True)
            self._bar.render_progress()

    def __call__(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()


def _backlog(relay: Relay) -> int | None:
    from sqlalchemy.exc import SQLAlchemyError

    from aldis.exceptions import RelaySchemaError

    try:
        return sum(status.backlog for status in relay.status() if status.is_known)
    except (RelaySchemaError, SQLAlchemyError):  # The worker says so, and knows what to do.
        return None
