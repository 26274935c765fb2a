"""The shop's own signals. Flask's signals are declared in ``aldis.flask``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aldis import Failure, Namespace

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)


def log_failure(failure: Failure) -> None:
    """Log a failure of a receiver. So a count that fails does not undo an order, and the other receivers still run.

    The log names the signal and the receiver, and never shows a payload.
    """
    logger.error("%r", failure, exc_info=failure.exception)


signals = Namespace(errors=log_failure)


@signals.declare
def user_registered(sender: Flask, /, *, user_id: int, source: str = "web") -> None:
    """Sent in the transaction that writes the row of a new user."""


@signals.declare
def order_placed(sender: Flask, /, *, order_id: int, total_cents: int) -> None:
    """Sent in the transaction that writes the rows of an order."""
