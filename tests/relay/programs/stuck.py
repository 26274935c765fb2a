"""Runs two workers in threads, and a receiver that is stuck outside of Python in its first attempt.

    python stuck.py URL

Prints the attempts that began, and the number of messages by outcome. It is not traced: on Python 3.11, traced threads
stand still while an exception waits for one of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from threading import Event, Thread

from sqlalchemy import create_engine

from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.worker.worker import Settings, Worker


def number_sent(sender: str, /, *, number: int) -> object:
    """Carries a number."""


def main(url: str) -> None:
    engine = create_engine(url)
    relay = Relay(engine)
    relay.create_tables()
    signal = Namespace().declare(number_sent)
    attempts: list[int] = []
    may_end, is_received = Event(), Event()

    def receive(sender: str, *, number: int) -> None:
        attempts.append(relay.current().attempt)

        if attempts == [1]:
            may_end.wait(600)  # One call in C.
        else:
            is_received.set()

    signal.connect(receive, via=relay.durable("work", timeout_s=0.2))
    signal.send("sender", number=1)
    workers = [Worker(relay, Settings(concurrency=1, lease_s=2.0, poll_s=0.05)) for _ in range(2)]
    threads = [Thread(target=worker.run) for worker in workers]

    for thread in threads:
        thread.start()

    is_received.wait(60)
    may_end.set()

    give_up_at = time.monotonic() + 30

    while sum(sum(worker.counts) for worker in workers) < 2 and time.monotonic() < give_up_at:
        time.sleep(0.005)

    for worker, thread in zip(workers, threads, strict=True):
        worker.stop()
        thread.join()

    engine.dispose()
    counted = Counter[str]()

    for worker in workers:
        counted.update(worker.counts._asdict())

    sys.stdout.write(json.dumps({"attempts": attempts, "tally": +counted}))


if __name__ == "__main__":
    main(sys.argv[1])
