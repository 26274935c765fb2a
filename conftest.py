"""Run the examples of README.md, of docs and of the docstrings in src, with Sybil.

A page is read from top to bottom, and its ``python`` fences are one program, which shares its names. The output of a
fence is compared with the next ``output`` fence, if that comes before further Python.

Fences below the comment ``<!-- fresh interpreter -->`` run in their own Python, in development mode: there Aldis can be
installed as Blinker before Flask is imported. If such a fence causes warnings, the page must show them as output. The
fences below ``<!-- same interpreter -->`` are the next part of the last such program.

In docstrings, the blocks below ``::`` and the ``>>>`` examples are run, with the names of the module and those that
:func:`set_the_scene` defines.

The core's tests also run in environments without Sybil. There, this module does nothing.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

try:
    from sybil import Region, Sybil
    from sybil.parsers.rest import DocTestParser
    from sybil.sybil import SybilCollection
except ImportError:
    HAS_SYBIL = False
else:
    HAS_SYBIL = True

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Document, Example

FENCE: Final = re.compile(
    r"(?:^<!-- (?P<kind>fresh|same) interpreter -->\n)?^```(?P<language>python|output)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LITERAL: Final = re.compile(r"::\n\n(?P<code>(?:[ ]{4,}.*\n|\n)+)")
DRAWING: Final = re.compile(r"[├└]")
PROGRAM: Final = """
import contextlib, io

names = {{"__name__": "example"}}

with contextlib.redirect_stdout(io.StringIO()):
    exec({earlier!r}, names)

exec(compile({code!r}, "example.py", "exec"), names)
"""
FOLLOWED_BY_OUTPUT: Final = re.compile(r"\s*```output\n")


def parse_page(document: Document) -> Iterator[Region]:
    """Find the fences that are run or compared."""
    for fence in FENCE.finditer(document.text):
        if fence["language"] == "output":
            yield Region(fence.start(), fence.end(), fence["code"], compare)
        elif fence["kind"] is None:
            line = document.text.count("\n", 0, fence.start("code"))
            yield Region(fence.start(), fence.end(), "\n" * line + fence["code"], run_here)
        else:
            yield Region(fence.start(), fence.end(), (fence["kind"], fence["code"]), run_apart)


def parse_docstring(document: Document) -> Iterator[Region]:
    """Find the literal blocks that are Python code."""
    for block in LITERAL.finditer(inspect.cleandoc(f"{document.text}\n") + "\n"):
        code = textwrap.dedent(block["code"])

        if DRAWING.search(code):
            continue

        # Sybil removed the indentation of the block, so search the text for the block with its indentation.
        start = document.text.index(block["code"].strip().partition("\n")[0])
        is_for_itself = "install_as_blinker()" in code
        parsed = ("fresh", code) if is_for_itself else code
        yield Region(start, start + 1, parsed, run_apart if is_for_itself else run_here)


def set_the_scene(names: dict[str, Any]) -> None:
    """Define the names that the examples of docstrings use: an application, signals, receivers, and a relay's
    database.
    """
    from celery import Celery  # type: ignore[import-untyped]
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    import aldis
    from aldis.aio import Concurrent
    from aldis.relay import Relay

    class Flask: ...

    def audit(sender: object, **payload: object) -> None: ...

    def order_placed(sender: object, /, *, order_id: int = 7) -> None: ...

    app = Flask()
    signals = aldis.Namespace()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Relay(engine).create_tables()
    names.update(app=app, audit=audit, signals=signals, Concurrent=Concurrent, Flask=Flask, Namespace=aldis.Namespace)
    names.update(saved=signals.signal("saved"), order_placed=signals.declare(order_placed))
    names.update(Celery=Celery, Relay=Relay, engine=engine)


def strike_the_scene(names: dict[str, Any]) -> None:
    """Close the database."""
    names["engine"].dispose()


def run_here(example: Example) -> None:
    """Run a fence in this process, and store its output."""
    names = example.namespace
    names.setdefault("__name__", "example")
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        waiting = eval(compile(example.parsed, example.path, "exec", flags, dont_inherit=True), names)  # noqa: S307

        if waiting is not None:
            asyncio.run(waiting)

    names["__printed__"] = printed.getvalue()


def run_apart(example: Example) -> None:
    """Run a fence in a new interpreter; the earlier fences of its program run again without output."""
    kind, code = example.parsed
    program: list[str] = example.namespace.setdefault("__program__", [])

    if kind == "fresh":
        program.clear()

    source = PROGRAM.format(earlier="".join(program), code=code)
    program.append(code)
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-X", "dev", "-c", source], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr or FOLLOWED_BY_OUTPUT.match(example.document.text, example.region.end), result.stderr
    example.namespace["__printed__"] = result.stdout + result.stderr


def compare(example: Example) -> None:
    """Compare the output of the last fence with the page."""
    assert example.namespace.pop("__printed__", None) == example.parsed


if HAS_SYBIL:
    root = Path(__file__).parent
    readme = Sybil([parse_page], filenames=["README.md"], path=str(root))
    pages = Sybil([parse_page], pattern="*.md", path=str(root / "docs"))
    docstrings = Sybil(
        [parse_docstring, DocTestParser()],
        pattern="*.py",
        path=str(root / "src"),
        setup=set_the_scene,
        teardown=strike_the_scene,
    )
    pytest_collect_file = SybilCollection([readme, pages, docstrings]).pytest()
