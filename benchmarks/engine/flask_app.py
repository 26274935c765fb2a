"""A Flask application in its own process, on Blinker or on Aldis; flask_requests.py measures it.

It reads ``path number`` from its input, makes that many requests, and prints the seconds that they took.
"""

from __future__ import annotations

import io
import sys
from timeit import Timer
from typing import Any


def make_app() -> Any:
    """Return the application, with one page that does almost nothing and one with a template and a flashed message."""
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
    """Connect a receiver to each of Flask's ten core signals. Return the list in which they record the first
    request's signals."""
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
    """Set the extension up, and watch all sends if requested. Return a list that grows with the sends that are seen."""
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
    """Make one request through WSGI."""
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
    """Answer the process that measures.

    :param library: ``blinker`` or ``aldis``.
    :param extras: ``none``; ``receivers``, one on each core signal; ``extension``, which also has these receivers; or
        ``watched`` by a function or ``counted``, which also have the extension.
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
