"""The order of receivers, and the number of rows that a worker claims."""

from __future__ import annotations

import time
from itertools import pairwise
from threading import Event

import pytest

from aldis.relay.worker import scheduler
from tests.relay.programs.worker_program import LONG_S, SOON_S, Program, soon

# The order of receivers.


def test_a_backlog_of_one_receiver_keeps_no_other_waiting(program: Program) -> None:
    """R3: A message of one receiver is received soon, even while another receiver has a long backlog."""
    is_busy, is_sent = Event(), Event()

    def first(number: int) -> None:
        time.sleep(0.001)

        if number == 50:
            is_busy.set()
            is_sent.wait(LONG_S)

    program.connect("first", first)
    program.connect("second")
    program.pile_up("first", 1000)

    with program.working(concurrency=1, batch=10):
        assert is_busy.wait(SOON_S)
        program.pile_up("second", 1)
        is_sent.set()
        soon(lambda: program.numbers("second"))

    assert [got.receiver for got in program.got].index("second") < 500


@pytest.mark.parametrize("ahead_s", [0.0, LONG_S], ids=["one by one", "ahead"])
def test_backlogs_take_turns(program: Program, monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """R3: Receivers that all have a backlog are served in turn, whether there is room for one of them or for all."""
    monkeypatch.setattr(scheduler, "_AHEAD_S", ahead_s)
    names = ("first", "second", "third")

    for name in names:
        program.connect(name)
        program.pile_up(name, 120)

    with program.working(concurrency=2, batch=20):
        soon(lambda: program.rows() == 0)

    for name in names:
        places = [place for place, got in enumerate(program.got) if got.receiver == name]
        assert max(after - before for before, after in pairwise(places)) < 120


# The number of rows.


def test_few_are_claimed_where_receivers_take_long(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """If receivers take long, a worker claims only rows that its threads can begin, and leaves the rest."""
    monkeypatch.setattr(scheduler, "_AHEAD_S", 0.025)
    gate = Event()
    claimed: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.03)  # The receiver must take longer than the worker claims ahead: this is what the test is about.
        claimed.append(program.in_flight())

        if len(claimed) == 4:
            gate.set()

    program.connect(work=work)
    program.pile_up("work", 50)

    with program.working(concurrency=2, batch=50):
        assert gate.wait(SOON_S)

    assert max(claimed) <= 3


@pytest.mark.usefixtures("claims_ahead")
def test_many_are_claimed_where_receivers_are_quick(program: Program) -> None:
    """If receivers are quick, a claim takes as many rows as it may."""
    gate, go = Event(), Event()

    def work(number: int) -> None:
        if number == 600:
            gate.set()
            go.wait(LONG_S)

    program.connect(work=work)
    program.pile_up("work", 1000)

    with program.working(concurrency=1, batch=50):
        assert gate.wait(SOON_S)
        soon(lambda: program.in_flight() > 10)
        go.set()
        soon(lambda: program.rows() == 0)
