"""``python -m aldis``: look at signals of a program without Flask."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import click
except ImportError:  # pragma: no cover  # The test environments have click.
    sys.exit("python -m aldis needs click. Install it with: pip install 'aldis[cli]'")

from ._cli import format
from ._cli.relay import needs_relay, relay_commands
from ._cli.worker import run_worker, worker_options
from ._core.namespace import default_namespace

if TYPE_CHECKING:
    from types import ModuleType


@click.group()
@click.version_option(package_name="aldis")
def main() -> None:
    """Look at signals."""


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


@main.command("list")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(path: str, *, as_json: bool) -> None:
    """Print who is connected to the signals of PATH, which is module:namespace, module:signal or a module."""
    print_list(found(path), as_json=as_json)


@main.command()
@click.argument("path")
@click.argument("name", required=False)
def show(path: str, name: str | None) -> None:
    """Print the contract and the receivers of the signals of PATH, or of the one of that NAME."""
    groups = found(path)
    print_signals([s for group in groups.values() for s in group] if name is None else select(groups, name))


def found_relay(path: str) -> Any:
    """The relay at ``module:name``; without a name, the one that the module has.

    :raises click.UsageError: when there is no such module, or not one relay.
    """
    from .relay import Relay

    module_name, _, name = path.partition(":")
    module = imported(module_name)
    names = [name] if name else [key for key, value in vars(module).items() if isinstance(value, Relay)]
    relays = {id(relay): relay for relay in (getattr(module, key, None) for key in names) if isinstance(relay, Relay)}

    if len(relays) != 1:
        what = f"{path} is no relay" if name else f"The module {module_name!r} has {len(relays)} relays"
        raise click.UsageError(f"{what}. Give the path of one: module:name.")

    return next(iter(relays.values()))


@main.command()
@click.argument("path")
@worker_options
def worker(path: str, **options: Any) -> None:
    """Receive the messages of the durable receivers of PATH, which is module:relay, until SIGTERM or Ctrl-C."""
    needs_relay()
    run_worker(found_relay(path), **options)


main.add_command(relay_commands(found_relay, click.argument("path")))


if __name__ == "__main__":
    main(prog_name="python -m aldis")
