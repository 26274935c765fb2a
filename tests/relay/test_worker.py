"""The worker: who gets a turn, how many rows it takes, and what wakes it."""

from __future__ import annotations

import time
from itertools import pairwise
from threading import Event, Lock
from typing import TYPE_CHECKING

import pytest

from .works import Works, soon

if TYPE_CHECKING:
    from .conftest import MakeEngine


@pytest.fixture
def works(sqlite_url: str, make_engine: MakeEngine) -> Works:
    """In a file of SQLite."""
    return Works(make_engine(sqlite_url))


# Who gets a turn.


def test_a_backlog_of_one_receiver_keeps_no_other_waiting(works: Works) -> None:
    """R3: What is sent to one receiver while another has a long backlog is received soon, not when that is done."""
    is_busy, is_sent = Event(), Event()

    def first(number: int) -> None:
        time.sleep(0.001)

        if number == 50:
            is_busy.set()
            is_sent.wait(10)

    works.connect("first", first)
    works.connect("second")
    works.pile_up("first", 1000)

    with works.working(concurrency=1, batch=10):
        assert is_busy.wait(10)
        works.pile_up("second", 1)
        is_sent.set()
        soon(lambda: works.numbers("second"))
        received = len(works.numbers("first"))

    assert received < 500


def test_backlogs_take_turns(works: Works) -> None:
    """R3: Receivers that all have a backlog are served in turn."""
    names = ("first", "second", "third")

    for name in names:
        works.connect(name)
        works.pile_up(name, 120)

    with works.working(concurrency=2, batch=20):
        soon(lambda: works.rows() == 0)

    for name in names:
        places = [place for place, got in enumerate(works.got) if got.receiver == name]
        assert max(after - before for before, after in pairwise(places)) < 120


# How many it takes.


def test_few_are_claimed_where_receivers_take_long(works: Works) -> None:
    """What would wait here for long is left to other workers: no more is claimed than threads can begin."""
    gate = Event()
    claimed: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.3)  # As long as one receiver takes. It is what this is about.
        claimed.append(works.in_flight())

        if len(claimed) == 4:
            gate.set()

    works.connect(work=work)
    works.pile_up("work", 50)

    with works.working(concurrency=2, batch=50):
        assert gate.wait(20)

    assert max(claimed) <= 3


def test_many_are_claimed_where_receivers_are_quick(works: Works) -> None:
    """Where receivers take no time, a claim gets as many rows as it may."""
    gate, go = Event(), Event()

    def work(number: int) -> None:
        if number == 600:
            gate.set()
            go.wait(10)

    works.connect(work=work)
    works.pile_up("work", 1000)

    with works.working(concurrency=1, batch=50):
        assert gate.wait(20)
        soon(lambda: works.in_flight() > 10)
        go.set()
        soon(lambda: works.rows() == 0)


# Rows that killed workers.


def test_a_row_that_killed_two_workers_runs_alone(works: Works) -> None:
    """What may have killed workers runs when nothing else does, so that it cannot take others with it."""
    lock = Lock()
    running: set[int] = set()
    together: list[set[int]] = []

    def work(number: int) -> None:
        with lock:
            running.add(number)
            together.append(set(running))

        time.sleep(0.005)

        with lock:
            running.discard(number)

    works.connect(work=work)
    works.pile_up("work", 20)
    works.pile_up("work", 3, crashes=2, payload='{"number": 100}')
    works.pile_up("work", 20)

    with works.working(concurrency=4, batch=10, poll_s=60, lease_s=60):
        took_s = soon(lambda: works.rows() == 0)

    assert [found for found in together if 100 in found] == [{100}] * 3
    assert any(len(found) > 1 for found in together)
    assert took_s < 10


def test_a_row_that_is_alone_begins_at_once(works: Works) -> None:
    """A row that is to run alone waits for nothing when nothing else runs."""
    works.connect()
    works.pile_up("work", 3, crashes=2)
    began = time.monotonic()

    with works.working(lease_s=60, drains=True) as found:
        found.ended()

    assert (works.rows(), works.numbers()) == (0, [0, 1, 2])
    assert time.monotonic() - began < 10
