"""The cost of a send to other kinds of receivers: functions that name their keywords, and bound methods.

All libraries hold the methods weakly, except pyee, pluggy and the loop by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.engine.peers import CONTESTANTS, Case, slices
from benchmarks.engine.send import cells
from benchmarks.harness.report import Table
from benchmarks.harness.timing import interleave

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = ("blinker", "psygnal", "django", "pluggy", "pyee")
KINDS = {
    "function": "function(sender, **payload)",
    "named": "function(sender, a)",
    "method": "object.method(sender, **payload)",
}


def measure(quick: bool) -> Iterator[Table]:
    """Measure one table."""
    table = Table("Kinds of receivers, for any sender, with one keyword", ("", "receivers", *CONTESTANTS))

    for kind, title in KINDS.items():
        for count in (1, 3, 10):
            case = Case(count, kind=kind)  # type: ignore[arg-type]
            table.rows.append((title, count, *cells(interleave(slices(case), 0.25 if quick else 2.5))))

    yield table
