"""How the live page shows payloads: names and types, and values only where they are harmless.

No code of a payload is run: what is not a plain value of Python's own is shown by its type. Nothing here raises.
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

_LONGEST: Final = 80
_MOST_ARGUMENTS: Final = 20
_MOST_ITEMS: Final = 5
_DEEPEST: Final = 2
_LARGEST_BITS: Final = 256

_BEGINNING: Final = slice(_LONGEST)
_WHERE_SECRETS_ARE: Final = slice(10_000)
_Nameless: Final = type("", (), {})

_SECRET: Final = re.compile(
    r"passw|passphrase|passcode|passkey|token|secret|key|auth|cookie|session|csrf|xsrf|card|credential|private"
    r"|signature|bearer|jwt|nonce|salt|hash|cipher|otp|pwd|cvv|cvc|iban|ssn|(?<![a-z])(?:pass|pin|sid|pw)(?![a-z])",
    re.IGNORECASE,
)
_SECRET_INSIDE: Final = re.compile(rf"(?:{_SECRET.pattern})[\w-]*[\"']?\s*[=:]|\bbearer\s|\beyJ[\w-]+\.", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"//[^/\s@]*@")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")

Argument = tuple[str, type[Any]] | tuple[str, type[Any], str]
"""The name, the class, and the value as it is shown, if it is."""


# What clients send may become names, by send(**request.json): a journal that keeps them has to be bounded.


def show_types(payload: dict[str, Any]) -> tuple[Argument, ...]:
    """A payload without its values."""
    if len(payload) > _MOST_ARGUMENTS:
        return (*show_types(_first(payload)), _more(payload))

    return tuple(zip(map(plain_text, payload), map(type, payload.values()), strict=True))


def show_values(payload: dict[str, Any]) -> tuple[Argument, ...]:
    """A payload with its values, as far as they may be shown."""
    if len(payload) > _MOST_ARGUMENTS:
        return (*show_values(_first(payload)), _more(payload))

    return tuple((plain_text(name), _class_of(value), show_argument(name, value)) for name, value in payload.items())


def _first(payload: dict[str, Any]) -> dict[str, Any]:
    return dict(islice(payload.items(), _MOST_ARGUMENTS))


def _more(payload: dict[str, Any]) -> Argument:
    return f"… {len(payload) - _MOST_ARGUMENTS} more", _Nameless


def plain_text(text: Any) -> str:
    """The beginning of a text, as a plain ``str`` that keeps nothing else alive."""
    return str.__getitem__(text, _BEGINNING)


def _class_of(value: object) -> type[Any]:
    return type(value)


def type_name(kind: type[Any]) -> str:
    """The name of a class, past what its metaclass may have to say."""
    return str(type.__dict__["__qualname__"].__get__(kind))


def show_argument(name: Any, value: Any) -> str:
    """A value in a few characters, unless its name looks secret."""
    return HIDDEN if is_secret(name) else show(value)


def is_secret(name: Any) -> bool:
    """Whether what goes by this name is better not shown."""
    return any(_SECRET.search(_HUMP.sub("_", text)) for text in _texts_of(name))


def _texts_of(name: Any) -> Iterator[str]:
    """The texts in a name. Keys may be bytes, members of an enumeration, or of another class derived from ``str``."""
    kind = _class_of(name)

    if issubclass(kind, str):
        yield str.__getitem__(name, _WHERE_SECRETS_ARE)
    elif issubclass(kind, bytes):
        yield bytes.__getitem__(name, _WHERE_SECRETS_ARE).decode("latin-1")

    if issubclass(kind, Enum):
        yield from (text for text in object.__getattribute__(name, "__dict__").values() if type(text) is str)


def show(value: Any) -> str:
    """A value in a few characters."""
    try:
        return _cut(_show(value, 0))
    except Exception:  # It may change in another thread meanwhile.
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

    if depth == _DEEPEST and value:
        return f"{first}…{last}"

    parts = _items(value, depth + 1) if kind is dict else _elements(value, depth + 1)
    more = [f"… {len(value) - _MOST_ITEMS} more"] if len(value) > _MOST_ITEMS else []
    return f"{first}{', '.join([*parts, *more])}{last}"


def _items(value: dict[Any, Any], depth: int) -> Iterable[str]:
    for key, item in islice(value.items(), _MOST_ITEMS):
        yield f"{_show(key, depth)}: {HIDDEN if is_secret(key) else _show(item, depth)}"


def _elements(value: Any, depth: int) -> Iterable[str]:
    elements: list[Any] = list(islice(value, _MOST_ITEMS))

    # Headers and forms are often lists of such pairs.
    if len(value) == 2 and is_secret(elements[0]):
        return [_show(elements[0], depth), HIDDEN]

    return [_show(element, depth) for element in elements]


def _show_text(value: str) -> str:
    if _SECRET_INSIDE.search(_HUMP.sub("_", value[_WHERE_SECRETS_ARE])):
        return HIDDEN

    return repr(_CREDENTIALS.sub("//…@", _cut(value)))


def _show_bytes(value: bytes) -> str:
    return f"{len(value)} bytes"


def _show_int(value: int) -> str:
    return repr(value) if value.bit_length() <= _LARGEST_BITS else f"an int of {value.bit_length()} bits"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


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
