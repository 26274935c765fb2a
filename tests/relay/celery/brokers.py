"""Brokers for the tests of the Celery runner, a gate in front of one, and shops with their workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from kombu.connection import Connection
from redis import Redis
from sqlalchemy import delete, select, text, update

from aldis.relay.storage.rows import Row
from aldis.relay.storage.tables import messages
from tests.relay.celery.shop_program import Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Servers that may be used. Each test has its own queue there, and deletes it.
RABBITMQ = os.environ.get("ALDIS_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
REDIS = os.environ.get("ALDIS_TEST_REDIS", "redis://127.0.0.1:6379/9")

NOBODY = "amqp://127.0.0.1:1//"
"""The address of a broker that does not exist."""

HERE = Path(__file__).parent
PATIENCE_S = 120.0


def answering(url: str) -> str:
    """Return the address of a broker. If it is missing, skip the test, or fail in CI."""
    connection: Any = Connection(url, connect_timeout=5)  # type: ignore[no-untyped-call, unused-ignore]

    try:
        connection.ensure_connection(max_retries=1, interval_start=0)
        connection.default_channel.close()
    except Exception as error:  # Each transport has its own exception.
        missing = f"no broker answers at {connection.as_uri()}: {error}"

        if os.environ.get("CI") == "true":
            pytest.fail(missing)

        pytest.skip(missing)
    finally:
        connection.release()

    return url


def soon(is_so: Callable[[], Any]) -> Any:
    """Wait until a value is true, and return it."""
    deadline = time.monotonic() + PATIENCE_S

    while not (found := is_so()):
        assert time.monotonic() < deadline, "the wait must end"
        time.sleep(0.02)

    return found


class Place:
    """A database and a queue, and a shop that uses them.

    :param broker: the broker's address.
    :param visibility_s: the seconds after which Redis delivers a worker's message to another worker.
    :param settings: settings of the shop and of Celery.
    """

    def __init__(self, folder: Path, broker: str, *, visibility_s: float = 3600, **settings: Any) -> None:
        database = f"sqlite:///{folder / 'shop.sqlite'}"
        queue = f"aldis-{uuid4().hex}"

        if broker.startswith("redis"):
            settings["broker_transport_options"] = {"global_keyprefix": f"{queue}:", "visibility_timeout": visibility_s}

        self.config: dict[str, Any] = {"database": database, "broker": broker, "queue": queue, **settings}
        self.folder = folder
        self._visibility_s = visibility_s

    def __enter__(self) -> Self:
        self.shop = Shop(**self.config)
        self.shop.create_tables()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.delete_queue()

        self.shop.close()

    # The queue.

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with self.shop.celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
            yield connection.default_channel

    def published(self) -> list[Any]:
        """Take the messages from the queue, and return them."""
        found: list[Any] = []

        with self._channel() as channel:
            queue = self.shop.celery.amqp.queues[self.shop.queue](channel)

            while (message := queue.get(no_ack=True)) is not None:
                found.append(message)

        return found

    def delete_queue(self) -> None:
        """Delete the queue with all messages."""
        url: str = self.config["broker"]

        if url.startswith("redis"):
            with Redis.from_url(url) as redis:
                redis.delete(*redis.scan_iter(f"{self.shop.queue}:*"), "")
        else:
            with self._channel() as channel:
                channel.queue_delete(self.shop.queue)
                channel.exchange_delete(self.shop.queue)

    def outlast_visibility(self) -> None:
        """Wait until Redis may deliver the message of a dead worker to another worker."""
        time.sleep(self._visibility_s + 0.1)

    # The database.

    def rows(self) -> list[Any]:
        with self.shop.database.connect() as connection:
            return list(connection.execute(select(messages).order_by(messages.c.id)))

    def ids(self, table: Any) -> list[str]:
        """Return the message ids in a table of the shop."""
        with self.shop.database.connect() as connection:
            return list(connection.scalars(select(table.c.message_id).order_by(table.c.id)))

    def hurry(self) -> None:
        """Make all rows due, also rows that a worker has claimed."""
        with self.shop.database.begin() as connection:
            connection.execute(update(messages).values(due_ms=0))

    def forget(self, message_id: str) -> None:
        """Delete the rows of a message."""
        with self.shop.database.begin() as connection:
            connection.execute(delete(messages).where(messages.c.message_id == message_id))

    def rename(self, table: Any, name: Any) -> None:
        """Rename a table inside the block."""
        with self.shop.database.begin() as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))

    @staticmethod
    def no_guard(_: float | None) -> nullcontext[None]:
        return nullcontext()

    # Processes.

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SHOP": json.dumps(self.config)}

    def publish_and_die(self) -> tuple[int, str]:
        """Publish one row in a process that is killed right after it. Return its exit code and its output."""
        command = [sys.executable, "shop_program.py"]
        done = subprocess.run(
            command, cwd=HERE, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return done.returncode, done.stdout.strip()

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Celery worker, and yield when it is ready. Kill it at the end, because a stop takes ten seconds."""
        log = self.folder / f"{uuid4().hex}.log"
        command = [sys.executable, "-m", "celery", "-A", "shop_program", "worker", "-l", "INFO", "-c", "1", *options]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *quiet],
                cwd=HERE,
                env=self._environment,
                stdout=file,
                stderr=file,
                start_new_session=True,  # So that it can be killed with its own child processes.
            )

        try:
            soon(lambda: b" ready." in log.read_bytes() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield process
        except BaseException as error:
            error.add_note(log.read_text())
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

            process.wait(PATIENCE_S)

    def deliver(self, is_over: Callable[[], Any]) -> Any:
        """Publish all rows again and again, as if no row had to wait, until something is true."""

        def step() -> Any:
            found = is_over()

            if not found and any(row.token is None for row in self.rows()):
                self.hurry()
                self.shop.relay.drain()

            return found

        return soon(step)


def run(place: Place, envelope: Any, *, is_again: bool = False) -> None:
    place.shop.engine._run(envelope, is_again)


def a_row(**changes: Any) -> Row:
    return Row(0, "a", "ordered", "shop.orders", 1, None, '{"do":""}', None, None, 5, 1, 0, "")._replace(**changes)


class Gate:
    """A gate in front of a broker. It can be shut, or keep the broker's answers."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._broker = (parts.hostname, parts.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{self._server.getsockname()[1]}")
        self._is_shut = self._keeps_answers = self._is_over = False
        self._sockets: list[socket.socket] = []
        self._threads = [Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def shut(self) -> None:
        """Refuse new connections, and end the open ones."""
        self._is_shut = True
        self._turn_out()

    def keep_answers(self) -> None:
        """Pass requests on, and keep the answers."""
        self._keeps_answers = True

    def open(self) -> None:
        """Pass new connections on, and end the ones that waited."""
        self._turn_out()
        self._is_shut = self._keeps_answers = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()
        self._is_over = True
        socket.create_connection(self._server.getsockname()).close()  # accept() does not end by itself.

        for thread in self._threads:
            thread.join(PATIENCE_S)

        for one in [self._server, *self._sockets]:
            one.close()

    def _turn_out(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._is_over:
            client, _ = self._server.accept()

            if self._is_shut:
                client.close()
                continue

            broker = socket.create_connection(self._broker)
            self._sockets += [client, broker]
            self._begin(client, broker, are_answers=False)
            self._begin(broker, client, are_answers=True)

    def _begin(self, source: socket.socket, target: socket.socket, *, are_answers: bool) -> None:
        thread = Thread(target=self._pass_on, args=(source, target, are_answers), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, are_answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not (are_answers and self._keeps_answers):
                    target.sendall(data)

        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
