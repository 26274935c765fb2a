"""``flask signals``: look at the signals of an application."""

from __future__ import annotations

import sys
from typing import Any, cast

import click
import flask.signals as flask_signals
from flask import Flask, current_app
from flask.cli import with_appcontext

from aldis.__main__ import add, is_signal, members, print_list, print_signals, select
from aldis._cli import format
from aldis._cli.relay import needs_relay, relay_commands
from aldis._cli.worker import run_worker, worker_options
from aldis._core.namespace import default_namespace
from aldis._core.signal import Signal
from aldis._web.state import EXTENSION, State
from aldis.observe import SendRecord, watch

from ._core_signals import CORE_SIGNALS


@click.group("signals")
def signals() -> None:
    """Look at signals: who is connected, what they carry, what a request sends."""


def groups_of(app: Flask) -> dict[str, list[Any]]:
    """The signals of an application, by what they belong to.

    Flask's own, those that were given to the extension, namespaces and signals that imported modules hold, save
    those of the frameworks, and those of the default namespaces.
    """
    groups: dict[str, list[Any]] = {"flask": _of_flask()}
    state: State | None = app.extensions.get(EXTENSION)

    for number, given in enumerate(state.signals if state else (), 1):
        groups[f"signals of Aldis(app), {number}" if number > 1 else "signals of Aldis(app)"] = members(given) or []

    for name, module in list(sys.modules.items()):
        if not _is_framework(name):
            _add_members(groups, name, module)

    add(groups, "default namespace", list(default_namespace.values()))
    blinker = sys.modules.get("blinker")

    if blinker is not None and not isinstance(flask_signals.request_started, Signal):
        add(groups, "Blinker's default namespace", list(blinker.default_namespace.values()))

    return {name: found for name, found in groups.items() if found}


def _is_framework(name: str) -> bool:
    return name.partition(".")[0] in {"aldis", "blinker", "flask", "quart"}


def _add_members(groups: dict[str, list[Any]], name: str, module: Any) -> None:
    for key, value in list(getattr(module, "__dict__", {}).items()):
        if not key.startswith("__"):
            add(groups, name if is_signal(value) else f"{name}:{key}", members(value) or [])


def _of_flask() -> list[Any]:
    """Ours, and where they stand beside Blinker's, those of Blinker that somebody else is connected to."""
    found: list[Any] = []

    for signal in CORE_SIGNALS:
        found.append(signal)
        source = getattr(flask_signals, signal.name.replace("-", "_"))

        if source is not signal and format.connected(source):
            found.append(source)

    return found


def _app() -> Flask:
    return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]


@signals.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def list_(*, as_json: bool) -> None:
    """Print who is connected, signal by signal, in the order of calling."""
    print_list(groups_of(_app()), as_json=as_json)


@signals.command()
@click.argument("name")
@with_appcontext
def show(name: str) -> None:
    """Print what the signal NAME carries, who is connected, and why one may not be called."""
    print_signals(select(groups_of(_app()), name), sender=_app())


@signals.command()
@click.argument("path", default="/")
@click.option("--method", "-X", default="GET", show_default=True, help="The method of the request.")
@click.option("--data", "-d", default=None, help="The body of the request.")
@click.option("--header", "-H", multiple=True, metavar="NAME:VALUE", help="A header; may be given several times.")
def trace(path: str, method: str, data: str | None, header: tuple[str, ...]) -> None:
    """Make a request for PATH to the application, and print the signals it sends and the receivers they call.

    The request is made by Flask's test client, in this process. It does what it does: an order is an order.
    """
    app: Flask = click.get_current_context().ensure_object(_script_info()).load_app()
    roots: list[SendRecord] = []

    def keep(send: SendRecord) -> None:
        if send.parent is None:
            roots.append(send)

    if not path.startswith("/"):
        raise click.UsageError(f"PATH must begin with a slash, as in {'/' + path!r}.")

    with watch(keep):
        response = app.test_client().open(path, method=method, data=data, headers=[_header(text) for text in header])
        response.get_data()
        response.close()

    click.echo(click.style(f"{method} {path}: {response.status}", bold=True))

    for line in format.send_tree(sorted(roots, key=lambda send: send.started_s)):
        click.echo(line)


def _relay() -> Any:
    state: State | None = _app().extensions.get(EXTENSION)

    if state is None or state.relay is None:
        raise click.UsageError("This application has no relay. Give it to the extension: Aldis(app, relay=relay).")

    return state.relay


@signals.command()
@worker_options
@with_appcontext
def worker(**options: Any) -> None:
    """Receive the messages of durable receivers, until SIGTERM or Ctrl-C."""
    needs_relay()
    run_worker(_relay(), **options)


signals.add_command(relay_commands(_relay, with_appcontext))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")

    if not colon:
        raise click.UsageError(f"A header is NAME:VALUE, not {name!r}.")

    return name.strip(), value.strip()


def _script_info() -> Any:
    from flask.cli import ScriptInfo

    return ScriptInfo
