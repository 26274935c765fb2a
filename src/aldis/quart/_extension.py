"""The extension: what one application has to say about signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from quart import Quart, current_app, has_app_context

from aldis._core.dispatch import default_wrappers
from aldis._web.state import EXTENSION, set_up
from aldis.observe._inspect import descriptions

from ._after_response import Ending, serving
from ._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis._web.state import Signals
    from aldis.relay import Relay


@final
class Aldis:
    """The extension for one application or several.

    ::

        from quart import Quart
        from aldis.quart import Aldis

        app = Quart("shop")
        Aldis(app)

    With it, in the application's contexts, ``send_async`` runs sync receivers of all signals by
    ``app.ensure_async``, receivers may run ``via=after_response``, and the configuration holds:

    ``ALDIS_ERRORS``
        What happens when a receiver of one of Quart's own signals raises: ``"propagate"``, the default, as Quart
        does it; ``"log"``: the failure is logged by ``app.logger``, and the response and the other receivers
        are not affected; or a callable, as :attr:`aldis.Signal.errors` has it. Read when the application is
        initialised.

    :param app: an application to begin with.
    :param signals: namespaces and signals of the application, for those who show signals.
    :param relay: the relay of the application's durable receivers, see :mod:`aldis.relay`. The application crosses as
        a sender by its name, and its receivers run in an app context of their own. The worker is
        ``python -m aldis worker module:relay``.
    :raises InvalidOptionError: as :meth:`init_app`.

    .. versionadded:: 0.1
    """

    def __init__(
        self, app: Quart | None = None, *, signals: Iterable[Signals] = (), relay: Relay | None = None
    ) -> None:
        self._signals = tuple(signals)
        self._relay = relay

        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Set an application up. Call it before the first request.

        :param app: the application.
        :raises InvalidOptionError: when ``ALDIS_ERRORS`` is none of what it can be, or the application was set
            up already.
        """
        set_up(app, CORE_SIGNALS, self._signals, relay=self._relay, application_of=_application_of)

        if self._relay is not None:
            context: Any = app.app_context  # Quart types what it gives by halves.
            self._relay._serve_async(app, app.name, context)

        app.asgi_app = Ending(app, app.asgi_app)  # type: ignore[method-assign]


def _application_of(sender: Any) -> Any:
    """The application that a signal of Quart's is about. A websocket's messages are senders themselves."""
    return serving.get() if isinstance(sender, (str, bytes)) else sender


def _cross(is_async: bool) -> Callable[..., Any] | None:
    """How to run sync receivers of a signal that does not say, where an application with Aldis is current."""
    if is_async:
        return None

    app = current_app if has_app_context() else serving.get()
    return app.ensure_async if app is not None and EXTENSION in app.extensions else None


default_wrappers.append(_cross)
descriptions.append((Quart, lambda app: f"Quart {app.name!r}"))
