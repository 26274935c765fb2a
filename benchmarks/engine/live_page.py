"""The cost of the live page: requests per second of a small application without it, with it, and with a listener.

The application renders a template and sends a signal to two receivers; Flask runs on Aldis. waitress serves it in its
own process, and the requests use one connection that stays open, so that the figures contain the whole cost of a
request on the server. The variants take turns, many times, and each one is compared with the others of the same turn.

Run it by itself: ``python -m benchmarks.engine.live_page``.
"""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 15
REQUESTS: Final = 600
VARIANTS: Final = ("off", "on", "open")

SERVER: Final = """
import sys, time, resource
import aldis
aldis.install_as_blinker()
import waitress
from flask import Flask, render_template_string
from aldis.flask import Aldis

signals = aldis.Namespace()
saved = signals.signal("saved")
app = Flask("small")
app.debug = True

@saved.connect
def index(sender, **payload): pass

@saved.connect
def audit(sender, **payload): pass

@app.get("/")
def home():
    saved.send(app, number=7)
    return render_template_string("{% for n in range(20) %}<li>{{ n }}</li>{% endfor %}")

@app.get("/cpu")
def cpu():
    return str(time.process_time())

if sys.argv[2] != "off":
    Aldis(app)

waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=4, _quiet=True)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(variant: str) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port), variant], env={**os.environ})

    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)

        yield port
    finally:
        process.terminate()
        process.wait()


def listen(port: int, stop: threading.Event) -> None:
    """Read the page's events, as a browser does."""
    last = ""

    while not stop.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/_aldis/events", headers={"Last-Event-ID": last})
        response = connection.getresponse()

        while line := response.readline():
            if line.startswith(b"id: "):
                last = line[4:].decode().strip()

            if stop.is_set():
                break

        connection.close()


class Client:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path)
        return self.connection.getresponse().read()

    def measure(self) -> tuple[float, float]:
        """Measure requests per second, and microseconds of the server's processor time per request."""
        cpu, began = float(self.get("/cpu")), time.perf_counter()

        for _ in range(REQUESTS):
            self.get("/")

        took = time.perf_counter() - began
        return REQUESTS / took, (float(self.get("/cpu")) - cpu) / REQUESTS * 1e6


def report(results: dict[str, list[tuple[float, float]]]) -> None:
    base = results["off"]
    print(f"{'page':10}{'requests/s':>12}{'of off':>10}{'CPU µs/request':>18}{'more than off':>16}")

    for name, label in zip(VARIANTS, ("off", "on", "on, open"), strict=True):
        rates = [rate for rate, _ in results[name]]
        costs = [cost for _, cost in results[name]]
        ratio = statistics.median(rate / other for (rate, _), (other, _) in zip(results[name], base, strict=True))
        more = statistics.median(cost - other for (_, cost), (_, other) in zip(results[name], base, strict=True))
        row = f"{statistics.median(rates):12.0f}{ratio:10.3f}{statistics.median(costs):18.0f}{more:+16.0f}"
        print(f"{label:10}{row}")


def main(rounds: int = ROUNDS) -> None:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    stop = threading.Event()

    with serving("off") as off, serving("on") as on, serving("open") as opened:
        listener: Any = threading.Thread(target=listen, args=(opened, stop), daemon=True)
        listener.start()
        clients = {"off": Client(off), "on": Client(on), "open": Client(opened)}

        for client in clients.values():
            client.measure()

        for _ in range(rounds):
            for name, client in clients.items():
                results[name].append(client.measure())

        stop.set()

    report(results)


if __name__ == "__main__":
    main(5 if "--quick" in sys.argv else ROUNDS)
