"""A small shop for a server in its own process: ``python served.py SERVER FD``, or ``served:app``.

It listens on a socket that it inherits. Its receivers and its logger call the test at the port in ``PHONE``, and wait
for the answer.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from aldis import Namespace
from aldis.flask import Aldis, after_response

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 120
PARTS = 1000
PART = "part\n" * 100

signals = Namespace()
placed = signals.signal("order-placed")
failing = signals.signal("failing")
app = Flask("shop")
Aldis(app)


def call(**message: Any) -> None:
    """Tell the test something, and wait until it answers."""
    with socket.create_connection(("127.0.0.1", int(os.environ["PHONE"])), TIMEOUT_S) as connection:
        connection.sendall(json.dumps(message).encode() + b"\n")
        connection.recv(1)


class Caller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        call(logger=record.name, message=record.getMessage(), error=record.exc_info and repr(record.exc_info[1]))


app.logger.addHandler(Caller())


@placed.connect(via=after_response)
def receiver(sender: Any, **payload: Any) -> None:
    call(path=request.path, query=request.args.get("q"), agent=request.headers.get("User-Agent"), **payload)


@failing.connect(via=after_response)
def broken(sender: Any) -> None:
    raise OSError("disk full")


@app.get("/")
def index() -> str:
    placed.send(app, order_id=7)
    return "index" * 1000


@app.get("/silent")
def silent() -> str:
    return "silent"


@app.get("/stream")
def stream() -> Response:
    placed.send(app)
    return Response(PART for _ in range(PARTS))


@app.get("/endless")
def endless() -> Response:
    def parts() -> Iterator[str]:
        while True:
            yield PART * 200

    placed.send(app)
    return Response(parts())


@app.get("/fails")
def fails() -> str:
    failing.send(app)
    return "fails"


def main() -> None:
    server, descriptor = sys.argv[1], int(sys.argv[2])

    if server == "werkzeug":
        from werkzeug.serving import make_server

        make_server("127.0.0.1", 0, app, threaded=True, fd=descriptor).serve_forever()
    else:
        import waitress  # type: ignore[import-untyped]

        waitress.serve(app, sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main()
