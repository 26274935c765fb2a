"""Record the templates that Flask and Quart render."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from aldis._core.callables import kind_name
from aldis._core.identity import resolve_bound
from aldis.exceptions import InvalidOptionError

from ._taps import Recorder, tap_sends

if TYPE_CHECKING:
    from collections.abc import Generator

_APPLICATIONS: Final = frozenset({("flask", "Flask"), ("quart", "Quart")})


@contextmanager
def captured_templates(
    app: Any,
    recorded: list[tuple[Any, Any]] | None = None,
    **extra: Any,  # noqa: ARG001  # Flask's documentation has it.
) -> Generator[list[tuple[Any, Any]], None, None]:
    """Record the templates that a Flask application renders, as Flask's documentation shows it.

    Both forms of the documentation work: ``with captured_templates(app) as templates``, and ``with
    captured_templates(app, templates)`` with your own list.

    :param app: an application of Flask or of Quart.
    :param recorded: a list to append to; by default a new one.
    :param extra: ignored. The function in Flask's documentation takes it.
    :return: a context manager that returns the list. Each item is a template and the context that it was rendered
        with.
    :raises InvalidOptionError: when ``app`` is not an application, or when ``recorded`` has no ``append``.
    :raises UnboundProxyError: when ``app`` is ``current_app`` outside of an app context.

    .. versionadded:: 0.1
    """
    app = resolve_bound(app)
    framework = _framework_of(app)

    if recorded is None:
        recorded = []
    elif not callable(getattr(recorded, "append", None)):
        raise InvalidOptionError(f"captured_templates() appends to a list, not to {kind_name(recorded)}.")

    def note(_signal: Any, _sender: Any, payload: dict[str, Any], _stopped: Any) -> None:
        recorded.append((payload["template"], payload["context"]))

    with tap_sends(import_module(framework).template_rendered, Recorder(note, app), app):
        yield recorded


def _framework_of(app: Any) -> str:
    """Return the name of the package of an application's class, without importing it.

    :raises InvalidOptionError: when it is not an application.
    """
    for kind in type(app).__mro__:
        framework = kind.__module__.partition(".")[0]

        if (framework, kind.__name__) in _APPLICATIONS:
            return framework

    raise InvalidOptionError(f"captured_templates() takes an application of Flask or Quart, not {kind_name(app)}.")
