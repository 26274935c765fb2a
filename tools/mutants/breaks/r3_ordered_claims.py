"""R3: rows with the same ordering key are received one after the other, also from a long backlog."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="keys-beside",
        what="Two rows with the same ordering key are received at the same time.",
        at="_claimable",
        old="and_(~_has_older(ordered), _m.ordering_key.not_in(_keys_under_way(ordered)))",
        new="~_has_older(ordered)",
        tests=("test_claims.py", "test_r6_engines.py"),
    ),
    Break(
        name="keys-out-of-order",
        what="A row overtakes an older row with the same ordering key.",
        at="_claimable",
        old="and_(~_has_older(ordered), _m.ordering_key.not_in(_keys_under_way(ordered)))",
        new="_m.ordering_key.not_in(_keys_under_way(ordered))",
        tests=("test_claims.py", "test_r6_engines.py"),
    ),
    Break(
        name="no-turns",
        what="Two workers can claim two rows with the same ordering key.",
        at="take_turns",
        old='connection.dialect.name == "postgresql"',
        new='connection.dialect.name == "none"',
        tests=("test_claims.py",),
    ),
    Break(
        name="backlogs-are-read",
        what="A claim reads the whole of a long backlog with few ordering keys.",
        at="choose",
        old="end is None",
        new="end is None or limit",
        tests=("test_ordered_claims.py",),
    ),
    Break(
        name="firsts-are-lost",
        what="The first row of a key is not found when it lies deep in a backlog.",
        at="choose",
        old="len(found) < limit",
        new="len(found) < 0",
        tests=("test_ordered_claims.py",),
    ),
    Break(
        name="rest-is-lost",
        what="A row without a key is not found when it lies deep in a backlog.",
        at="choose",
        old="not found",
        new="limit < 0",
        tests=("test_ordered_claims.py",),
    ),
    Break(
        name="front-and-firsts",
        what="More rows are claimed than were asked for.",
        at="choose",
        old="[*found.values()][:limit]",
        new="[*found.values()]",
        tests=("test_ordered_claims.py",),
    ),
)
