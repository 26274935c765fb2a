"""The extension: what one application has to say about signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from flask import Flask, current_app, has_app_context
from flask.testing import FlaskClient

from aldis._application import EXTENSION, set_up
from aldis._dispatch import crossings

from ._after_response import IN_TEST, Closing
from ._signals import CORE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aldis._application import Signals


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

    :param app: an application to begin with.
    :param signals: namespaces and signals of the application, for ``flask signals`` and the live page.
    :raises InvalidOptionError: as :meth:`init_app`.

    .. versionadded:: 0.1
    """

    def __init__(self, app: Flask | None = None, *, signals: Iterable[Signals] = ()) -> None:
        self._signals = tuple(signals)

        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set an application up. Call it before the first request.

        :param app: the application.
        :raises InvalidOptionError: when ``ALDIS_ERRORS`` is none of what it can be, or the application was set
            up already.
        """
        set_up(app, CORE_SIGNALS, self._signals)
        app.wsgi_app = Closing(app, app.wsgi_app)  # type: ignore[method-assign]

        if app.test_client_class is None:
            app.test_client_class = TestClient


class TestClient(FlaskClient):
    """Flask's test client, which has receivers that run after the response run before it returns."""

    __test__ = False  # For pytest, to which the name looks like that of tests.

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.environ_base[IN_TEST] = "yes"


def _cross(is_async: bool) -> Callable[..., Any] | None:
    """How to run async receivers of a signal that does not say, where an application with Aldis is current."""
    if is_async and has_app_context() and EXTENSION in current_app.extensions:
        return current_app.ensure_sync

    return None


crossings.append(_cross)
