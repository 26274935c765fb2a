"""Sends and workers on a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import OperationalError

from aldis import Namespace
from aldis.relay.storage.tables import messages
from tests.relay.whole_programs.places import placed
from tools.chaos.processes import Nursery, soon
from tools.chaos.programs import effects, orders
from tools.chaos.scenarios import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "Rosebud"


class Disk:
    """A small disk.

    :ivar folder: its mount point.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, place: Place) -> None:
        """Use up all space, on the disk and in the files of the database."""
        with place.shop.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

        with self._filler.open("wb", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def clear(self) -> None:
        """Free the space."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Yield a file system of 2 megabytes, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount", path=f"{os.environ['PATH']}:/bin:/sbin")

    if mount is None:
        pytest.skip("this system has no mount")

    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )

    if done.returncode:
        pytest.skip(f"a disk of the test's own cannot be mounted here: {done.stderr.strip()}")

    yield Disk(folder)
    subprocess.run(["umount", folder], check=True, timeout=600)


@pytest.fixture
def disk_place(disk: Disk, nursery: Nursery) -> Iterator[Place]:
    """Return a place on the small disk."""
    with placed(f"sqlite:///{disk.folder}/test.sqlite", disk.folder, nursery) as found:
        yield found


def note_sent(sender: str, /, *, text: str) -> object:
    """Carries a text."""


def test_sends_on_a_full_disk(disk: Disk, disk_place: Place) -> None:
    """R1: On a full disk a whole send fails, inside a transaction and outside, and says why without its values. When
    there is space again, sends work.
    """
    place = disk_place
    sent = Namespace().declare(note_sent)
    sent.connect(lambda sender, *, text: None, weak=False, via=place.shop.relay.durable("notes"))
    payload = SECRET * 20_000
    place.shop.connect("billing")
    place.send(3)
    before = place.rows()
    disk.fill(place)

    with pytest.raises(OperationalError) as outside:
        sent.send("sender", text=payload)

    with place.shop.sessions() as session, pytest.raises(OperationalError) as inside:
        # Otherwise all rows would be in memory until the commit.
        session.connection().exec_driver_sql("PRAGMA cache_size = 10")
        session.execute(orders.insert(), {"number": 7, "is_kept": True})
        sent.send("sender", text=payload)

    with place.shop.sessions() as session, pytest.raises(OperationalError) as at_commit:
        session.execute(orders.insert(), {"number": 8, "is_kept": True})
        place.shop.signal.send("shop", number=8)
        session.commit()

    for error in (outside.value, inside.value):
        assert "the disk is full" in "".join(error.__notes__)

    for error in (outside.value, inside.value, at_commit.value):
        assert "database or disk is full" in str(error)
        assert SECRET not in str(error) + "".join(getattr(error, "__notes__", ()))

    assert (place.rows(), place.count(orders)) == (before, 0)
    disk.clear()
    sent.send("sender", text="short")
    place.send(1)
    assert len(place.rows()) == len(before) + 2


def test_a_worker_on_a_full_disk(disk: Disk, disk_place: Place, nursery: Nursery) -> None:
    """R3: On a full disk, a worker lives on, and does its delayed work once when there is space again."""
    place = disk_place
    place.shop.connect("billing")
    log = nursery.log.stat().st_size
    worker = place.start("work", lease=1.0)
    place.send(3)
    soon(lambda: place.count(effects) == 3 and not place.count(messages), "the first effects")
    worker.send_signal(signal.SIGSTOP)
    place.send(20)
    disk.fill(place)
    worker.send_signal(signal.SIGCONT)

    soon(lambda: "disk is full" in nursery.log.read_text(errors="replace")[log:], "the worker's word")
    assert worker.poll() is None
    disk.clear()
    place.finish(worker)
    assert place.numbers(effects) == Counter(range(23))
