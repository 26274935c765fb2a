"""The contestants: each writes an order and runs a job for it. They are the relay and its peers, set to be as
durable as possible."""

from __future__ import annotations

import logging
import time
import warnings
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.orm import Session

from aldis.relay.worker.worker import Settings, Worker
from benchmarks.relay.databases import Database, make_engine
from benchmarks.relay.job import Jobs, Task
from benchmarks.relay.processes import SPAWN
from benchmarks.relay.shop import Shop, metadata, orders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Engine

WITHIN: Final = "in the order's transaction"
AFTER: Final = "after its commit"
BEFORE: Final = "before its commit"
INSERT_ORDER: Final = insert(orders)
NAME: Final = "bench"


class Contestant(ABC):
    """One contestant. It is sent to other processes, so it opens nothing before it is used.

    :ivar name: its name in tables.
    :ivar database: the database of the orders.
    :ivar when: when the job is handed over.
    :ivar quiet_s: the longest time before a job whose worker died runs again.
    :ivar must_requeue: whether such a job runs again only if the program calls :meth:`requeue`.
    """

    quiet_s = 3.0
    must_requeue = False

    def __init__(self, name: str, database: Database, when: str) -> None:
        self.name = name
        self.database = database
        self.when = when

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in ("name", "database", "when", *self.own)}

    own: tuple[str, ...] = ()

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.database.url)

    def make(self) -> None:
        """Create its tables and queues."""
        metadata.create_all(self.engine)

    def clear(self) -> None:
        """Remove everything from servers that others use."""
        self.engine.dispose()

    def order(self, number: int) -> None:
        """Write an order and hand over a job for it."""
        if self.when == BEFORE:
            self.hand_over(number, None)

        with Session(self.engine) as session:
            session.execute(INSERT_ORDER, {"id": number, "customer": "c", "total": 3})

            if self.when == WITHIN:
                self.hand_over(number, session)

            session.commit()

        if self.when == AFTER:
            self.hand_over(number, None)

    @abstractmethod
    def hand_over(self, number: int, session: Session | None) -> None:
        """Hand a job over, in the session's transaction if there is one."""

    def hand_all_over(self, numbers: Iterable[int]) -> None:
        """Hand over jobs without orders, in the fastest way."""
        for number in numbers:
            self.hand_over(number, None)

    @abstractmethod
    def work(self, task: Task) -> None:
        """Run jobs as a worker, one after the other, until the process is killed."""

    def requeue(self) -> None:  # noqa: B027  # Most have nothing to do.
        """Hand over again the jobs whose worker died, as a program must do itself."""


class OrderAlone(Contestant):
    """An order without a job."""

    def hand_over(self, number: int, session: Session | None) -> None:
        pass

    def work(self, task: Task) -> None:
        raise NotImplementedError


class Aldis(Contestant):
    own = ("is_once", "batch")

    def __init__(self, name: str, database: Database, *, is_once: bool = False, batch: int = 100) -> None:
        super().__init__(name, database, WITHIN)
        self.is_once = is_once
        self.batch = batch

    @cached_property
    def shop(self) -> Shop:
        return Shop(self.engine)

    def make(self) -> None:
        self.shop.make()

    def hand_over(self, number: int, session: Session | None) -> None:
        self.shop.send("shop", order_id=number, total=3)

    def hand_all_over(self, numbers: Iterable[int]) -> None:
        with Session(self.engine) as session, session.begin():
            session.connection()  # The sends join its transaction.

            for number in numbers:
                self.hand_over(number, session)

    def work(self, task: Task) -> None:
        jobs = Jobs(task)

        def receive(sender: str, *, order_id: int, total: int) -> None:
            jobs.run(order_id, shop.relay.first_time if self.is_once else lambda _: True)

        shop = Shop(self.engine, receive)
        lease_s = 1.0 if task.deaths else 60.0
        Worker(shop.relay, Settings(concurrency=1, batch=self.batch, lease_s=lease_s)).run()


class Celery(Contestant):
    """Celery with durable queues, persistent messages, RabbitMQ's confirms and late acks. The worker is the fastest
    kind, ``solo``."""

    own = ("broker", "queue")

    def __init__(self, name: str, database: Database, when: str, broker: str) -> None:
        super().__init__(name, database, when)
        self.broker = broker
        self.queue = f"aldis-bench-{uuid4().hex}"
        self.quiet_s = 16.0 if broker.startswith("redis") else 3.0  # Redis looks for overdue jobs every 10 s.

    def _app(self, run: Callable[[int], None] | None = None) -> Any:
        import celery  # type: ignore[import-untyped]

        app = celery.Celery(NAME, broker=self.broker, set_as_current=False)
        options = {"visibility_timeout": 2.0} if self.broker.startswith("redis") else {"confirm_publish": True}
        app.conf.update(
            broker_transport_options=options,
            broker_connection_retry_on_startup=True,
            task_acks_late=True,
            task_default_queue=self.queue,
            task_ignore_result=True,
            task_reject_on_worker_lost=True,
            worker_enable_remote_control=False,
            worker_prefetch_multiplier=100,
        )

        @app.task(name=NAME)  # type: ignore[untyped-decorator, unused-ignore]
        def job(number: int) -> None:
            assert run is not None
            run(number)

        self.job: Any = job
        return app

    @cached_property
    def app(self) -> Any:
        return self._app()

    def hand_over(self, number: int, session: Session | None) -> None:
        assert self.app is not None
        self.job.delay(number)

    def work(self, task: Task) -> None:
        warnings.simplefilter("ignore")  # It warns the superuser, who is the user in a container.
        jobs = Jobs(task)
        app = self._app(jobs.run)
        own = f"{uuid4().hex}@bench"
        app.Worker(
            pool="solo", concurrency=1, queues=[self.queue], hostname=own, loglevel="CRITICAL", quiet=True,
            without_gossip=True, without_mingle=True, without_heartbeat=True,
        ).start()  # fmt: skip

    def clear(self) -> None:
        with self.app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(self.queue)

        super().clear()


class Huey(Contestant):
    own = ("storage",)

    def __init__(self, name: str, database: Database, storage: str) -> None:
        super().__init__(name, database, AFTER)
        self.storage = storage

    def _huey(self, run: Callable[[int], None] | None = None) -> Any:
        import huey  # type: ignore[import-untyped]

        if self.storage.startswith("redis"):
            made: Any = huey.RedisHuey(NAME, url=self.storage, results=False)
        else:
            made = huey.SqliteHuey(NAME, filename=self.storage, fsync=True, results=False)

        def job(number: int) -> None:
            assert run is not None
            run(number)

        self.job: Any = made.task(name=NAME)(job)
        return made

    @cached_property
    def huey(self) -> Any:
        return self._huey()

    def hand_over(self, number: int, session: Session | None) -> None:
        assert self.huey is not None
        self.job(number)

    def work(self, task: Task) -> None:
        jobs = Jobs(task)
        made = self._huey(jobs.run)
        logging.getLogger("huey").setLevel(logging.CRITICAL)
        made.create_consumer(workers=1, periodic=False, initial_delay=0.01, max_delay=0.1).run()


class Procrastinate(Contestant):
    """Procrastinate. Jobs that are done are deleted, as the relay's messages are."""

    must_requeue = True

    def __init__(self, name: str, database: Database) -> None:
        super().__init__(name, database, WITHIN)

    def _app(self, connector: Any, run: Callable[[int], None] | None = None) -> Any:
        import procrastinate

        app: Any = procrastinate.App(connector=connector)

        def job(number: int) -> None:
            assert run is not None
            run(number)

        self.job: Any = app.task(name=NAME, queue=NAME)(job)
        return app

    @property
    def _conninfo(self) -> str:
        return self.database.url.replace("+psycopg", "")

    @cached_property
    def app(self) -> Any:
        from procrastinate import SyncPsycopgConnector

        app = self._app(SyncPsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=2))
        app.open()
        return app

    def make(self) -> None:
        super().make()
        self.app.schema_manager.apply_schema()

    def clear(self) -> None:
        self.app.close()
        super().clear()

    def hand_over(self, number: int, session: Session | None) -> None:
        assert self.app is not None
        connection = None if session is None else session.connection().connection.driver_connection
        self.job.configure(connection=connection).defer(number=number)

    def hand_all_over(self, numbers: Iterable[int]) -> None:
        assert self.app is not None
        self.job.batch_defer(*({"number": number} for number in numbers))

    def work(self, task: Task) -> None:
        from procrastinate import PsycopgConnector

        jobs = Jobs(task)
        app = self._app(PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=4), jobs.run)
        app.run_worker(
            queues=[NAME],
            concurrency=1,
            delete_jobs="successful",
            update_heartbeat_interval=0.5,
            stalled_worker_timeout=2.0,
            fetch_job_polling_interval=0.5,
        )

    def requeue(self) -> None:
        """Hand over again stalled jobs, as the periodic task in its documentation does."""
        import asyncio

        from procrastinate import App, PsycopgConnector

        async def retry() -> None:
            app = App(connector=PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=1))

            async with app.open_async():
                for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=2.0):
                    await app.job_manager.retry_job(job)

        asyncio.run(retry())


class Dbos(Contestant):
    """DBOS. The effect of a job is a step of its workflow. A hundred workflows are claimed at once, and run by one
    thread."""

    def __init__(self, name: str, database: Database) -> None:
        super().__init__(name, database, WITHIN)

    def make(self) -> None:
        super().make()
        child = SPAWN.Process(target=self.migrate)  # It has one instance per process.
        child.start()
        child.join()

    def _launch(self, run: Callable[[int], None], is_step: bool = False) -> Any:
        import dbos

        url = self.database.url.replace("+psycopg", "")
        dbos.DBOS(
            config={
                "name": NAME,
                "system_database_url": url,
                "log_level": "CRITICAL",
                "max_executor_threads": 1,
                "executor_id": NAME,
                "application_version": "1",
            }
        )

        def effect(number: int) -> None:
            run(number)

        step = dbos.DBOS.step(name="effect")(effect) if is_step else run

        @dbos.DBOS.workflow(name=NAME)
        def job(number: int) -> None:
            step(number)

        dbos.DBOS.launch()
        dbos.DBOS.register_queue(NAME, worker_concurrency=100, polling_interval_sec=0.01)
        return dbos.DBOS

    def migrate(self) -> None:
        """Create its tables and the queue."""
        self._launch(lambda _: None).destroy()

    @cached_property
    def client(self) -> Any:
        from dbos import DBOSClient

        return DBOSClient(system_database_engine=self.engine)

    def clear(self) -> None:
        self.client.destroy()
        super().clear()

    def hand_over(self, number: int, session: Session | None) -> None:
        assert session is not None
        self.client.enqueue_in_transaction(session, {"workflow_name": NAME, "queue_name": NAME}, number)

    def hand_all_over(self, numbers: Iterable[int]) -> None:
        with Session(self.engine) as session, session.begin():
            for number in numbers:
                self.hand_over(number, session)

    def work(self, task: Task) -> None:
        self._launch(Jobs(task).run, is_step=bool(task.url))

        while True:
            time.sleep(1.0)
