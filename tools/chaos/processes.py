"""What chaos stands on: processes that can be started quickly and killed at any moment, and databases to be dropped.

Processes are forked from one that has imported everything and has no thread, no engine and no connection. Children say
things by lines of JSON, in a pipe that all of them share; a line is short enough to be written whole or not at all.
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
    """Something that was waited for did not happen."""


def soon(condition: Callable[[], object], what: str, *, within_s: float = SOON_S) -> None:
    """Wait until something is true.

    :raises TooLateError: when it does not become so.
    """
    until = time.monotonic() + within_s

    while not condition():
        if time.monotonic() > until:
            raise TooLateError(f"{what}: not within {within_s:g} s")

        time.sleep(0.005)


@contextmanager
def made_database(kind: str, folder: Path) -> Generator[str, None, None]:
    """A database of a kind for the time of a ``with`` block. Gives its URL."""
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

    :ivar status: how it ended, as :attr:`subprocess.Popen.returncode` has it; ``None`` as long as it runs.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._nursery = nursery

    def heard(self, what: str, *, within_s: float = SOON_S) -> dict[str, Any]:
        """Wait until it says something. Gives what it says with it."""
        return self._nursery.heard(self.pid, what, within_s)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.ended()

    def poll(self) -> int | None:
        """How it ended, if it has."""
        if self.status is None:
            self.status = self._nursery.poll(self.pid)

        return self.status

    def ended(self) -> int:
        """Wait for its end. Gives how it ended."""
        soon(lambda: self.poll() is not None, f"the end of process {self.pid}")
        assert self.status is not None
        return self.status


@final
class Nursery:
    """Starts processes, for the time of a ``with`` block. At its end, those that are left are killed.

    :param script: the file whose ``serve`` is called: see :func:`serve`.
    :param environment: what is another than here, for all of them.
    :ivar log: where children's logs go.
    :cvar open: those in whose block somebody is.
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
        # What is killed tells no coverage, and to be traced costs it several times its time.
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
        """Start a program in a process of its own."""
        child = Child(self, self._asked("start", program=program, arguments=arguments))
        self._children[child.pid] = child
        return child

    def poll(self, pid: int) -> int | None:
        """How a child ended, if it has."""
        found: int | None = self._asked("poll", pid=pid)
        return found

    def heard(self, pid: int, what: str, within_s: float) -> dict[str, Any]:
        """Wait until a child says something. Other things that it says meanwhile are forgotten."""
        until = time.monotonic() + within_s

        while True:
            while self._said[pid]:
                said = self._said[pid].popleft()

                if said["said"] == what:
                    return said

            if time.monotonic() > until:
                raise TooLateError(f"process {pid} said nothing of {what!r} within {within_s:g} s")

            if not self._read() and self._children[pid].poll() is not None:
                raise TooLateError(f"process {pid} ended with {self._children[pid].status}, not with {what!r}")

    def account(self) -> str:
        """What children have logged, with what those that run are doing: to see why something was too late."""
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
    """Say something to the parent's parent, who started this process by a :class:`Nursery`."""
    _write({"pid": os.getpid(), "said": what, **values})


def _write(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def serve(programs: Mapping[str, Callable[..., object]]) -> None:
    """Be the process that others are forked from, until nobody asks for more."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # In those too, until they have handlers of their own.

    for line in sys.stdin:
        asked = json.loads(line)

        if asked["do"] == "start":
            answer: Any = _forked(programs[asked["program"]], asked["arguments"])
        else:
            pid, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None

        _write({"pid": 0, "answer": answer})


def _forked(program: Callable[..., object], arguments: dict[str, Any]) -> int:
    """Have a child run a program. Its signals count when this returns: Python forgets those that come with the fork."""
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
    """Run a program, and end this process. No line after this is the parent's."""
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
        traceback.print_exc()  # In the log.
    finally:
        sys.stderr.flush()
        os._exit(code)
