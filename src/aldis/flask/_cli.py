"""``flask signals`` and ``flask relay``: look at the signals of an application, run its relay, and look after it."""

from __future__ import annotations

import sys
from typing import Any, cast

import click
import flask.signals as flask_signals
from flask import Flask, current_app
from flask.cli import ScriptInfo, with_appcontext

from aldis._cli.format import print_list, print_signals, send_tree
from aldis._cli.lookup import add_signals, connected, is_signal, select_signals, signals_in
from aldis._cli.relay import relay_group
from aldis._core.namespace import default_namespace
from aldis._core.signal import Signal
from aldis._web.state import find_state
from aldis.observe import SendRecord, watch

from ._core_signals import CORE_SIGNALS


@click.group("signals")
def signals() -> None:
    """Look at signals: their receivers, their payloads, and what one request sends."""


def groups_of(app: Flask) -> dict[str, list[Any]]:
    """Return the signals that an application can send, in groups.

    The groups are Flask's own signals, the signals that the extension was told to show, the signals and namespaces of
    imported modules except those of the frameworks, and the default namespaces of Aldis and Blinker.
    """
    groups: dict[str, list[Any]] = {"flask": _of_flask()}
    state = find_state(app)

    for number, given in enumerate(state.shown if state else (), 1):
        groups[f"signals of Aldis(app), {number}" if number > 1 else "signals of Aldis(app)"] = signals_in(given) or []

    for name, module in list(sys.modules.items()):
        if not _is_framework(name):
            _add_members(groups, name, module)

    add_signals(groups, "default namespace", list(default_namespace.values()))
    blinker = sys.modules.get("blinker")

    if blinker is not None and not isinstance(flask_signals.request_started, Signal):
        add_signals(groups, "Blinker's default namespace", list(blinker.default_namespace.values()))

    return {name: found for name, found in groups.items() if found}


def _is_framework(name: str) -> bool:
    return name.partition(".")[0] in {"aldis", "blinker", "flask", "quart"}


def _add_members(groups: dict[str, list[Any]], name: str, module: Any) -> None:
    for key, value in list(getattr(module, "__dict__", {}).items()):
        if not key.startswith("__"):
            add_signals(groups, name if is_signal(value) else f"{name}:{key}", signals_in(value) or [])


def _of_flask() -> list[Any]:
    """Return Flask's signals as Aldis declares them. Beside Blinker, add Blinker's with other receivers."""
    found: list[Any] = []

    for signal in CORE_SIGNALS:
        found.append(signal)
        source = getattr(flask_signals, signal.name.replace("-", "_"))

        if source is not signal and connected(source):
            found.append(source)

    return found


def _app() -> Flask:
    return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]


@signals.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_appcontext
def list_(*, as_json: bool) -> None:
    """Print the receivers of each signal, in the order of calling."""
    print_list(groups_of(_app()), as_json=as_json)


@signals.command()
@click.argument("name")
@with_appcontext
def show(name: str) -> None:
    """Print the payload and the receivers of the signal NAME, and why a receiver may not be called."""
    print_signals(select_signals(groups_of(_app()), name), sender=_app())


@signals.command()
@click.argument("path", default="/")
@click.option("--method", "-X", default="GET", show_default=True, help="The method of the request.")
@click.option("--data", "-d", default=None, help="The body of the request.")
@click.option("--header", "-H", multiple=True, metavar="NAME:VALUE", help="A header. The option can be repeated.")
def trace(path: str, method: str, data: str | None, header: tuple[str, ...]) -> None:
    """Make a request for PATH to the application, and print the signals that it sends and the receivers that they call.

    The request is made by Flask's test client, in this process. Side effects are real: a traced order is an order.
    """
    app: Flask = click.get_current_context().ensure_object(ScriptInfo).load_app()
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

    for line in send_tree(sorted(roots, key=lambda send: send.started_s)):
        click.echo(line)


def _relay() -> Any:
    state = find_state(_app())

    if state is None or state.relay is None:
        raise click.UsageError("This application has no relay. Pass it to the extension: Aldis(app, relay=relay).")

    return state.relay


def _run_worker(relay: Any, **options: Any) -> None:
    from aldis.relay.worker.process import run_worker

    run_worker(relay, **options)


relay = relay_group(_relay, _run_worker, with_appcontext)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")

    if not colon:
        raise click.UsageError(f"A header is NAME:VALUE, not {name!r}.")

    return name.strip(), value.strip()
