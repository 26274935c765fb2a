"""The relay of an application: one relay of a module serves the applications that are made of it, one after another."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
from flask import Flask
from quart import Quart
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

import aldis.flask
import aldis.quart
from aldis.relay import DrainCounts, Relay


@pytest.mark.parametrize("kind", [Flask, Quart])
def test_an_application_is_not_kept_alive(kind: type[Flask | Quart]) -> None:
    """E5: tests make many applications of one module's relay. Each goes when nothing else refers to it."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    relay = Relay(engine)
    relay.create_tables()
    app = kind("shop")
    extension: type[aldis.flask.Aldis | aldis.quart.Aldis] = aldis.flask.Aldis if kind is Flask else aldis.quart.Aldis
    extension(app, relay=relay)  # type: ignore[arg-type]
    assert relay.status() == []

    known = ref(app)
    del app
    gc.collect()
    assert known() is None
    assert (relay.status(), relay.drain()) == ([], DrainCounts())
    engine.dispose()
