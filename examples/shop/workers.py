"""Workers of the shop, each in its own process. The demo kills some of them and then counts the invoices and mails."""

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

PATIENCE_S = 30.0  # The time limit for steps that take a second or two.

COMMAND = ("flask", "--app", "shop", "relay", "worker")


class StrayWorkerError(Exception):
    """A worker ended early or took too long."""


class Worker:
    """A process that runs ``flask --app shop relay worker``.

    :param folder: the shop's folder.
    :param options: options of the command.
    :param takes_s: how long the worker sleeps before it writes an invoice, and again after it.
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
                process_group=0,  # Ctrl-C reaches the demo only, which then stops its workers.
            )

    @property
    def id(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Kill the process with ``kill -9``. It cannot react."""
        self._process.kill()
        self._process.wait()
        self._ready.unlink(missing_ok=True)

    def stop(self) -> int:
        """Stop the worker after the work it has begun, and return its exit code."""
        self._process.terminate()

        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def wait_until_ready(self) -> None:
        """Wait until the worker has checked the database and has started to work."""
        self.wait_until(self._ready.exists, "it was ready")

    def last_words(self) -> str:
        """Return the last line that a worker of this shop has logged."""
        return (self._log.read_text("utf-8", "replace").splitlines() or ["nothing"])[-1]

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until a condition is true.

        :param what: the condition in words, for the error message.
        :raises StrayWorkerError: when the worker ends first, or the time limit passes.
        """
        give_up_at = time.monotonic() + PATIENCE_S

        while not is_so():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise StrayWorkerError(f"A worker ended, or was too slow, before {what}. Log: {self.last_words()}")

            time.sleep(0.02)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Pause the process inside the block, so that its state cannot change."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.id, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def kill_in_the_middle(app: Flask, worker: Worker, invoices: int) -> None:
    """Kill a worker at its worst moment: the invoice is written, and its queue row is not deleted yet.

    :param invoices: the least number of invoices that must exist at that moment.
    :raises StrayWorkerError: when that moment does not come.
    """

    def is_in_the_middle() -> bool:
        made = [
            entry["message"] for entry in entries(app, "billing") if entry["worker"] == worker.id and entry["is_first"]
        ]
        return sum(models.invoiced(app).values()) >= invoices and models.waiting(app, "billing.invoice", made) > 0

    def is_killed() -> bool:
        if not is_in_the_middle():
            return False

        with worker.frozen():  # The worker went on during the first check.
            if not is_in_the_middle():
                return False

            worker.kill()
            return True

    worker.wait_until(is_killed, f"there were {invoices} invoices, and one of them with its row")


def in_hand() -> int:
    """Return the number of messages that workers have claimed. The leases of a killed worker count until they end."""
    return sum(status.in_flight for status in relay.status())


def waiting() -> int:
    """Return the number of all messages, claimed or not."""
    return in_hand() + sum(status.backlog for status in relay.status())


@dataclass(frozen=True)
class Books:
    """What there is when workers were killed and the last worker has done the rest.

    :ivar kills: the number of killed workers.
    :ivar invoices: the number of invoices of each order.
    :ivar attempts: the number of attempts at an invoice. An attempt that ends with a kill counts.
    :ivar repeated: the number of attempts that found that the invoice existed already.
    :ivar confirmations: the number of confirmation mails of each order.
    :ivar welcomes: the number of welcome mails.
    :ivar dead: the number of dead letters of each receiver.
    :ivar backlog: the number of messages that still wait.
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
    """Count the invoices, mails and messages."""
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
