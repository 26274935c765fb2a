"""Workers of the shop, each in a process of its own, and what becomes of their work when they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shop import mail, models
from shop.journal import entries
from shop.models import relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

PATIENCE_S = 30.0  # For what takes a second or two.

COMMAND = ("flask", "--app", "shop", "relay", "worker")


class StrayWorkerError(Exception):
    """A worker does not do what it should."""


class Worker:
    """A process that runs ``flask --app shop relay worker``.

    :param folder: the shop's.
    :param options: of the command.
    :param takes_s: how long an invoice takes, before it is made and once more after that.
    """

    def __init__(self, folder: Path, *options: str, takes_s: float = 0.0) -> None:
        self._log = folder / "worker.log"
        self._ready = folder / "worker.ready"
        settings = {"SHOP_FOLDER": str(folder), "SHOP_INVOICE_TAKES_S": str(takes_s)}

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *COMMAND, "--ready-file", str(self._ready), *options],
                cwd=Path(__file__).parent,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # So that Ctrl-C is for the demo alone, which then stops its workers.
            )

    @property
    def id(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """``kill -9``: it has no chance to say anything."""
        self._process.kill()
        self._process.wait()
        self._ready.unlink(missing_ok=True)

    def stop(self) -> int:
        """Have it end what it has begun. Gives its exit code."""
        self._process.terminate()

        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def wait_until_ready(self) -> None:
        """Wait until it has found the database in order, and works."""
        self.wait_until(self._ready.exists, "it was ready")

    def last_words(self) -> str:
        """The last line that a worker of this shop has written."""
        return (self._log.read_text("utf-8", "replace").splitlines() or ["nothing"])[-1]

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so.

        :raises StrayWorkerError: when the worker ends before that, or it takes for ever.
        """
        give_up_at = time.monotonic() + PATIENCE_S

        while not is_so():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise StrayWorkerError(f"A worker did not come so far that {what}. Its log ends: {self.last_words()}")

            time.sleep(0.02)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still, to look at what it is doing."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.id, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def kill_in_the_middle(app: Flask, worker: Worker, invoices: int) -> None:
    """Kill a worker at its worst moment: with an invoice made, and its row not deleted yet.

    :param invoices: after how many invoices.
    :raises StrayWorkerError: when there is no such moment.
    """

    def is_in_the_middle() -> bool:
        made = [
            entry["message"] for entry in entries(app, "billing") if entry["worker"] == worker.id and entry["is_first"]
        ]
        return sum(models.invoiced(app).values()) >= invoices and models.waiting(app, "billing.invoice", made) > 0

    def is_killed() -> bool:
        if not is_in_the_middle():
            return False

        with worker.frozen():  # It went on while we looked.
            if not is_in_the_middle():
                return False

            worker.kill()
            return True

    worker.wait_until(is_killed, f"there were {invoices} invoices, and one of them with its row")


def in_hand() -> int:
    """How many messages are in the hands of workers. Those of a dead one stay there until its leases end."""
    return sum(status.in_flight for status in relay.status())


def waiting() -> int:
    """How many messages there are, in hands or not."""
    return in_hand() + sum(status.backlog for status in relay.status())


@dataclass(frozen=True)
class Books:
    """What there is when workers have been killed, and the last one has done the rest.

    :ivar kills: how many were killed.
    :ivar invoices: how many each order has.
    :ivar attempts: how often an invoice was attempted. An attempt that ends with a kill counts.
    :ivar repeated: how many of these found that it was made.
    :ivar confirmations: how many mails of confirmation each order has.
    :ivar welcomes: how many mails of welcome there are.
    :ivar dead: how many dead letters each receiver has.
    :ivar backlog: how many messages wait still.
    """

    kills: int
    invoices: dict[int, int]
    attempts: int
    repeated: int
    confirmations: Counter[int]
    welcomes: int
    dead: dict[str, int]
    backlog: int


def books(app: Flask, kills: int) -> Books:
    """Look at what there is."""
    attempts: dict[int, int] = {}
    billing = entries(app, "billing")

    for entry in billing:
        attempts[entry["order"]] = max(entry["attempt"], attempts.get(entry["order"], 0))

    subjects = Counter(mail.subjects(app))
    orders = {subject.removeprefix("Your order "): count for subject, count in subjects.items()}

    return Books(
        kills=kills,
        invoices=models.invoiced(app),
        attempts=sum(attempts.values()),
        repeated=sum(not entry["is_first"] for entry in billing),
        confirmations=Counter({int(number): count for number, count in orders.items() if number.isdecimal()}),
        welcomes=subjects["Welcome aboard"],
        dead={status.receiver: status.dead for status in relay.status() if status.dead},
        backlog=waiting(),
    )
