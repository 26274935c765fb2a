"""Programs with many receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aldis.relay.storage.claims import next_due
from tests.relay.programs.worker_program import Program, soon

if TYPE_CHECKING:
    from tests.relay.conftest import MakeEngine


def test_a_worker_has_many_receivers(program: Program) -> None:
    """A worker can have more receivers than a statement of SQLite may have variables."""
    for number in range(700):
        program.connect(str(number))

    program.send(1)

    with program.working():
        soon(lambda: program.rows() == 0)

    assert len(program.got) == 700


def test_a_name_of_any_characters(ready_url: str, make_engine: MakeEngine) -> None:
    """R4: Every database keeps a receiver's name as it is."""
    name = '"\\%:x\N{LATIN SMALL LETTER O WITH DIAERESIS}\N{LADY BEETLE}'
    program = Program(make_engine(ready_url))
    program.connect(name)
    program.send(1)
    program.relay.drain()

    assert program.numbers(name) == [1]


def test_a_look_tells_of_what_is_asked_for(ready_url: str, make_engine: MakeEngine) -> None:
    """A poll tells a worker when the next row of each of its own receivers is due."""
    program = Program(make_engine(ready_url))
    program.pile_up("now", 2)
    program.pile_up("unknown", 1)

    waits = program.run(lambda connection: next_due(connection, ["now", "none"]))

    assert waits.keys() == {"now"}
    assert waits["now"] <= 0
    assert program.run(lambda connection: next_due(connection, [])) == {}
