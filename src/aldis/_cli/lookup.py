"""Find signals by the names that users type, for ``flask signals`` and for ``python -m aldis``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from aldis._core.namespace import default_namespace

from . import format

if TYPE_CHECKING:
    from types import ModuleType


def found(path: str) -> dict[str, list[Any]]:
    """The signals at ``module:name``, by that; without a name, those of the module's namespaces and its own.

    :raises click.UsageError: when there is no such module, or nothing in it that is or holds signals.
    """
    module_name, _, name = path.partition(":")
    module = imported(module_name)

    if name:
        if not hasattr(module, name):
            raise click.UsageError(f"The module {module_name!r} has no {name!r}.")

        signals = members(getattr(module, name))

        if signals is None:
            raise click.UsageError(f"{path} is no signal and no namespace.")

        return {path: signals}

    groups: dict[str, list[Any]] = {}

    for key, value in vars(module).items():
        if not key.startswith("__"):
            add(groups, f"{module_name}:{key}", members(value) or [])

    return groups or {"default namespace": list(default_namespace.values())}


def imported(name: str) -> ModuleType:
    """A module.

    :raises click.UsageError: when there is none of that name.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise click.UsageError(f"There is no module {name!r} here.") from None

        raise


def add(groups: dict[str, list[Any]], name: str, found: list[Any]) -> None:
    """Add to a group the signals that are in no group yet: a namespace's are often names of the module too."""
    known = {id(signal) for group in groups.values() for signal in group}
    new = [signal for signal in found if id(signal) not in known]

    if new:
        groups.setdefault(name, []).extend(new)


def members(value: Any) -> list[Any] | None:
    """A signal, or those of a namespace; ``None`` for what is neither. Of Aldis or of Blinker."""
    if is_signal(value):
        return [value]

    signals: list[Any] = [*value.values()] if issubclass(type(value), Mapping) else [None]
    return signals if all(map(is_signal, signals)) else None


def is_signal(value: Any) -> bool:
    """Whether it is a signal, of Aldis or of Blinker. Asked of its type: a proxy would ask what it stands for."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    return hasattr(kind, "receivers_for")


def select(groups: dict[str, list[Any]], name: str) -> list[Any]:
    """The signals of that name.

    :raises click.UsageError: when there is none, with the names that are near.
    """
    signals = {id(s): s for group in groups.values() for s in group if format.signal_name(s) == name}

    if signals:
        return list(signals.values())

    from difflib import get_close_matches

    names = sorted({format.signal_name(s) for group in groups.values() for s in group})
    near = get_close_matches(name, names)
    hint = f" Is it {' or '.join(near)}?" if near else f" There are: {', '.join(names)}." if names else ""
    raise click.UsageError(f"There is no signal {name!r}.{hint}")


def print_list(groups: dict[str, list[Any]], *, as_json: bool) -> None:
    """Print what ``list`` prints."""
    if as_json:
        click.echo(json.dumps(format.as_data(groups), indent=2))
        return

    for line in format.tree(groups):
        click.echo(line)


def print_signals(signals: list[Any], *, sender: Any = None) -> None:
    """Print what ``show`` prints, and whom a send by an application would call."""
    for signal in signals:
        for line in format.described(signal, sender):
            click.echo(line)
