"""Aldis in Quart: Quart's own signals, declared, and the extension that sets up an application.

This is :mod:`aldis.flask` for Quart, which sends its signals with ``send_async``. Sync receivers run by
``app.ensure_async``.
"""

from __future__ import annotations

from ._after_response import AfterResponse, after_response
from ._core_signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    before_render_template,
    got_background_exception,
    got_request_exception,
    got_serving_exception,
    got_websocket_exception,
    message_flashed,
    request_finished,
    request_started,
    request_tearing_down,
    template_rendered,
    websocket_finished,
    websocket_received,
    websocket_sent,
    websocket_started,
    websocket_tearing_down,
)
from ._extension import Aldis, failures_of

__all__ = [
    "AfterResponse",
    "Aldis",
    "after_response",
    "appcontext_popped",
    "appcontext_pushed",
    "appcontext_tearing_down",
    "before_render_template",
    "failures_of",
    "got_background_exception",
    "got_request_exception",
    "got_serving_exception",
    "got_websocket_exception",
    "message_flashed",
    "request_finished",
    "request_started",
    "request_tearing_down",
    "template_rendered",
    "websocket_finished",
    "websocket_received",
    "websocket_sent",
    "websocket_started",
    "websocket_tearing_down",
]
