"""E6 with real proxies: werkzeug's LocalProxy, and Flask's current_app, as senders."""

from __future__ import annotations

import gc
import weakref
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from flask import Flask, current_app, g, request
from werkzeug.local import LocalProxy, LocalStack

from aldis import ANY, Namespace, Signal, UnboundProxyError


@pytest.fixture
def app() -> Flask:
    return Flask("shop")


def behind(proxy: Any) -> Any:
    """Return the object behind a proxy, by werkzeug's own means."""
    return proxy._get_current_object()


class Stage:
    """A signal, and a receiver that keeps its senders."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.got: list[Any] = []

    def receive(self, sender: Any, **payload: Any) -> None:
        self.got.append(sender)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_connected_to_the_app_sent_by_the_proxy(app: Flask, stage: Stage) -> None:
    """E6: a receiver of the application is called for sends by current_app, and gets the application itself."""
    stage.signal.connect(stage.receive, app)

    with app.app_context():
        for _ in range(2):
            stage.signal.send(current_app)
            stage.signal.send(current_app, a=1)
            stage.signal.send(behind(current_app))

    assert len(stage.got) == 6
    assert all(type(sender) is Flask and sender is app for sender in stage.got)


def test_connected_to_the_proxy_sent_by_the_app(app: Flask, stage: Stage) -> None:
    """E6: connecting to current_app inside a context connects to that application permanently."""
    with app.app_context():
        stage.signal.connect(stage.receive, current_app)
        assert stage.signal.has_receivers_for(current_app)

    assert stage.signal.has_receivers_for(app)
    stage.signal.send(app)

    with Flask("another").app_context():
        stage.signal.send(current_app)
        assert not stage.signal.has_receivers_for(current_app)

    with app.app_context():
        stage.signal.send(current_app)

    assert len(stage.got) == 2
    assert all(sender is app for sender in stage.got)


def test_receivers_for_any_get_the_app(app: Flask, stage: Stage) -> None:
    """E6: a receiver of any sender gets the application, never the proxy, by every kind of send."""
    stage.signal.connect(stage.receive)

    with app.app_context():
        stage.signal.send(current_app)
        stage.signal.send(current_app)
        stage.signal.errors = "collect"
        stage.signal.send(current_app, a=1)

    assert [type(sender) for sender in stage.got] == [Flask] * 3


def test_disconnecting_by_the_proxy(app: Flask, stage: Stage) -> None:
    """E6: disconnect, connect_via and connected_to resolve the proxy as connect does."""
    with app.app_context():
        stage.signal.connect(stage.receive, app)
        stage.signal.disconnect(stage.receive, current_app)
        assert not stage.signal.receivers

        with stage.signal.connected_to(stage.receive, current_app):
            stage.signal.send(app)

        assert not stage.signal.receivers
        stage.signal.connect_via(current_app)(stage.receive)
        assert list(stage.signal.receivers_for(app)) == [stage.receive]


def test_a_block_may_end_outside_the_context(app: Flask, stage: Stage) -> None:
    """E7: a connected_to block that began inside a context also removes its connection outside of the context."""
    block = stage.signal.connected_to(stage.receive, LocalProxy(partial(behind, current_app)))

    with app.app_context():
        block.__enter__()

    block.__exit__(None, None, None)

    assert not stage.signal.receivers


@pytest.mark.parametrize("verb", ["connect", "decorate", "connect_via", "connected_to", "disconnect"])
def test_outside_a_context_connecting_is_refused(app: Flask, stage: Stage, verb: str) -> None:
    """E6: outside of a context, connecting to current_app raises an error that says what to pass instead."""
    stage.signal.connect(stage.receive, app)

    with pytest.raises(UnboundProxyError, match=r"points to no object here.*application") as raised:
        match verb:
            case "connect":
                stage.signal.connect(stage.receive, current_app)
            case "decorate":
                stage.signal.connect(sender=current_app)(stage.receive)
            case "connect_via":
                stage.signal.connect_via(current_app)(stage.receive)
            case "connected_to":
                stage.signal.connected_to(stage.receive, current_app).__enter__()
            case _:
                stage.signal.disconnect(stage.receive, current_app)

    assert isinstance(raised.value, RuntimeError)
    assert list(stage.signal.receivers_for(app)) == [stage.receive]
    assert not stage.signal.has_receivers_for(ANY)


def test_outside_a_context_sends_reach_those_for_any(stage: Stage) -> None:
    """E6: outside of a context, a send by current_app reaches receivers of any sender, and does not raise."""
    stage.signal.connect(stage.receive)
    stage.signal.send(current_app)
    stage.signal.send(current_app, a=1)

    assert len(stage.got) == 2
    assert all(type(sender) is LocalProxy for sender in stage.got)
    assert stage.signal.has_receivers_for(current_app)


@pytest.mark.parametrize("value", ["a name", 7, b"bytes", 0, "", False])
def test_proxies_for_values(stage: Stage, value: Any) -> None:
    """E6: a proxy for a str, int or bytes matches by value."""
    variable: ContextVar[Any] = ContextVar("variable")
    proxy: Any = LocalProxy(variable)
    token = variable.set(value)
    stage.signal.connect(stage.receive, value)
    stage.signal.send(proxy)
    stage.signal.disconnect(stage.receive)
    stage.signal.connect(stage.receive, proxy)
    variable.reset(token)
    stage.signal.send(value)

    assert stage.got == [value, value]
    assert [type(sender) for sender in stage.got] == [type(value)] * 2


def test_every_kind_of_local_proxy(stage: Stage) -> None:
    """E6: proxies of a ContextVar, a callable, a LocalStack and an attribute are all resolved."""

    class Thing:
        part: Any

    thing, variable, stack = Thing(), ContextVar[Any]("thing"), LocalStack[Any]()
    thing.part = Thing()
    variable.set(thing)
    stack.push(thing)
    stage.signal.connect(stage.receive, thing)
    stage.signal.send(LocalProxy(variable))
    stage.signal.send(LocalProxy(lambda: thing))
    stage.signal.send(stack())
    stage.signal.send(LocalProxy(variable, "part"))

    assert len(stage.got) == 3
    assert all(sender is thing for sender in stage.got)


def test_a_proxy_for_a_proxy(app: Flask, stage: Stage) -> None:
    """E6: LocalProxy(lambda: current_app), as extensions make it, is resolved to the application."""
    proxy: Any = LocalProxy(lambda: current_app)

    with app.app_context():
        stage.signal.connect(stage.receive, proxy)
        stage.signal.send(app)
        stage.signal.send(proxy)

    assert len(stage.got) == 2
    assert all(sender is app for sender in stage.got)


def test_request_and_g_are_senders_too(app: Flask, stage: Stage) -> None:
    """E6: request and g are resolved as well."""
    stage.signal.connect(stage.receive)

    with app.test_request_context():
        stage.signal.send(request)
        stage.signal.send(g)
        assert stage.got[0] is behind(request)
        assert stage.got[1] is behind(g)


def test_the_connection_goes_with_the_app(stage: Stage) -> None:
    """E6: a connection by proxy ends when the application is collected."""
    app = Flask("short-lived")
    ref = weakref.ref(app)

    with app.app_context():
        stage.signal.connect(stage.receive, current_app, weak=False)
        stage.signal.send(current_app)

    stage.got.clear()
    del app
    gc.collect()

    assert ref() is None
    assert not stage.signal.receivers


def test_declared_signals_resolve_proxies(app: Flask) -> None:
    """E6: a declared signal resolves proxies like any other signal."""
    got: list[Any] = []

    def happened(sender: Flask, /, *, a: int = 1) -> None: ...

    signal = Namespace().declare(happened)

    def receiver(sender: Flask, *, a: int = 0) -> None:
        got.append(sender)

    signal.connect(receiver)
    signal.connect(receiver, app, priority=1)

    with app.app_context():
        for _ in range(2):
            signal.send(current_app)
            signal.send(current_app, a=1)

    assert [type(sender) for sender in got] == [Flask] * 4


def test_an_app_with_attributes_that_look_like_a_proxy_s(stage: Stage) -> None:
    """E6: the type decides, so an application with an attribute like a proxy's is no proxy."""
    app: Any = Flask("shop")
    app._get_current_object = lambda: "somebody else"
    stage.signal.connect(stage.receive, app)
    stage.signal.send(app)

    assert stage.got == [app]
