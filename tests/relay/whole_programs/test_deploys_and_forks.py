"""Two deploys on one database, and processes that fork when they have used it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from aldis.relay.storage.tables import messages
from tests.relay.programs.worker_program import SOON_S
from tools.chaos.processes import soon
from tools.chaos.programs import deliveries, effects
from tools.chaos.scenarios import Place

# Deploys.


def test_two_deploys_at_once(postgresql_place: Place) -> None:
    """R4: While the old deploy and the new one send and work on one database, everything is received once: what the
    new one has sent by the new one only, which has another name for a receiver and for a keyword.
    """

    place = postgresql_place

    def have_sent(first: int) -> None:
        senders = [place.start("deploy_sends", version=v, first=first + 100 * v, count=20) for v in (1, 2)]
        assert [sender.ended() for sender in senders] == [0, 0]

    def left() -> list[int]:
        return place.column(select(messages.c.version))

    have_sent(0)
    old = place.start("deploy_works", version=1)
    soon(lambda: 1 not in left(), "the end of what the old deploy had sent")
    assert left() == [2] * 40
    assert {*place.column(select(messages.c.attempts))} == {0}

    new = place.start("deploy_works", version=2)
    have_sent(20)
    place.finish(old, new)

    with place.shop.engine.begin() as connection:
        received = [tuple(row) for row in connection.execute(select(deliveries.c.number, deliveries.c.attempt))]

    numbers = [*range(100, 140), *range(200, 240)]
    assert Counter(number for number, _ in received) == Counter([*numbers, *(1000 + number for number in numbers)])
    assert {by for number, by in received if number % 1000 >= 200} == {2}


# Forks.


def test_a_fork_after_the_database_was_used(place: Place) -> None:
    """R1: Children of a process that has used the relay send with connections of their own, and so does it again."""
    assert place.start("fork_and_send", children=3, each=20).ended() == 0
    place.finish(place.start("work", lease=30.0))
    assert place.numbers(effects) == Counter(range(62))


GUNICORN = """
import os
from tools.chaos.programs import Shop

shop = Shop(os.environ["TEST_URL"])
shop.connect("billing")
shop.signal.send("shop", number=0)

def app(environ, start_response):
    number = int(environ["QUERY_STRING"])
    shop.signal.send("shop", number=number)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
GUNICORN_SETTINGS = """
preload_app = True
workers = 2

def post_fork(server, worker):
    from served import shop
    shop.engine.dispose(close=False)
"""


def test_gunicorn_that_loads_before_it_forks(postgresql_place: Place, tmp_path: Path) -> None:
    """R1: Behind ``gunicorn --preload``, an application that has sent before the fork sends after it."""
    place = postgresql_place
    (tmp_path / "served.py").write_text(GUNICORN)
    (tmp_path / "settings.py").write_text(GUNICORN_SETTINGS)
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join([str(tmp_path), root, os.environ.get("PYTHONPATH", "")])

    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "log").open("wb") as log:
        port = server.getsockname()[1]
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                "settings.py",
                f"--bind=fd://{server.fileno()}",
                "served:app",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, "TEST_URL": place.url},
            pass_fds=[server.fileno()],
            stderr=log,
        )

        try:
            pids = {ask(port, number) for number in range(1, 31)}
        finally:
            process.terminate()
            assert process.wait(SOON_S) == 0

    assert str(process.pid) not in pids
    assert place.count(messages) == 31
    place.finish(place.start("work", lease=30.0))
    assert place.numbers(effects) == Counter(range(31))


def ask(port: int, number: int) -> str:
    """Send a request. Gives what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON_S) as connection:
        connection.sendall(f"GET /?{number} HTTP/1.0\r\n\r\n".encode())
        answer = connection.makefile("rb").read().decode()

    assert answer.startswith(("HTTP/1.1 200", "HTTP/1.0 200")), answer
    return answer.rpartition("\r\n")[2]
