"""Declare the signals that Quart sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import quart.signals as quart_signals

from aldis._web.mirrors import declared

if TYPE_CHECKING:
    from jinja2 import Template
    from quart import Quart
    from quart.wrappers import Response


@declared(quart_signals.before_render_template, is_async=True)
def before_render_template(sender: Quart, /, *, template: Template, context: dict[str, Any]) -> object:
    """Sent before a template is rendered.

    :param template: the template.
    :param context: the variables of the template. A receiver may change it.
    """
    raise NotImplementedError


@declared(quart_signals.template_rendered, is_async=True)
def template_rendered(sender: Quart, /, *, template: Template, context: dict[str, Any]) -> object:
    """Sent when a template was rendered.

    :param template: the template.
    :param context: the variables of the template.
    """
    raise NotImplementedError


@declared(quart_signals.request_started, is_async=True)
def request_started(sender: Quart, /) -> object:
    """Sent when the request context is set up, before the request is handled. ``quart.request`` works."""
    raise NotImplementedError


@declared(quart_signals.request_finished, is_async=True)
def request_finished(sender: Quart, /, *, response: Response) -> object:
    """Sent before the response goes to the client.

    :param response: the response. A receiver may change it, but not replace it.
    """
    raise NotImplementedError


@declared(quart_signals.request_tearing_down, is_async=True)
def request_tearing_down(sender: Quart, /, *, exc: BaseException | None) -> object:
    """Sent when the request is torn down, also after an exception.

    :param exc: the exception that ended the request, if no error handler handled it; else ``None``.
    """
    raise NotImplementedError


@declared(quart_signals.got_request_exception, is_async=True)
def got_request_exception(sender: Quart, /, *, exception: Exception) -> object:
    """Sent when a request raises an exception that no error handler handles, before it is logged.

    :param exception: the exception.
    """
    raise NotImplementedError


@declared(quart_signals.got_background_exception, is_async=True)
def got_background_exception(sender: Quart, /, *, exception: Exception) -> object:
    """Sent when a background task raises an exception.

    :param exception: the exception.
    """
    raise NotImplementedError


@declared(quart_signals.got_serving_exception, is_async=True)
def got_serving_exception(sender: Quart, /, *, exception: Exception) -> object:
    """Sent when code that runs before or after serving raises an exception.

    :param exception: the exception.
    """
    raise NotImplementedError


@declared(quart_signals.websocket_started, is_async=True)
def websocket_started(sender: Quart, /) -> object:
    """Sent when the websocket context is set up. ``quart.websocket`` works."""
    raise NotImplementedError


@declared(quart_signals.websocket_received, is_async=True)
def websocket_received(sender: str | bytes, /) -> object:
    """Sent when a websocket has received a message. The sender is the message."""
    raise NotImplementedError


@declared(quart_signals.websocket_sent, is_async=True)
def websocket_sent(sender: str | bytes, /) -> object:
    """Sent when a websocket has sent a message. The sender is the message."""
    raise NotImplementedError


@declared(quart_signals.websocket_finished, is_async=True)
def websocket_finished(sender: Quart, /, *, response: Response | None) -> object:
    """Sent when a websocket's handler has ended.

    :param response: the response, if the handler returned one.
    """
    raise NotImplementedError


@declared(quart_signals.websocket_tearing_down, is_async=True)
def websocket_tearing_down(sender: Quart, /, *, exc: BaseException | None) -> object:
    """Sent when the websocket is torn down, also after an exception.

    :param exc: the exception that ended it, if no error handler handled it; else ``None``.
    """
    raise NotImplementedError


@declared(quart_signals.got_websocket_exception, is_async=True)
def got_websocket_exception(sender: Quart, /, *, exception: Exception) -> object:
    """Sent when a websocket raises an exception that no error handler handles.

    :param exception: the exception.
    """
    raise NotImplementedError


@declared(quart_signals.appcontext_pushed, is_async=True)
def appcontext_pushed(sender: Quart, /) -> object:
    """Sent when an app context was pushed."""
    raise NotImplementedError


@declared(quart_signals.appcontext_popped, is_async=True)
def appcontext_popped(sender: Quart, /) -> object:
    """Sent when an app context was popped."""
    raise NotImplementedError


@declared(quart_signals.appcontext_tearing_down, is_async=True)
def appcontext_tearing_down(sender: Quart, /, *, exc: BaseException | None) -> object:
    """Sent when an app context is torn down, also after an exception.

    :param exc: the exception that ended the context, if no error handler handled it; else ``None``.
    """
    raise NotImplementedError


@declared(quart_signals.message_flashed, is_async=True)
def message_flashed(sender: Quart, /, *, message: str, category: str) -> object:
    """Sent when a message is flashed.

    :param message: the message.
    :param category: its category.
    """
    raise NotImplementedError


CORE_SIGNALS = (
    before_render_template,
    template_rendered,
    request_started,
    request_finished,
    request_tearing_down,
    got_request_exception,
    got_background_exception,
    got_serving_exception,
    websocket_started,
    websocket_received,
    websocket_sent,
    websocket_finished,
    websocket_tearing_down,
    got_websocket_exception,
    appcontext_pushed,
    appcontext_popped,
    appcontext_tearing_down,
    message_flashed,
)
