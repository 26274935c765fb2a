"""Payloads as JSON of the types that a signal declares, encoded and decoded by msgspec.

The declaration is the schema. A type that cannot be written is refused when a durable receiver is connected. A value of
another type than the declared one is refused by ``send``, before any row is written or any receiver runs.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Flag
from inspect import unwrap
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final, get_type_hints
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
from msgspec import inspect as shapes

from aldis._core.callables import describe
from aldis.exceptions import InvalidReceiverError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aldis._core.contract import Contract

    Json: TypeAlias = dict[str, Any]

# Values of these types must have the type itself when they are sent, although JSON has only texts for them.
_NATIVE: Final = (bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID)

_UNWRITABLE: Final = (shapes.AnyType, shapes.CustomType, shapes.RawType, shapes.ExtType)
_TAKEN: Final = "int, float, str, bool, bytes, None, datetime, date, time, timedelta, Decimal, UUID"

# Types that a key of a dict can have. A union of them is refused, because all of them are texts in JSON.
_KEYS: Final = (
    shapes.StrType,
    shapes.IntType,
    shapes.FloatType,
    shapes.EnumType,
    shapes.LiteralType,
    shapes.BytesType,
    shapes.DateTimeType,
    shapes.DateType,
    shapes.TimeType,
    shapes.TimeDeltaType,
    shapes.DecimalType,
    shapes.UUIDType,
)

# Types of which JSON cannot express every value.
_PARTLY: Final = (shapes.FloatType, shapes.DateTimeType, shapes.TimeType)

# The one kind of message from msgspec that shows a value: "Invalid enum value 'red' - at `$.colour`".
_WITH_VALUE: Final = re.compile(r"^(Invalid (?:enum )?value)\b.*?( - at `[^`]*`)?$", re.DOTALL)

_schemas: Final[WeakKeyDictionary[Contract, Schema]] = WeakKeyDictionary()


class UnreadableError(Exception):
    """A stored payload does not fit. The reason shows nothing of the payload."""


def schema_of(contract: Contract, signal: object) -> Schema:
    """Return the schema of a contract. It is made when it is first needed.

    :raises InvalidReceiverError: when a type in it cannot be written.
    """
    # No lock here, because reading a type may run any code. If two threads make the schema at once, one is kept.
    return _schemas.get(contract) or _schemas.setdefault(contract, Schema(contract, signal))


@final
class Schema:
    """Encodes and decodes the payloads of one contract."""

    def __init__(self, contract: Contract, signal: object) -> None:
        self.version = contract.version
        self._upgraders = contract.upgraders
        self._names = contract.order
        self._describes = f"{signal!r}, declared by {describe(contract.function)},"

        if contract.is_open:
            raise InvalidReceiverError(
                f"{self._describes} takes any further keyword, so it has no schema for durable receivers. Declare"
                " each keyword that they need."
            )

        types = {name: self._type_of(name, contract) for name in contract.order}
        self._form = self._form_of(types)
        self._decoder = self._form.decoder
        self._shape = self._form.shape
        self._defaults: Json = {}

        for name, value in contract.defaults.items():
            try:
                self._defaults |= msgspec.json.decode(self._form_of({name: types[name]}).encode({name: value}))
            except ValueError as error:
                raise self._unwritable(name, f"has a default that cannot be written: {error}") from None

    def _type_of(self, name: str, contract: Contract) -> Any:
        function: Any = unwrap(contract.function)
        annotations = getattr(function, "__annotations__", {})

        if name not in annotations:
            raise self._unwritable(name, "has no type. Annotate it")

        annotation = annotations[name]

        try:
            found = _evaluated(function, name, annotation)
            parts = list(_parts(shapes.type_info(found)))
        except NameError as error:
            reason = f"has a type that does not exist when the program runs ({error.name}). Import it outside of"
            raise self._unwritable(name, f"{reason} `if TYPE_CHECKING`, and define it in a module") from None
        except Exception as error:  # The exception comes from evaluating the annotation, or from msgspec.
            raise self._unwritable(name, f"has a type that cannot be written as JSON: {error}") from None

        if any(map(_is_unwritable, parts)):
            shown = found.__qualname__ if type(found) is type else annotation
            raise self._unwritable(
                name,
                f"has the type {shown}, which cannot be written as JSON. Send an id, or a dataclass, an Enum, a list or"
                f" a dict of {_TAKEN}; keys of a dict are of one of these",
            )

        return found

    def _form_of(self, types: dict[str, Any]) -> Form:
        try:
            return Form(types)
        except Exception as error:  # From msgspec, for several keywords together.
            raise InvalidReceiverError(f"{self._describes} cannot have durable receivers: {error}.") from None

    def _unwritable(self, name: str, what: str) -> InvalidReceiverError:
        return InvalidReceiverError(f"{self._describes} cannot have durable receivers: its keyword {name!r} {what}.")

    def encode(self, payload: dict[str, Any]) -> str:
        """Return a payload as JSON.

        :raises PayloadError: when a value is of another type than the declared one.
        """
        try:
            return self._form.encode(payload)
        except ValueError as error:
            raise PayloadError(
                f"The payload of {self._describes} cannot be written for durable receivers: {error}."
            ) from None

    def decode(self, text: str | bytes, version: int) -> dict[str, Any]:
        """Return a stored payload. Upgrade it first if it is of an older version.

        :param version: the version with which it was written, not newer than the current one.
        :raises UnreadableError: when it does not fit.
        """
        if version == self.version:
            return self._as_payload(self._read(text))

        plain = self._plain(text)

        for older in range(version, self.version):
            plain = self._upgraded(plain, older)

        return self._as_payload(self._convert(plain))

    def _read(self, text: str | bytes) -> Any:
        if self._defaults:
            # The code that wrote it may not have known a keyword that has a default today.
            return self._convert(self._plain(text))

        try:
            return self._decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise UnreadableError(f"the payload does not fit: {_reason(error)}") from None

    def _plain(self, text: str | bytes) -> Json:
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise UnreadableError(f"the payload is not a JSON object: {_reason(error)}") from None

    def _upgraded(self, plain: Json, version: int) -> Json:
        upgrade = self._upgraders.get(version)

        if upgrade is None:
            raise UnreadableError(f"no upgrader turns a payload of version {version} into version {version + 1}")

        try:
            return dict(upgrade(plain))
        except Exception as error:
            kind = type(error).__qualname__
            raise UnreadableError(f"the upgrader from version {version} failed with {kind}") from error

    def _convert(self, plain: Json) -> Any:
        defaults = {name: value for name, value in self._defaults.items() if name not in plain}

        try:
            return msgspec.convert({**plain, **defaults}, self._shape, str_keys=True)  # In JSON, all keys are texts.
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            raise UnreadableError(f"the payload does not fit: {_reason(error)}") from None

    def _as_payload(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self._names}


@final
class Form:
    """The form of payloads with certain keywords.

    :ivar shape: its type, a struct.
    :ivar decoder: decodes JSON to that type.
    """

    def __init__(self, types: dict[str, Any]) -> None:
        self.shape = msgspec.defstruct("Payload", list(types.items()), kw_only=True)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.shape)
        self._encoder = msgspec.json.Encoder(enc_hook=_as_text)
        self._is_partly = any(isinstance(part, _PARTLY) for part in _parts(shapes.type_info(self.shape)))

    def encode(self, payload: dict[str, Any]) -> str:
        """Return a payload as JSON.

        :raises ValueError: when a value is of another type, with a reason that shows no value.
        """
        try:
            checked = msgspec.convert(payload, self.shape, builtin_types=_NATIVE)
            text = self._encoder.encode(checked)
            self.decoder.decode(text)  # The values inside objects are checked only now.
            unlike = _unlike(checked) if self._is_partly else None
        except Exception as error:  # A mapping may run any code.
            raise ValueError(_reason(error)) from None

        if unlike is not None:
            raise ValueError(unlike)

        return text.decode()


def _evaluated(function: Any, name: str, annotation: Any) -> Any:
    """Return the type of one annotation.

    Other annotations are not evaluated: the sender's type is often imported for type checkers only, and would fail.
    """

    def alone() -> None:
        raise NotImplementedError

    alone.__annotations__ = {name: annotation}
    return get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)[name]


def _parts(shape: shapes.Type) -> Iterator[shapes.Type]:
    """Yield a type and all types that it is made of."""
    seen: set[int] = set()
    left: list[Any] = [shape]

    while left:
        part = left.pop()

        if isinstance(part, (list, tuple)):
            left.extend(part)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(part, (shapes.Type, shapes.Field)) and id(part) not in seen:
            seen.add(id(part))
            left.extend(getattr(part, field) for field in part.__struct_fields__)

            if isinstance(part, shapes.Type):
                yield part


def _is_unwritable(part: shapes.Type) -> bool:
    if isinstance(part, shapes.DictType):
        return not isinstance(part.key_type, _KEYS)

    return isinstance(part, _UNWRITABLE) or (isinstance(part, shapes.EnumType) and issubclass(part.cls, Flag))


def _as_text(value: Any) -> str:
    """Return a string of a subclass of ``str``, such as markup, as a plain string. msgspec knows only the exact type.

    :raises TypeError: when the value is not a string.
    """
    if isinstance(value, str):
        return str.__str__(value)

    raise TypeError


def _unlike(checked: object) -> str | None:
    """Return why a value would change in JSON; ``None`` if it stays the same."""
    left: list[Any] = [msgspec.to_builtins(checked, builtin_types=(datetime, time), enc_hook=_as_text)]

    while left:
        value = left.pop()

        if isinstance(value, dict):
            left.extend(value.keys())  # pyright: ignore[reportUnknownArgumentType]
            left.extend(value.values())  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, (list, tuple, set, frozenset)):
            left.extend(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, float) and not isfinite(value):
            return "JSON has no NaN and no infinity"
        elif isinstance(value, (datetime, time)) and (offset := value.utcoffset()) and offset % timedelta(minutes=1):
            return "JSON has no UTC offset with seconds, such as those of pytz before localize()"

    return None


def _reason(error: Exception) -> str:
    """Return the message of msgspec: it shows types and places, and no values. For other exceptions, return only the
    kind.
    """
    if isinstance(error, msgspec.ValidationError) and error.__cause__ is None:
        return _WITH_VALUE.sub(r"\1\2", str(error))

    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return "it is malformed"

    return type(error).__qualname__
