"""The extension: what one application has to say about signals."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, final

from flask import Flask, current_app, has_app_context
from flask.testing import FlaskClient

from aldis._core.dispatch import default_wrappers
from aldis._web.state import EXTENSION, set_up
from aldis.observe._inspect import descriptions

from ._after_response import IN_TEST, Closing
from ._core_signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis._web.state import Signals, State
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

    With it, in the application's contexts, async receivers of all signals run by ``app.ensure_sync``,
    receivers may run ``via=after_response``, and the configuration holds:

    ``ALDIS_ERRORS``
        What happens when a receiver of one of Flask's own signals raises: ``"propagate"``, the default, as Flask
        does it; ``"log"``: the failure is logged by ``app.logger``, and the response and the other receivers
        are not affected; or a callable, as :attr:`aldis.Signal.errors` has it. Read when the application is
        initialised.
    ``ALDIS_SHOW_VALUES``
        Whether the live page shows values of payloads, too: ``True`` or ``False``, the default.
    ``ALDIS_PAGE_HOSTS``
        To whom the live page answers besides this machine: names of the application, and addresses and networks
        of clients.

    In debug mode, the live page is at ``/_aldis/``. Outside debug mode, nothing of it is loaded.

    :param app: an application to begin with.
    :param signals: namespaces and signals of the application, for ``flask signals`` and the live page.
    :param relay: the relay of the application's durable receivers, see :mod:`aldis.relay`. The application crosses as
        a sender by its name, and its receivers run in an app context of their own.
    :raises InvalidOptionError: as :meth:`init_app`.

    .. versionadded:: 0.1
    """

    def __init__(
        self, app: Flask | None = None, *, signals: Iterable[Signals] = (), relay: Relay | None = None
    ) -> None:
        self._signals = tuple(signals)
        self._relay = relay

        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up. Call it before the first request.

        :param app: the application.
        :raises InvalidOptionError: when ``ALDIS_ERRORS`` is none of what it can be, or the application was set
            up already.
        """
        state = set_up(app, CORE_SIGNALS, self._signals, relay=self._relay)

        if self._relay is not None:
            self._relay._serve(app, app.name, app.app_context, has_app_context)

        # The page goes outside: what runs when the response is closed belongs to the request.
        closing = Closing(app, app.wsgi_app)
        app.wsgi_app = PageDoor(app, closing, state)  # type: ignore[method-assign]

        if app.test_client_class is None:
            app.test_client_class = TestClient


@final
class PageDoor:
    """WSGI middleware that has the live page made when a request finds the application in debug mode.

    Debug mode may begin after the extension was set up: ``app.run(debug=True)`` sets it last of all. So each request
    looks; and until one finds it on, the page is not even imported.
    """

    def __init__(self, app: Flask, inner: Application, state: State) -> None:
        self._app = app
        self._inner = inner
        self._state = state
        self._lock = Lock()
        self._page: Application | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._page is None and not self._app.debug:
            return self._inner(environ, start_response)

        # The page itself looks at each request, too: debug mode may end.
        return (self._page or self._make())(environ, start_response)

    def _make(self) -> Application:
        from .live_page.middleware import make_page

        with self._lock:
            self._page = self._page or make_page(self._app, self._inner, self._state)

        return self._page


class TestClient(FlaskClient):
    """Flask's test client, which has receivers that run after the response run before it returns."""

    __test__ = False  # For pytest, to which the name looks like that of tests.

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.environ_base[IN_TEST] = "yes"


def _cross(is_async: bool) -> Callable[..., Any] | None:
    """How to run async receivers of a signal that does not say, where an application with Aldis is current."""
    if not is_async or not has_app_context() or EXTENSION not in current_app.extensions:
        return None

    from aldis.aio import _is_in_loop

    # In an async view it would fail at the receiver's turn, when others have run.
    return None if _is_in_loop() else current_app.ensure_sync


default_wrappers.append(_cross)
descriptions.append((Flask, lambda app: f"Flask {app.name!r}"))
