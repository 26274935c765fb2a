"""The examples and the quiz of the lesson on signals, on Aldis in Blinker's place and on Blinker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., str]

pytestmark = pytest.mark.program


def test_every_request_is_recorded(run: Run) -> None:
    """Contract: ``request_started`` is sent for a page and for a 404 alike."""
    printed = run(
        """
        from flask import Flask, request, request_started

        app = Flask(__name__)
        log = []

        def record_request(sender, **extra):
            log.append(request.path)

        request_started.connect(record_request, app)

        @app.route("/hello")
        def hello():
            return "Hello!"

        client = app.test_client()
        print(client.get("/hello").status_code, client.get("/missing").status_code)
        print(log)
        """
    )
    assert printed == "200 404\n['/hello', '/missing']\n"


def test_template_and_context_keys_are_recorded(run: Run) -> None:
    """Contract: ``template_rendered`` sends the template and its variables."""
    run(
        """
        from flask import Flask, render_template, template_rendered
        from jinja2 import DictLoader

        app = Flask(__name__)
        app.jinja_loader = DictLoader({"hello.html": "Hello, {{ name }}!"})
        captured = []

        @app.route("/<name>")
        def hello(name):
            return render_template("hello.html", name=name)

        def record_template(sender, template, context, **extra):
            captured.append((template.name, sorted(context)))

        template_rendered.connect(record_template, app)
        assert app.test_client().get("/Ada").text == "Hello, Ada!"

        ((template, keys),) = captured
        assert template == "hello.html"
        assert "name" in keys  # Beside what Flask gives to every template.
        """
    )


def test_user_registered_with_two_receivers(run: Run) -> None:
    """Contract: two receivers are called for one signal, and the sender knows neither."""
    run(
        """
        from blinker import signal

        user_registered = signal("user-registered")
        audit_log, outbox = [], []

        def register_user(name, email):
            user = {"name": name, "email": email}
            user_registered.send("registration", user=user)
            return user
        """,
        """
        @user_registered.connect
        def write_audit_log(sender, user, **extra):
            audit_log.append(f"{sender}: {user['name']}")

        @user_registered.connect
        def send_welcome_mail(sender, user, **extra):
            outbox.append(user["email"])

        register_user("Ada", "ada@example.org")
        assert audit_log == ["registration: Ada"]
        assert outbox == ["ada@example.org"]

        if LIBRARY == "aldis":
            results = user_registered.send("registration", user={"name": "Bob", "email": "bob@example.org"})
            assert [receiver for receiver, _ in results] == [write_audit_log, send_welcome_mail]  # E1
        """,
    )


def test_page_views_with_two_receivers(run: Run) -> None:
    """Contract: the lesson's exercise: a signal for page views has two receivers, and a real request sends it."""
    run(
        """
        from collections import Counter

        from flask import Flask, current_app, request
        from blinker import Namespace

        signals = Namespace()
        page_viewed = signals.signal("page-viewed")
        views, trail = Counter(), []

        @page_viewed.connect
        def count_views(sender, page, **extra):
            views[page] += 1

        @page_viewed.connect
        def follow_visitor(sender, page, visitor, **extra):
            trail.append((visitor, page))

        app = Flask(__name__)

        @app.route("/<page>")
        def show(page):
            visitor = request.args["visitor"]
            page_viewed.send(current_app._get_current_object(), page=page, visitor=visitor)
            return page

        client = app.test_client()

        for page, visitor in [("home", "ada"), ("lamps", "ada"), ("home", "bob")]:
            client.get(f"/{page}?visitor={visitor}")

        assert views == {"home": 2, "lamps": 1}
        assert trail == [("ada", "home"), ("ada", "lamps"), ("bob", "home")]
        """
    )


def test_a_receiver_that_is_never_called(run: Run) -> None:
    """Contract: the lesson's first trap: another Signal() is another signal, and the same name in a namespace is the
    same signal."""
    run(
        """
        from blinker import Namespace, Signal, signal

        heard = []

        def receive(sender):
            heard.append(sender)

        signal("saved").connect(receive)
        Signal().send("nobody")
        Namespace().signal("saved").send("nobody")
        signal("Saved").send("nobody")
        assert heard == []
        signal("saved").send("somebody")
        assert heard == ["somebody"]
        """
    )


QUIZ = '''
import gc
import inspect
import sys
from pathlib import Path

import flask
import flask.signals
from blinker import signal
from flask import Flask, render_template_string


def which_pattern_do_signals_implement():
    """Publish/subscribe: the sender knows no receiver, and the receivers do not know each other."""
    published = signal("published")
    published.send("to nobody")
    heard = []
    subscribers = [lambda sender, n=n: heard.append(n) for n in range(3)]

    for subscriber in subscribers:
        published.connect(subscriber)

    published.send("to whoever listens")
    assert sorted(heard) == [0, 1, 2]


def which_library_powers_flasks_signals():
    """Blinker, which flask.signals imports; and that is Aldis now."""
    assert "from blinker import Namespace" in Path(inspect.getsourcefile(flask.signals)).read_text("utf-8")
    assert flask.signals.Namespace is blinker.Namespace
    assert isinstance(flask.request_started, blinker.NamedSignal)
    assert type(flask.request_started).__module__.partition(".")[0] == LIBRARY
    assert ("aldis" in sys.modules) is (LIBRARY == "aldis")


def what_is_a_function_that_runs_when_a_signal_is_sent_called():
    """A receiver: the signal's own words for it."""
    sent = signal("sent")

    def receiver(sender):
        return "ran"

    assert sent.connect(receiver) is receiver
    assert sent.receivers
    assert list(sent.receivers_for("anybody")) == [receiver]
    assert sent.send("anybody") == [(receiver, "ran")]


def which_signal_fires_at_the_start_of_every_request():
    """request_started: before routing decides the outcome, and before any other code for the request."""
    app, trace = Flask("quiz"), []
    app.before_request(lambda: trace.append("before_request"))

    @flask.request_started.connect_via(app)
    def start(sender, **extra):
        trace.append("request_started")

    @flask.request_finished.connect_via(app)
    def finish(sender, **extra):
        trace.append("request_finished")

    app.test_client().get("/nowhere")
    app.test_client().get("/nowhere")
    assert trace == ["request_started", "before_request", "request_finished"] * 2


def what_does_template_rendered_pass():
    """The template and the context, by these names, and nothing else."""
    app, payloads = Flask("quiz"), []

    @flask.template_rendered.connect_via(app)
    def receive(sender, **payload):
        payloads.append(payload)

    with app.test_request_context():
        render_template_string("{{ name }}", name="Ada")

    (payload,) = payloads
    assert sorted(payload) == ["context", "template"]
    assert payload["context"]["name"] == "Ada"
    assert payload["template"].render(name="Bob") == "Bob"


def how_do_you_create_a_named_signal():
    """signal("name"): the same object for the same name."""
    assert signal("name") is signal("name")
    assert signal("name") is not signal("another name")
    assert signal("name").name == "name"


def how_do_you_broadcast_a_signal():
    """sig.send(sender, **data): all connected receivers are notified, with the sender and the data."""
    sig, heard = signal("broadcast"), []

    def receive(sender, **data):
        heard.append((sender, data))

    def receive_too(sender, **data):
        heard.append((sender, data))

    sig.connect(receive)
    sig.connect(receive_too)
    sig.send("ship", message="QRV", repeat=2)
    assert heard == [("ship", {"message": "QRV", "repeat": 2})] * 2


def which_signal_fires_when_an_unhandled_error_occurs():
    """got_request_exception: with the exception, and not for errors that are handled, or for a 404."""
    app, errors = Flask("quiz"), []

    @app.errorhandler(LookupError)
    def handle(error):
        return "handled"

    @app.get("/<error>")
    def fail(error):
        raise {"unhandled": ZeroDivisionError, "handled": LookupError}[error](error)

    @flask.got_request_exception.connect_via(app)
    def receive(sender, exception, **extra):
        errors.append(exception)

    app.logger.disabled = True
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/handled", "/a/b", "/unhandled")] == [200, 404, 500]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def how_do_signals_differ_from_before_request():
    """They are notifications that cannot change the outcome: what a receiver returns is not looked at."""
    app = Flask("quiz")
    app.add_url_rule("/", view_func=lambda: "the page")

    @flask.request_started.connect_via(app)
    def receive(sender, **extra):
        return "the receiver"

    assert app.test_client().get("/").text == "the page"
    app = Flask("quiz")
    app.add_url_rule("/", view_func=lambda: "the page")
    app.before_request(lambda: "the hook")
    assert app.test_client().get("/").text == "the hook"


def why_might_a_receiver_stop_firing():
    """It was garbage-collected, since it was held weakly: keep a reference, or use weak=False."""
    fired, heard = signal("fired"), []

    def connect(name, **options):
        def receive(sender):
            heard.append(name)

        return fired.connect(receive, **options)

    connect("lost")
    kept = connect("kept")
    connect("strong", weak=False)
    gc.collect()
    fired.send("now")
    assert sorted(heard) == ["kept", "strong"]
    assert kept in fired.receivers_for("now")


functions = [value for value in list(globals().values()) if inspect.isfunction(value)]
questions = [function for function in functions if function.__module__ == "__main__"]

for question in questions:
    question()
    print(question.__name__)
'''


def test_quiz(run: Run) -> None:
    """Contract: the ten facts of the lesson's quiz are true."""
    assert run(QUIZ).splitlines() == [
        "which_pattern_do_signals_implement",
        "which_library_powers_flasks_signals",
        "what_is_a_function_that_runs_when_a_signal_is_sent_called",
        "which_signal_fires_at_the_start_of_every_request",
        "what_does_template_rendered_pass",
        "how_do_you_create_a_named_signal",
        "how_do_you_broadcast_a_signal",
        "which_signal_fires_when_an_unhandled_error_occurs",
        "how_do_signals_differ_from_before_request",
        "why_might_a_receiver_stop_firing",
    ]
