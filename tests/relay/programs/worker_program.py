"""A program in miniature that has workers in its own threads, for the tests of the worker."""

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
"""How long a test waits for something. It happens at once; but the machine may be busy with other things."""

LONG_S: Final = 1000.0
"""Longer than any test waits: for receivers that a test lets go on, and for what must not wake a worker."""


def number_sent(sender: str, /, *, number: int) -> object:
    """Carries a number."""


class Got(NamedTuple):
    """What a receiver got."""

    receiver: str
    number: int
    attempt: int


@final
class Running:
    """A worker, in a thread of its own.

    :ivar exit: what it ended with; ``None`` as long as it runs.
    :ivar error: what it raised.
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
        assert not self._thread.is_alive(), "the worker does not end"

        if self.error is not None:
            raise self.error

        return self.exit


@final
class Program:
    """A relay, a signal, and what its receivers got.

    :ivar got: what receivers got, in the order in which they began.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine = engine
        self.relay = Relay(engine, **options)
        self.relay.create_tables()
        self.signal: NamedSignal[Any, ..., Any] = Namespace().declare(number_sent)
        self.got: list[Got] = []
        self._lock = Lock()

    def connect(self, name: str = "work", work: Callable[[int], object] = lambda _: None, **options: Any) -> None:
        """Connect a durable receiver, which notes what it got, and then works."""

        def receive(sender: Any, *, number: int) -> None:
            self.note(name, number)
            work(number)

        self.signal.connect(receive, weak=False, via=self.relay.durable(name, **options))

    def connect_async(self, work: Callable[[int], Any], name: str = "work", **options: Any) -> None:
        """As :meth:`connect`, with async work."""

        async def receive(sender: Any, *, number: int) -> None:
            self.note(name, number)
            await work(number)

        self.signal.connect(receive, weak=False, via=self.relay.durable(name, **options))

    def note(self, name: str, number: int) -> None:
        """Note what is received."""
        with self._lock:
            self.got.append(Got(name, number, self.relay.current().attempt))

    def send(self, *numbers: int) -> None:
        """Send numbers, each in a transaction of its own."""
        for number in numbers:
            self.signal.send("sender", number=number)

    def pile_up(self, receiver: str, count: int, /, **values: Any) -> None:
        """Have a backlog of a receiver: rows as sends write them, of the numbers from 0 on."""
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
        """Do something in the relay's database."""
        return self.relay._parts.database.run(work)

    def rows(self) -> int:
        """How many rows there are."""
        return len(self.attempts())

    def in_flight(self) -> int:
        """How many rows are claimed."""
        return self.run(lambda connection: sum(row.in_flight for row in count(connection)))

    def attempts(self) -> list[int]:
        """The attempts of the rows that there are, in the order in which they were sent."""
        statement = select(messages.c.attempts).order_by(messages.c.id)
        return self.run(lambda connection: list(connection.scalars(statement)))

    def numbers(self, name: str = "work") -> list[int]:
        """The numbers that a receiver got, in order."""
        return [got.number for got in [*self.got] if got.receiver == name]

    def worker(self, **settings: Any) -> Worker:
        """A worker that has not begun."""
        return Worker(self.relay, Settings(**settings))

    @contextmanager
    def working(self, **settings: Any) -> Generator[Running, None, None]:
        """Have a worker run in a ``with`` block."""
        with running(self.worker(**settings)) as found:
            yield found


@final
class Gate:
    """Work that begins, and ends when it may."""

    def __init__(self, number: int | None = None) -> None:
        self.is_entered = Event()
        self.may_end = Event()
        self.number = number

    def __call__(self, number: int) -> None:
        if self.number in (None, number):
            self.is_entered.set()
            self.may_end.wait(LONG_S)


def hanging(gate: Event) -> Callable[[int], object]:
    """A receiver that hears of the end of its time, and goes on."""

    def hang(_: int) -> None:
        while not gate.is_set():
            try:
                while not gate.wait(0.005):  # What waits in C for long makes a traced Python 3.11 stand still.
                    pass
            except ReceiverTimeoutError:
                continue

    return hang


def extending(worker: Worker, condition: Callable[[], T]) -> Callable[[], T]:
    """A condition, each look at which has a worker extend its leases. Once might be while it does so anyway."""

    def look() -> T:
        worker.leases.renew_at = 0.0
        worker.wake_event.set()
        return condition()

    return look


@contextmanager
def running(worker: Worker) -> Generator[Running, None, None]:
    """Have a worker run in a ``with`` block."""
    found = Running(worker)

    try:
        yield found
    finally:
        worker.stop()
        found.ended()


def run_program(name: str, *arguments: str, timeout_s: float = 600) -> str:
    """Run one of ``programs``. Gives what it printed."""
    command = [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments]
    return subprocess.run(command, env=untraced(), check=True, capture_output=True, text=True, timeout=timeout_s).stdout


def untraced() -> dict[str, str]:
    """The environment for programs whose coverage is not measured: that takes several times as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to so many."""
    rest = iter(rows)

    while some := list(islice(rest, size)):
        yield some


def soon(condition: Callable[[], object], what: str = "it", *, within_s: float = SOON_S) -> float:
    """Wait until something is true. Gives how many seconds that took."""
    began = time.monotonic()
    pause = Event()

    while not condition():
        assert time.monotonic() - began < within_s, f"{what} did not happen within {within_s} s"
        pause.wait(0.005)

    return time.monotonic() - began
