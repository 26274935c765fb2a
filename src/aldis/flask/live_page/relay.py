"""The relay tab of the live page: how many messages wait for each receiver, and the dead letters.

The page queries the database only while a user looks at the tab. The answer has names, numbers and reasons, and nothing
of a message's payload.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aldis._core.callables import qualified_name
from aldis.exceptions import AldisError

from .events import roots
from .snapshots import RequestSnapshot, current

if TYPE_CHECKING:
    from flask import Flask

    from aldis.relay import DeadLetter, ReceiverStatus, Relay

MAX_DEAD_LETTERS: Final = 50
"""How many dead letters the tab lists. It shows how many more there are."""

# The query needs an app context, which sends signals. No journal owns this request, so no journal keeps those sends.
_UNSEEN: Final = RequestSnapshot(None, "GET", "", 0.0)


def look(app: Flask, relay: Relay) -> bytes:
    """Return the state of the relay's receivers and the dead letters as JSON; or the problem that prevents this.

    :param app: the application. The query runs in its context.
    :param relay: its relay.
    """
    token = current.set(_UNSEEN)

    try:
        return json.dumps(_look(app, relay), separators=(",", ":")).encode()
    finally:
        current.reset(token)


def _look(app: Flask, relay: Relay) -> dict[str, Any]:
    try:
        with app.app_context():
            receivers, letters = relay.status(), relay.dead_letters(limit=MAX_DEAD_LETTERS)

        return {"receivers": [*map(_receiver, receivers)], "letters": [*map(_letter, letters)]}
    except AldisError as error:
        return {"problem": str(error)}
    except Exception as error:  # Its message may contain values.
        return {"problem": f"The database could not be queried: {qualified_name(type(error))}."}


def _receiver(status: ReceiverStatus) -> dict[str, Any]:
    return {
        "name": str(status.receiver),
        "known": status.is_known,
        "backlog": status.backlog,
        "in_flight": status.in_flight,
        "retrying": status.retrying,
        "age": status.oldest_age_s,
        "dead": status.dead,
        "failure": None if status.failure is None else _short(status.failure),
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.id,
        "receiver": str(letter.receiver),
        "attempts": letter.attempts,
        "died": letter.died_at.timestamp(),
        "reason": _short(letter.reason),
    }


def _short(reason: object) -> str:
    """Return a reason without the folder of the receiver's file."""
    text = str(reason)  # A column of SQLite may hold any type.

    for root in roots():
        text = text.replace(f"({root}", "(")

    return text
