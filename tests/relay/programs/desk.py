"""Sends payloads of any type to a durable receiver, and defines such types."""

from __future__ import annotations

import collections
import enum
import typing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, NewType, TypedDict

import msgspec
from sqlalchemy import Engine, StaticPool, create_engine, func, insert, select

from aldis import NamedSignal, Namespace
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage.tables import messages, now_ms

if TYPE_CHECKING:
    from decimal import Context as OnlyForCheckers


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
    """Shows its value in its error."""

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
    """Fails when it is read, and shows its value in its error."""

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
    """Not a dataclass."""


class Text(str):
    """A subclass of str, such as markup."""

    __slots__ = ()


UserId = NewType("UserId", int)
T = typing.TypeVar("T")


def declare(annotation: Any, *, name: str = "value", **default: Any) -> NamedSignal[Any, ..., Any]:
    """Return a signal with one keyword of this type."""
    space: dict[str, Any] = {**globals(), **default}
    exec(f"def happened(sender, /, *, {name}{' = default' if default else ''}): ...", space)
    space["happened"].__annotations__ = {name: annotation}
    space["happened"].__module__ = __name__
    found: NamedSignal[Any, ..., Any] = Namespace().declare(space["happened"])
    return found


class Desk:
    """A relay on a database in memory, and the messages that a durable receiver of it got."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        self.got: list[dict[str, Any]] = []
        self.signals: list[Any] = []  # A signal without a reference is no longer received.

    def connect(self, signal: NamedSignal[Any, ..., Any], **options: Any) -> NamedSignal[Any, ..., Any]:
        def receive(_: Any, /, **payload: Any) -> None:
            self.got.append(payload)

        signal.connect(receive, weak=False, via=self.relay.durable("desk", **options))
        self.signals.append(signal)
        return signal

    def cross(self, annotation: Any, value: Any) -> Any:
        """Send a value of a type, and return what is received."""
        self.connect(declare(annotation)).send(None, value=value)
        assert self.relay.drain() == DrainCounts(done=1)
        (payload,) = self.got
        self.got.clear()
        return payload["value"]

    def rows(self) -> int:
        with self.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(messages)) or 0

    def write(self, payload: str, version: int = 1) -> None:
        """Write a row as another version of the program would."""
        values = {"message_id": "m", "signal": "happened", "receiver": "desk", "version": version, "payload": payload}

        with self.engine.begin() as connection:
            connection.execute(insert(messages).values(sent_ms=now_ms(), due_ms=now_ms(), **values))

    def reason(self) -> str:
        """Return the reason of the one dead letter."""
        assert self.relay.drain() == DrainCounts(dead=1)
        (letter,) = self.relay.dead_letters()
        return letter.reason


def memory() -> Engine:
    return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
