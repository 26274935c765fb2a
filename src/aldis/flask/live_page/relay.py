"""What the live page says of the application's relay: who has messages waiting, and which were given up.

It is asked for while somebody looks at it, and at no other time. Names, numbers and reasons are said, and nothing of
what the messages are about.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aldis._core.callables import qualified_name
from aldis.exceptions import AldisError

from .events import roots
from .journal import Journal
from .snapshots import Entry, current

if TYPE_CHECKING:
    from flask import Flask

    from aldis.relay import DeadLetter, ReceiverStatus, Relay

MOST_LETTERS: Final = 50
"""How many dead letters are listed. Of others, their number."""

# To ask takes a context of the application, which sends signals. They are noted in no journal that is looked at.
_UNSEEN: Final = Entry(Journal(), "GET", "", 0.0)


def look(app: Flask, relay: Relay) -> bytes:
    """How the relay's messages are doing, as JSON; or why that cannot be told.

    :param app: the application, in whose context the database is asked.
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
            receivers, letters = relay.status(), relay.dead_letters(most=MOST_LETTERS)

        return {"receivers": [*map(_receiver, receivers)], "letters": [*map(_letter, letters)]}
    except AldisError as error:
        return {"problem": str(error)}
    except Exception as error:  # What that says may have values in it.
        return {"problem": f"The database could not be asked: {qualified_name(type(error))}."}


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
    """A reason, without the folder in which the receiver's file is. A database of SQLite may have anything there."""
    text = str(reason)

    for root in roots():
        text = text.replace(f"({root}", "(")

    return text
