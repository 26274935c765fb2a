"""R4: what comes out of the relay equals what went in, in value and type, or connect refuses the type."""

from __future__ import annotations

import collections
import json
import math
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from aldis import InvalidReceiverError, Namespace
from aldis.relay import DrainCounts
from aldis.relay._payload import schema_of
from tests.relay.programs.desk import (
    Colour,
    Dangling,
    Desk,
    Incomparable,
    Level,
    Line,
    Mixed,
    Options,
    Order,
    Plain,
    Point,
    Rights,
    Struct,
    T,
    Text,
    Tone,
    Tree,
    UserId,
    declare,
    memory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Context as OnlyForCheckers

    from hypothesis.strategies import SearchStrategy


@pytest.fixture
def desk() -> Iterator[Desk]:
    engine = memory()
    yield Desk(engine)
    engine.dispose()


# Types that can be sent.

BERLIN = timezone(timedelta(hours=1))
ORDER = Order([Line("tea", Decimal("2.50"), Colour.RED), Line("milk", Decimal(1))], {"for": "Ada"})
WRITABLE: dict[str, tuple[Any, Any]] = {
    "int": (int, 7),
    "an int larger than 64 bits": (int, 2**70),
    "float": (float, 0.1),
    "the least float": (float, 5e-324),
    "negative zero": (float, -0.0),
    "str": (str, "Löwe \x00 \U0001f981"),
    "bool": (bool, True),
    "None": (None, None),
    "bytes": (bytes, b"\x00\xff"),
    "bytearray": (bytearray, bytearray(b"\xff")),
    "naive datetime": (datetime, datetime(2026, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001
    "datetime in UTC": (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    "datetime with an offset": (datetime, datetime(2026, 1, 2, tzinfo=BERLIN)),
    "date": (date, date(2026, 1, 2)),
    "time": (time, time(1, 2, 3, 4)),
    "time with an offset": (time, time(1, 2, tzinfo=BERLIN)),
    "timedelta": (timedelta, timedelta(days=-1, microseconds=5)),
    "Decimal": (Decimal, Decimal("1.10")),
    "UUID": (UUID, UUID(int=5)),
    "Enum": (Colour, Colour.RED),
    "IntEnum": (Level, Level.HIGH),
    "StrEnum": (Tone, Tone.DARK),
    "Literal": (Literal["a", "b"], "b"),
    "Literal of numbers": (Literal[1, 2], 2),
    "NewType": (UserId, UserId(7)),
    "Annotated": (Annotated[int, "of a user"], 7),
    "Optional, there": (int | None, 7),
    "Optional, not there": (typing.Optional[datetime], None),  # noqa: UP045
    "union": (int | str, "7"),
    "int or float": (int | float, 7),
    "list": (list[int], [1, 2]),
    "set": (set[float], {1.5, 2.5}),
    "frozenset": (frozenset[str], frozenset({"a"})),
    "tuple": (tuple[float, str], (1.5, "a")),
    "tuple of any length": (tuple[float, ...], (1.5, 2.5)),
    "dict": (dict[str, float], {"a": 1.5}),
    "dict by int": (dict[int, float], {1: 1.5}),
    "dict by float": (dict[float, int], {1.5: 1}),
    "dict by UUID": (dict[UUID, float], {UUID(int=1): 1.5}),
    "dict by Enum": (dict[Colour, int], {Colour.RED: 1}),
    "dict by date": (dict[date, int], {date(2026, 1, 1): 1}),
    "Sequence": (Sequence[int], [1]),
    "Mapping": (Mapping[str, int], {"a": 1}),
    "Collection": (Collection[int], [1]),
    "dataclass": (Order, ORDER),
    "dataclasses": (dict[str, list[Order]], {"a": [ORDER, ORDER]}),
    "dataclass of itself": (Tree, Tree(1, Tree(2))),
    "NamedTuple": (Point, Point(1.5, 2.5)),
    "TypedDict": (Options, {"size": 1, "label": "a"}),
    "Struct": (Struct, Struct(1)),
    "a string for a type": ("list[Order]", [ORDER]),
}


@pytest.mark.parametrize(("annotation", "value"), WRITABLE.values(), ids=WRITABLE.keys())
def test_what_is_sent_is_what_is_received(desk: Desk, annotation: Any, value: Any) -> None:
    """R4: A value of each type that can be declared arrives as it was sent, with the same type."""
    received = desk.cross(annotation, value)

    assert received == value
    assert type(received) is type(value)
    assert repr(received) == repr(value)


KEYS = {name: of for name, of in WRITABLE.items() if name.startswith("dict by") or name == "Mapping"}


@pytest.mark.parametrize(("annotation", "value"), KEYS.values(), ids=KEYS.keys())
def test_keys_that_are_texts_in_json(desk: Desk, annotation: Any, value: Any) -> None:
    """R4: Dicts arrive as they were sent, also if defaults or upgraders change the payload before."""
    desk.connect(declare(annotation, default={})).send(None, value=value)
    assert desk.relay.drain() == DrainCounts(done=1)
    older: Any = declare(annotation)
    upgraded = Namespace().declare(version=2, upgraders={1: lambda payload: payload})(older._registry.contract.function)
    other = Desk(desk.engine)
    other.connect(upgraded)
    desk.write(json.dumps({"value": json.loads(msgspec.json.encode(value))}))
    assert other.relay.drain() == DrainCounts(done=1)
    assert [*desk.got, *other.got] == [{"value": value}] * 2


def test_values_that_are_not_compared(desk: Desk) -> None:
    """Whether a payload can be written does not depend on its objects' comparison methods."""
    assert desk.cross(Incomparable, Incomparable(1.5)).value == 1.5
    assert math.isnan(desk.cross(Decimal, Decimal("NaN")))


LIKE: dict[str, tuple[Any, Any, Any]] = {
    "an int for a float": (float, 1, 1.0),
    "a str of another class": (str, Text("a"), "a"),
    "such a str inside of others": (list[Line], [Line(Text("a"), Decimal(1))], [Line("a", Decimal(1))]),
    "such a str beside floats": (dict[str, float], {Text("a"): 1.5}, {"a": 1.5}),
    "an IntEnum for an int": (int, Level.HIGH, 2),
    "a defaultdict": (dict[str, int], collections.defaultdict(int, a=1), {"a": 1}),
    "another sequence": (Sequence[int], (1, 2), [1, 2]),
    "another mapping": (Mapping[str, int], collections.ChainMap({"a": 1}), {"a": 1}),
}


@pytest.mark.parametrize(("annotation", "value", "expected"), LIKE.values(), ids=LIKE.keys())
def test_what_is_as_good_as_the_declared_type(desk: Desk, annotation: Any, value: Any, expected: Any) -> None:
    """A value that type checkers accept for the declared type arrives as the declared type."""
    received = desk.cross(annotation, value)

    assert received == expected
    assert type(received) is type(expected)


def test_the_payload_is_that_of_the_send(desk: Desk) -> None:
    """A receiver that changes the payload's objects during the send does not change the durable receivers' payload."""
    signal = declare(list[int])
    signal.connect(lambda _, value: value.clear(), weak=False, priority=1)
    desk.connect(signal).send(None, value=[1, 2])
    desk.relay.drain()

    assert desk.got == [{"value": [1, 2]}]


@dataclass
class Case:
    """A type, and values of it."""

    annotation: Any
    values: SearchStrategy[Any]


def offsets() -> SearchStrategy[Any]:
    minutes = st.integers(-23 * 60, 23 * 60).map(lambda number: timezone(timedelta(minutes=number)))
    return st.none() | st.just(UTC) | minutes


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
LEAVES = [
    Case(int, st.integers()),
    Case(float, st.floats(allow_nan=False, allow_infinity=False)),
    Case(str, TEXTS),
    Case(bool, st.booleans()),
    Case(bytes, st.binary(max_size=20)),
    # Not on the first and the last day, because offsets could leave the range.
    Case(datetime, st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets())),  # noqa: DTZ001
    Case(date, st.dates()),
    Case(time, st.times(timezones=offsets())),
    Case(timedelta, st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000))),
    Case(Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    Case(UUID, st.uuids()),
    Case(Colour, st.sampled_from(Colour)),
    Case(Level, st.sampled_from(Level)),
]


def containers(cases: SearchStrategy[Case]) -> SearchStrategy[Case]:
    keys = st.sampled_from([case for case in LEAVES if case.annotation is not bool])

    def dataclass_of(cases: list[Case]) -> Case:
        made = make_dataclass("Made", [(f"field_{n}", case.annotation) for n, case in enumerate(cases)])
        return Case(made, st.builds(made, *(case.values for case in cases)))

    return st.one_of(
        cases.map(lambda case: Case(list[case.annotation], st.lists(case.values, max_size=3))),  # type: ignore[name-defined]
        cases.map(lambda case: Case(case.annotation | None, st.none() | case.values)),
        st.sampled_from(LEAVES).map(lambda case: Case(set[case.annotation], st.sets(case.values, max_size=3))),  # type: ignore[name-defined]
        st.tuples(keys, cases).map(
            lambda two: Case(
                dict.__class_getitem__((two[0].annotation, two[1].annotation)),
                st.dictionaries(two[0].values, two[1].values, max_size=3),
            )
        ),
        st.lists(cases, min_size=1, max_size=3).map(
            lambda many: Case(
                tuple[*(case.annotation for case in many)],  # type: ignore[misc]
                st.tuples(*(case.values for case in many)),
            )
        ),
        st.lists(cases, min_size=1, max_size=3).map(dataclass_of),
    )


CASES = st.recursive(st.sampled_from(LEAVES), containers, max_leaves=4)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_any_value_of_any_type_comes_back(data: st.DataObject) -> None:
    """R4: A value of any type, however it is composed, is read as it was written."""
    case = data.draw(CASES)
    value = data.draw(case.values)
    signal = declare(case.annotation)
    schema = schema_of(signal._registry.contract, signal)  # type: ignore[arg-type]
    received = schema.decode(schema.encode({"value": value}), 1)["value"]

    assert received == value
    assert type(received) is type(value)


# connect refuses types that cannot be written.

UNWRITABLE: dict[str, tuple[Any, str]] = {
    "Any": (Any, "has the type typing.Any.*Send an id, or a dataclass"),
    "object": (object, "has the type object"),
    "a class": (Plain, "has the type Plain"),
    "inside of others": (dict[str, list[Plain]], r"has the type dict\[str, list\[.*Plain\]\]"),
    "a list of anything": (list, "has the type list"),
    "a dict of anything": (dict, "has the type dict"),
    "a str of another class": (Text, "has the type Text"),
    "complex": (complex, "has the type complex"),
    "Callable": (Callable[[], int], "has the type"),
    "Iterable": (Iterable[int], "has the type"),
    "type": (type[int], "has the type"),
    "a TypeVar": (T, "has the type"),
    "Raw": (msgspec.Raw, "has the type Raw"),
    "Flag": (Rights, "has the type .*Rights"),
    "Enum of several types": (Mixed, "Enums must contain"),
    "Never": (typing.Never, "Never"),
    "datetime or str": (datetime | str, "cannot be written as JSON: Type unions"),
    "two dataclasses": (Line | Order, "cannot be written as JSON: Type unions"),
    "dict by tuple": (dict[tuple[int, int], int], "keys of a dict are of one of these"),
    "dict by bool": (dict[bool, int], "keys of a dict"),
    "dict by several types": (dict[int | str, int], "keys of a dict"),
    "dict by Optional": (dict[str | None, int], "keys of a dict"),
    "a name that is not there": ("OnlyForCheckers", r"\(OnlyForCheckers\). Import it outside of `if TYPE_CHECKING`"),
    "such a name in a dataclass": (Dangling, r"\(OnlyForCheckers\). Import it outside of `if TYPE_CHECKING`"),
    "no expression": ("list[", "cannot be written as JSON"),
    "no attribute": ("typing.Missing", "cannot be written as JSON.*Missing"),
    "no type": (3, "cannot be written as JSON"),
}


@pytest.mark.parametrize(("annotation", "message"), UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_a_type_that_cannot_be_written_is_refused_at_connect(desk: Desk, annotation: Any, message: str) -> None:
    """E12: connect refuses a type that cannot be written, names the signal and the keyword, and says what to change."""
    signal = declare(annotation)

    with pytest.raises(InvalidReceiverError, match=message) as raised:
        desk.connect(signal)

    assert "'happened'" in str(raised.value)
    assert "its keyword 'value'" in str(raised.value)
    assert not signal.receivers


def test_a_keyword_without_a_type_is_refused_at_connect(desk: Desk) -> None:
    """E12: A declaration without annotations is refused, because it is no schema."""

    def happened(sender, /, *, value): ...  # type: ignore[no-untyped-def]

    with pytest.raises(InvalidReceiverError, match=r"its keyword 'value' has no type\. Annotate it"):
        desk.connect(Namespace().declare(happened))


def test_a_signal_that_is_not_declared_is_refused_at_connect(desk: Desk) -> None:
    """Only declared signals can be durable, because their contract is the schema."""
    with pytest.raises(InvalidReceiverError, match=r"not declared.*@signals\.declare"):
        desk.connect(Namespace().signal("happened"))


def test_an_open_declaration_is_refused_at_connect(desk: Desk) -> None:
    """A declaration with **extra is refused, because its keywords have no types."""

    def happened(sender: Any, /, *, value: int, **extra: int) -> None: ...

    with pytest.raises(InvalidReceiverError, match="takes any further keyword"):
        desk.connect(Namespace().declare(happened))


@pytest.mark.parametrize("default", [None, "7", 1.5, Plain()])
def test_a_default_of_another_type_is_refused_at_connect(desk: Desk, default: Any) -> None:
    """E12: A default that no send could write is refused at connect, and is not shown."""
    with pytest.raises(InvalidReceiverError, match=r"its keyword 'value' has a default .*: Expected `int`, got"):
        desk.connect(declare(int, default=default))


def test_a_name_that_cannot_be_a_field_is_refused_at_connect(desk: Desk) -> None:
    """A keyword that cannot be an attribute is refused with the reason."""
    with pytest.raises(InvalidReceiverError, match="__weakref__"):
        desk.connect(declare(int, name="__weakref__"))


def test_the_type_of_the_sender_need_not_be_there(desk: Desk) -> None:
    """The sender is stored by name, so its annotation may exist for type checkers only."""

    def happened(sender: OnlyForCheckers, /, *, value: int) -> OnlyForCheckers | None: ...

    desk.connect(Namespace().declare(happened)).send(None, value=1)
    desk.relay.drain()
    assert desk.got == [{"value": 1}]


def test_a_declaration_that_is_wrapped(desk: Desk) -> None:
    """Types are looked up in the module of the declaring function, also through decorators with functools.wraps."""

    def happened(sender: Any, /, *, value: Line) -> None: ...

    space: dict[str, Any] = {"wraps": wraps, "happened": happened}
    exec("@wraps(happened)\ndef wrapped(*args, **payload): return happened(*args, **payload)", space)
    assert "Line" not in space
    desk.connect(Namespace().declare(space["wrapped"])).send(None, value=Line("tea", Decimal(1)))
    desk.relay.drain()
    assert desk.got == [{"value": Line("tea", Decimal(1))}]


def test_a_declaration_that_is_no_function(desk: Desk) -> None:
    """An object that can declare a signal can be durable too."""

    class Declares:
        __name__ = "happened"
        __annotations__ = {"value": list[int]}

        def __call__(self, sender: Any, /, *, value: Any) -> None: ...

    desk.connect(Namespace().declare(Declares())).send(None, value=[1])
    desk.relay.drain()
    assert desk.got == [{"value": [1]}]


def test_no_payload_at_all(desk: Desk) -> None:
    """A declaration may have the sender only."""

    def happened(sender: Any, /) -> None: ...

    desk.connect(Namespace().declare(happened)).send(None)
    desk.relay.drain()
    assert desk.got == [{}]
