"""R4: Malformed rows become dead letters or wait, and delay no other row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, Engine, select, text, update

from aldis.relay.storage.rows import Row
from aldis.relay.storage.tables import SENT_COLUMNS, messages
from aldis.relay.worker.consumer import Disposition, Outcome
from tests.relay.programs.worker_program import Program, soon

if TYPE_CHECKING:
    import pytest

    from tests.relay.conftest import MakeEngine


# Rows that no send has written.

RUINED: dict[str, dict[str, Any]] = {
    "no JSON": {"payload": "{"},
    "no object": {"payload": "[]"},
    "wrong type": {"payload": '{"number": "seven"}'},
    "missing": {"payload": "{}"},
    "huge": {"payload": json.dumps({"number": 1, "more": "x" * 5_000_000})},
    "deep": {"payload": '{"number": ' + "[" * 100_000 + "]" * 100_000 + "}"},
    "old": {"version": -1},
    "sender no JSON": {"sender": "{"},
    "sender of no kind": {"sender": '{"class": "os.system"}'},
    "sender too deep": {"sender": "[" * 50_000},
    "trace": {"trace": "{"},
}

UNKNOWN: dict[str, dict[str, Any]] = {
    "newer": {"version": 2},
    "much newer": {"version": 2**31 - 1},
    "receiver": {"receiver": "nobody"},
    "signal": {"signal": "nothing"},
    "sender": {"sender": '{"name": "nobody"}'},
}


def test_the_worker_lives_with_any_row(ready_url: str, make_engine: MakeEngine) -> None:
    """R4: Malformed rows become dead letters with a reason, rows for unknown receivers wait, and later rows are
    received.
    """
    program = Program(make_engine(ready_url))
    program.connect()

    for values in [*RUINED.values(), *UNKNOWN.values()]:
        program.pile_up("work", 1, **values)

    program.pile_up("work", 3)

    with program.working(poll_s=0.05) as found:
        soon(lambda: len(program.got) == 4 and program.rows() == len(UNKNOWN))
        assert found.exit is None

    assert sorted(program.numbers()) == [0, 0, 1, 2]  # One of them has an unreadable trace context, which is ignored.
    reasons = [letter.reason for letter in program.relay.dead_letters()]
    assert len(reasons) == len(RUINED) - 1
    assert all(len(reason) < 200 and "xxx" not in reason and "seven" not in reason for reason in reasons)


MISTYPED: dict[str, list[object]] = {
    "payload": [b"\xff\x00", 7, 1.5],
    "message_id": [b"\xff\x00", 7],
    "version": ["one", b"1", 1.5],
    "sender": [b"\xff\x00", 7],
    "trace": [b"\xff\x00", 7],
    "ordering_key": [b"\xff\x00", 7],
    "sent_ms": ["now", b"now"],
    "due_ms": ["now", b"now"],
    "attempts": ["one", b"one", 2**62],
    "crashes": ["one", b"one"],
    "failure": [b"\xff\x00", 7],
}


TEXTS = ["payload", "message_id", "sender", "trace", "ordering_key", "failure"]


def test_columns_of_any_type(program: Program) -> None:
    """R4: In SQLite, a column may have values of any type, and text that is not UTF-8. Such a row neither ends the
    worker nor delays other rows.
    """
    program.connect()
    changes: list[tuple[str, tuple[object, ...]]] = [
        (f"{column} = ?", (value,)) for column, values in MISTYPED.items() for value in values
    ]
    changes += [(f"{column} = CAST(x'ff00fe' AS TEXT)", ()) for column in TEXTS]
    program.pile_up("work", len(changes))

    def change(db: Connection) -> None:
        for id, (assignment, values) in enumerate(changes, 1):
            db.exec_driver_sql(f"UPDATE aldis_messages SET {assignment} WHERE id = {id}", values)

    program.run(change)
    program.pile_up("work", 3, payload='{"number": 777}')

    with program.working(poll_s=0.05) as found:
        soon(lambda: program.numbers().count(777) == 3)
        assert not found.worker.outage.is_away
        assert found.exit is None

    program.relay.status()
    program.relay.dead_letters()


def test_a_dead_letter_says_how_often_it_was_tried(program: Program) -> None:
    """R3: A row that is claimed only to become a dead letter has no additional attempt."""
    program.connect(max_attempts=3)
    program.pile_up("work", 1, attempts=3, crashes=1)
    program.pile_up("work", 1, payload="{")

    with program.working():
        soon(lambda: program.rows() == 0)

    malformed, lost = sorted(program.relay.dead_letters(), key=lambda letter: letter.attempts)
    assert (lost.attempts, malformed.attempts, program.got) == (3, 0, [])
    assert lost.reason == "its worker died, or lost its lease, in the last of 3 attempts"


@pytest.fixture
def engine(ready_url: str, make_engine: MakeEngine) -> Engine:
    return make_engine(ready_url)


# Hostile rows.


ENDS: list[dict[str, Any]] = [
    {"due_ms": -(2**63)},
    {"message_id": ""},
    {"ordering_key": ""},
    {"trace": "{"},
]
MALFORMED: list[dict[str, Any]] = [
    {"attempts": 2**31 - 1},
    {"attempts": -1},
    {"crashes": 2**31 - 1, "token": "x"},
    {"crashes": -1},
    {"sent_ms": 2**63 - 1},
    {"sent_ms": -1},
    {"version": 0},
]


@pytest.mark.parametrize("fails", [False, True])
def test_numbers_at_the_ends(engine: Engine, fails: bool) -> None:
    """R3: A row with extreme numbers is received or is a dead letter that can be shown, and other rows are received."""
    program = Program(engine)
    program.connect("work", fail if fails else ignore, max_attempts=1, key="number")
    program.connect("other")
    program.pile_up("other", 1)
    program.pile_up("work", len(ENDS) + len(MALFORMED))
    ids = program.run(lambda db: db.scalars(select(messages.c.id).order_by(messages.c.id)).all())[1:]

    for id, values in zip(ids, ENDS + MALFORMED, strict=True):
        statement = update(messages).where(messages.c.id == id).values(**values)
        program.run(lambda db, statement=statement: db.execute(statement))  # type: ignore[misc]

    before = program.relay.status()
    program.relay.drain()

    assert [status.backlog for status in before] == [1, len(ids)]
    assert (program.numbers("other"), program.rows()) == ([0], 0)
    assert sorted(program.numbers("work")) == [*range(len(ENDS))]
    assert len(program.relay.dead_letters("work")) == (len(ids) if fails else len(MALFORMED))
    reasons = [letter.reason for letter in program.relay.dead_letters("work")]
    assert reasons.count("the row is malformed") == len(MALFORMED)
    assert all(1970 <= letter.sent_at.year <= 9999 for letter in program.relay.dead_letters())


def fail(_: int) -> None:
    raise ZeroDivisionError


def ignore(_: int) -> None: ...


VALUES = ["'text'", "x'ff00'", "0.5", "-1e300", "''", "CAST(x'ff' AS TEXT)"]


@pytest.mark.parametrize("value", VALUES)
def test_values_of_other_types(program: Program, value: str) -> None:
    """R3: In SQLite, a row with a value of a wrong type delays no other row."""
    columns = [*SENT_COLUMNS, "attempts", "crashes", "due_ms", "token"]
    program.connect(max_attempts=1)
    program.pile_up("work", len(columns) + 1)

    def change(db: Connection) -> None:
        for id, column in enumerate(columns, 1):
            db.execute(text(f"UPDATE aldis_messages SET {column} = {value} WHERE id = {id}"))

    program.run(change)
    program.relay.drain()

    assert len(columns) in program.numbers()
    assert all(status.receiver for status in program.relay.status() if value != "''")
    assert len(program.numbers()) + len(program.relay.dead_letters()) + program.rows() == len(columns) + 1
    assert program.relay.retry_dead(*(letter.id for letter in program.relay.dead_letters())) < len(columns)


def test_a_row_of_a_kind_that_nobody_foresaw(sqlite_url: str, make_engine: MakeEngine) -> None:
    """R4: A row that cannot even be read becomes a dead letter, with the kind of the error as its reason."""
    program = Program(make_engine(sqlite_url))
    program.connect()
    many: Any = "many"
    row = Row(1, "m1", "number-sent", "work", 1, None, "{}", None, None, 0, many, 0, "token")
    found = program.relay._parts.consumer.prepare(row)
    assert isinstance(found, Outcome)
    assert (found.disposition, found.reason) == (Disposition.DEAD, "the row is malformed (TypeError)")
