"""Turn payloads into text for the live page, and hide values that may be secret.

Names and types are always shown, values only if the application asks for it. No code of a payload runs: if a value is
not of a plain built-in type, only its type is shown. Nothing here raises.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HIDDEN: Final = "(hidden)"

_MAX_LENGTH: Final = 80
_MAX_ARGUMENTS: Final = 20
_MAX_ITEMS: Final = 5
_MAX_DEPTH: Final = 2
_MAX_BITS: Final = 256

_BEGINNING: Final = slice(_MAX_LENGTH)
_SEARCHED: Final = slice(10_000)
_NoClass: Final = type("", (), {})

_SECRET: Final = re.compile(
    r"passw|passphrase|passcode|passkey|token|secret|key|auth|cookie|session|csrf|xsrf|card|credential|private"
    r"|signature|bearer|jwt|nonce|salt|hash|cipher|otp|pwd|cvv|cvc|iban|ssn|(?<![a-z])(?:pass|pin|sid|pw)(?![a-z])",
    re.IGNORECASE,
)
_SECRET_INSIDE: Final = re.compile(rf"(?:{_SECRET.pattern})[\w-]*[\"']?\s*[=:]|\bbearer\s|\beyJ[\w-]+\.", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"//[^/\s@]*@")
_CAMEL_CASE: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")

Argument = tuple[str, type[Any]] | tuple[str, type[Any], str]
"""The name, the class and, if values are shown, the value as text."""


# A view may call send(**request.json), so clients may choose the names. Their number and their length are limited.


def show_types(payload: dict[str, Any]) -> tuple[Argument, ...]:
    """Return the names and classes of a payload."""
    if len(payload) > _MAX_ARGUMENTS:
        return (*show_types(_first(payload)), _more(payload))

    return tuple(zip(map(plain_text, payload), map(type, payload.values()), strict=True))


def show_values(payload: dict[str, Any]) -> tuple[Argument, ...]:
    """Return the names, classes and values of a payload. Secret values are hidden."""
    if len(payload) > _MAX_ARGUMENTS:
        return (*show_values(_first(payload)), _more(payload))

    return tuple((plain_text(name), _class_of(value), show_argument(name, value)) for name, value in payload.items())


def _first(payload: dict[str, Any]) -> dict[str, Any]:
    return dict(islice(payload.items(), _MAX_ARGUMENTS))


def _more(payload: dict[str, Any]) -> Argument:
    return f"… {len(payload) - _MAX_ARGUMENTS} more", _NoClass


def plain_text(text: Any) -> str:
    """Return the beginning of a text, as a plain ``str`` that keeps nothing else alive."""
    return str.__getitem__(text, _BEGINNING)


def _class_of(value: object) -> type[Any]:
    return type(value)


def type_name(kind: type[Any]) -> str:
    """Return the name of a class, without calling its metaclass."""
    return str(type.__dict__["__qualname__"].__get__(kind))


def show_argument(name: Any, value: Any) -> str:
    """Return a value as a short text; hide it if its name looks secret."""
    return HIDDEN if is_secret(name) else show(value)


def is_secret(name: Any) -> bool:
    """Return whether the value of this name may be a secret."""
    return any(_SECRET.search(_CAMEL_CASE.sub("_", text)) for text in _texts_of(name))


def _texts_of(name: Any) -> Iterator[str]:
    """Yield the texts in a name. A key may be bytes, a member of an enumeration, or a subclass of ``str``."""
    kind = _class_of(name)

    if issubclass(kind, str):
        yield str.__getitem__(name, _SEARCHED)
    elif issubclass(kind, bytes):
        yield bytes.__getitem__(name, _SEARCHED).decode("latin-1")

    if issubclass(kind, Enum):
        yield from (text for text in object.__getattribute__(name, "__dict__").values() if type(text) is str)


def show(value: Any) -> str:
    """Return a value as a short text."""
    try:
        return _cut(_show(value, 0))
    except Exception:  # Another thread may change the value meanwhile.
        return "(cannot be shown)"


def _show(value: Any, depth: int) -> str:
    kind = _class_of(value)

    if kind in _PLAIN:
        return _PLAIN[kind](value)

    if issubclass(kind, Enum):
        return f"{type_name(kind)}.{value._name_}"

    if kind not in _BRACKETS:
        return f"<{type_name(kind)}>"

    first, last = _BRACKETS[kind]

    if depth == _MAX_DEPTH and value:
        return f"{first}…{last}"

    parts = _items(value, depth + 1) if kind is dict else _elements(value, depth + 1)
    more = [f"… {len(value) - _MAX_ITEMS} more"] if len(value) > _MAX_ITEMS else []
    return f"{first}{', '.join([*parts, *more])}{last}"


def _items(value: dict[Any, Any], depth: int) -> Iterable[str]:
    for key, item in islice(value.items(), _MAX_ITEMS):
        yield f"{_show(key, depth)}: {HIDDEN if is_secret(key) else _show(item, depth)}"


def _elements(value: Any, depth: int) -> Iterable[str]:
    elements: list[Any] = list(islice(value, _MAX_ITEMS))

    # Headers and forms are often lists of (name, value) pairs.
    if len(value) == 2 and is_secret(elements[0]):
        return [_show(elements[0], depth), HIDDEN]

    return [_show(element, depth) for element in elements]


def _show_text(value: str) -> str:
    if _SECRET_INSIDE.search(_CAMEL_CASE.sub("_", value[_SEARCHED])):
        return HIDDEN

    return repr(_CREDENTIALS.sub("//…@", _cut(value)))


def _show_bytes(value: bytes) -> str:
    return f"{len(value)} bytes"


def _show_int(value: int) -> str:
    return repr(value) if value.bit_length() <= _MAX_BITS else f"an int of {value.bit_length()} bits"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"


_PLAIN: Final[dict[type, Callable[[Any], str]]] = {
    str: _show_text,
    bytes: _show_bytes,
    bytearray: _show_bytes,
    int: _show_int,
    **dict.fromkeys((float, complex, bool, type(None)), repr),
    **dict.fromkeys((date, datetime, time, timedelta, Decimal, UUID), str),
}
_BRACKETS: Final[dict[type, tuple[str, str]]] = {
    dict: ("{", "}"),
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
}
