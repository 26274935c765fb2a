"""Runners: they decide where receivers run. By default, receivers run in the threads of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from aldis.relay._durable import Durable
    from aldis.relay.storage.database import Database
    from aldis.relay.storage.rows import Row

    from .consumer import Consumer, Guard, Outcome


class Runner(Protocol):
    """A runner, for ``Relay(runner=...)``: for example :class:`aldis.relay.celery.CeleryRunner`."""

    def attach(self, consumer: Consumer, database: Database, /) -> None:
        """Attach the runner to a relay, whose receivers it runs. The relay calls this when it is made.

        :param consumer: receives the relay's rows.
        :param database: the relay's database.
        :raises InvalidOptionError: when the runner already belongs to another relay.
        """
        raise NotImplementedError

    def check(self, durable: Durable, /) -> None:
        """Refuse options that this runner cannot keep. ``relay.durable()`` calls this.

        :raises InvalidOptionError: when it cannot keep one of them.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Prepare for a worker. The worker calls this before it begins.

        :raises InvalidOptionError: when messages would be lost with the current settings.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Clean up after a worker. The worker calls this when it has ended."""
        raise NotImplementedError

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Run the receiver of a claimed row, or hand the row over. The worker calls this in one of its threads. It must
        not raise.

        :param guard: limits the time of a receiver: a context manager that takes its ``timeout_s``.
        :return: what the worker does with the row.
        """
        raise NotImplementedError


@final
class InProcessRunner:
    """Runs receivers in the threads of the worker."""

    def attach(self, consumer: Consumer, database: Database, /) -> None:
        """Keep the consumer, which receives the rows that workers claim."""
        self._receive = consumer.receive

    def check(self, durable: Durable, /) -> None:
        """Accept all options."""

    def start(self) -> None:
        """Do nothing: there is nothing to prepare."""

    def stop(self) -> None:
        """Do nothing: there is nothing to clean up."""

    def handle(self, row: Row, guard: Guard, /) -> Outcome:
        """Run the receiver."""
        return self._receive(row, guard)
