"""Callables: whether they are async, their names and places. Also the names of signals and of kinds of values."""

from __future__ import annotations

import sys
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


_COROUTINE_FLAG: Final = 0x80  # inspect.CO_COROUTINE, without inspect


_COROUTINE_FLAGS: Final = _COROUTINE_FLAG | 0x100  # and inspect.CO_ITERABLE_COROUTINE


_GENERATOR_FLAGS: Final = 0x20 | 0x200  # inspect.CO_GENERATOR | CO_ASYNC_GENERATOR


_COROUTINE_MARKS: Final = (
    ("_is_coroutine_marker", "inspect", "_is_coroutine_mark"),
    ("_is_coroutine_marker", "inspect", "_is_coroutine_marker"),  # As 3.12.0 and 3.12.1 call it.
    ("_is_coroutine", "asyncio.coroutines", "_is_coroutine"),
)


def is_async(receiver: object) -> bool:
    """Return whether a call returns a coroutine, judging by the flags of the callable.

    It sees through partials, bound methods and objects with an async ``__call__``, and respects the marks of
    :func:`inspect.markcoroutinefunction` and of asgiref.
    """
    while isinstance(receiver, (partial, MethodType)):
        receiver = receiver.func if isinstance(receiver, partial) else receiver.__func__

    if _has_coroutine_flags(receiver):
        return True

    if isinstance(receiver, FunctionType):
        return False

    call = getattr(type(receiver), "__call__", None)  # noqa: B004
    return _has_coroutine_flags(call) and not isinstance(receiver, type)


def as_coroutine_function(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async receiver as a callable for which :func:`inspect.iscoroutinefunction` is true.

    The wrappers of Flask and Quart ask that function. They would take an object with an async ``__call__`` for a sync
    receiver, and would not await the coroutine that it returns.
    """
    flags = getattr(getattr(receiver, "__code__", None), "co_flags", 0)

    if isinstance(receiver, (FunctionType, MethodType)) and flags & _COROUTINE_FLAG:
        return receiver

    async def call(*args: Any, **payload: Any) -> Any:
        return await receiver(*args, **payload)

    return call


def _has_coroutine_flags(function: object) -> bool:
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)

    if isinstance(flags, int) and flags & _COROUTINE_FLAGS:
        return True

    return any(_has_mark(function, *mark) for mark in _COROUTINE_MARKS)


def _has_mark(function: object, attribute: str, module: str, name: str) -> bool:
    # A mark is an object of that module. So a function can have it only if the module is imported.
    mark = getattr(sys.modules.get(module), name, None)
    return mark is not None and getattr(function, attribute, None) is mark


def is_generator(function: object) -> bool:
    """Return whether a call returns a generator, async or not. Such a call runs no code of the callable.

    It sees through the same things as :func:`is_async`.
    """
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__

    code = _ask(function, "__code__") or _ask(getattr(type(function), "__call__", None), "__code__")  # noqa: B004
    return type(code) is CodeType and bool(code.co_flags & _GENERATOR_FLAGS)


def is_easily_lost(receiver: object) -> bool:
    """Return whether a weak reference is often the only one to an object of this kind: function, partial, built-in."""
    return isinstance(receiver, (FunctionType, BuiltinFunctionType, partial))


def describe(receiver: object) -> str:
    """Name a callable and its place, for people: ``shop.mail.welcome (shop/mail.py:12)``."""
    name, place = qualified_name(receiver), place_of(receiver)
    return name if place is None else f"{name} ({place})"


def signal_name(signal: object) -> str:
    """Return the name of a signal, or the name of its class if the signal has no name."""
    # In Blinker, the name of a signal can be any object.
    return str(getattr(signal, "name", None) or type(signal).__name__)


def kind_name(value: object) -> str:
    """Say what kind of value this is, for messages that must not show the value: ``the class Shop``, ``a Shop``."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"

    return f"a {type(value).__qualname__}"


def qualified_name(receiver: object) -> str:
    """Return the name of a callable with its module, or the name of its class if it has no name.

    This never fails, whatever happens when an attribute of the object is read. The result is ``"?"`` if there is no
    name at all.
    """
    code = _code_of(receiver)
    name, module = _text(code, "__qualname__") or "?", _text(code, "__module__")
    return f"{module}.{name}" if module else name


def place_of(receiver: object) -> str | None:
    """Return where a callable is defined, as ``file:line``, if it is written in Python. This never fails."""
    code = _code_of(receiver)

    for place in (_ask(code, "__code__"), _ask(_ask(code, "__call__"), "__code__")):
        if type(place) is CodeType:
            return f"{place.co_filename}:{place.co_firstlineno}"

    return None


def _code_of(receiver: object) -> Any:
    code: Any = receiver

    while _is(code, partial) or _is(code, MethodType):
        code = code.func if _is(code, partial) else code.__func__

    if _is(code, FunctionType) or _is(code, type) or _text(code, "__qualname__"):
        return code

    own: type[Any] = type(code)  # pyright: ignore[reportUnknownVariableType]
    kind = _ask(code, "__class__")
    return kind if _is(kind, type) else own


def _is(value: object, kind: type) -> bool:
    return issubclass(type(value), kind)  # isinstance() would read the object's own __class__, too.


def _text(of: object, attribute: str) -> str:
    value = _ask(of, attribute)
    return value if type(value) is str else ""


def _ask(of: object, attribute: str) -> Any:
    # Proxies and mocks may return anything for an attribute, or raise.
    try:
        return getattr(of, attribute, None)
    except Exception:
        return None


def caller_place() -> tuple[str, int]:
    """Return file and line of the nearest frame outside this package."""
    package = __name__.partition(".")[0]
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # inspect has the same, but is slow to import.

    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back

    return frame.f_code.co_filename, frame.f_lineno
