"""The effects of importing ``aldis.flask``, and of ``init_app``."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
from aldis import AsyncReceiverError, Signal
from aldis._core.dispatch import default_wrappers
from aldis.flask import Aldis
from flask import Flask

signal = Signal()

@signal.connect
async def receiver(sender):
    return "ran"

def send(app):
    with app.app_context():
        try:
            return [value for _, value in signal.send()]
        except AsyncReceiverError:
            return "refused"

before, plain = Flask("before"), Flask("plain")
print(len(default_wrappers), send(before))
Aldis(before)
print(len(default_wrappers), send(before), send(plain))
later = Flask("later")
print(send(later))
Aldis(later)
print(len(default_wrappers), send(later), send(before), send(plain))
"""

DESCRIBED = """
import sys
from flask import Flask
from aldis.observe import describe_sender

class Shop(Flask): ...

print(describe_sender(Flask("a")), describe_sender(Shop("b")), "aldis.flask" in sys.modules)
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_init_app_registers_the_wrapper_once() -> None:
    """The first init_app, and not the import, registers the wrapper, for all applications that have Aldis then or
    later.
    """
    assert run(PROGRAM) == [
        "0 refused",
        "1 ['ran'] refused",
        "refused",
        "1 ['ran'] ['ran'] refused",
    ]


def test_an_application_has_a_name_without_the_extension() -> None:
    """An application is described by its name, whether aldis.flask is imported or not."""
    assert run(DESCRIBED) == ["Flask 'a' Flask 'b' False"]
