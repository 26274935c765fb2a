"""The documentation is complete. The conftest.py at the root runs its examples."""

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
def test_every_example_is_run(page: Path) -> None:
    """Every fence is of a known kind and not indented, so that all Python on the pages is found and run."""
    fences = re.findall(r"^([ \t>]*)(?:`{3,}|~{3,}(?=[^~\s]))(\S*)", page.read_text("utf-8"), re.MULTILINE)
    openings, closings = fences[::2], fences[1::2]

    assert {name for _, name in openings} <= FENCES
    assert {indent for indent, _ in fences} <= {""}
    assert {name for _, name in closings} <= {""}


@pytest.mark.parametrize("page", ["docs/what-changes-from-blinker.md", "docs/design.md", "README.md"])
def test_the_tables_list_every_promise(page: str) -> None:
    """The tables of the engine's promises have one row for each of E1 to E13, in order."""
    rows = re.findall(r"^\| \*\*(E\d+)", read(page), re.MULTILINE)

    assert rows == PROMISES


@pytest.mark.parametrize("page", ["docs/design.md", "README.md"])
def test_the_table_lists_every_promise_of_the_relay(page: str) -> None:
    """The table of the relay's promises has one row for each of R1 to R6, in order."""
    assert re.findall(r"^\| \*\*(R\d+)", read(page), re.MULTILINE) == [f"R{number}" for number in range(1, 7)]


def test_every_change_from_blinker_has_a_program() -> None:
    """Each row of the table of changes has Python that shows it, under its own heading."""
    sections = re.split(r"^### ", read("docs/what-changes-from-blinker.md"), flags=re.MULTILINE)[1:]

    assert [section.partition(":")[0] for section in sections] == PROMISES
    assert all("```python\n" in section and "```output\n" in section for section in sections)


def test_the_reference_lists_all_public_names() -> None:
    """The reference has every name in ``aldis.__all__``, as users import it."""
    reference = read("docs/reference.md")

    assert [name for name in aldis.__all__ if not re.search(rf"aldis\.{name}\b", reference)] == []


@pytest.mark.parametrize("room", ["aldis.relay", "aldis.relay.celery", "aldis.relay.testing", "aldis.relay.otel"])
def test_the_reference_lists_all_public_names_of_the_relay(room: str) -> None:
    """The reference has every name in ``__all__`` of the relay's modules, and exceptions under the module that
    defines them."""
    reference = read("docs/reference.md")
    module = pytest.importorskip(room)
    places = {name: getattr(module, name).__module__ for name in module.__all__}
    names = {name: "aldis.exceptions" if place == "aldis.exceptions" else room for name, place in places.items()}

    assert [name for name, where in names.items() if not re.search(rf"{re.escape(where)}\.{name}\b", reference)] == []


def test_every_decision_is_listed() -> None:
    """The list of decisions links every page in its folder."""
    pages = {page.stem for page in (ROOT / "docs" / "decisions").glob("*.md")} - {"index"}

    assert pages == set(re.findall(r"^[a-z-]+$", read("docs/decisions/index.md"), re.MULTILINE))
