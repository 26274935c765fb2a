"""A small program that has workers in its own threads, for the tests of the worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, final

from sqlalchemy import insert, select

from aldis import NamedSignal, Namespace
from aldis.exceptions import ReceiverTimeoutError
from aldis.relay import Relay
from aldis.relay.storage.backlog import count
from aldis.relay.storage.tables import messages, now_ms
from aldis.relay.worker.worker import Exit, Settings, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from sqlalchemy import Connection, Engine

T = TypeVar("T")

PROGRAMS: Final = Path(__file__).parent

SOON_S: Final = 120.0
"""How long a test waits for an event. The event comes at once, but the machine may be busy."""

LONG_S: Final = 1000.0
"""Longer than any test: for receivers that a test lets go on, and for pauses that must not end by themselves."""


def number_sent(sender: str, /, *, number: int) -> object:
    """Carries a number."""


class Got(NamedTuple):
    """One message, as a receiver got it."""

    receiver: str
    number: int
    attempt: int


@final
class Running:
    """A worker in its own thread.

    :ivar exit: its exit; ``None`` while it runs.
    :ivar error: the exception that it raised.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.exit: Exit | None = None
        self.error: BaseException | None = None
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.exit = self.worker.run()
        except BaseException as error:
            self.error = error

    def ended(self) -> Exit | None:
        """Wait for its end."""
        self._thread.join(SOON_S)
        assert not self._thread.is_alive(), "the worker must end"

        if self.error is not None:
            raise self.error

        return self.exit


@final
class Program:
    """A relay, a signal, and the messages that its receivers got.

    :ivar got: the messages, in the order in which their receivers began.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine = engine
        self.relay = Relay(engine, **options)
        self.relay.create_tables()
        self.signal: NamedSignal[Any, ..., Any] = Namespace().declare(number_sent)
        self.got: list[Got] = []
        self._lock = Lock()

    def connect(self, name: str = "work", work: Callable[[int], object] = lambda _: None, **options: Any) -> None:
        """Connect a durable receiver, which records its message and then works."""

        def receive(sender: Any, *, number: int) -> None:
            self.note(name, number)
            work(number)

        self.signal.connect(receive, weak=False, via=self.relay.durable(name, **options))

    def connect_async(self, work: Callable[[int], Any], name: str = "work", **options: Any) -> None:
        """Do as :meth:`connect` does, with async work."""

        async def receive(sender: Any, *, number: int) -> None:
            self.note(name, number)
            await work(number)

        self.signal.connect(receive, weak=False, via=self.relay.durable(name, **options))

    def note(self, name: str, number: int) -> None:
        """Record a message that a receiver got."""
        with self._lock:
            self.got.append(Got(name, number, self.relay.current().attempt))

    def send(self, *numbers: int) -> None:
        """Send numbers, each in its own transaction."""
        for number in numbers:
            self.signal.send("sender", number=number)

    def pile_up(self, receiver: str, count: int, /, **values: Any) -> None:
        """Write a backlog of a receiver: rows as sends write them, with the numbers from 0 on."""
        row: dict[str, Any] = {
            "signal": "number-sent",
            "receiver": receiver,
            "version": 1,
            "sender": '{"text": "sender"}',
            "attempts": 0,
            "crashes": 0,
            "payload": '{"number": %d}',
            **values,
        }
        rows = (
            {**row, "message_id": f"m{number}", "payload": row["payload"].replace("%d", str(number))}
            for number in range(count)
        )
        statement = insert(messages).values(sent_ms=now_ms(), due_ms=now_ms())

        for some in batched(rows, 10_000):
            self.run(lambda connection, some=some: connection.execute(statement, some))  # type: ignore[misc]

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do some work in the relay's database."""
        return self.relay._parts.database.run(work)

    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.attempts())

    def in_flight(self) -> int:
        """Return the number of claimed rows."""
        return self.run(lambda connection: sum(row.in_flight for row in count(connection)))

    def attempts(self) -> list[int]:
        """Return the attempts of all rows, in the order of their sends."""
        statement = select(messages.c.attempts).order_by(messages.c.id)
        return self.run(lambda connection: list(connection.scalars(statement)))

    def numbers(self, name: str = "work") -> list[int]:
        """Return the numbers that a receiver got, in order."""
        return [got.number for got in [*self.got] if got.receiver == name]

    def worker(self, **settings: Any) -> Worker:
        """Make a worker that does not run yet."""
        return Worker(self.relay, Settings(**settings))

    @contextmanager
    def working(self, **settings: Any) -> Generator[Running, None, None]:
        """Run a worker in a ``with`` block."""
        with running(self.worker(**settings)) as found:
            yield found


@final
class Gate:
    """Work that begins at once, and ends when the test lets it end."""

    def __init__(self, number: int | None = None) -> None:
        self.is_entered = Event()
        self.may_end = Event()
        self.number = number

    def __call__(self, number: int) -> None:
        if self.number in (None, number):
            self.is_entered.set()
            self.may_end.wait(LONG_S)


def hanging(gate: Event) -> Callable[[int], object]:
    """Return the work of a receiver that ignores the end of its time."""

    def hang(_: int) -> None:
        while not gate.is_set():
            try:
                while not gate.wait(0.005):  # A long wait in C makes a traced Python 3.11 stand still.
                    pass
            except ReceiverTimeoutError:
                continue

    return hang


def extending(worker: Worker, condition: Callable[[], T]) -> Callable[[], T]:
    """Return a condition that makes the worker renew its leases before each check.

    One check would not be enough: the worker may just be renewing them.
    """

    def look() -> T:
        worker.leases.renew_at = 0.0
        worker.wake_event.set()
        return condition()

    return look


@contextmanager
def running(worker: Worker) -> Generator[Running, None, None]:
    """Run a worker in a ``with`` block."""
    found = Running(worker)

    try:
        yield found
    finally:
        worker.stop()
        found.ended()


def run_program(name: str, *arguments: str, timeout_s: float = 600) -> str:
    """Run one of ``programs``, and return what it printed."""
    command = [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments]
    return subprocess.run(command, env=untraced(), check=True, capture_output=True, text=True, timeout=timeout_s).stdout


def untraced() -> dict[str, str]:
    """Return the environment for programs whose coverage is not measured, because that takes several times as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to this many elements."""
    rest = iter(rows)

    while some := list(islice(rest, size)):
        yield some


def soon(condition: Callable[[], object], what: str = "it", *, within_s: float = SOON_S) -> float:
    """Wait until something is true, and return how many seconds that took."""
    began = time.monotonic()
    pause = Event()

    while not condition():
        assert time.monotonic() - began < within_s, f"{what} did not happen within {within_s} s"
        pause.wait(0.005)

    return time.monotonic() - began
