"""The command ``worker``, and its options. The caller passes the function that runs a worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS: Final = (
    click.option(
        "--concurrency", "-c", default=4, show_default=True, help="How many receivers run at a time, in each process."
    ),
    click.option("--processes", "-p", default=1, show_default=True, help="How many processes run."),
    click.option("--batch", default=100, show_default=True, help="How many messages one claim takes at the most."),
    click.option(
        "--lease",
        "lease_s",
        default=60.0,
        show_default=True,
        help="Seconds until another worker may receive the messages of a worker that died.",
    ),
    click.option(
        "--poll",
        "poll_s",
        default=1.0,
        show_default=True,
        help="How many seconds pass at the most between two queries for new messages.",
    ),
    click.option(
        "--grace",
        "grace_s",
        default=30.0,
        show_default=True,
        help="Seconds that running receivers have to end when the worker stops.",
    ),
    click.option("--drain", "drains", is_flag=True, help="End when no message is due."),
    click.option("--ready-file", type=click.Path(path_type=Path), help="A file that exists while the worker is ready."),
    click.option("-v", "--verbose", is_flag=True, help="Log each message."),
)


def worker_command(run_worker: Callable[..., object]) -> Callable[..., Any]:
    """Make the function of the command ``worker``, with its options.

    :param run_worker: called with the relay and the options; runs a worker and exits.
    """

    def worker(relay: Any, **options: Any) -> None:
        """Receive the messages of durable receivers, until SIGTERM or Ctrl-C."""
        show_progress = _progress_bar if sys.stderr.isatty() else None

        try:
            run_worker(relay, show_progress=show_progress, **options)
        except InvalidOptionError as error:
            raise click.UsageError(str(error).replace("_s must", " must")) from None

    command: Callable[..., Any] = worker

    for option in reversed(_OPTIONS):
        command = option(command)

    return command


def _progress_bar(count: int) -> Any:
    bar: Any = click.progressbar(length=count, label="Draining", file=sys.stderr, show_pos=True)
    bar.render_progress()
    return bar
