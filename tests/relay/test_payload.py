"""R4: payloads are checked by the send, and have versions with upgraders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from aldis import AldisError, NamedSignal, Namespace, PayloadError
from aldis.relay import DrainCounts
from aldis.relay.storage.tables import messages
from tests.relay.programs.desk import (
    SECRET,
    Colour,
    Desk,
    Line,
    Options,
    Order,
    Plain,
    Special,
    Talkative,
    Tree,
    Wary,
    declare,
    memory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def desk() -> Iterator[Desk]:
    engine = memory()
    yield Desk(engine)
    engine.dispose()


# Wrong values are refused by the send.

endless = Tree(1)
endless.left = endless

WRONG: dict[str, tuple[Any, Any, str]] = {
    "str for int": (int, SECRET, r"Expected `int`, got `str` - at `\$\.value`"),
    "bool for int": (int, True, "Expected `int`, got `bool`"),
    "int for bool": (bool, 1, "Expected `bool`, got `int`"),
    "None": (int, None, "Expected `int`, got `null`"),
    "str for datetime": (datetime, "2026-01-01T00:00:00", "Expected `datetime`, got `str`"),
    "int for datetime": (datetime, 1, "Expected `datetime`, got `int`"),
    "date for datetime": (datetime, date(2026, 1, 1), "Expected `datetime`, got `date`"),
    "datetime for date": (date, datetime(2026, 1, 1, tzinfo=UTC), "Expected `date`, got `datetime`"),
    "str for Decimal": (Decimal, "1.5", "Expected `decimal`, got `str`"),
    "float for Decimal": (Decimal, 1.5, "Expected `decimal`, got `float`"),
    "str for UUID": (UUID, str(UUID(int=5)), "Expected `uuid`, got `str`"),
    "str for bytes": (bytes, "aGk=", "Expected `bytes`, got `str`"),
    "bytes for str": (str, SECRET.encode(), "Expected `str`, got `bytes`"),
    "float for timedelta": (timedelta, 1.5, "Expected `duration`, got `float`"),
    "no member": (Colour, SECRET, r"Invalid enum value - at `\$\.value`"),
    "no member, as a path": (Colour, f"{SECRET}' - at `$.{SECRET}`", r"Invalid enum value - at `\$\.value`"),
    "no literal": (Literal["a"], SECRET, r"Invalid enum value - at `\$\.value`"),
    "in a list": (list[int], [1, SECRET], r"Expected `int`, got `str` - at `\$\.value\[1\]`"),
    "in a dict": (dict[str, int], {SECRET: SECRET}, r"Expected `int`, got `str` - at `\$\.value\[\.\.\.\]`"),
    "a key": (dict[str, int], {1: 1}, "Expected `str`, got `int`"),
    "in a dataclass": (Order, Order([Line(SECRET, SECRET)]), "Invalid decimal string"),  # type: ignore[arg-type]
    "deep in dataclasses": (Order, Order([Line(3, Decimal(1))]), r"\$\.value\.lines\[0\]\.item"),  # type: ignore[arg-type]
    "an object in a dataclass": (Order, Order([Line(Plain(), Decimal(1))]), "TypeError"),  # type: ignore[arg-type]
    "a dataclass of more": (Line, Special("a", Decimal(1), extra=3), "got `Special`"),
    "a dataclass that refuses": (list[Wary], [{"value": SECRET}], "ValidationError"),
    "no dataclass": (Line, Plain(), "got `Plain`"),
    "nothing of a TypedDict": (Options, {"label": SECRET}, "missing required field `size`"),
    "a mapping that fails": (Mapping[str, int], Talkative({SECRET: 1}), "LookupError"),
    "an iterator": (list[int], iter([1]), "Expected `array`"),
    "half a character": (str, f"{SECRET}\ud800", "UnicodeEncodeError"),
    "endless": (Tree, endless, "RecursionError"),
    "NaN": (float, math.nan, "Expected `float`, got `null`"),
    "infinity": (float | None, math.inf, "JSON has no NaN and no infinity"),
    "NaN in a list": (list[float | None], [1.5, math.nan], "JSON has no NaN"),
    "NaN in a tuple": (tuple[float | None, ...], (-math.inf,), "JSON has no NaN"),
    "NaN in a dict": (dict[str, int | float | None], {"a": math.nan}, "JSON has no NaN"),
    "NaN as a key": (dict[float, int], {math.nan: 1}, "JSON has no NaN"),
    "an offset with seconds": (
        datetime,
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28))),
        "no UTC offset with seconds",
    ),
}


@pytest.mark.parametrize(("annotation", "value", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("errors", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
def test_a_wrong_value_is_refused_before_anything(
    desk: Desk, annotation: Any, value: Any, message: str, errors: Any
) -> None:
    """A wrong value is refused under every policy, before anything is written or any receiver ran, and not shown."""
    signal = declare(annotation)
    signal.errors = errors
    log: list[Any] = []
    signal.connect(lambda _, value: log.append(value), weak=False, priority=1)
    desk.connect(signal)

    with Session(desk.engine) as session, session.begin():
        with pytest.raises(PayloadError, match=message) as raised:
            signal.send(None, value=value)

        assert SECRET not in "".join(map(str, [raised.value, *getattr(raised.value, "__notes__", [])]))
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
        assert "declared by" in str(raised.value)

    assert log == []
    assert desk.rows() == 0


def test_a_payload_that_is_too_large_is_refused(desk: Desk) -> None:
    """A payload of more than a million characters is refused with what to do; one that is just as long is not."""
    signal = desk.connect(declare(str))
    overhead = len('{"value":""}')
    signal.send(None, value="x" * (1_000_000 - overhead))

    with pytest.raises(PayloadError, match=r"too large.*1000001 characters.*send its id"):
        signal.send(None, value="x" * (1_000_001 - overhead))

    assert desk.rows() == 1
    assert desk.relay.drain() == DrainCounts(done=1)


def test_a_policy_never_sees_wrong_values(desk: Desk) -> None:
    """What a group refuses is the sender's failure: a callable policy is not handed it."""
    signal = declare(int)
    failures: list[Any] = []
    signal.errors = failures.append
    desk.connect(signal)

    with pytest.raises(PayloadError):
        signal.send(None, value="x")

    assert failures == []


# Versions.


def deploy(desk: Desk, version: int, upgraders: dict[int, Any] | None = None) -> NamedSignal[Any, ..., Any]:
    """The signal and its receiver in some version of the program. Version 1 has ``number``, later ones ``value``."""
    keyword = "number" if version == 1 else "value"
    space: dict[str, Any] = {}
    exec(f"def happened(sender, /, *, {keyword}: int): ...", space)
    return desk.connect(Namespace().declare(version=version, upgraders=upgraders)(space["happened"]))


def test_the_version_is_written(desk: Desk) -> None:
    """R4: A row says of which version its payload is."""
    deploy(desk, 3).send(None, value=1)

    with desk.engine.connect() as connection:
        assert connection.scalar(select(messages.c.version)) == 3


def renamed(payload: dict[str, Any]) -> dict[str, Any]:
    return {"value": payload.pop("number")}


def doubled(payload: dict[str, Any]) -> dict[str, Any]:
    return {"value": payload["value"] * 2}


def test_an_older_payload_is_upgraded(desk: Desk) -> None:
    """R4: Upgraders are called one after the other, from the version of the row to that of the code."""
    desk.write('{"number": 4}', 1)
    desk.write('{"value": 5}', 2)
    desk.write('{"value": 6}', 3)
    deploy(desk, 3, {1: renamed, 2: doubled})

    assert desk.relay.drain() == DrainCounts(done=3)
    assert desk.got == [{"value": 8}, {"value": 10}, {"value": 6}]


def test_a_newer_payload_is_left_for_the_newer_deploy(desk: Desk) -> None:
    """R4: A row that is newer than the code is not touched."""
    desk.write('{"value": 5}', 2)
    old = deploy(desk, 1)
    assert desk.relay.drain() == DrainCounts()
    assert (desk.got, desk.rows()) == ([], 1)

    old.receivers.clear()
    deploy(desk, 2, {1: renamed})
    assert desk.relay.drain() == DrainCounts(done=1)
    assert desk.got == [{"value": 5}]


def test_a_payload_that_no_upgrader_leads_on_from(desk: Desk) -> None:
    """A row of a version that the declaration has no upgrader for is a dead letter that says so."""
    desk.write('{"number": 4}', 1)
    deploy(desk, 3, {2: doubled})

    assert desk.reason() == "no upgrader turns a payload of version 1 into version 2"


def raising(payload: dict[str, Any]) -> dict[str, Any]:
    raise LookupError(payload["number"])


def giving_nothing(payload: dict[str, Any]) -> Any:
    return None


@pytest.mark.parametrize(
    ("upgrader", "reason"),
    [
        (raising, "the upgrader from version 1 failed with LookupError"),
        (giving_nothing, "the upgrader from version 1 failed with TypeError"),
        (lambda payload: payload, "the payload does not fit: Object missing required field `value`"),
        (lambda payload: {"value": payload["number"]}, "the payload does not fit: Expected `int`, got `str`"),
    ],
    ids=["raises", "gives nothing", "changes nothing", "keeps what is wrong"],
)
def test_an_upgrader_that_fails(desk: Desk, upgrader: Any, reason: str) -> None:
    """A row whose upgrader fails, or does not make what is declared, is a dead letter, and its reason shows nothing."""
    desk.write(f'{{"number": "{SECRET}"}}', 1)
    deploy(desk, 2, {1: upgrader})
    found = desk.reason()

    assert reason in found
    assert SECRET not in found


def test_upgraders_get_plain_values(desk: Desk) -> None:
    """An upgrader gets what JSON has, and what it returns is made of the declared types."""
    got: list[Any] = []

    def happened(sender: Any, /, *, at: datetime, price: Decimal) -> None: ...

    def upgrade(payload: dict[str, Any]) -> dict[str, Any]:
        got.append(dict(payload))
        return {**payload, "price": "2.50"}

    desk.write('{"at": "2026-01-01T00:00:00Z"}', 1)
    desk.connect(Namespace().declare(version=2, upgraders={1: upgrade})(happened))

    assert desk.relay.drain() == DrainCounts(done=1)
    assert got == [{"at": "2026-01-01T00:00:00Z"}]
    assert desk.got == [{"at": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("2.50")}]


def test_a_keyword_that_was_added_with_a_default(desk: Desk) -> None:
    """A row of the same version without a keyword that has a default today gets the default; its objects are new."""

    tea = [Line("tea", Decimal(1))]

    def happened(sender: Any, /, *, value: int, lines: list[Line] = tea, at: date = date(2026, 1, 1)) -> None: ...

    desk.write('{"value": 1}')
    desk.write('{"value": 2, "at": "2026-02-02"}')
    desk.connect(Namespace().declare(happened))
    desk.relay.drain()

    first, second = desk.got
    assert first == {"value": 1, "lines": tea, "at": date(2026, 1, 1)}
    assert second == {"value": 2, "lines": tea, "at": date(2026, 2, 2)}
    assert first["lines"] is not tea
    assert first["lines"] is not second["lines"]


def test_a_keyword_that_was_taken_away(desk: Desk) -> None:
    """A row with a keyword that is declared no more is received without it."""
    desk.write('{"value": 1, "before": 2}')
    desk.connect(declare(int))
    desk.relay.drain()

    assert desk.got == [{"value": 1}]


ILL: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "it is malformed"),
    "empty": ("", "it is malformed"),
    "a list": ("[]", "Expected `object`, got `array`"),
    "null": ("null", "Expected `object`, got `null`"),
    "another type": (f'{{"value": "{SECRET}"}}', "Expected `int`, got `str`"),
    "nothing": ("{}", "missing required field `value`"),
    "half a character": ('{"value": "\\ud800"}', "malformed"),
}


@pytest.mark.parametrize("default", [False, True], ids=["without a default", "with one"])
@pytest.mark.parametrize(("payload", "reason"), ILL.values(), ids=ILL.keys())
def test_an_ill_payload_dies(desk: Desk, payload: str, reason: str, default: bool) -> None:
    """A row whose payload cannot be read is a dead letter with a reason that shows nothing of it."""

    def happened(sender: Any, /, *, value: int) -> None: ...

    def with_default(sender: Any, /, *, value: int, other: int = 0) -> None: ...

    with_default.__name__ = "happened"
    desk.write(payload)
    desk.connect(Namespace().declare(with_default if default else happened))
    found = desk.reason()

    assert found.startswith("the payload ")
    assert reason in found
    assert SECRET not in found
    assert desk.got == []


def test_a_dataclass_that_refuses_a_stored_value(desk: Desk) -> None:
    """What a dataclass says of a value that it refuses is not shown: it may be the value."""
    desk.write(f'{{"value": {{"value": "{SECRET}"}}}}')
    desk.connect(declare(Wary))
    found = desk.reason()

    assert found == "the payload does not fit: ValidationError"


def test_errors_are_of_the_tree(desk: Desk) -> None:
    """What connect and send raise are errors of Aldis, and the built-ins that a caller would catch."""
    with pytest.raises(AldisError) as refused:
        desk.connect(declare(object))

    with pytest.raises(AldisError) as wrong:
        desk.connect(declare(int)).send(None, value="x")

    assert isinstance(refused.value, TypeError)
    assert isinstance(wrong.value, TypeError)
