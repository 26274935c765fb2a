"""The snippets from which people learn Flask's signals run unchanged, on Aldis in Blinker's place.

Each test is a program of three pieces: the setup that the snippet assumes, the snippet, and assertions about its
result. All programs run on Blinker too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., str]

pytestmark = pytest.mark.program

# The setup that most snippets assume: an app, with a page that renders a template.
APP = """
from flask import Flask, render_template
from jinja2 import DictLoader

app = Flask("seeds")
app.jinja_loader = DictLoader({"index.html": "{{ items | length }} items"})

@app.get("/")
def index():
    return render_template("index.html", items=list(range(10)))
"""

LOG_TEMPLATE = """
from flask import template_rendered

def log_template(sender, template, context, **kwargs):
    sender.logger.info(
        'Rendered template %(template)r with context %(context)r.',
        template=template, context=context
    )

template_rendered.connect(log_template)
"""

CAPTURED_TEMPLATES = """
from flask import template_rendered
from contextlib import contextmanager

@contextmanager
def captured_templates(app):
    recorded = []
    def record(sender, template, context, **extra):
        recorded.append((template, context))
    template_rendered.connect(record, app)
    try:
        yield recorded
    finally:
        template_rendered.disconnect(record, app)
"""

CUSTOM_SIGNALS = """
from flask import current_app
from flask.signals import Namespace

namespace = Namespace()
message_sent = namespace.signal('mail_sent')

def message_response(recipient, body):
    ...
    message_sent.send(
        current_app._get_current_object(),
        recipient=recipient,
        body=body
    )

@message_sent.connect
def log_message(app, recipient, body):
    ...
"""


def test_connecting_to_signals(run: Run) -> None:
    """Contract: the receiver is connected and called, and does no harm while its log level is off."""
    run(
        APP,
        LOG_TEMPLATE,
        """
        assert list(template_rendered.receivers_for(app)) == [log_template]
        assert app.test_client().get("/").text == "10 items"
        """,
    )


def test_connecting_to_signals_with_the_log_on(run: Run) -> None:
    """Contract: with the log level on, the snippet fails under both libraries, because logging accepts no such
    keywords."""
    run(
        APP,
        LOG_TEMPLATE,
        """
        import logging

        app.logger.setLevel(logging.INFO)
        app.testing = True

        try:
            app.test_client().get("/")
        except TypeError as error:
            assert "unexpected keyword argument 'template'" in str(error), error
        else:
            raise AssertionError("logging has learned new keywords: see to this test")
        """,
    )


def test_custom_signals(run: Run) -> None:
    """Contract: a namespace from ``flask.signals`` makes signals, and the app itself is the sender."""
    run(
        APP,
        CUSTOM_SIGNALS,
        """
        heard = []

        @message_sent.connect
        def hear(sender, recipient, body):
            heard.append((sender, recipient, body))

        with app.app_context():
            message_response("ada@example.org", "Lamps are lit.")

        assert heard == [(app, "ada@example.org", "Lamps are lit.")]
        assert heard[0][0] is app
        assert set(message_sent.receivers_for(app)) == {log_message, hear}
        assert message_sent.name == "mail_sent"
        assert namespace.signal("mail_sent") is message_sent
        """,
    )


def test_signals_are_not_asynchronous(run: Run) -> None:
    """Contract: receivers run one after the other, in the sender's thread, before the send returns."""
    run(
        APP,
        CUSTOM_SIGNALS,
        """
        import threading

        trace = []

        def first(sender, **payload):
            trace.append(("first begins", threading.get_ident()))
            trace.append(("first ends", threading.get_ident()))

        def second(sender, **payload):
            trace.append(("second begins", threading.get_ident()))
            trace.append(("second ends", threading.get_ident()))

        message_sent.connect(first)
        message_sent.connect(second)

        with app.app_context():
            message_response("ada@example.org", "Lamps are lit.")
            trace.append(("sent", threading.get_ident()))

        orders = [["first", "second"]]

        if LIBRARY == "blinker":
            orders.append(["second", "first"])  # E1: Blinker promises no order.

        assert [what for what, _ in trace] in [
            [f"{name} {does}" for name in order for does in ("begins", "ends")] + ["sent"] for order in orders
        ]
        assert {thread for _, thread in trace} == {threading.get_ident()}
        """,
    )


def test_captured_templates(run: Run) -> None:
    """Contract: the context manager of Flask's documentation records exactly the templates that are rendered in its
    block."""
    run(
        APP,
        CAPTURED_TEMPLATES,
        """
        with captured_templates(app) as templates:
            rv = app.test_client().get('/')
            assert rv.status_code == 200
            assert len(templates) == 1
            template, context = templates[0]
            assert template.name == 'index.html'
            assert len(context['items']) == 10
        """,
        """
        app.test_client().get("/")
        assert len(templates) == 1
        assert not template_rendered.receivers
        """,
    )


def test_captured_templates_of_two_apps(run: Run) -> None:
    """Contract: with a sender, as Flask's documentation says, the templates of other apps are not recorded."""
    run(
        APP,
        "other = app",
        APP,
        CAPTURED_TEMPLATES,
        """
        with captured_templates(app) as templates:
            other.test_client().get("/")
            assert templates == []
            app.test_client().get("/")
            assert len(templates) == 1
        """,
    )


def test_captured_templates_with_connected_to(run: Run) -> None:
    """Contract: ``connected_to`` keeps a function alive that no other object refers to, while its block runs.

    The documentation has ``...`` in place of the request. The rest of the snippet is unchanged.
    """
    run(
        APP,
        "extra = {}",
        """
        from flask import template_rendered

        def captured_templates(app, recorded, **extra):
            def record(sender, template, context):
                recorded.append((template, context))
            return template_rendered.connected_to(record, app)
        """,
        """
        templates = []
        with captured_templates(app, templates, **extra):
            app.test_client().get("/")
            template, context = templates[0]
        """,
        """
        assert (template.name, len(context["items"])) == ("index.html", 10)
        assert not template_rendered.receivers
        app.test_client().get("/")
        assert len(templates) == 1
        """,
    )


def test_creating_and_sending_signals(run: Run) -> None:
    """Contract: a namespace of ``blinker`` makes named signals, and an object that sends with ``self`` is the
    sender."""
    run(
        """
        from blinker import Namespace
        my_signals = Namespace()

        model_saved = my_signals.signal('model-saved')

        class Model(object):
            ...

            def save(self):
                model_saved.send(self)
        """,
        """
        heard = []
        one, two = Model(), Model()

        @model_saved.connect
        def hear(sender):
            heard.append(("any", sender))

        @model_saved.connect_via(two)
        def hear_two(sender):
            heard.append(("two", sender))

        one.save()
        assert heard == [("any", one)]
        heard.clear()
        two.save()
        assert sorted(heard, key=lambda item: item[0]) == [("any", two), ("two", two)]
        assert model_saved.name == "model-saved"
        assert "model-saved" in repr(model_saved)
        assert my_signals["model-saved"] is model_saved
        """,
    )


def test_passing_proxies_as_senders(run: Run) -> None:
    """E6: ``_get_current_object()`` is right, as the documentation says. On Aldis, the proxy is right as well."""
    run(
        APP,
        CUSTOM_SIGNALS,
        """
        heard = []

        @message_sent.connect_via(app)
        def hear(sender, **payload):
            heard.append(sender)

        with app.app_context():
            message_sent.send(current_app._get_current_object(), recipient="ada", body="")
            assert [sender is app for sender in heard] == [True]
            message_sent.send(current_app, recipient="ada", body="")

        assert [sender is app for sender in heard] == ([True, True] if LIBRARY == "aldis" else [True])
        """,
    )


def test_request_context(run: Run) -> None:
    """Contract: ``flask.g`` exists from ``request_started`` to ``request_finished``, and belongs to the request."""
    run(
        APP,
        """
        from flask import g, request, request_finished, request_started

        seen = []

        @request_started.connect_via(app)
        def start(sender, **extra):
            assert "path" not in g
            g.path = request.path

        @app.before_request
        def before():
            assert g.path == request.path

        @request_finished.connect_via(app)
        def finish(sender, response, **extra):
            seen.append((g.path, response.status_code))

        client = app.test_client()
        client.get("/")
        client.get("/nowhere")
        assert seen == [("/", 200), ("/nowhere", 404)]
        """,
    )


def test_decorator_based_subscriptions(run: Run) -> None:
    """Contract: ``connect_via`` connects the function to one app, and returns the function."""
    printed = run(
        APP,
        """
        from flask import template_rendered

        @template_rendered.connect_via(app)
        def when_template_rendered(sender, template, context, **extra):
            print(f'Template {template.name} is rendered with {context}')
        """,
        """
        assert when_template_rendered.__name__ == "when_template_rendered"
        app.test_client().get("/")
        """,
    )
    assert printed.startswith("Template index.html is rendered with {'items': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")


def test_subscribing_temporarily(run: Run) -> None:
    """Contract: ``connect`` takes the sender as second argument, and ``disconnect`` undoes the connect."""
    run(
        APP,
        """
        from flask import request_started

        paths = []

        def record(sender, **extra):
            paths.append("page")

        client = app.test_client()
        request_started.connect(record, app)
        client.get("/")
        request_started.disconnect(record, app)
        client.get("/")
        assert paths == ["page"]
        """,
    )
