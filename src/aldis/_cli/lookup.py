"""Find signals by the paths and names that users type, and find their connections."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from aldis._core.callables import signal_name
from aldis._core.namespace import default_namespace
from aldis._core.signal import Signal
from aldis.observe import connections

if TYPE_CHECKING:
    from types import ModuleType

    from aldis.observe import ConnectionRecord

_MIRROR: Final = "aldis._web.mirrors."


def find_signals(path: str) -> dict[str, list[Any]]:
    """Return the signals at ``module:name``, in groups; without a name, all signals and namespaces of the module.

    :param path: the path of a namespace, a signal or a module. A module without signals has the default namespace.
    :return: lists of signals, by the path at which they were found.
    :raises click.UsageError: when there is no such module, or no signal at the path.
    """
    module_name, _, name = path.partition(":")
    module = load_module(module_name)

    if name:
        if not hasattr(module, name):
            raise click.UsageError(f"The module {module_name!r} has no {name!r}.")

        signals = signals_in(getattr(module, name))

        if signals is None:
            raise click.UsageError(f"{path} is neither a signal nor a namespace.")

        return {path: signals}

    groups: dict[str, list[Any]] = {}

    for key, value in vars(module).items():
        if not key.startswith("__"):
            add_signals(groups, f"{module_name}:{key}", signals_in(value) or [])

    return groups or {"default namespace": list(default_namespace.values())}


def load_module(name: str) -> ModuleType:
    """Import a module.

    :raises click.UsageError: when there is no module of that name.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise click.UsageError(f"There is no module {name!r} here.") from None

        raise


def add_signals(groups: dict[str, list[Any]], name: str, signals: list[Any]) -> None:
    """Add signals to a group, except signals that are in a group already.

    A module often has a namespace and the signals of that namespace as well.
    """
    known = {id(signal) for group in groups.values() for signal in group}
    new = [signal for signal in signals if id(signal) not in known]

    if new:
        groups.setdefault(name, []).extend(new)


def signals_in(value: Any) -> list[Any] | None:
    """Return a signal as a list, or the signals of a namespace, of Aldis or of Blinker; ``None`` for anything else."""
    if is_signal(value):
        return [value]

    signals: list[Any] = [*value.values()] if issubclass(type(value), Mapping) else [None]
    return signals if all(map(is_signal, signals)) else None


def is_signal(value: Any) -> bool:
    """Return whether a value is a signal, of Aldis or of Blinker.

    This looks at the class of the value, because a proxy would answer for the object that it points to.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    return hasattr(kind, "receivers_for")


def select_signals(groups: dict[str, list[Any]], name: str) -> list[Any]:
    """Return the signals with this name.

    :raises click.UsageError: when there is no such signal. The message lists similar names, or all names.
    """
    signals = {id(s): s for group in groups.values() for s in group if signal_name(s) == name}

    if signals:
        return list(signals.values())

    from difflib import get_close_matches

    names = sorted({signal_name(s) for group in groups.values() for s in group})
    similar = get_close_matches(name, names)
    hint = f" Is it {' or '.join(similar)}?" if similar else f" There are: {', '.join(names)}." if names else ""
    raise click.UsageError(f"There is no signal {name!r}.{hint}")


def connected(signal: Any) -> list[ConnectionRecord]:
    """Return a signal's connections, without those of a mirror: the mirror itself is listed, with its receivers."""
    return [record for record in connections(signal) if not is_mirror(record.receiver)]


def is_mirror(receiver: str) -> bool:
    """Return whether the receiver of this name sends the mirror of a framework's signal."""
    return receiver.startswith(_MIRROR)


def contract_of(signal: Any) -> Any:
    """Return the function that declares a signal; ``None`` for a signal that is not declared."""
    return getattr(signal, "contract", None) if issubclass(type(signal), Signal) else None
