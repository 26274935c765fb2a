"""A pytest plugin with the fixtures of the shop's tests: ``-p shops``, with ``examples/shop`` on the path."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[[], Flask]]:
    """Open shops, and close them after the test."""
    from shop import create_app, models

    with ExitStack() as stack:

        def open_one() -> Flask:
            app = create_app(tmp_path / str(len(list(tmp_path.iterdir()))))
            stack.callback(models.close, app)
            return app

        yield open_one


@pytest.fixture
def app(open_shop: Callable[[], Flask]) -> Flask:
    return open_shop()


@pytest.fixture
def browser(app: Any) -> FlaskClient:
    client: FlaskClient = app.test_client()
    return client
