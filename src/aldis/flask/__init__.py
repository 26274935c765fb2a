"""Aldis in Flask: Flask's own signals, declared, and the extension that sets up an application.

The ten signals of Flask are declared signals of Aldis here. Where Flask runs on Aldis (see
:func:`aldis.install_as_blinker`), they *are* Flask's signals. Where Flask runs on Blinker, they mirror Flask's signals
while they have receivers, and no part of Flask is replaced.
"""

from __future__ import annotations

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
    "got_request_exception",
    "message_flashed",
    "request_finished",
    "request_started",
    "request_tearing_down",
    "template_rendered",
]
