"""Show the connections of signals, in words for people: without payloads, and without what objects contain."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

from aldis._core.callables import is_async, place_of, qualified_name, signal_name
from aldis._core.identity import ANY
from aldis._core.registry import registry_of

from ._selection import is_aldis, is_blinker, select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aldis._core.connections import Connection
    from aldis._core.registry import ConnectionRegistry
    from aldis._core.types import AnySignal

    from ._selection import AnySignals

_LONGEST_VALUE: Final = 60
_MOST_BITS: Final = 256
_APPLICATIONS: Final = (("flask", "Flask"), ("quart", "Quart"))
_NOBODY: Final = object()

# As Any, because type checkers would infer a reference of unknown type from a test against it.
_REF: Final[Any] = ref


class ConnectionRecord(NamedTuple):
    """One connection, as :func:`connections` found it.

    :ivar signal: the signal's name; for a signal without one, the name of its class.
    :ivar receiver: the receiver's qualified name.
    :ivar place: where the receiver is defined, as ``file:line``, if it is written in Python.
    :ivar sender: the sender that the receiver is called for, in words: see :func:`describe_sender`.
    :ivar is_weak: whether the connection holds the receiver weakly.
    :ivar is_async: whether the receiver is async.
    :ivar priority: the priority.
    :ivar is_once: whether the connection ends before the first call.
    :ivar via: the delivery, in words, or ``None``.
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


def connections(*signals: AnySignals) -> list[ConnectionRecord]:
    """List the connections of signals, for each signal in the order of calling.

    Signals of Blinker are listed too. They keep no order, and do not tell an ``int`` sender from the ``id`` of an
    object.

    :param signals: signals; namespaces or other mappings of names to signals; or lists, tuples and sets of these.
        Without ``signals``, the call lists all living signals of Aldis in the process, in the order in which they were
        made. (Blinker does not know all its signals.)
    :return: one record for each connection whose receiver and sender are alive. The call changes nothing.
    :raises InvalidOptionError: when one of ``signals`` is something else.

    .. versionadded:: 0.1
    """
    return [record for signal in select("connections", signals, is_blinker) for record in _connections(signal)]


def _connections(signal: Any) -> Iterator[ConnectionRecord]:
    return _of_signal(signal) if is_aldis(signal) else _of_blinker(signal)


def _of_signal(signal: AnySignal) -> Iterator[ConnectionRecord]:
    registry = registry_of(signal)

    for connection in registry.connections():
        receiver, sender, options = connection.ref(), _sender_of(registry, connection), connection.options

        if receiver is None or sender is _NOBODY:
            continue  # Gone since.

        yield ConnectionRecord(
            signal=signal_name(signal),
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


def _sender_of(registry: ConnectionRegistry, connection: Connection) -> Any:
    if connection.filter_key is None:
        return ANY

    filter = registry.filters.get(connection.filter_key)
    return _NOBODY if filter is None or filter.ref() is None else filter.sender


def _of_blinker(signal: Any) -> Iterator[ConnectionRecord]:
    """List the connections of a signal of Blinker 1.9. Only its private members tell the senders."""
    for key, value in list(signal.receivers.items()):
        is_weak = isinstance(value, _REF)
        receiver = value() if is_weak else value

        if receiver is None:
            continue

        for sender in _senders_of_blinker(signal, key):
            yield ConnectionRecord(
                signal=signal_name(signal),
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
    """Name a sender in words that show nothing of what an object contains.

    A ``str``, ``int`` or ``bytes`` is shown as it is, and cut if it is long. A module, a class, a function and an
    application of Flask or Quart is shown by its name, and any other object by its class.

    .. versionadded:: 0.1
    """
    kind = type(sender)  # Not isinstance(), because a proxy answers for another object.

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

    return _describe_application(sender) or f"a {qualified_name(kind)}"


def _describe_application(sender: Any) -> str | None:
    for module, name in _APPLICATIONS:
        application = getattr(sys.modules.get(module), name, None)  # Not imported: before that, no application exists.

        if application is not None and issubclass(type(sender), application):
            return f"{name} {sender.name!r}"

    return None


def _describe_int(value: Any) -> str:
    if type(value) is bool:
        return repr(value)

    bits = int.bit_length(value)
    return int.__repr__(value) if bits <= _MOST_BITS else f"an int of {bits} bits"


def _describe_text(plain: Any, value: Any) -> str:
    # Call the methods of the built-in type, because a subclass, such as an enum, may have a repr() of its own.
    beginning = plain.__repr__(plain.__getitem__(value, slice(_LONGEST_VALUE)))
    return beginning if plain.__len__(value) <= _LONGEST_VALUE else f"{beginning}..."


def describe_delivery(via: object) -> str:
    """Name a delivery: by its ``repr()``, or by its class if it has no ``repr()`` of its own.

    .. versionadded:: 0.1
    """
    kind = type(via)

    if kind.__repr__ is object.__repr__:
        return kind.__qualname__

    try:
        return repr(via)
    except Exception:
        return kind.__qualname__  # A caller that only looks must not fail.
