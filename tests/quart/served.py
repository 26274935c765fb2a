"""A small shop on hypercorn, for its own process: ``python served.py FD``.

It listens on a socket that it inherits. Its receivers, its logger and its shutdown call the test at the port in
``PHONE``, and wait for the answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

from aldis import Namespace
from aldis.quart import Aldis, after_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT_S = 120
PARTS = 1000
PART = "part\n" * 100

signals = Namespace()
placed = signals.signal("order-placed")
failing = signals.signal("failing")
slow = signals.signal("slow")
app = Quart("shop")
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
async def receiver(sender: Any, **payload: Any) -> None:
    agent = request.headers.get("User-Agent")
    await asyncio.to_thread(call, path=request.path, query=request.args.get("q"), agent=agent, **payload)


@slow.connect(via=after_response)
def receiver_in_thread(sender: Any) -> None:
    call(path=request.path)


@slow.connect(via=after_response)
async def receiver_behind(sender: Any) -> None:
    await asyncio.to_thread(call, behind=request.path)


@failing.connect(via=after_response)
async def broken(sender: Any) -> None:
    raise OSError("disk full")


@app.after_serving
def last() -> None:
    call(shutdown=True)


@app.get("/")
async def index() -> str:
    placed.send(app, order_id=7)
    return "index" * 1000


@app.get("/silent")
async def silent() -> str:
    return "silent"


@app.get("/stream")
async def stream() -> Response:
    async def parts() -> AsyncIterator[str]:
        for _ in range(PARTS):
            yield PART

    placed.send(app)
    return Response(parts())


@app.get("/endless")
async def endless() -> Response:
    async def parts() -> AsyncIterator[str]:
        while True:
            yield PART * 200
            await asyncio.sleep(0)  # Without this, the server does not find out that the client has left.

    placed.send(app)
    return Response(parts())


@app.get("/fails")
async def fails() -> str:
    failing.send(app)
    return "fails"


@app.get("/error")
async def error() -> str:
    placed.send(app)
    return "error"


@app.teardown_request
async def fail_outside(error: BaseException | None) -> None:
    if request.path == "/error":
        raise ZeroDivisionError


@app.get("/slow")
async def answer() -> str:
    slow.send(app)
    return "slow"


if __name__ == "__main__":
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.graceful_timeout = TIMEOUT_S
    config.keep_alive_timeout = TIMEOUT_S
    asyncio.run(serve(app, config))
