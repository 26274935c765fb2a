"""What one application has to say about signals: its failure policy, and its own signals.

For the rooms of frameworks, which keep a :class:`State` in ``app.extensions["aldis"]``. No framework is
imported here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.callables import describe, is_async, qualified_name
from aldis._core.failures import SenderPolicy
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Literal, TypeAlias

    from aldis._core.failures import Failure
    from aldis._core.namespace import NamedSignal
    from aldis._core.signal import Signal

    ErrorPolicy: TypeAlias = Literal["propagate"] | Callable[[Failure], object]
    Signals: TypeAlias = Signal[Any, ..., Any] | Mapping[str, NamedSignal[Any, ..., Any]]

EXTENSION: Final = "aldis"


@final
class State:
    """What the extension keeps of an application, in ``app.extensions["aldis"]``.

    :ivar errors: the failure policy of receivers of the framework's signals: ``"propagate"``, or a callable.
    :ivar failures: how many failures there were, by the signal's name and the receiver's qualified name. Not
        those that propagated.
    :ivar signals: the application's own signals, for those who show signals.
    :ivar relay: the application's relay, if it has one.

    .. versionadded:: 0.1
    """

    __slots__ = ("errors", "failures", "relay", "signals")

    errors: ErrorPolicy
    failures: Counter[tuple[str, str]]
    relay: Any
    signals: tuple[Any, ...]

    def __init__(self, errors: ErrorPolicy, signals: tuple[Any, ...], relay: Any = None) -> None:
        self.errors = errors
        self.relay = relay
        self.failures = Counter()
        self.signals = signals

    def handle(self, failure: Failure) -> None:
        """Count a failure, and hand it to the policy."""
        assert not isinstance(self.errors, str)
        self.failures[_name(failure.signal), qualified_name(failure.receiver)] += 1
        self.errors(failure)


def _itself(sender: Any) -> Any:
    return sender


def set_up(
    app: Any,
    core_signals: Iterable[Any],
    signals: tuple[Any, ...],
    *,
    relay: Any = None,
    application_of: Callable[[Any], Any] = _itself,
) -> State:
    """Give an application its state, by its configuration.

    :param app: an application of Flask or Quart.
    :param core_signals: the framework's signals.
    :param signals: the application's own.
    :param relay: the application's relay.
    :param application_of: gives the application by the sender of one of the framework's signals.
    :raises InvalidOptionError: when ``ALDIS_ERRORS`` is none of what it can be, or the application was set up
        already.
    """
    if EXTENSION in app.extensions:
        raise InvalidOptionError(f"The application {app.name!r} has Aldis already. Set it up once.")

    errors = app.config.setdefault("ALDIS_ERRORS", "propagate")
    state = State(_policy(app, errors), signals, relay)
    app.extensions[EXTENSION] = state

    if state.errors != "propagate":
        _choose_policies(core_signals, application_of)

    return state


def _policy(app: Any, errors: Any) -> Any:
    if errors == "propagate":
        return errors

    if errors == "log":
        return _Log(app)

    if callable(errors) and not is_async(errors):
        return errors

    raise InvalidOptionError(
        f'ALDIS_ERRORS must be "propagate", "log" or a callable that takes a failure, not {errors!r}.'
    )


@final
class _Log:
    """The policy ``"log"`` of one application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, failure: Failure) -> None:
        self._app.logger.error(
            "%s failed on %r", describe(failure.receiver), _name(failure.signal), exc_info=failure.exception
        )


def _choose_policies(core_signals: Iterable[Any], application_of: Callable[[Any], Any]) -> None:
    """Have the framework's signals ask the application that sends for its policy."""
    for signal in core_signals:
        usual = signal.errors

        if not isinstance(usual, SenderPolicy):
            signal.errors = SenderPolicy(_chooser(usual, application_of))


def _chooser(usual: Any, application_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def choose(sender: Any) -> Any:
        state: State | None = getattr(application_of(sender), "extensions", {}).get(EXTENSION)
        return usual if state is None or state.errors == "propagate" else state.handle

    return choose


def _name(signal: Any) -> str:
    name: str = getattr(signal, "name", None) or type(signal).__name__
    return name
