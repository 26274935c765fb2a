"""The state that the extension keeps for one application: its failure policy, its relay and its signals."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.callables import describe, is_async, qualified_name, signal_name
from aldis._core.dispatch import default_wrappers
from aldis._core.failures import COLLECT, LOG, PROPAGATE, SenderPolicy
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from aldis._core.failures import Failure
    from aldis._core.namespace import NamedSignal
    from aldis._core.signal import Signal
    from aldis._core.types import ErrorPolicy, Wrapper

    ShownSignals: TypeAlias = Signal[Any, ..., Any] | Mapping[str, NamedSignal[Any, ..., Any]]

EXTENSION: Final = "aldis"
"""The key of the state in ``app.extensions``."""


@final
class State:
    """The state of one application, which the extension keeps in ``app.extensions["aldis"]``.

    :param policy: the failure policy for receivers of the framework's signals.
    :param shown: the application's own signals and namespaces, which commands and pages show.
    :ivar policy: the policy in the form that signals ask for. ``None`` stands for ``"propagate"``, so that the signal's
        own policy holds; ``"collect"`` stays; a callable counts each failure, and then handles it.
    :ivar relay: the application's relay, if it has one.
    """

    __slots__ = ("_failures", "_handler", "_lock", "policy", "relay", "shown")

    policy: Any
    relay: Any
    shown: tuple[Any, ...]

    def __init__(self, policy: ErrorPolicy, shown: tuple[Any, ...], relay: Any = None) -> None:
        self.relay = relay
        self.shown = shown
        self._failures: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

        if isinstance(policy, str):
            self.policy = None if policy == PROPAGATE else policy
        else:
            self.policy = self._handle
            self._handler = policy

    def failures(self) -> Counter[tuple[str, str]]:
        """Return the numbers of failures until now, by the signal's name and the receiver's qualified name."""
        with self._lock:
            return self._failures.copy()

    def _handle(self, failure: Failure) -> None:
        """Count a failure, and call the policy."""
        with self._lock:
            self._failures[signal_name(failure.signal), qualified_name(failure.receiver)] += 1

        self._handler(failure)


def find_state(app: Any) -> State | None:
    """Return the state of an application; ``None`` if it has no Aldis.

    :param app: an application of Flask or Quart; or any other sender, which has no Aldis.
    """
    state: State | None = getattr(app, "extensions", {}).get(EXTENSION)
    return state


def state_of(app: Any) -> State:
    """Return the state of an application.

    :param app: an application of Flask or Quart.
    :raises InvalidOptionError: when the application has no Aldis.
    """
    state = find_state(app)

    if state is None:
        raise InvalidOptionError(
            f"The application {app.name!r} has no Aldis. Call Aldis(app), or Aldis().init_app(app), when you make it."
        )

    return state


def _same(sender: Any) -> Any:
    return sender


def set_up(
    app: Any,
    core_signals: Iterable[Any],
    shown: tuple[Any, ...],
    *,
    relay: Any = None,
    application_of: Callable[[Any], Any] = _same,
) -> State:
    """Make the state of an application from its configuration, and keep it in ``app.extensions``.

    :param app: an application of Flask or Quart.
    :param core_signals: the framework's signals.
    :param shown: the application's own signals and namespaces.
    :param relay: the application's relay.
    :param application_of: returns the application that a sender of one of the framework's signals belongs to.
    :raises InvalidOptionError: when ``ALDIS_ERRORS`` is not a failure policy, or the application has Aldis already.
    """
    if EXTENSION in app.extensions:
        raise InvalidOptionError(f"The application {app.name!r} has Aldis already. Set it up once.")

    errors = app.config.setdefault("ALDIS_ERRORS", PROPAGATE)
    state = State(_policy(app, errors), shown, relay)
    app.extensions[EXTENSION] = state

    if state.policy is not None:
        _choose_policies(core_signals, application_of)

    return state


def _policy(app: Any, errors: Any) -> Any:
    if isinstance(errors, str) and errors in {PROPAGATE, COLLECT}:
        return errors

    if isinstance(errors, str) and errors == LOG:
        return AppLogPolicy(app)

    if callable(errors) and not is_async(errors):
        return errors

    raise InvalidOptionError(
        f'ALDIS_ERRORS must be "propagate", "collect", "log" or a callable that takes a failure, not {errors!r}.'
    )


@final
class AppLogPolicy:
    """The policy ``"log"`` of one application: it logs failures to ``app.logger``."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, failure: Failure) -> None:
        """Log a failure with its traceback. The message shows neither the payload nor the sender."""
        self._app.logger.error(
            "%s failed on the signal %r.",
            describe(failure.receiver),
            signal_name(failure.signal),
            exc_info=failure.exception,
        )


def _choose_policies(core_signals: Iterable[Any], application_of: Callable[[Any], Any]) -> None:
    """Make each of the framework's signals ask the application that sends it for its policy."""
    for signal in core_signals:
        usual = signal.errors

        if not isinstance(usual, SenderPolicy):
            signal.errors = SenderPolicy(_chooser(usual, application_of))


def _chooser(usual: Any, application_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def choose(sender: Any) -> Any:
        state = find_state(application_of(sender))
        return usual if state is None or state.policy is None else state.policy

    return choose


_registering: Final = Lock()


def register_wrapper(find: Callable[[bool], Wrapper | None]) -> None:
    """Let signals without a wrapper ask ``find`` for one. Registering it again changes nothing.

    :param find: called with whether the receiver that needs the wrapper is async. It returns the wrapper, or ``None``.
    """
    with _registering:
        if find not in default_wrappers:
            default_wrappers.append(find)
