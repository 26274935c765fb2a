"""R6: the contract suite, run on every set-up that the relay is made for."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from celery import Celery  # type: ignore[import-untyped, unused-ignore]
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped, unused-ignore]
from celery.signals import task_postrun  # type: ignore[import-untyped, unused-ignore]
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from sqlalchemy import Connection, StaticPool, create_engine, delete, inspect, make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from aldis.flask import Aldis
from aldis.relay import Relay
from aldis.relay.celery import CeleryRunner
from aldis.relay.storage.tables import dead_letters, effects, messages
from aldis.relay.testing import DatabaseContract, Harness, RelayContract, UnorderedRelayContract, _Contract
from aldis.relay.testing._claims import CompetingContract
from aldis.relay.testing._harness import orders
from aldis.relay.testing._receiving import OrderContract, ReceivingContract
from aldis.relay.testing._sending import SendingContract
from tests.relay.celery.brokers import RABBITMQ, REDIS, answering
from tests.relay.programs.worker_program import SOON_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.relay.conftest import MakeEngine

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-a-database-or-a-runner.md"


def harness_of(relay: Relay, sessions: Any) -> Harness:
    relay.create_tables()
    return Harness(relay, sessions)


class SQLite:
    """A file, as the embedded default uses it."""

    @pytest.fixture
    def harness(self, sqlite_url: str, make_engine: MakeEngine) -> Harness:
        engine = make_engine(sqlite_url)
        return harness_of(Relay(engine), sessionmaker(engine))


class TestSQLite(SQLite, RelayContract): ...


class TestClaimsInSQLite(SQLite, DatabaseContract): ...


class Memory:
    """A database in memory, as tests of programs use it: one connection for all."""

    @pytest.fixture
    def harness(self, make_engine: MakeEngine) -> Harness:
        engine = make_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        sessions = sessionmaker(engine)
        harness = harness_of(Relay(sessions), sessions)
        harness.threads = 1
        return harness


class TestMemory(Memory, RelayContract): ...


class TestClaimsInMemory(Memory, DatabaseContract): ...


class PostgreSQL:
    @pytest.fixture
    def harness(self, ready_postgresql_url: str, make_engine: MakeEngine) -> Harness:
        engine = make_engine(ready_postgresql_url)
        return harness_of(Relay(engine), sessionmaker(engine))


class TestPostgreSQL(PostgreSQL, RelayContract): ...


class TestClaimsInPostgreSQL(PostgreSQL, DatabaseContract): ...


class MariaDB:
    """With a registry of sessions, whose current transaction the relay joins."""

    @pytest.fixture
    def harness(self, ready_mariadb_url: str, make_engine: MakeEngine) -> Iterator[Harness]:
        sessions = scoped_session(sessionmaker(make_engine(ready_mariadb_url)))
        yield harness_of(Relay(sessions), sessions)
        sessions.remove()


class TestMariaDB(MariaDB, RelayContract): ...


class TestClaimsInMariaDB(MariaDB, DatabaseContract): ...


class OtherIsolation:
    """Programs whose engine begins transactions in another way, or has none."""

    @pytest.fixture(params=["AUTOCOMMIT", "SERIALIZABLE"])
    def harness(self, request: pytest.FixtureRequest, ready_url: str, make_engine: MakeEngine) -> Harness:
        engine = make_engine(ready_url)
        return harness_of(Relay(engine.execution_options(isolation_level=request.param)), sessionmaker(engine))


class TestOtherIsolation(OtherIsolation, CompetingContract, _Contract): ...


class AsyncHarness(Harness):
    """A program whose database is async, and which uses it in an event loop."""

    def __init__(self, relay: Relay, sessions: Any, runner: asyncio.Runner) -> None:
        super().__init__(relay, sessions)
        self._runner = runner

    def transact(self, work: Callable[[Session], Any]) -> Any:
        async def transact() -> Any:
            async with self._sessions() as session, session.begin():  # type: ignore[attr-defined]
                return await session.run_sync(work)

        return self._run(transact())

    def send(self, signal: Any, sender: Any, /, **payload: Any) -> Any:
        return self._run(signal.send_async(sender, **payload))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine, context=copy_context())


class Async:
    """An SQLite file, and PostgreSQL, from an event loop."""

    @pytest.fixture(params=["sqlite+aiosqlite", "postgresql+asyncpg"])
    def harness(self, request: pytest.FixtureRequest) -> Iterator[Harness]:
        yield from async_harness(request)


def async_harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    kind = request.param.partition("+")[0]
    url = make_url(request.getfixturevalue(f"ready_{kind}_url")).set(drivername=request.param)
    engine = create_async_engine(url)
    sessions = async_sessionmaker(engine)

    with asyncio.Runner() as runner:
        relay = Relay(sessions)
        relay.create_tables()
        yield AsyncHarness(relay, sessions, runner)
        runner.run(engine.dispose())
        relay._parts.database.close_portal()  # The connections for work that is not awaited.


class TestAsync(Async, RelayContract): ...


class TestClaimsInAsync(Async, DatabaseContract): ...


class TestPsycopgInAnEventLoop(OrderContract, _Contract):
    """The tests above prove what all async drivers share. These prove the claims, with psycopg's own types."""

    @pytest.fixture(params=["postgresql+psycopg"])
    def harness(self, request: pytest.FixtureRequest) -> Iterator[Harness]:
        yield from async_harness(request)


class FlaskHarness(Harness):
    """A Flask application: its transactions are those of the session of each request."""

    def __init__(self, app: Flask, db: SQLAlchemy) -> None:
        super().__init__(Relay(db), db.session)
        self._app = app
        self._db = db
        Aldis(app, relay=self.relay)

    def transact(self, work: Callable[[Session], Any]) -> Any:
        with self._app.app_context():
            result = work(self._db.session())
            self._db.session.commit()  # The end of the context rolls back uncommitted work.
            return result


class TestFlask(SendingContract, ReceivingContract, _Contract):
    """Flask has no influence on the worker's part of payloads and names, so these tests are left out."""

    @pytest.fixture
    def harness(self, sqlite_url: str) -> Iterator[Harness]:
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
        db = SQLAlchemy(app)
        harness = FlaskHarness(app, db)
        harness.relay.create_tables()
        yield harness

        with app.app_context():
            db.engine.dispose()


class CeleryHarness(Harness):
    """A program whose receivers run in Celery, with a Celery worker in a thread of this process."""

    def __init__(self, relay: Relay, sessions: Any, ended: SimpleQueue[str]) -> None:
        super().__init__(relay, sessions)
        self._ended = ended

    def run(self) -> None:
        while published := self.relay.drain().done:
            for _ in range(published):
                self._ended.get(timeout=SOON_S)  # Rows that are released are in the database now.


@pytest.fixture(params=["rabbitmq", "redis"], scope="class")
def celery_harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryHarness]:
    """Yield a harness for the tests of a class, because a Celery worker takes seconds to end."""
    broker = answering(RABBITMQ if request.param == "rabbitmq" else REDIS)
    name = f"aldis-{uuid4().hex}"
    app: Any = Celery(name, broker=broker, set_as_current=False)
    app.conf.update(task_default_queue=name, worker_enable_remote_control=False, worker_hijack_root_logger=False)
    app.conf.broker_heartbeat = 1  # An idle worker checks only at intervals whether it must end.
    app.conf.broker_transport_options = {"global_keyprefix": f"{name}:"} if request.param == "redis" else {}
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('celery')}/test.sqlite")
    relay = Relay(engine, runner=CeleryRunner(app))
    relay.create_tables()
    ended: SimpleQueue[str] = SimpleQueue()

    def note(task_id: str, **_: Any) -> None:
        ended.put(task_id)

    task_postrun.connect(note)

    working: Any = start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=SOON_S)

    level = logging.getLogger().level

    with working:
        logging.getLogger().setLevel(level)  # start_worker() raises it, and later tests would miss log lines.
        yield CeleryHarness(relay, sessionmaker(engine), ended)

    task_postrun.disconnect(note)
    delete_queue(app, name, broker)
    app.close()
    engine.dispose()


def delete_rows(connection: Connection) -> None:
    """Delete all rows of the test before."""
    for table in (messages, dead_letters, effects):
        connection.execute(delete(table))

    if inspect(connection).has_table(orders.name):
        connection.execute(delete(orders))


def delete_queue(app: Any, name: str, broker: str) -> None:
    """Delete the messages on the broker."""
    if broker.startswith("redis"):
        with Redis.from_url(broker) as redis:
            redis.delete(*redis.scan_iter(f"{name}:*"), "")
    else:
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(name)
            connection.default_channel.exchange_delete(name)


@pytest.mark.filterwarnings("ignore:Redis does not confirm:aldis.exceptions.RelayWarning")
class TestCelery(UnorderedRelayContract):
    @pytest.fixture
    def harness(self, celery_harness: CeleryHarness) -> CeleryHarness:
        gc.collect()  # The receivers of the test before stay connected as long as its signals exist.
        celery_harness.relay._parts.database.run(delete_rows)
        return celery_harness


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    """The file of tests at the top of the page about the suite passes."""
    page = PAGE.read_text("utf-8")
    (tmp_path / "test_relay.py").write_text(page.partition("```python\n")[2].partition("```")[0], "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-k", "TestDatabase or committed", "test_relay.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 10
