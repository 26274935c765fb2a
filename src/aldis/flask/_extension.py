"""The extension, which sets up signals for a Flask application."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, final

from flask import Flask, current_app, has_app_context
from flask.testing import FlaskClient

from aldis._web.state import find_state, register_wrapper, set_up, state_of

from ._after_response import IN_TEST, AfterResponseMiddleware
from ._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable

    from aldis._web.state import ShownSignals, State
    from aldis.relay import Relay

    from ._after_response import Application


@final
class Aldis:
    """The extension for one application or several.

    ::

        from flask import Flask
        from aldis.flask import Aldis

        app = Flask("shop")
        Aldis(app)

    In a context of the application, async receivers of all signals then run by ``app.ensure_sync``, and receivers may
    run ``via=after_response``. The configuration:

    ``ALDIS_ERRORS``
        The failure policy of Flask's own signals, as for :attr:`aldis.Signal.errors`: ``"propagate"``, the default,
        which Flask has too; ``"collect"``; ``"log"``, which logs each failure to ``app.logger`` and changes neither the
        response nor the other receivers; or a callable. It is read once, by :meth:`init_app`.
        :func:`failures_of` returns the numbers of failures.
    ``ALDIS_SHOW_VALUES``
        Whether the live page also shows values of payloads: ``True`` or ``False``, the default.
    ``ALDIS_PAGE_HOSTS``
        Names of the application, and addresses and networks of clients, that the live page answers besides this
        machine.

    In debug mode, the live page is at ``/_aldis/``. Outside debug mode, no part of it is loaded.

    :param app: an application to set up now. Set up more applications by :meth:`init_app`.
    :param show: the application's own namespaces and signals, for ``flask signals`` and the live page to show. It
        changes nothing else.
    :param relay: the relay of the application's durable receivers, see :mod:`aldis.relay`. The application crosses as a
        sender by its name, and its durable receivers run in an app context of their own.
    :raises InvalidOptionError: as :meth:`init_app`.

    .. versionadded:: 0.1
    """

    def __init__(
        self, app: Flask | None = None, *, show: Iterable[ShownSignals] = (), relay: Relay | None = None
    ) -> None:
        self._shown = tuple(show)
        self._relay = relay

        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up. Call it before the first request.

        :param app: the application.
        :raises InvalidOptionError: when ``ALDIS_ERRORS`` is not a failure policy, or the application has Aldis already.
        """
        state = set_up(app, CORE_SIGNALS, self._shown, relay=self._relay)
        register_wrapper(_async_wrapper)

        if self._relay is not None:
            from aldis.relay.worker.parts import parts_of  # There is a relay, so its package is loaded already.

            parts_of(self._relay).bind_application(app, app.name, app.app_context, has_app_context)

        # The live page is outermost, so that it sees receivers that run after the response as part of the request.
        inner = AfterResponseMiddleware(app, app.wsgi_app)
        app.wsgi_app = LivePageLoader(app, inner, state)  # type: ignore[method-assign]

        if app.test_client_class is None:
            app.test_client_class = TestClient


def failures_of(app: Flask) -> Counter[tuple[str, str]]:
    """Return how often receivers of Flask's own signals failed in an application.

    Only a policy that handles failures counts them: ``ALDIS_ERRORS`` as ``"log"`` or a callable. Exceptions that
    ``"propagate"`` and ``"collect"`` raise are not counted.

    :param app: the application.
    :return: the numbers of failures until now, by the signal's name and the receiver's qualified name. It is a copy.
    :raises InvalidOptionError: when the application has no Aldis.

    .. versionadded:: 0.1
    """
    return state_of(app).failures()


@final
class LivePageLoader:
    """WSGI middleware that loads the live page when a request finds the application in debug mode.

    Debug mode may begin after the extension was set up: ``app.run(debug=True)`` sets it last. So each request looks,
    and the page is imported only when a request finds debug mode on.

    :param app: the application.
    :param inner: the WSGI application that the page stands before.
    :param state: the application's state.
    """

    def __init__(self, app: Flask, inner: Application, state: State) -> None:
        self._app = app
        self._inner = inner
        self._state = state
        self._lock = Lock()
        self._page: Application | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if self._page is None and not self._app.debug:
            return self._inner(environ, start_response)

        # The page checks each request too, because debug mode may end.
        return (self._page or self._make())(environ, start_response)

    def _make(self) -> Application:
        from .live_page.middleware import make_live_page

        with self._lock:
            self._page = self._page or make_live_page(self._app, self._inner, self._state)

        return self._page


class TestClient(FlaskClient):
    """Flask's test client, whose requests return when the receivers after the response have run."""

    __test__ = False  # Because of its name, pytest would look for tests in the class.

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.environ_base[IN_TEST] = "yes"


def _async_wrapper(is_async: bool) -> Callable[..., Any] | None:
    """Return the wrapper for async receivers in a context of an application with Aldis; ``None`` elsewhere."""
    if not is_async or not has_app_context() or find_state(current_app) is None:
        return None

    import asyncio

    # In an async view, ensure_sync fails when it is called, and other receivers may have run by then. Without a
    # wrapper, the send fails before the first receiver.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return current_app.ensure_sync

    return None
