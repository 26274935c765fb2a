"""The shop's own signals, and the ones of others that it listens to."""

from __future__ import annotations

import logging
from typing import Any

import flask
from flask import Flask
from flask_sqlalchemy import track_modifications

from aldis import Failure, NamedSignal, Namespace

logger = logging.getLogger(__name__)


def log_failure(failure: Failure) -> None:
    """The failure policy: a mail that cannot be sent must not undo an order, nor keep others from hearing of it.

    What is logged names the signal and the receiver, and never shows a payload.
    """
    logger.error("%r", failure, exc_info=failure.exception)


signals = Namespace(errors=log_failure)


@signals.declare
def user_registered(sender: Flask, /, *, user_id: int, source: str = "web") -> None:
    """Sent when the row of a new user has been committed."""


@signals.declare
def order_placed(sender: Flask, /, *, order_id: int, total_cents: int) -> None:
    """Sent when the rows of an order have been committed."""


def on_aldis(signal: object) -> NamedSignal[Any, ..., Any]:
    """See that a signal of Flask's is one of Aldis's.

    Type checkers read Blinker's files, where ``connect`` takes no ``priority`` and no ``via``. This tells them too.
    """
    assert isinstance(signal, NamedSignal), f"{signal!r} is not delivered by Aldis"
    return signal


# Who connects to these reaches all apps of the process: give the app as the sender. Their failure policy stays
# "propagate", for the same reason: it is not this app's alone to choose.
appcontext_pushed = on_aldis(flask.appcontext_pushed)
request_started = on_aldis(flask.request_started)
before_render_template = on_aldis(flask.before_render_template)
template_rendered = on_aldis(flask.template_rendered)
message_flashed = on_aldis(flask.message_flashed)
got_request_exception = on_aldis(flask.got_request_exception)
request_finished = on_aldis(flask.request_finished)
request_tearing_down = on_aldis(flask.request_tearing_down)
appcontext_tearing_down = on_aldis(flask.appcontext_tearing_down)
appcontext_popped = on_aldis(flask.appcontext_popped)

before_models_committed = on_aldis(track_modifications.before_models_committed)
models_committed = on_aldis(track_modifications.models_committed)
