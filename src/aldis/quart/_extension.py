"""The extension, which sets up signals for a Quart application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from quart import Quart, current_app, has_app_context

from aldis._web.state import find_state, register_wrapper, set_up, state_of

from ._after_response import AfterResponseMiddleware, serving
from ._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable

    from aldis._web.state import ShownSignals
    from aldis.relay import Relay


@final
class Aldis:
    """The extension for one application or several.

    ::

        from quart import Quart
        from aldis.quart import Aldis

        app = Quart("shop")
        Aldis(app)

    In a context of the application, ``send_async`` then runs sync receivers of all signals by ``app.ensure_async``, and
    receivers may run ``via=after_response``. The configuration:

    ``ALDIS_ERRORS``
        The failure policy of Quart's own signals, as for :attr:`aldis.Signal.errors`: ``"propagate"``, the default,
        which Quart has too; ``"collect"``; ``"log"``, which logs each failure to ``app.logger`` and changes neither the
        response nor the other receivers; or a callable. It is read once, by :meth:`init_app`.
        :func:`failures_of` returns the numbers of failures.

    :param app: an application to set up now. Set up more applications by :meth:`init_app`.
    :param show: the application's own namespaces and signals, for tools that show signals. It changes nothing else.
    :param relay: the relay of the application's durable receivers, see :mod:`aldis.relay`. The application crosses as a
        sender by its name, and its durable receivers run in an app context of their own. Run the worker by ``python -m
        aldis relay worker module:relay``.
    :raises InvalidOptionError: as :meth:`init_app`.

    .. versionadded:: 0.1
    """

    def __init__(
        self, app: Quart | None = None, *, show: Iterable[ShownSignals] = (), relay: Relay | None = None
    ) -> None:
        self._shown = tuple(show)
        self._relay = relay

        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Set an application up. Call it before the first request.

        :param app: the application.
        :raises InvalidOptionError: when ``ALDIS_ERRORS`` is not a failure policy, or the application has Aldis already.
        """
        set_up(app, CORE_SIGNALS, self._shown, relay=self._relay, application_of=_application_of)
        register_wrapper(_sync_wrapper)

        if self._relay is not None:
            from aldis.relay.worker.parts import parts_of  # There is a relay, so its package is loaded already.

            context: Any = app.app_context  # Quart does not declare the type of the result.
            parts_of(self._relay).bind_async_application(app, app.name, context)

        app.asgi_app = AfterResponseMiddleware(app, app.asgi_app)  # type: ignore[method-assign]


def failures_of(app: Quart) -> Counter[tuple[str, str]]:
    """Return how often receivers of Quart's own signals failed in an application.

    Only a policy that handles failures counts them: ``ALDIS_ERRORS`` as ``"log"`` or a callable. Exceptions that
    ``"propagate"`` and ``"collect"`` raise are not counted.

    :param app: the application.
    :return: the numbers of failures until now, by the signal's name and the receiver's qualified name. It is a copy.
    :raises InvalidOptionError: when the application has no Aldis.

    .. versionadded:: 0.1
    """
    return state_of(app).failures()


def _application_of(sender: Any) -> Any:
    """Return the application that a sender belongs to. A websocket's messages are senders themselves."""
    return serving.get() if isinstance(sender, (str, bytes)) else sender


def _sync_wrapper(is_async: bool) -> Callable[..., Any] | None:
    """Return the wrapper for sync receivers where an application with Aldis is current; ``None`` elsewhere."""
    if is_async:
        return None

    app = current_app if has_app_context() else serving.get()
    return None if app is None or find_state(app) is None else app.ensure_async
