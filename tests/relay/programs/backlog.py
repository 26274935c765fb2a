"""Receives a long backlog, and prints the memory that it uses now and then, in bytes.

python backlog.py URL COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path
from resource import getpagesize

from sqlalchemy import create_engine, insert

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.storage.tables import messages, now_ms
from aldis.relay.worker.worker import Settings, Worker


def number_sent(sender: str, /, *, number: int) -> object:
    """Carries a number."""


def main(url: str, count: int) -> None:
    engine = create_engine(url)
    relay = Relay(engine)
    relay.create_tables()
    signal = Namespace().declare(number_sent)

    def receive(sender: str, *, number: int) -> None:
        if number % (count // 10) == 0:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
            sys.stdout.write(f"{resident}\n")

    signal.connect(receive, via=relay.durable("work"))
    row = {"signal": "number-sent", "receiver": "work", "version": 1, "sender": '{"text": "sender"}'}
    statement = insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), **row)

    for first in range(0, count, 1000):
        numbers = range(first, first + 1000)
        rows = [{"message_id": f"m{n}", "payload": f'{{"number": {n}{" " * 1000}}}'} for n in numbers]

        with engine.begin() as connection:
            connection.execute(statement, rows)

    Worker(relay, Settings(concurrency=1, batch=200, drains=True)).run()
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
