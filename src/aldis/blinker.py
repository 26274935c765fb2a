"""Aldis in Blinker's place: ``import blinker`` imports Aldis, in this process.

An import finder before Python's own finders answers for ``blinker`` and its modules. The installed Blinker does not
change: neither its files nor its metadata, which other packages ask for its version.
"""

from __future__ import annotations

import sys
import weakref
from threading import Lock
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from ._core import identity, namespace, signal as _signal
from .exceptions import BlinkerImportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["install_as_blinker"]

T = TypeVar("T")


def install_as_blinker() -> None:
    """Make every ``import blinker`` of this process import Aldis.

    Call it before the first import of Flask, or of anything else that imports Blinker::

        import aldis

        aldis.install_as_blinker()

        from flask import Flask

    Calling it again changes nothing. It may be called from any thread.

    :raises BlinkerImportedError: when the real Blinker is imported already. Then nothing changes.

    .. versionadded:: 0.1
    """
    with _installing:
        if _FINDER in sys.meta_path:
            return

        if any(name.partition(".")[0] == "blinker" for name in list(sys.modules)):
            users = [name for name in ("flask", "quart") if name in sys.modules]
            by = f" (by {' and '.join(users)}, it seems)" if users else ""
            raise BlinkerImportedError(
                f"The real Blinker is imported already{by}, and Aldis cannot replace it where it was imported. Call"
                " aldis.install_as_blinker() before the first import of flask, quart or blinker."
            )

        sys.meta_path.insert(0, _FINDER)


def make_id(obj: object) -> Hashable:
    """Return Blinker's key of a receiver or sender. Aldis does not use it; some users of Blinker do."""
    return obj if isinstance(obj, (str, int)) else identity.receiver_key(obj)


def make_ref(obj: T, callback: Callable[[weakref.ref[T]], None] | None = None) -> weakref.ref[T]:
    """Return Blinker's weak reference. Aldis does not use it; some users of Blinker do."""
    if isinstance(obj, MethodType):
        return weakref.WeakMethod(obj, callback)  # type: ignore[arg-type, return-value]

    return weakref.ref(obj, callback)


_PUBLIC: Final[dict[str, Any]] = {
    "ANY": identity.ANY,
    "NamedSignal": namespace.NamedSignal,
    "Namespace": namespace.Namespace,
    "Signal": _signal.Signal,
    "default_namespace": namespace.default_namespace,
    "signal": namespace.signal,
}
_UTILITIES: Final[dict[str, Any]] = {"Symbol": identity.Symbol, "make_id": make_id, "make_ref": make_ref}
_MODULES: Final[dict[str, dict[str, Any]]] = {
    "blinker": {**_PUBLIC, "__all__": sorted(_PUBLIC)},
    "blinker.base": {**_PUBLIC, **_UTILITIES, "ANY_ID": 0},
    "blinker._utilities": _UTILITIES,
}


@final
class _Finder:
    """Finds and loads the modules of Blinker that Aldis replaces, and no other modules below ``blinker``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _MODULES:
            return None

        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, origin="aldis", is_package=name == "blinker")  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Aldis, installed as Blinker. See aldis.install_as_blinker."
        module.__dict__.update(_MODULES[module.__name__])


_FINDER: Final = _Finder()
_installing: Final = Lock()
