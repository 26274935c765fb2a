"""The event loop in which sync code uses an async database."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from sqlalchemy.ext.asyncio import create_async_engine
from aldis.relay import Relay

relay = Relay(create_async_engine(sys.argv[1]))
relay.create_tables()

if os.fork() == 0:
    print("child:", relay.status(), flush=True)
    os._exit(0)

os.wait()
print("parent:", relay.status(), flush=True)
"""


def test_parent_and_child_of_a_fork_have_loops_of_their_own(sqlite_url: str) -> None:
    """A child of a process that has used an async database can use it too, and so can the parent afterwards, which ends
    without a warning about open connections.
    """
    url = sqlite_url.replace("sqlite:", "sqlite+aiosqlite:")
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert ran.stdout.splitlines() == ["child: []", "parent: []"]
    assert "ResourceWarning" not in ran.stderr
