"""The names of senders. A sender crosses to another process as a name, and never as a rebuilt object."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import Any, final
from weakref import WeakValueDictionary, ref

from aldis._core.callables import describe
from aldis._core.identity import resolve_bound
from aldis.exceptions import InvalidOptionError, UnnamedSenderError

from .storage.tables import LONGEST_NAME


class UnknownSenderError(Exception):
    """No object is registered in this process by the name of a stored sender."""


@final
class SenderNames:
    """The objects that are registered as senders, by name. This does not keep them alive."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[ref[Any], str]] = {}  # By identity, as signals know their senders.
        self._objects: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def register(self, sender: Any, name: str) -> None:
        """Register an object by a name. An object that had the name before is still sent by it.

        :raises InvalidOptionError: when the name is not a text of an allowed length, or the object cannot be referenced
            weakly.
        :raises UnboundProxyError: when it is a proxy that is not bound to an object here.
        """
        sender = resolve_bound(sender)

        given: Any = name

        if not isinstance(given, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InvalidOptionError(f"A sender's name is a text of up to {LONGEST_NAME} characters, not {name!r}.")

        try:
            self._names[id(sender)] = (ref(sender, partial(_forget, self._names, id(sender))), name)
            self._objects[name] = sender
        except TypeError:
            raise InvalidOptionError(
                f"A {type(sender).__qualname__} cannot be registered as a sender: it cannot be referenced weakly."
                " Send a string instead."
            ) from None

    def write(self, sender: Any) -> str | None:
        """Return the stored form of a sender: the text of a string, or the name of another object.

        :raises UnnamedSenderError: when the object has no name.
        """
        if sender is None:
            return None

        if isinstance(sender, str):
            return _text_of(str.__str__(sender))

        known, name = self._names.get(id(sender), (None, ""))

        if known is None or known() is not sender:
            kind = f"class {describe(sender)}" if isinstance(sender, type) else type(sender).__qualname__
            raise UnnamedSenderError(
                f"This {kind} is the sender of a durable receiver, and has no name by which it could cross to its"
                " process. Register it there and here with relay.register_sender(sender, name), or send a string."
            )

        return json.dumps({"name": name})

    def read(self, stored: str | None) -> Any:
        """Return the sender of a stored form.

        :raises UnknownSenderError: when no object is registered by its name here.
        :raises ValueError: when it is malformed.
        """
        if stored is None:
            return None

        is_name, text = _parts_of(stored)

        if not is_name:
            return text

        sender = self._objects.get(text)

        if sender is None:
            raise UnknownSenderError(text)

        return sender


# Cached: a program has few senders, and each message has one of them.
@lru_cache
def _text_of(sender: str) -> str:
    return json.dumps({"text": sender})


@lru_cache
def _parts_of(stored: str) -> tuple[bool, str]:
    """Return whether the sender is an object with a name; and the name, or otherwise the text."""
    match json.loads(stored):
        case {"text": str(text)}:
            return False, text
        case {"name": str(name)}:
            return True, name
        case _:
            raise ValueError("no sender")


def _forget(names: dict[int, tuple[ref[Any], str]], key: int, dead: ref[Any]) -> None:
    if names.get(key, (None,))[0] is dead:
        del names[key]
