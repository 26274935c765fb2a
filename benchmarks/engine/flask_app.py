"""A Flask application in a process of its own, timed by flask_requests.py: on Blinker or on Aldis.

Reads ``path number`` from its input, makes that many requests, and prints the seconds they took.
"""

from __future__ import annotations

import io
import sys
from timeit import Timer
from typing import Any


def make_app() -> Any:
    """The application, with a page that is almost nothing and one with a template and a flashed message."""
    from flask import Flask, flash, render_template
    from jinja2 import DictLoader

    app = Flask(__name__)
    app.secret_key = "benchmark"
    app.jinja_env.loader = DictLoader({"page": "{% for m in get_flashed_messages() %}{{ m }}{% endfor %} {{ title }}"})

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/page")
    def page() -> str:
        flash("Saved.")
        return render_template("page", title="A page")

    return app


def connect(app: Any) -> list[str]:
    """A receiver on each of Flask's ten core signals. Gives the list in which they note the first request's."""
    from flask import signals

    heard: list[str] = []

    for name in (
        "appcontext_popped",
        "appcontext_pushed",
        "appcontext_tearing_down",
        "before_render_template",
        "got_request_exception",
        "message_flashed",
        "request_finished",
        "request_started",
        "request_tearing_down",
        "template_rendered",
    ):

        def receiver(sender: Any, name: str = name, **extra: Any) -> None:
            if len(heard) < 100:
                heard.append(name)

        getattr(signals, name).connect(receiver, app, weak=False)

    return heard


def look(app: Any, how: str) -> list[str]:
    """Set the extension up, and have all sends watched if that is wanted. Gives a list that grows with what is seen."""
    from aldis.flask import Aldis
    from aldis.observe import Counters, watch

    Aldis(app)
    seen: list[str] = []

    if how == "watched":
        watch(lambda send: seen.append(send.signal_name) if len(seen) < 100 else None)
    elif how == "counted":
        watch(Counters())

    return seen


def request(app: Any, path: str) -> None:
    """One request, by WSGI itself."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    status = ""

    def start_response(line: str, headers: list[tuple[str, str]], error: Any = None) -> None:
        nonlocal status
        status = line

    response = app(environ, start_response)
    b"".join(response)
    response.close()
    assert status == "200 OK", status


def main(library: str, extras: str) -> None:
    """Serve the timing process.

    :param library: ``blinker`` or ``aldis``.
    :param extras: ``none``; ``receivers``, one on each core signal; or, with those, ``extension``, and with that
        ``watched`` by a function or ``counted``.
    """
    if library == "aldis":
        import aldis

        aldis.install_as_blinker()

    import flask

    home = type(flask.request_started).__module__.partition(".")[0]
    assert home == library, f"Flask runs on {home}, not on {library}"

    app = make_app()
    heard = [] if extras == "none" else connect(app)
    seen = look(app, extras) if extras not in {"none", "receivers"} else []
    request(app, "/page")
    assert len(set(heard)) == (0 if extras == "none" else 9), heard
    assert bool(seen) == (extras == "watched"), seen

    for line in sys.stdin:
        path, number = line.split()
        print(
            Timer("request(app, path)", globals={"request": request, "app": app, "path": path}).timeit(int(number)),
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
