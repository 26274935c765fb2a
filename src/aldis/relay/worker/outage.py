"""Keep a worker alive while its database is away: report it once, pause, reconnect, and try again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from aldis.relay.storage.dialects import is_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from aldis.relay.storage.database import Database

logger: Final = logging.getLogger("aldis.relay")

# The shortest and the longest pause.
_PAUSES_S: Final = (0.2, 5.0)


@final
class OutageHandler:
    """Runs work with the database, and handles its errors.

    :param on_error: called when work has failed and must be done again.
    :param is_fatal: whether errors are raised. ``drain()`` raises them, because its caller waits, and could neither
        stop the drain nor see the reason.
    :ivar is_away: whether the last work failed, and a lock was not the reason.
    :ivar pause_s: how many seconds to pause before the next try.
    """

    def __init__(self, database: Database, on_error: Callable[[], object], *, is_fatal: bool) -> None:
        self._database = database
        self._on_error = on_error
        self._is_fatal = is_fatal
        self.is_away = False
        self.pause_s = _PAUSES_S[0]

    def attempt(self, work: Callable[[], object]) -> bool:
        """Do some work. If the database fails, log it once.

        :return: whether the work was done. If not, pause for :attr:`pause_s` and try again.
        """
        try:
            work()
        except SQLAlchemyError as error:
            if isinstance(error, StatementError):
                error.hide_parameters = True

            if self._is_fatal:
                raise

            self._handle(error)
            return False

        if self.is_away:
            logger.warning("The database is back")

        self.is_away = False
        self.pause_s = _PAUSES_S[0]
        return True

    def _handle(self, error: SQLAlchemyError) -> None:
        self._on_error()

        if isinstance(error, DBAPIError) and is_busy(error):
            return  # Another transaction holds its locks for long. The next step tries again.

        if not self.is_away:
            logger.warning("The database does not work as expected. Trying again: %s", error)

        self.is_away = True
        self.pause_s = min(self.pause_s * 2, _PAUSES_S[1])

        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return  # SQLAlchemy has already replaced the other connections of the pool.

        close_quietly(self._database.reconnect)


def close_quietly(close: Callable[[], object]) -> None:
    """Close connections, and ignore errors: the connections may be lost already."""
    try:
        close()
    except Exception:
        logger.debug("The connections could not be closed", exc_info=True)
