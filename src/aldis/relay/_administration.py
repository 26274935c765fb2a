"""The administrative part of :class:`~aldis.relay.Relay`: tables, backlogs and dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy.exc import DBAPIError

from aldis.exceptions import InvalidOptionError

from ._backoff import check_number
from .storage import backlog, claims, dead_letters, effects, tables
from .storage.dialects import is_away, is_busy, use_wal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sqlalchemy import Connection, MetaData

    from .storage.backlog import Backlog
    from .storage.rows import DeadLetter
    from .worker.parts import RelayParts

    T = TypeVar("T")

_MOST_LETTERS: Final = 1000
_LONGEST_AGE_S: Final = 1e11

# MySQL commits each table, and the version in it, by itself: another process may be first with each table.
_TRIES: Final = len(tables.TABLES) + 1


class ReceiverStatus(NamedTuple):
    """The counts of one receiver's messages, see :meth:`Relay.status`.

    .. versionadded:: 0.1
    """

    receiver: str
    """The receiver's name, as the rows have it."""

    is_known: bool
    """Whether a receiver of that name is connected in this process. Rows of an unknown receiver wait."""

    backlog: int
    """The number of rows that wait, including rows that wait for another attempt."""

    in_flight: int
    """The number of rows that workers have claimed."""

    retrying: int
    """The number of rows in the backlog that had an attempt before."""

    oldest_age_s: float
    """The age of the oldest row."""

    dead: int
    """Dead letters."""

    failure: str | None
    """Why one of the rows failed, if one did."""


class Administration:
    """The administrative methods of :class:`~aldis.relay.Relay`."""

    _parts: RelayParts

    # Tables.

    @property
    def metadata(self) -> MetaData:
        """The relay's tables, for Alembic: ``target_metadata = [db.metadata, relay.metadata]``."""
        return tables.metadata

    def create_tables(self) -> None:
        """Create the relay's tables that are missing. In SQLite, also turn the write-ahead log on.

        :raises RelaySchemaError: when the existing tables have another version.
        """
        database = self._parts.database

        for _ in range(_TRIES):
            try:
                database.run(tables.create)
                break
            except DBAPIError:
                continue  # Another process created them at the same time.
        else:
            database.run(tables.create)

        database.run_plain(use_wal)

    def check_tables(self) -> None:
        """Check that the relay's tables are there, and that this code knows their version.

        :raises RelaySchemaError: when a table is missing, or the tables have another version.
        """
        self._parts.database.run(tables.check)

    # Backlogs.

    def status(self) -> list[ReceiverStatus]:
        """Return the counts of all receivers' messages, by name.

        It counts all rows, so it takes a while when there are many.

        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        counts, dead = self._read(lambda connection: (backlog.count(connection), dead_letters.counts(connection)))
        known = self._parts.receivers.known()
        rows = {row.receiver: row for row in counts}
        names = sorted({*rows, *dead, *known})
        return [_status(name, rows.get(name), dead.get(name, 0), name in known) for name in names]

    def drop_messages(self, receiver: str) -> int:
        """Delete the messages that wait for a receiver that will never be known again.

        Messages that a worker has claimed stay.

        :param receiver: the receiver's name.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        return self._write(lambda connection: claims.drop_messages(connection, receiver))

    # Dead letters.

    def dead_letters(self, receiver: str | None = None, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Return dead letters, the oldest first.

        .. code-block:: text

            page = relay.dead_letters(limit=1000)

            while page:
                show(page)
                page = relay.dead_letters(limit=1000, after=page[-1].id)

        :param receiver: only dead letters of this receiver.
        :param limit: the largest number of dead letters to return, from 1 to 1,000.
        :param after: only dead letters with a larger number. For the next page, pass the number of the last letter.
        :raises InvalidOptionError: when ``limit`` is out of its range.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        check_number("limit", limit, least=1)

        if limit > _MOST_LETTERS:
            raise InvalidOptionError(
                f"dead_letters() returns up to {_MOST_LETTERS} at once, not limit={limit}. To get more, ask page by"
                " page: dead_letters(limit=..., after=page[-1].id)."
            )

        return self._read(lambda connection: dead_letters.find(connection, receiver, int(limit), after))

    def dead_payload(self, number: int) -> str | None:
        """Return the payload of a dead letter, as JSON; ``None`` if there is no such letter.

        :param number: the letter's number, :attr:`aldis.relay.DeadLetter.id`.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        return self._read(lambda connection: dead_letters.payload_of(connection, number))

    def retry_dead(self, *numbers: int) -> int:
        """Requeue dead letters: their messages get all attempts again. They keep their ids and the time of their send.

        :param numbers: the letters' numbers.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        return self._write(lambda connection: dead_letters.requeue(connection, numbers))

    def drop_dead(self, *numbers: int) -> int:
        """Delete dead letters.

        :param numbers: the letters' numbers.
        :return: how many there were.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        return self._write(lambda connection: dead_letters.drop(connection, numbers))

    def purge_dead_letters(self, *, older_than_s: float) -> int:
        """Delete old dead letters.

        :param older_than_s: the least age of the letters that are deleted, in seconds.
        :return: how many there were.
        :raises InvalidOptionError: when ``older_than_s`` is not a number, 0 or more.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        age_ms = _age_ms("purge_dead_letters", older_than_s)
        return self._write(lambda connection: dead_letters.purge(connection, age_ms))

    def purge_effects(self, *, older_than_s: float) -> int:
        """Delete old notes of effects, see :meth:`first_time`.

        A message whose note was deleted has its effect again if it is received again. That can happen until its row and
        its dead letter are deleted, so keep notes for longer than dead letters.

        :param older_than_s: the least age of the notes that are deleted, in seconds.
        :return: how many there were.
        :raises InvalidOptionError: when ``older_than_s`` is not a number, 0 or more.
        :raises RelaySchemaError: when the tables are missing, or of another version.
        """
        age_ms = _age_ms("purge_effects", older_than_s)
        return self._write(lambda connection: effects.purge(connection, age_ms))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._explained(self._parts.database.look, work)

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._explained(self._parts.database.run, work)

    def _explained(self, run: Callable[[Callable[[Connection], T]], T], work: Callable[[Connection], T]) -> T:
        """Do some work with the tables. If it fails because they are missing, raise an error that says so."""
        try:
            return run(work)
        except DBAPIError as error:
            if not is_away(error) and not is_busy(error):
                self.check_tables()

            raise


def _status(name: str, row: Backlog | None, dead: int, is_known: bool) -> ReceiverStatus:
    if row is None:
        return ReceiverStatus(name, is_known, 0, 0, 0, 0.0, dead, None)

    return ReceiverStatus(name, is_known, row.waiting, row.in_flight, row.retrying, row.oldest_age_s, dead, row.failure)


def _age_ms(method: str, older_than_s: float) -> int:
    if not 0 <= older_than_s <= _LONGEST_AGE_S:
        raise InvalidOptionError(f"{method}() takes older_than_s=, seconds of 0 or more, not {older_than_s!r}.")

    return int(older_than_s * 1000)
