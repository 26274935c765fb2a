"""``python -m aldis``: look at the signals of a program, and run its relay and look after it, without Flask."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

try:
    import click
except ImportError:  # pragma: no cover  # The test environments have click.
    sys.exit("python -m aldis needs click. Install it with: pip install 'aldis[cli]'")

from ._cli.format import print_list, print_signals
from ._cli.lookup import find_signals, load_module, select_signals
from ._cli.relay import relay_group

if TYPE_CHECKING:
    from .relay import Relay


@click.group()
@click.version_option(package_name="aldis")
def main() -> None:
    """Look at signals, run a relay, and look after it."""


@main.command("list")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(path: str, *, as_json: bool) -> None:
    """Print the receivers of the signals of PATH, which is module:namespace, module:signal or a module."""
    print_list(find_signals(path), as_json=as_json)


@main.command()
@click.argument("path")
@click.argument("name", required=False)
def show(path: str, name: str | None) -> None:
    """Print the contract and the receivers of the signals of PATH, or only of the signal NAME."""
    groups = find_signals(path)
    print_signals([s for group in groups.values() for s in group] if name is None else select_signals(groups, name))


def found_relay(path: str) -> Relay:
    """Return the relay at ``module:name``; without a name, the only relay of the module.

    :raises click.UsageError: when the module does not exist, or does not have exactly one relay.
    """
    from .relay import Relay

    module_name, _, name = path.partition(":")
    module = load_module(module_name)
    names = [name] if name else [key for key, value in vars(module).items() if isinstance(value, Relay)]
    relays = {id(relay): relay for relay in (getattr(module, key, None) for key in names) if isinstance(relay, Relay)}

    if len(relays) != 1:
        problem = f"{path} is not a relay" if name else f"The module {module_name!r} has {len(relays)} relays"
        raise click.UsageError(f"{problem}. Give the path of one: module:name.")

    return next(iter(relays.values()))


def _run_worker(relay: Relay, **options: Any) -> None:
    from .relay.worker.process import run_worker

    run_worker(relay, **options)


main.add_command(relay_group(found_relay, _run_worker, click.argument("path", metavar="PATH")))


if __name__ == "__main__":
    main(prog_name="python -m aldis")
