"""Programs with many receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aldis.relay.storage.claims import next_due

from .works import Works, soon

if TYPE_CHECKING:
    from .conftest import MakeEngine


def test_a_worker_has_many_receivers(any_url: str, make_engine: MakeEngine) -> None:
    """A worker receives for more receivers than a statement of SQLite may have parts."""
    works = Works(make_engine(any_url))
    last = '699 "\\%:x\N{LATIN SMALL LETTER O WITH DIAERESIS}\N{LADY BEETLE}'  # Names may have any characters.

    for name in (*map(str, range(699)), last):
        works.connect(name)

    works.send(1)

    with works.working():
        soon(lambda: works.rows() == 0)

    assert len(works.got) == 700
    assert works.numbers(last) == [1]


def test_a_look_tells_of_what_is_asked_for(any_url: str, make_engine: MakeEngine) -> None:
    """A worker learns when the next row of each of its receivers is due, and nothing of others."""
    works = Works(make_engine(any_url))
    works.pile_up("now", 2)
    works.pile_up("unknown", 1)

    waits = works.run(lambda connection: next_due(connection, ["now", "none"]))

    assert waits.keys() == {"now"}
    assert waits["now"] <= 0
    assert works.run(lambda connection: next_due(connection, [])) == {}
