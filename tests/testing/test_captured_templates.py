"""captured_templates(), as Flask's documentation has it, with Flask on either library."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest
from flask import Flask, current_app, render_template, template_rendered
from jinja2 import DictLoader
from quart import Quart, render_template as render_template_of_quart

from aldis.testing import SignalTester, captured_templates

TEMPLATES = DictLoader({"index.html": "{{ items | length }} items"})


@pytest.fixture
def app() -> Flask:
    """Return an application with one page, which is rendered from a template."""
    app = Flask(__name__)
    app.jinja_loader = TEMPLATES  # pyright: ignore[reportAttributeAccessIssue]
    app.add_url_rule("/", view_func=lambda: render_template("index.html", items=list(range(10))))
    return app


def test_the_form_that_returns_a_list(app: Flask) -> None:
    """The documentation's first form yields a list of templates and contexts."""
    with captured_templates(app) as templates:
        rv = app.test_client().get("/")
        assert rv.status_code == 200
        assert len(templates) == 1
        template, context = templates[0]
        assert template.name == "index.html"
        assert len(context["items"]) == 10

    app.test_client().get("/")
    assert len(templates) == 1
    assert not template_rendered.receivers


def test_the_form_that_accepts_a_list(app: Flask) -> None:
    """The documentation's second form appends to the list that it receives, and accepts further keywords."""
    templates: list[Any] = []
    extra = {"more": "than is used"}

    with captured_templates(app, templates, **extra):
        app.test_client().get("/")

    template, context = templates[0]
    assert template.name == "index.html"
    assert len(context["items"]) == 10


def test_other_applications_are_not_captured(app: Flask) -> None:
    """Templates of another application are not captured."""
    with captured_templates(Flask("another")) as templates:
        app.test_client().get("/")

    assert templates == []


def test_current_app_is_accepted(app: Flask) -> None:
    """A proxy counts as the application that it points to."""
    with app.app_context(), captured_templates(current_app) as templates:
        render_template("index.html", items=())

    assert len(templates) == 1


def test_subclasses_of_applications_are_accepted() -> None:
    """The application's class may be a subclass of Flask."""

    class Shop(Flask):
        pass

    app = Shop(__name__)
    app.jinja_loader = TEMPLATES  # pyright: ignore[reportAttributeAccessIssue]

    with app.app_context(), captured_templates(app) as templates:
        render_template("index.html", items=())

    assert len(templates) == 1


def test_quart_is_accepted() -> None:
    """captured_templates() works for a Quart application too."""
    app = Quart(__name__)
    app.jinja_loader = TEMPLATES  # pyright: ignore[reportAttributeAccessIssue]

    async def render() -> None:
        async with app.app_context():
            assert await render_template_of_quart("index.html", items=()) == "0 items"

    with captured_templates(app) as templates:
        asyncio.run(render())

    ((template, context),) = templates
    assert (template.name, context["items"]) == ("index.html", ())


def test_signal_tester_captures_until_it_is_closed(app: Flask) -> None:
    """SignalTester captures templates until it is closed."""
    with SignalTester() as signals:
        templates = signals.captured_templates(app)
        app.test_client().get("/")

    app.test_client().get("/")
    assert len(templates) == 1


@pytest.mark.parametrize("installs", ["", "aldis.install_as_blinker()"], ids=["on Blinker", "on Aldis"])
def test_flask_may_run_on_either_library(installs: str) -> None:
    """Both forms work with Flask on Blinker and on Aldis, and importing aldis.testing imports neither Flask nor
    Blinker."""
    program = f"""
        import sys
        import aldis
        from aldis.testing import captured_templates, fake, record
        assert not {{"flask", "quart", "blinker", "pytest"}} & sys.modules.keys()
        {installs}

        from flask import Flask, render_template_string, template_rendered
        assert isinstance(template_rendered, aldis.Signal) is {bool(installs)}

        app = Flask("shop")
        app.add_url_rule("/", view_func=lambda: render_template_string("{{{{ n }}}}", n=7))
        mine = []

        with captured_templates(app) as templates, captured_templates(app, mine), record(template_rendered) as sent:
            assert app.test_client().get("/").text == "7"

        assert templates == mine == [(sent.one().template, sent.one().context)]
        assert mine[0][1]["n"] == 7

        template_rendered.connect(lambda *args, **payload: 1 / 0, weak=False)

        with fake(template_rendered) as faked:
            assert app.test_client().get("/").text == "7"

        assert len(faked.one().stopped) == 1
    """
    command = [sys.executable, "-W", "error", "-c", dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
