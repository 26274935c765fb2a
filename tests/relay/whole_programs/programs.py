"""The programs of the tests beside it, in addition to those of chaos. Each runs in its own process."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

from sqlalchemy import insert

from aldis import Namespace
from tools.chaos.processes import say, serve
from tools.chaos.programs import PROGRAMS, Shop, _run, deliveries


def send(url: str, *numbers: int) -> None:
    """Send messages, each in its own transaction."""
    shop = Shop(url)
    shop.connect("billing")

    for number in numbers:
        shop.signal.send("shop", number=number)


def tell_time() -> None:
    """Report the time of this process's clock."""
    now = dt.datetime.now(dt.UTC)
    assert isinstance(now, dt.datetime)
    say("time", time=time.time(), now=now.timestamp())


def fail_once(url: str, lease: float, backoff: float) -> None:
    """Run a worker whose receiver fails at the first attempt."""
    shop = Shop(url)

    def receive(number: int) -> None:
        attempt = shop.relay.current().attempt
        say("tried", attempt=attempt, at=time.monotonic())

        if attempt == 1:
            raise RuntimeError("as it should")

        shop.deliver(number)

    shop.connect("billing", receive, backoff=backoff)
    _run(shop, lease=lease)


# Two deploys of one program.


class Deploy:
    """The program in its first version or its second. A keyword and a receiver have different names."""

    def __init__(self, url: str, version: int) -> None:
        self.shop = Shop(url)
        self.version = version
        declare = {1: self.first, 2: self.second}[version]
        self.signal = declare()

    def first(self) -> Any:
        """Declare version 1."""

        def order_placed(sender: str, /, *, number: int) -> object: ...

        signal = Namespace().declare(order_placed)

        def receive(sender: str, *, number: int) -> None:
            self.note(number)

        self.connect(signal, receive, "billing")
        self.connect(signal, lambda sender, *, number: self.note(1000 + number), "mail")
        return signal

    def second(self) -> Any:
        """Declare version 2."""

        def order_placed(sender: str, /, *, order_id: int) -> object: ...

        upgraders = {1: lambda payload: {"order_id": payload["number"]}}
        signal = Namespace().declare(version=2, upgraders=upgraders)(order_placed)

        def receive(sender: str, *, order_id: int) -> None:
            self.note(order_id)

        self.connect(signal, receive, "invoices", aliases=["billing"])
        self.connect(signal, lambda sender, *, order_id: self.note(1000 + order_id), "mail")
        return signal

    def connect(self, signal: Any, receiver: Any, name: str, **options: Any) -> None:
        """Connect a durable receiver."""
        signal.connect(receiver, weak=False, via=self.shop.relay.durable(name, **options))

    def note(self, number: int) -> None:
        """Record a message, with the version of the code in place of the attempt."""
        time.sleep(0.01)  # So that both deploys have work.

        with self.shop.sessions.begin() as session:
            session.execute(insert(deliveries), {"number": number, "attempt": self.version})


def deploy_sends(url: str, version: int, first: int, count: int) -> None:
    """Send numbers by one of the deploys."""
    deploy = Deploy(url, version)
    keyword = {1: "number", 2: "order_id"}[version]

    for number in range(first, first + count):
        deploy.signal.send("shop", **{keyword: number})


def deploy_works(url: str, version: int) -> None:
    """Run a worker of one of the deploys."""
    deploy = Deploy(url, version)  # A reference, because a relay keeps no signal alive.
    _run(deploy.shop, lease=30.0, batch=5)


# Forks.


def fork_and_send(url: str, children: int, each: int) -> None:
    """Use the database, let children send, and send again."""
    shop = Shop(url)
    shop.connect("billing")
    shop.signal.send("shop", number=0)
    pids: list[int] = []

    for child in range(children):
        pid = os.fork()

        if not pid:
            shop.engine.dispose(close=False)  # As SQLAlchemy's documentation demands.

            for number in range(each):
                shop.signal.send("shop", number=1 + child * each + number)

            os._exit(0)

        pids.append(pid)

    shop.signal.send("shop", number=1 + children * each)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * children


if __name__ == "__main__":
    serve(
        {
            **PROGRAMS,
            "send": lambda url, numbers: send(url, *numbers),
            "tell_time": tell_time,
            "fail_once": fail_once,
            "deploy_sends": deploy_sends,
            "deploy_works": deploy_works,
            "fork_and_send": fork_and_send,
        }
    )
