"""Senders and workers whose clocks are wrong by an hour."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from aldis.relay.storage.tables import messages
from tests.relay.whole_programs.places import PROGRAMS, missing, placed
from tools.chaos.processes import Nursery, soon
from tools.chaos.programs import deliveries, effects
from tools.chaos.scenarios import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


# This is loaded before the C library, and changes the time of day that a program reads. Durations are not changed.
LEASE_S = 2.0
"""Short enough to wait for its end, and long enough that a worker on a busy machine renews it in time."""

SHIFT = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *found) {
    int failed = syscall(SYS_clock_gettime, clock, found);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        found->tv_sec += BY;
    return failed;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}
"""


@contextmanager
def shifted(folder: Path, by: int) -> Iterator[Nursery]:
    """Yield programs whose clocks are wrong by this number of seconds."""
    compiler = shutil.which("cc")

    if compiler is None or not sys.platform.startswith("linux"):
        missing("there is no compiler of C, or this is not Linux: clocks cannot be set wrong for a program alone")

    assert compiler
    library = folder / "shift.so"
    (folder / "shift.c").write_text(SHIFT)
    command = [compiler, "-shared", "-fPIC", f"-DBY={by}", "-o", str(library), str(folder / "shift.c")]
    subprocess.run(command, check=True, timeout=600)

    with Nursery(PROGRAMS, folder / "log", LD_PRELOAD=str(library)) as nursery:
        told = nursery.start("tell_time").heard("time")
        now = time.time()
        assert [round((told[kind] - now - by) / 60) for kind in ("time", "now")] == [0, 0]
        yield nursery


@pytest.fixture(scope="module")
def fast_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Return programs that are an hour ahead."""
    with shifted(tmp_path_factory.mktemp("fast"), 3600) as found:
        yield found


@pytest.fixture(scope="module")
def slow_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Return programs that are an hour behind."""
    with shifted(tmp_path_factory.mktemp("slow"), -3600) as found:
        yield found


@pytest.fixture
def fast(postgresql_url: str, tmp_path: Path, fast_nursery: Nursery) -> Iterator[Place]:
    """Return a place an hour ahead."""
    with placed(postgresql_url, tmp_path, fast_nursery) as found:
        yield found


@pytest.fixture
def slow(postgresql_url: str, tmp_path: Path, slow_nursery: Nursery) -> Iterator[Place]:
    """Return a place an hour behind, in the same database."""
    with placed(postgresql_url, tmp_path, slow_nursery) as found:
        yield found


def test_clocks_of_senders(fast: Place, slow: Place) -> None:
    """R3: Whatever the clocks of senders and workers say, messages come at once, and in the order of the sends."""
    for number, place in enumerate((fast, slow, fast, slow)):
        assert place.start("send", numbers=[*range(number * 5, number * 5 + 5)]).ended() == 0

    for place in (fast, slow):
        worker = place.start("work", lease=30.0, concurrency=1)
        place.finish(worker)
        place.start("send", numbers=[*range(20, 25)]).ended()

    assert place.column(select(deliveries.c.number).order_by(deliveries.c.id)) == [*range(25)]


def outlast_lease(place: Place) -> None:
    """Wait until the lease of the one message was renewed after the time at which it would have ended."""

    def ends_ms() -> int:
        return int(place.column(select(messages.c.due_ms))[0])

    ended_ms = ends_ms() + int(LEASE_S * 1000)
    soon(lambda: ends_ms() >= ended_ms, "the end of the first lease")


def test_clocks_of_workers(fast: Place, slow: Place, tmp_path: Path) -> None:
    """R3: A lease ends by the database's clock, whichever worker reads it."""
    for number, (holder, other) in enumerate(((fast, slow), (slow, fast))):
        gate = tmp_path / f"gate-{number}"
        holds = holder.start("linger", lease=LEASE_S, gate=str(gate))
        other.start("send", numbers=[number]).ended()
        holds.heard("begun")
        looks = other.start("linger", lease=LEASE_S, gate=str(gate))
        outlast_lease(other)
        assert other.numbers(deliveries)[number] == 1

        holds.kill()
        looks.heard("begun")
        gate.touch()
        other.finish(looks)
        assert other.numbers(deliveries)[number] == 2

    assert fast.numbers(effects) == Counter(range(2))


def test_clocks_and_backoffs(fast: Place, slow: Place) -> None:
    """R3: A failed message is tried again when its backoff ends by the database's clock, neither early nor late."""
    for place, sender in ((fast, slow), (slow, fast)):
        worker = place.start("fail_once", lease=30.0, backoff=1.5)
        sender.start("send", numbers=[1]).ended()
        first, second = worker.heard("tried"), worker.heard("tried")
        assert (first["attempt"], second["attempt"]) == (1, 2)
        assert second["at"] - first["at"] >= 1.4
        place.finish(worker)
