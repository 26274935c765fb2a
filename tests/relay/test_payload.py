"""Payloads: JSON of the declared types, refused early where that cannot be, and never shown (R4, E12)."""

from __future__ import annotations

import collections
import enum
import json
import math
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import Engine, StaticPool, create_engine, func, insert, select
from sqlalchemy.orm import Session

from aldis import AldisError, InvalidReceiverError, NamedSignal, Namespace, PayloadError
from aldis.relay import DrainCounts, Relay
from aldis.relay._payload import schema_of
from aldis.relay.storage.tables import messages, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Context as OnlyForCheckers

    from hypothesis.strategies import SearchStrategy

SECRET = "hunter2"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tone(enum.StrEnum):
    DARK = "dark"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclass
class Line:
    item: str
    price: Decimal
    colour: Colour | None = None


@dataclass
class Order:
    lines: list[Line]
    notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Tree:
    value: int
    left: Tree | None = None


@dataclass(eq=False)
class Incomparable:
    value: float


@dataclass
class Wary:
    """Says in its errors what it was given."""

    value: str

    def __post_init__(self) -> None:
        if self.value == SECRET:
            raise ValueError(self.value)


@dataclass
class Special(Line):
    extra: int = 0


@dataclass
class Dangling:
    """Has a type that only type checkers see."""

    context: OnlyForCheckers


class Talkative(collections.UserDict[str, int]):
    """Fails when it is read, and says in its errors what it has."""

    def __getitem__(self, key: str) -> int:
        raise LookupError(self.data)


class Point(NamedTuple):
    x: float
    y: float


class Options(TypedDict):
    size: int
    label: str


class Struct(msgspec.Struct):
    value: int


class Plain:
    """No dataclass."""


class Text(str):
    """A string of a class of its own, as markup is."""

    __slots__ = ()


UserId = NewType("UserId", int)
T = typing.TypeVar("T")


def declare(annotation: Any, *, name: str = "value", **default: Any) -> NamedSignal[Any, ..., Any]:
    """A signal with one keyword of this type."""
    space: dict[str, Any] = {**globals(), **default}
    exec(f"def happened(sender, /, *, {name}{' = default' if default else ''}): ...", space)
    space["happened"].__annotations__ = {name: annotation}
    space["happened"].__module__ = __name__
    found: NamedSignal[Any, ..., Any] = Namespace().declare(space["happened"])
    return found


class Desk:
    """A relay on a database in memory, and what a durable receiver of it got."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        self.got: list[dict[str, Any]] = []
        self.signals: list[Any] = []  # What nobody keeps is received no more.

    def connect(self, signal: NamedSignal[Any, ..., Any], **options: Any) -> NamedSignal[Any, ..., Any]:
        def receive(_: Any, /, **payload: Any) -> None:
            self.got.append(payload)

        signal.connect(receive, weak=False, via=self.relay.durable("desk", **options))
        self.signals.append(signal)
        return signal

    def cross(self, annotation: Any, value: Any) -> Any:
        """Send a value of a type, and give what is received."""
        self.connect(declare(annotation)).send(None, value=value)
        assert self.relay.drain() == DrainCounts(done=1)
        (payload,) = self.got
        self.got.clear()
        return payload["value"]

    def rows(self) -> int:
        with self.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(messages)) or 0

    def write(self, payload: str, version: int = 1) -> None:
        """Write a row as another version of the program does."""
        values = {"message_id": "m", "signal": "happened", "receiver": "desk", "version": version, "payload": payload}

        with self.engine.begin() as connection:
            connection.execute(insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), **values))

    def reason(self) -> str:
        """Why the one row died."""
        assert self.relay.drain() == DrainCounts(dead=1)
        (letter,) = self.relay.dead_letters()
        return letter.reason


def memory() -> Engine:
    return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


@pytest.fixture
def desk() -> Iterator[Desk]:
    engine = memory()
    yield Desk(engine)
    engine.dispose()


# What crosses.

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
    """R4: A value of each type that can be declared arrives as it was sent, of the same type."""
    received = desk.cross(annotation, value)

    assert received == value
    assert type(received) is type(value)
    assert repr(received) == repr(value)


KEYS = {name: of for name, of in WRITABLE.items() if name.startswith("dict by") or name == "Mapping"}


@pytest.mark.parametrize(("annotation", "value"), KEYS.values(), ids=KEYS.keys())
def test_keys_that_are_texts_in_json(desk: Desk, annotation: Any, value: Any) -> None:
    """R4: Dicts arrive as they were sent, also where defaults or upgraders make something of the payload before."""
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
    """Whether a payload can be written does not depend on how its objects compare."""
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
    """A value that type checkers take for the declared type arrives as the declared type."""
    received = desk.cross(annotation, value)

    assert received == expected
    assert type(received) is type(expected)


def test_the_payload_is_that_of_the_send(desk: Desk) -> None:
    """What a receiver that runs at once does to the payload's objects does not reach the durable receivers."""
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
    # Not on the first and the last day, which offsets can put out of reach.
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
    """R4: Whatever the types are made of, and whatever the values are: what is written is read as it was."""
    case = data.draw(CASES)
    value = data.draw(case.values)
    signal = declare(case.annotation)
    schema = schema_of(signal._registry.contract, signal)  # type: ignore[arg-type]
    received = schema.decode(schema.encode({"value": value}), 1)["value"]

    assert received == value
    assert type(received) is type(value)


# What cannot be written is refused at connect.

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
    """E12: connect refuses what could not be written, names signal and keyword, and says what to change."""
    signal = declare(annotation)

    with pytest.raises(InvalidReceiverError, match=message) as raised:
        desk.connect(signal)

    assert "'happened'" in str(raised.value)
    assert "its keyword 'value'" in str(raised.value)
    assert not signal.receivers


def test_a_keyword_without_a_type_is_refused_at_connect(desk: Desk) -> None:
    """E12: A declaration without annotations is no schema."""

    def happened(sender, /, *, value): ...  # type: ignore[no-untyped-def]

    with pytest.raises(InvalidReceiverError, match=r"its keyword 'value' has no type\. Annotate it"):
        desk.connect(Namespace().declare(happened))


def test_a_signal_that_is_not_declared_is_refused_at_connect(desk: Desk) -> None:
    """Only declared signals can be durable: their contract is the schema."""
    with pytest.raises(InvalidReceiverError, match=r"not declared.*@signals\.declare"):
        desk.connect(Namespace().signal("happened"))


def test_an_open_declaration_is_refused_at_connect(desk: Desk) -> None:
    """With **extra in the declaration nobody knows what would have to be written."""

    def happened(sender: Any, /, *, value: int, **extra: int) -> None: ...

    with pytest.raises(InvalidReceiverError, match="takes any further keyword"):
        desk.connect(Namespace().declare(happened))


@pytest.mark.parametrize("default", [None, "7", 1.5, Plain()])
def test_a_default_of_another_type_is_refused_at_connect(desk: Desk, default: Any) -> None:
    """E12: A default that no send could write is refused at connect, and not shown."""
    with pytest.raises(InvalidReceiverError, match=r"its keyword 'value' has a default .*: Expected `int`, got"):
        desk.connect(declare(int, default=default))


def test_a_name_that_cannot_be_a_field_is_refused_at_connect(desk: Desk) -> None:
    """A keyword that no object can have as an attribute is refused with the reason."""
    with pytest.raises(InvalidReceiverError, match="__weakref__"):
        desk.connect(declare(int, name="__weakref__"))


def test_the_type_of_the_sender_need_not_be_there(desk: Desk) -> None:
    """The sender crosses by name, so its annotation may be one for type checkers only."""

    def happened(sender: OnlyForCheckers, /, *, value: int) -> OnlyForCheckers | None: ...

    desk.connect(Namespace().declare(happened)).send(None, value=1)
    desk.relay.drain()
    assert desk.got == [{"value": 1}]


def test_a_declaration_that_is_wrapped(desk: Desk) -> None:
    """Types are looked up where the declaring function is, through decorators that functools.wraps."""

    def happened(sender: Any, /, *, value: Line) -> None: ...

    space: dict[str, Any] = {"wraps": wraps, "happened": happened}
    exec("@wraps(happened)\ndef wrapped(*args, **payload): return happened(*args, **payload)", space)
    assert "Line" not in space
    desk.connect(Namespace().declare(space["wrapped"])).send(None, value=Line("tea", Decimal(1)))
    desk.relay.drain()
    assert desk.got == [{"value": Line("tea", Decimal(1))}]


def test_a_declaration_that_is_no_function(desk: Desk) -> None:
    """An object that can declare a signal can be durable as well."""

    class Declares:
        __name__ = "happened"
        __annotations__ = {"value": list[int]}

        def __call__(self, sender: Any, /, *, value: Any) -> None: ...

    desk.connect(Namespace().declare(Declares())).send(None, value=[1])
    desk.relay.drain()
    assert desk.got == [{"value": [1]}]


def test_no_payload_at_all(desk: Desk) -> None:
    """A declaration may have nothing but the sender."""

    def happened(sender: Any, /) -> None: ...

    desk.connect(Namespace().declare(happened)).send(None)
    desk.relay.drain()
    assert desk.got == [{}]


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

    assert desk.reason() == "no upgrader makes version 2 of a payload of version 1"


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
