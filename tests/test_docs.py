"""That the documentation is whole. Its examples are run by the conftest.py at the root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aldis

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROMISES = [f"E{number}" for number in range(1, 14)]
FENCES = {"python", "output", "console", "text", "ini", "{eval-rst}", "{toctree}"}


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_cannot_be_overlooked(page: Path) -> None:
    """Every fence is of a known kind and not indented, so that all Python in the pages is found and run."""
    fences = re.findall(r"^([ \t>]*)(?:`{3,}|~{3,}(?=[^~\s]))(\S*)", page.read_text("utf-8"), re.MULTILINE)
    openings, closings = fences[::2], fences[1::2]

    assert {name for _, name in openings} <= FENCES
    assert {indent for indent, _ in fences} <= {""}
    assert {name for _, name in closings} <= {""}


@pytest.mark.parametrize("page", ["docs/what-changes-from-blinker.md", "docs/design.md", "README.md"])
def test_the_tables_name_every_promise(page: str) -> None:
    """E1 to E13 have a row each, in order, in the tables that list them."""
    rows = re.findall(r"^\| \*\*(E\d+)", read(page), re.MULTILINE)

    assert rows == PROMISES


@pytest.mark.parametrize("page", ["docs/design.md", "README.md"])
def test_the_tables_name_every_promise_of_the_relay(page: str) -> None:
    """R1 to R6 have a row each, in order."""
    assert re.findall(r"^\| \*\*(R\d+)", read(page), re.MULTILINE) == [f"R{number}" for number in range(1, 7)]


def test_every_change_from_blinker_has_a_program() -> None:
    """Each row of the table of changes is shown by Python below its own heading."""
    sections = re.split(r"^### ", read("docs/what-changes-from-blinker.md"), flags=re.MULTILINE)[1:]

    assert [section.partition(":")[0] for section in sections] == PROMISES
    assert all("```python\n" in section and "```output\n" in section for section in sections)


def test_the_reference_has_all_that_is_public() -> None:
    """What is in ``aldis.__all__`` is in the reference, by the name that it is imported by."""
    reference = read("docs/reference.md")

    assert [name for name in aldis.__all__ if not re.search(rf"aldis\.{name}\b", reference)] == []


@pytest.mark.parametrize("room", ["aldis.relay", "aldis.relay.celery", "aldis.relay.testing", "aldis.relay.otel"])
def test_the_reference_has_all_of_the_relay(room: str) -> None:
    """What is in ``__all__`` of the relay's modules is in the reference, exceptions by where they are defined."""
    reference = read("docs/reference.md")
    module = pytest.importorskip(room)
    places = {name: getattr(module, name).__module__ for name in module.__all__}
    names = {name: "aldis.exceptions" if place == "aldis.exceptions" else room for name, place in places.items()}

    assert [name for name, where in names.items() if not re.search(rf"{re.escape(where)}\.{name}\b", reference)] == []


def test_every_decision_is_listed() -> None:
    """The list of decisions has every page beside it."""
    pages = {page.stem for page in (ROOT / "docs" / "decisions").glob("*.md")} - {"index"}

    assert pages == set(re.findall(r"^[a-z-]+$", read("docs/decisions/index.md"), re.MULTILINE))
