"""The extension from the documentation, in environments with Aldis, with Blinker alone and with neither."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-extension.md"
USE = """
import sys

for name in sys.argv[1:]:
    sys.modules[name] = None  # As where it is not installed.

from flask import Flask
from flask_lamp import light, signals

(lamp_lit,) = signals.values()


def on(sender, **payload):
    print(sender.name, payload)


lamp_lit.connect(on)

with Flask("house").app_context():
    light("green")

print(type(lamp_lit).__module__, lamp_lit.name, lamp_lit.__doc__.splitlines()[0])
"""
NEITHER = """
import sys

sys.modules["blinker"] = None

from _without_aldis import Namespace


def lamp_lit(sender, /, *, colour):
    '''Sent when a lamp was lit.'''


signal = Namespace().declare(lamp_lit)
print(signal.send("house", colour="green"), bool(signal.receivers), signal.name, signal.__doc__)
signal.connect(print)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the extension."""
    for path, code in re.findall(
        r"^```python\n# (flask_lamp/\w+\.py)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, "utf-8")

    return tmp_path


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(("missing", "library"), [((), "aldis._core.namespace"), (("aldis",), "blinker.base")])
def test_it_sends_on_what_there_is(folder: Path, missing: tuple[str, ...], library: str) -> None:
    """With Aldis, its signals are signals of Aldis; without Aldis, they are Blinker's, with the same payload."""
    done = run(folder, USE, *missing)
    assert done.stdout.splitlines() == [
        "house {'colour': 'green', 'seconds': 1.0}",
        f"{library} lamp-lit Sent when a lamp was lit.",
    ], done.stderr


def test_without_either_it_sends_to_nobody(folder: Path) -> None:
    """Without both libraries, a send reaches no receiver, and connect says what to install."""
    done = run(folder / "flask_lamp", NEITHER)
    assert done.stdout == "[] False lamp-lit Sent when a lamp was lit.\n"
    assert "install aldis or blinker" in done.stderr
