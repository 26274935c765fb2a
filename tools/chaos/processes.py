"""The base of chaos: processes that start quickly and can be killed at any moment, and databases for one run.

Processes are forked from a process that has imported everything and has no thread, engine or connection. They report by
lines of JSON, in a pipe that all of them share. A line is short enough to be written as a whole or not at all.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict, deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, final
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

SERVERS: Final = {
    "postgresql": os.environ.get("ALDIS_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"),
    "mariadb": os.environ.get("ALDIS_TEST_MARIADB", "mariadb+pymysql://root@127.0.0.1:3306/mysql"),
}
DATABASES: Final = ("sqlite", *SERVERS)
SOON_S: Final = 60.0


class TooLateError(Exception):
    """An awaited event did not happen in time."""


def soon(condition: Callable[[], object], what: str, *, within_s: float = SOON_S) -> None:
    """Wait until something is true.

    :raises TooLateError: when it is not true in time.
    """
    until = time.monotonic() + within_s

    while not condition():
        if time.monotonic() > until:
            raise TooLateError(f"{what}: not within {within_s:g} s")

        time.sleep(0.005)


@contextmanager
def made_database(kind: str, folder: Path) -> Generator[str, None, None]:
    """Make a database for a ``with`` block, and return its URL."""
    name = f"aldis_chaos_{uuid4().hex}"

    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.sqlite"
        return

    server = create_engine(SERVERS[kind], isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10})
    force = " WITH (FORCE)" if kind == "postgresql" else ""

    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))

        try:
            yield make_url(SERVERS[kind]).set(database=name).render_as_string(hide_password=False)
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name}{force}"))
    finally:
        server.dispose()


@final
class Child:
    """One process.

    :ivar status: its exit status, as in :attr:`subprocess.Popen.returncode`; ``None`` while it runs.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._nursery = nursery

    def heard(self, what: str, *, within_s: float = SOON_S) -> dict[str, Any]:
        """Wait until it reports something, and return the details of the report."""
        return self._nursery.heard(self.pid, what, within_s)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with ``kill -9``, and wait for its end."""
        self.send_signal(signal.SIGKILL)
        self.ended()

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        if self.status is None:
            self.status = self._nursery.poll(self.pid)

        return self.status

    def ended(self) -> int:
        """Wait for its end, and return its exit status."""
        soon(lambda: self.poll() is not None, f"the end of process {self.pid}")
        assert self.status is not None
        return self.status


@final
class Nursery:
    """Starts processes inside a ``with`` block, and kills those that still run at its end.

    :param script: the file whose ``serve`` is called: see :func:`serve`.
    :param environment: environment variables of all processes, in addition to those of this process.
    :ivar log: the file with the logs of all processes.
    :cvar open: the nurseries whose block is open.
    """

    open: ClassVar[set[Nursery]] = set()

    def __init__(self, script: Path, log: Path, **environment: str) -> None:
        self._script = script
        self._environment = environment
        self.log = log
        self._children: dict[int, Child] = {}
        self._said: defaultdict[int, deque[dict[str, Any]]] = defaultdict(deque)
        self._rest = b""

    def __enter__(self) -> Nursery:
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        # A killed process writes no coverage data, and tracing makes it several times slower.
        untraced = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, str(self._script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env={**untraced, "PYTHONPATH": os.pathsep.join(paths), **self._environment},
            )

        self.open.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.open.remove(self)

        for child in self._children.values():
            if child.status is None:
                with suppress(ProcessLookupError):
                    child.send_signal(signal.SIGKILL)

        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(SOON_S)
        self._server.stdout.close()

    def start(self, program: str, **arguments: Any) -> Child:
        """Start a program in its own process."""
        child = Child(self, self._asked("start", program=program, arguments=arguments))
        self._children[child.pid] = child
        return child

    def poll(self, pid: int) -> int | None:
        """Return the exit status of a child, or None while it runs."""
        found: int | None = self._asked("poll", pid=pid)
        return found

    def heard(self, pid: int, what: str, within_s: float) -> dict[str, Any]:
        """Wait until a child reports something. Other reports that come meanwhile are dropped."""
        until = time.monotonic() + within_s

        while True:
            while self._said[pid]:
                said = self._said[pid].popleft()

                if said["said"] == what:
                    return said

            if time.monotonic() > until:
                raise TooLateError(f"process {pid} did not report {what!r} within {within_s:g} s")

            if not self._read() and self._children[pid].poll() is not None:
                raise TooLateError(f"process {pid} ended with {self._children[pid].status}, not with {what!r}")

    def account(self) -> str:
        """Return the children's logs and what each running child does, to explain why an event came too late."""
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGUSR1)

        time.sleep(0.5)
        return self.log.read_text(errors="replace")

    def _asked(self, do: str, **values: Any) -> Any:
        assert self._server.stdin
        self._server.stdin.write(json.dumps({"do": do, **values}).encode() + b"\n")
        answers = self._said[0]
        until = time.monotonic() + SOON_S

        while not answers:
            if time.monotonic() > until:
                raise TooLateError(f"no answer to {do!r} within {SOON_S:g} s")

            self._read()

        return answers.popleft()["answer"]

    def _read(self) -> bool:
        assert self._server.stdout
        readable, _, _ = select.select([self._server.stdout], [], [], 0.05)

        if not readable:
            return False

        news = os.read(self._server.stdout.fileno(), 65536)

        if not news:
            raise TooLateError("the nursery ended; see its log")

        *lines, self._rest = (self._rest + news).split(b"\n")

        for line in lines:
            said = json.loads(line)
            self._said[said["pid"]].append(said)

        return True


def say(what: str, **values: Any) -> None:
    """Report something to the process that started this one by a :class:`Nursery`."""
    _write({"pid": os.getpid(), "said": what, **values})


def _write(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def serve(programs: Mapping[str, Callable[..., object]]) -> None:
    """Run the process from which the others are forked, until its input ends."""
    # Also in forked processes, until they set their own handlers.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    for line in sys.stdin:
        asked = json.loads(line)

        if asked["do"] == "start":
            answer: Any = _forked(programs[asked["program"]], asked["arguments"])
        else:
            pid, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None

        _write({"pid": 0, "answer": answer})


def _forked(program: Callable[..., object], arguments: dict[str, Any]) -> int:
    """Fork a child and run a program in it. Return when the child handles signals: Python drops signals during the
    fork.
    """
    here, there = os.pipe()
    pid = os.fork()

    if not pid:
        os.write(there, b".")
        _run(program, arguments)

    os.read(here, 1)
    os.close(here)
    os.close(there)
    return pid


def _run(program: Callable[..., object], arguments: dict[str, Any]) -> None:
    """Run a program, and end this process. It never returns to the parent's code."""
    code = 1

    try:
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        faulthandler.register(signal.SIGUSR1)
        program(**arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()  # This goes into the log.
    finally:
        sys.stderr.flush()
        os._exit(code)
