"""Tables and goals: how results are shown, and the pages that they are written into."""

from __future__ import annotations

import datetime as dt
import platform
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class Goal:
    """A goal of the project, and whether it was met."""

    text: str
    is_met: bool

    def __str__(self) -> str:
        return f"{'met' if self.is_met else 'not met'}: {self.text}"


@dataclass
class Table:
    """One table of results."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def __str__(self) -> str:
        cells = [[str(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]
        head, *rows = (" | ".join(map(str.rjust, row, widths)) for row in cells)
        rule = " | ".join("-" * (width - 1) + ":" for width in widths)
        return "\n".join([f"**{self.title}**", "", *(f"| {line} |" for line in (head, rule, *rows)), ""])


def ratio(value: float | None) -> str:
    """Return a ratio as the text of a cell."""
    return "-" if value is None else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """Return a time as the text of a cell, with three significant digits."""
    if seconds is None:
        return "-"

    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"

    return f"{seconds / 1e-9:.0f} ns"


def version(peer: str) -> str | None:
    """Return the version of an installed peer."""
    try:
        return metadata.version(peer)
    except metadata.PackageNotFoundError:
        return None


def described(peers: Iterable[str]) -> str:
    """Return the versions that the figures were measured with, without the machine: only ratios hold on another one."""
    found = ", ".join(f"{peer} {version(peer)}" for peer in peers if version(peer))
    today = dt.datetime.now(dt.UTC).date()
    return f"{platform.python_implementation()} {platform.python_version()}{found and f', {found}'}; {today}."


def write(section: str, text: str, page: Path) -> bool:
    """Write a section's tables between its markers in a page. Each Python has its own pair of markers."""
    python = "{}.{}".format(*sys.version_info)
    begin, end = f"<!-- {section} on {python} -->", f"<!-- end of {section} on {python} -->"
    old = page.read_text(encoding="utf-8")
    new, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.DOTALL
    )

    if count:
        page.write_text(new, encoding="utf-8")

    return count > 0
