"""How the live page shows payloads."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any

import pytest

from aldis.flask.live_page.redaction import show

from .conftest import Shop


class Colour(Enum):
    RED = "r"


asked: list[Any] = []


class Secretive:
    password = "hunter2"

    def __repr__(self) -> str:
        asked.append(self)
        return self.password


VALUES: list[tuple[Any, str]] = [
    (7, "7"),
    (True, "True"),
    (None, "None"),
    (1.5, "1.5"),
    (10**100, "an int of 333 bits"),
    ("plain", "'plain'"),
    ("x" * 1000, "'" + "x" * 78 + "…"),
    (b"abc", "3 bytes"),
    (Colour.RED, "Colour.RED"),
    (Secretive(), "<Secretive>"),
    (Secretive, "<type>"),
    ([1, "a", (2,)], "[1, 'a', (2)]"),
    ([1, 2, 3, 4, 5, 6, 7], "[1, 2, 3, 4, 5, … 2 more]"),
    ([[[1]]], "[[[…]]]"),
    ([[[]]], "[[[]]]"),
    ({"a": {1, 2}}, "{'a': {1, 2}}"),
    ({}, "{}"),
]


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=[shown[:20] for _, shown in VALUES])
@pytest.mark.parametrize("shop", [{"ALDIS_SHOW_VALUES": True}], indirect=True)
def test_values(shop: Shop, value: Any, shown: str) -> None:
    """With ``ALDIS_SHOW_VALUES``, plain values are shown in short form, and other values by their class."""
    shop.payload = {"value": value}
    shop.get("/order")
    [entry] = shop.entries()
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    assert send["payload"] == [["value", type(value).__qualname__, shown]]


NAMES = (
    *(
        "password",
        "passwd",
        "token",
        "access_token",
        "secret",
        "api_key",
        "apiKey",
        "authorization",
        "cookie",
        "session",
    ),
    *("csrf_token", "card_number", "PASSWORD", "userPin", "pin", "otp_code", "Set-Cookie", "private", "jwt", "db-pw"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shop", [{"ALDIS_SHOW_VALUES": True}], indirect=True)
def test_secrets(shop: Shop, name: str) -> None:
    """A value whose name looks secret is never shown, at any depth and in any container."""
    shop.payload = {
        "a": {name: "hunter2"},
        "b": [{name: "hunter2"}, (name, "hunter2"), [name, "hunter2"]],
        "c": {"deep": {"deeper": {name: "hunter2"}}},
        "d": f'{{"{name}": "hunter2"}}',
        "e": f"x=1&{name}=hunter2",
        "f": {"x": f"{name}: hunter2"},
        "g": {("pair", name): {name: Secretive()}},
        "h": "postgresql://shop:hunter2@db/shop",
        "i": "Bearer hunter2",
        "j": Secretive(),
        "k": b"hunter2",
        name: "hunter2",
    }
    shop.get("/order")
    [entry] = shop.entries()
    assert "hunter2" not in str(entry)
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    assert send["payload"][-1] == [name, "str", "(hidden)"]
    assert send["payload"][7][2] == "'postgresql://…@db/shop'"


class Field(Enum):
    PASSWORD = 1
    SECOND = "password"


class Key(StrEnum):
    PASSWORD = "password"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("key", [*Field, *Key, Text("password"), b"password"])
@pytest.mark.parametrize("shop", [{"ALDIS_SHOW_VALUES": True}], indirect=True)
def test_secrets_by_other_keys(shop: Shop, key: Any) -> None:
    """The key of a secret may be a member of an enumeration, bytes, or an object of the program's own class."""
    shop.payload = {"a": {key: "hunter2"}, "b": (key, "hunter2")}
    shop.get("/order")
    assert "hunter2" not in str(shop.entries())


@pytest.mark.parametrize("shop", [{"ALDIS_SHOW_VALUES": True}, {"ALDIS_SHOW_VALUES": False}], indirect=True)
def test_payloads_made_by_clients(shop: Shop) -> None:
    """Of a payload with very many or very long names, only the beginning is kept, and names stay text."""
    shop.payload = {f"{number}-{'x' * 1000}": number for number in range(100)} | {Text("last"): 7}
    shop.get("/order")
    [sent] = [sent for entry in shop.journal.changes(0) for sent in entry.sends if sent.name == "order-placed"]
    assert [name for name, *_ in sent.payload] == [*(f"{n}-{'x' * 1000}"[:80] for n in range(20)), "… 81 more"]
    shop.payload = {Text("only"): 7, Text("password"): "hunter2"}
    shop.get("/order")
    names = [name for sent in shop.journal.changes(0)[-1].sends for name, *_ in sent.payload]
    assert {"only", "password"} <= set(names)
    assert {type(name) for name in names} == {str}
    assert "hunter2" not in str(shop.events())


@pytest.mark.parametrize("name", ["shipping", "pinned", "compass_course", "order_id", "passenger"])
@pytest.mark.parametrize("shop", [{"ALDIS_SHOW_VALUES": 1}], indirect=True)
def test_names_that_look_harmless(shop: Shop, name: str) -> None:
    """A value whose name only sounds like a secret's is shown."""
    shop.payload = {name: 7, "items": [7, 8]}
    shop.get("/order")
    [entry] = shop.entries()
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    assert send["payload"] == [[name, "int", "7"], ["items", "list", "[7, 8]"]]


@pytest.mark.parametrize(
    "shop", [{}, *({"ALDIS_SHOW_VALUES": value} for value in (False, None, "no", "True"))], indirect=True
)
def test_no_values(shop: Shop) -> None:
    """Without ``ALDIS_SHOW_VALUES``, no value is shown."""
    shop.payload = {"name": "Ada Lovelace", "password": "hunter2"}
    shop.get("/order")
    [entry] = shop.entries()
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    assert send["payload"] == [["name", "str"], ["password", "str"]]
    assert "Ada" not in str(entry)


def test_values_of_their_own_ways() -> None:
    """A class that hides its name, and a value that fails while it is read, are shown without being asked."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError

    class Odd(metaclass=Meta): ...

    class Strange(Enum):
        ONE = 1

    del Strange.ONE._name_
    assert show(Odd()).endswith("Odd>")
    assert show(Strange.ONE) == "(cannot be shown)"
    assert asked == []
