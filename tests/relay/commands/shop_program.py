"""The program of the commands' tests: a shop without Flask, which the tests import, and whose workers are processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from aldis.__main__ import main
from aldis.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SOON_S = 120.0

# A program without Flask. Its receivers record their work in files in the folder.
PROGRAM = """
import os
import time
from pathlib import Path

from sqlalchemy import create_engine

from aldis import Namespace
from aldis.relay import Relay

FOLDER = Path(__file__).parent
engine = create_engine(f"sqlite:///{FOLDER / 'shop.sqlite'}")
relay = Relay(engine)
signals = Namespace()


@signals.declare
def order_placed(sender: str, /, *, order_id: int) -> None: ...


@signals.declare
def order_lost(sender: str, /, *, order_id: int) -> None: ...


@signals.declare
def order_sealed(sender: str, /, *, order_id: int) -> None: ...


@order_placed.connect(via=relay.durable("invoice"))
def invoice(sender, *, order_id):
    (FOLDER / f"invoice-{order_id}").touch()


@order_lost.connect(via=relay.durable("search", max_attempts=1))
def search(sender, *, order_id):
    raise LookupError(f"no order {order_id}")


@order_sealed.connect(via=relay.durable("slow"))
def slow(sender, *, order_id):
    (FOLDER / f"begun-{os.getpid()}").touch()

    while not (FOLDER / "go-on").exists():
        time.sleep(0.01)
"""


class Shop:
    """The imported program."""

    def __init__(self, folder: Path, module: Any) -> None:
        self.folder = folder
        self.name: str = module.__name__
        self.module = module
        self.relay: Relay = module.relay

    def command(self, *arguments: str, says: str | None = None) -> Result:
        """Run ``python -m aldis relay`` in this process."""
        return CliRunner().invoke(main, ["relay", *arguments], input=says)

    def place(self, count: int = 1) -> None:
        for number in range(1, count + 1):
            self.module.order_placed.send("shop", order_id=number)

    def lose(self, count: int = 1) -> None:
        """Make this many dead letters."""
        for number in range(1, count + 1):
            self.module.order_lost.send("shop", order_id=number)

        self.relay.drain()

    def seal(self, count: int = 1) -> None:
        for number in range(1, count + 1):
            self.module.order_sealed.send("shop", order_id=number)

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run a worker process, and kill it at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "aldis", "relay", "worker", self.name, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=SOON_S)

    def work(self, *arguments: str) -> tuple[int, str]:
        """Run a worker that ends by itself. Return its exit code and its output."""
        with self.worker(*arguments) as process:
            printed, _ = process.communicate(timeout=SOON_S)

        return process.returncode, printed

    def begun(self) -> list[int]:
        """Return the processes that have begun to run the slow receiver."""
        return [int(path.name.removeprefix("begun-")) for path in self.folder.glob("begun-*")]


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SOON_S

    while not (found := what()):
        assert time.monotonic() < deadline, "the receiver must begin"
        time.sleep(0.01)

    return found
