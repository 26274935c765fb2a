"""Declare the signals that Flask sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask.signals as flask_signals

from aldis._web.mirrors import declared

if TYPE_CHECKING:
    from flask import Flask
    from flask.wrappers import Response
    from jinja2 import Template


@declared(flask_signals.before_render_template)
def before_render_template(sender: Flask, /, *, template: Template, context: dict[str, Any]) -> object:
    """Sent before a template is rendered.

    :param template: the template.
    :param context: the variables of the template. A receiver may change it.
    """
    raise NotImplementedError


@declared(flask_signals.template_rendered)
def template_rendered(sender: Flask, /, *, template: Template, context: dict[str, Any]) -> object:
    """Sent when a template was rendered.

    :param template: the template.
    :param context: the variables of the template.
    """
    raise NotImplementedError


@declared(flask_signals.request_started)
def request_started(sender: Flask, /) -> object:
    """Sent when the request context is set up, before the request is handled. ``flask.request`` works."""
    raise NotImplementedError


@declared(flask_signals.request_finished)
def request_finished(sender: Flask, /, *, response: Response) -> object:
    """Sent before the response goes to the client.

    :param response: the response. A receiver may change it, but not replace it.
    """
    raise NotImplementedError


@declared(flask_signals.got_request_exception)
def got_request_exception(sender: Flask, /, *, exception: Exception) -> object:
    """Sent when a request raises an exception that no error handler handles, before it is logged.

    :param exception: the exception.
    """
    raise NotImplementedError


@declared(flask_signals.request_tearing_down)
def request_tearing_down(sender: Flask, /, *, exc: BaseException | None) -> object:
    """Sent when the request is torn down, also after an exception.

    :param exc: the exception that ended the request, if no error handler handled it; else ``None``.
    """
    raise NotImplementedError


@declared(flask_signals.appcontext_pushed)
def appcontext_pushed(sender: Flask, /) -> object:
    """Sent when an app context was pushed."""
    raise NotImplementedError


@declared(flask_signals.appcontext_popped)
def appcontext_popped(sender: Flask, /) -> object:
    """Sent when an app context was popped."""
    raise NotImplementedError


@declared(flask_signals.appcontext_tearing_down)
def appcontext_tearing_down(sender: Flask, /, *, exc: BaseException | None) -> object:
    """Sent when an app context is torn down, also after an exception.

    :param exc: the exception that ended the context, if no error handler handled it; else ``None``.
    """
    raise NotImplementedError


@declared(flask_signals.message_flashed)
def message_flashed(sender: Flask, /, *, message: str, category: str) -> object:
    """Sent when a message is flashed.

    :param message: the message.
    :param category: its category.
    """
    raise NotImplementedError


CORE_SIGNALS = (
    request_started,
    before_render_template,
    template_rendered,
    message_flashed,
    request_finished,
    got_request_exception,
    request_tearing_down,
    appcontext_pushed,
    appcontext_tearing_down,
    appcontext_popped,
)
