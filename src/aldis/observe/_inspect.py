"""Who is connected, in words: what people look at, without payloads and without what objects contain."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

from aldis._core.callables import is_async, place_of, qualified_name
from aldis._core.identity import ANY
from aldis._core.records import name_of_signal
from aldis._core.registry import registry_of
from aldis._core.signal import Signal
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aldis._core.connections import Connection
    from aldis._core.registry import ConnectionRegistry

descriptions: Final[list[tuple[type[Any], Callable[[Any], str]]]] = []
"""Kinds of senders that have a name to show, and what shows it. Must not fail, nor tell more than a name."""

_LONGEST_VALUE: Final = 60
_MOST_BITS: Final = 256
_NOBODY: Final = object()

# As Any, so that type checkers take what is tested for what it is, and not for one of unknown parameters.
_MAPPING: Final[Any] = Mapping
_SIGNAL: Final[Any] = Signal
_REF: Final[Any] = ref


class ConnectionRecord(NamedTuple):
    """One connection, as :func:`connections` found it.

    :ivar signal: the signal's name; for a signal without one, the name of its class.
    :ivar receiver: the receiver's qualified name.
    :ivar place: where it is defined, as ``file:line``, if it is written in Python.
    :ivar sender: for which sender, in words: see :func:`describe_sender`.
    :ivar is_weak: whether the connection holds the receiver weakly.
    :ivar is_async: whether the receiver is async.
    :ivar priority: its priority.
    :ivar is_once: whether it goes before its first call.
    :ivar via: its delivery, in words, or ``None``.
    :ivar library: ``"aldis"`` or ``"blinker"``.

    .. versionadded:: 0.1
    """

    signal: str
    receiver: str
    place: str | None
    sender: str
    is_weak: bool
    is_async: bool
    priority: float
    is_once: bool
    via: str | None
    library: str


def connections(of: Any) -> list[ConnectionRecord]:
    """Who is connected, for each signal in the order of calling.

    Blinker's own signals can be looked at too. They keep no order, and do not tell an ``int`` sender from the
    ``id`` of an object.

    :param of: a signal, or a namespace or another mapping of names to signals.
    :return: one record for each connection whose receiver and sender are alive. Looking changes nothing.
    :raises InvalidOptionError: when it is none of these.

    .. versionadded:: 0.1
    """
    if isinstance(of, _MAPPING):
        return [record for signal in list(of.values()) for record in _connections(signal)]

    return list(_connections(of))


def _connections(of: Any) -> Iterator[ConnectionRecord]:
    if isinstance(of, _SIGNAL):
        return _of_signal(of)

    if _is_of_blinker(of):
        return _of_blinker(of)

    raise InvalidOptionError(f"connections() takes a signal or a namespace of signals, not a {type(of).__qualname__}.")


def _of_signal(signal: Signal[Any, ..., Any]) -> Iterator[ConnectionRecord]:
    for connection in registry_of(signal).connections():
        receiver, sender, options = connection.ref(), _sender_of(registry_of(signal), connection), connection.options

        if receiver is None or sender is _NOBODY:
            continue  # Gone since.

        yield ConnectionRecord(
            signal=name_of_signal(signal),
            receiver=qualified_name(receiver),
            place=place_of(receiver),
            sender=describe_sender(sender),
            is_weak=connection.strong_ref is None,
            is_async=connection.is_async,
            priority=options.priority,
            is_once=options.once,
            via=None if options.via is None else describe_delivery(options.via),
            library="aldis",
        )


def _sender_of(table: ConnectionRegistry, connection: Connection) -> Any:
    if connection.filter_key is None:
        return ANY

    filter = table.filters.get(connection.filter_key)
    return _NOBODY if filter is None or filter.ref() is None else filter.sender


def _is_of_blinker(of: object) -> bool:
    kind = getattr(sys.modules.get("blinker"), "Signal", None)  # Without importing it: nobody has one before.
    return isinstance(kind, type) and isinstance(of, kind)


def _of_blinker(signal: Any) -> Iterator[ConnectionRecord]:
    """What can be known of a signal of Blinker 1.9, whose tables are private."""
    for key, kept in list(signal.receivers.items()):
        is_weak = isinstance(kept, _REF)
        receiver = kept() if is_weak else kept

        if receiver is None:
            continue

        for sender in _senders_of_blinker(signal, key):
            yield ConnectionRecord(
                signal=name_of_signal(signal),
                receiver=qualified_name(receiver),
                place=place_of(receiver),
                sender=sender,
                is_weak=is_weak,
                is_async=is_async(receiver),
                priority=0,
                is_once=False,
                via=None,
                library="blinker",
            )


def _senders_of_blinker(signal: Any, key: Any) -> Iterator[str]:
    for sender in list(signal._by_receiver.get(key, ())):
        reference = signal._weak_senders.get(sender)

        if reference is not None:
            found = reference()

            if found is not None:
                yield describe_sender(found)
        elif isinstance(sender, str):
            yield describe_sender(sender)
        else:
            yield "ANY" if sender == 0 else f"{sender}, or the object with this id"


def describe_sender(sender: object) -> str:
    """A sender in words, which tell nothing of what an object contains.

    A ``str``, ``int`` or ``bytes`` is shown as it is, and cut if it is long; a module, a class or a function by
    its name, and so is an application of Flask or Quart; any other object by its class only.

    .. versionadded:: 0.1
    """
    kind = type(sender)  # Not by isinstance(): a proxy would answer for another.

    if sender is ANY or sender is None:
        return repr(sender)

    if kind is bool or issubclass(kind, int):
        return _describe_int(sender)

    for plain in (str, bytes):
        if issubclass(kind, plain):
            return _describe_text(plain, sender)

    if issubclass(kind, ModuleType):
        return str(getattr(sender, "__name__", "a module"))

    if issubclass(kind, (type, FunctionType, MethodType)):
        return qualified_name(sender)

    describe = next((describe for described, describe in descriptions if issubclass(kind, described)), None)
    return f"a {qualified_name(kind)}" if describe is None else describe(sender)


def _describe_int(value: Any) -> str:
    if type(value) is bool:
        return repr(value)

    bits = int.bit_length(value)
    return int.__repr__(value) if bits <= _MOST_BITS else f"an int of {bits} bits"


def _describe_text(plain: Any, value: Any) -> str:
    # By the built-in type's own ways: a subclass, such as an enum, may show itself in another.
    beginning = plain.__repr__(plain.__getitem__(value, slice(_LONGEST_VALUE)))
    return beginning if plain.__len__(value) <= _LONGEST_VALUE else f"{beginning}..."


def describe_delivery(via: object) -> str:
    """A delivery in words: as it shows itself, or by its class.

    .. versionadded:: 0.1
    """
    kind = type(via)

    if kind.__repr__ is object.__repr__:
        return kind.__qualname__

    try:
        return repr(via)
    except Exception:
        return kind.__qualname__  # To look must not fail.
