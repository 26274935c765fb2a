"""Find the signals that a caller of ``watch``, ``connections``, ``record``, ``fake`` or ``isolate`` means.

All these functions take signals, namespaces and other mappings of names to signals, and lists, tuples and sets of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aldis._core.callables import kind_name
from aldis._core.registry import all_signals
from aldis._core.signal import Signal
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set as AbstractSet
    from contextlib import AbstractContextManager
    from typing import Protocol, TypeAlias

    class SignalLike(Protocol):
        """A signal of Aldis or of Blinker, for type checkers."""

        def connected_to(self, receiver: Any, /) -> AbstractContextManager[None]:
            """Connect a receiver while a ``with`` block runs."""
            raise NotImplementedError

        def receivers_for(self, sender: Any, /) -> Any:
            """Return the receivers of a sender."""
            raise NotImplementedError

    Group: TypeAlias = Mapping[Any, Any] | list[Any] | tuple[Any, ...] | AbstractSet[Any]
    AldisSignals: TypeAlias = Signal[Any, ..., Any] | Group
    AnySignals: TypeAlias = SignalLike | Group
    IsSignal: TypeAlias = Callable[[object], bool]

# As Any, because otherwise the type of the items would be unknown.
_COLLECTIONS: Final[Any] = (list, tuple, set, frozenset)


def select(verb: str, wanted: tuple[Any, ...], also: IsSignal | None = None) -> list[Any]:
    """Return the signals that a caller passed, each once, in their order.

    :param verb: the caller's name, for the message.
    :param wanted: the caller's positional arguments. Without them, return all living signals of Aldis in the process,
        in the order in which they were made.
    :param also: tells which signals of other libraries the caller takes, such as :func:`is_blinker`.
    :raises InvalidOptionError: when an argument is something else.
    """
    found: list[Any] = [] if wanted else all_signals()

    for each in wanted:
        _add(verb, each, found, also)

    return list({id(signal): signal for signal in found}.values())


def select_some(verb: str, wanted: tuple[Any, ...], also: IsSignal | None = None) -> list[Any]:
    """Return the same, but refuse an empty result, for callers that need at least one signal.

    :raises InvalidOptionError: also when there is no signal.
    """
    signals = select(verb, wanted, also)

    if not signals:
        raise InvalidOptionError(
            f"{verb}() found no signals. It takes the signals that a namespace has already: import the modules that"
            " make them first."
        )

    return signals


def _add(verb: str, wanted: Any, found: list[Any], also: IsSignal | None) -> None:
    if is_aldis(wanted) or (also is not None and also(wanted)):
        found.append(wanted)
        return

    for each in _members(verb, wanted, also):
        _add(verb, each, found, also)


def _members(verb: str, group: Any, also: IsSignal | None) -> list[Any]:
    if isinstance(group, _COLLECTIONS):
        return list(group)

    if _has_methods(group, "keys", "values"):
        return list(group.values())

    kind = "a signal of Blinker" if is_blinker(group) else kind_name(group)
    raise InvalidOptionError(
        f"{verb}() takes signals{' of Aldis' if also is None else ''}, namespaces, and lists of these, not"
        f" {kind}. Pass one or several of these, or nothing for all signals. Pass other arguments by keyword."
    )


def is_aldis(value: object) -> bool:
    """Return whether a value is a signal of Aldis."""
    return isinstance(value, Signal)


def is_blinker(value: object) -> bool:
    """Return whether a value is a signal of Blinker. Blinker is not imported for this."""
    return any(
        kind.__name__ == "Signal" and kind.__module__.partition(".")[0] == "blinker" for kind in type(value).__mro__
    )


def is_like_blinker(value: object) -> bool:
    """Return whether a value has the methods of a Blinker signal by which aldis.testing records it."""
    return _has_methods(value, "connected_to", "receivers_for", "send")


def _has_methods(value: object, *names: str) -> bool:
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)
