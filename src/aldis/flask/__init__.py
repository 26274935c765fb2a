"""Aldis in Flask: Flask's own signals, declared, and what an application has to say about signals.

The ten signals of Flask, as declared signals of Aldis. Where Flask runs on Aldis (see
:func:`aldis.install_as_blinker`), they *are* Flask's. Where it runs on Blinker, they forward from Flask's while
somebody is connected to them, and nothing of Flask is replaced.
"""

from __future__ import annotations

from aldis._web.state import State

from ._after_response import AfterResponse, after_response
from ._core_signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    before_render_template,
    got_request_exception,
    message_flashed,
    request_finished,
    request_started,
    request_tearing_down,
    template_rendered,
)
from ._extension import Aldis

__all__ = [
    "AfterResponse",
    "Aldis",
    "State",
    "after_response",
    "appcontext_popped",
    "appcontext_pushed",
    "appcontext_tearing_down",
    "before_render_template",
    "got_request_exception",
    "message_flashed",
    "request_finished",
    "request_started",
    "request_tearing_down",
    "template_rendered",
]
