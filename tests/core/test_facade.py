"""The public names, the modules that an import loads, and copies and pickles of signals."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, get_type_hints

import pytest

import aldis
from aldis import ANY, NamedSignal, Namespace, Signal, exceptions

ROOT = str(Path(aldis.__file__).parent.parent)
PUBLIC_MODULES = sorted(path.stem for path in Path(aldis.__file__).parent.glob("*.py") if not path.stem.startswith("_"))
# They need packages that are missing in a Python without optional packages.
ROOMS = {"otel": "opentelemetry", "pytest_plugin": "pytest", "sqlalchemy": "sqlalchemy"}
CORE_MODULES = [name for name in PUBLIC_MODULES if name not in ROOMS]
# Optional, costly, or both: a program that only sends and connects needs none of these modules.
HEAVY = (
    "asyncio",
    "inspect",
    "dataclasses",
    "concurrent",
    "werkzeug",
    "flask",
    "blinker",
    "logging",
    "typing_extensions",
)


def public_names(module: ModuleType) -> list[str]:
    """Return the public names that a module defines, or imports from private modules of Aldis."""
    found = []

    for name, value in vars(module).items():
        is_public = not name.startswith("_") and not isinstance(value, (ModuleType, TypeVar, ParamSpec))
        home = getattr(value, "__module__", None)

        if is_public and (home == module.__name__ or (module is aldis and str(home).startswith("aldis"))):
            found.append(name)

    return sorted(found)


def test_all_lists_exactly_the_public_names() -> None:
    """aldis.__all__ is sorted and complete, and every name in it exists."""
    assert aldis.__all__ == sorted(aldis.__all__)
    assert all(hasattr(aldis, name) for name in aldis.__all__)

    # ANY and default_namespace are values, and not every value tells its module.
    known = set(public_names(aldis)) | {"ANY", "default_namespace"}
    assert set(aldis.__all__) == known

    others = {name for name in vars(aldis) if not name.startswith("_")} - known
    assert {name for name in others if not isinstance(vars(aldis)[name], ModuleType)} == {"annotations"}


def test_star_import_imports_the_facade() -> None:
    """`from aldis import *` imports exactly the names in __all__."""
    space: dict[str, Any] = {}
    exec("from aldis import *", space)

    assert set(space) - {"__builtins__"} == set(aldis.__all__)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_the_all_of_public_modules_lists_exactly_their_public_names(name: str) -> None:
    """Each public module has an __all__ that lists exactly its public names, and every one of them exists."""
    if find_spec(ROOMS.get(name, "sys")) is None:
        pytest.skip(f"{ROOMS[name]} is not installed")

    module = importlib.import_module(f"aldis.{name}")

    assert module.__all__ == sorted(module.__all__)
    assert set(public_names(module)) <= set(module.__all__) | {"make_id", "make_ref"}
    assert all(hasattr(module, each) for each in module.__all__)


def test_the_facade_is_short() -> None:
    """The facade has fewer than 60 lines, as the design says."""
    assert len(Path(aldis.__file__).read_text().splitlines()) < 60


@pytest.mark.parametrize("name", aldis.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Each class and function of the facade has a docstring of its own."""
    value = getattr(aldis, name)

    if isinstance(value, type) or callable(value):
        assert value.__doc__


def imported(statement: str) -> set[str]:
    """Return the modules that a statement imports in a new interpreter, without the modules that `site` adds."""
    program = (
        f"import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); {statement}\n"
        "print('\\n'.join(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program, ROOT], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_aldis_is_cheap() -> None:
    """`import aldis` imports none of the optional or costly modules: asyncio, inspect, dataclasses,
    concurrent.futures, werkzeug and the like."""
    modules = imported("import aldis")

    assert "aldis" in modules
    assert sorted(name for name in modules if name.partition(".")[0] in HEAVY) == []
    assert "aldis.aio" not in modules


def test_using_the_core_stays_cheap() -> None:
    """Connecting, sending, muting and reading receivers import no further module outside of aldis."""
    modules = imported(
        "import aldis; s = aldis.signal('x'); f = s.connect(lambda *a, **k: None, weak=False); s.send(1, a=2);"
        " s.connect(f, 'x', priority=2, once=True); s.send('x'); m = s.muted(); m.__enter__(); s.send();"
        " m.__exit__(None, None, None); list(s.receivers_for('x')); bool(s.receivers); s.disconnect(f)"
    )

    assert sorted(name for name in modules if name.partition(".")[0] in HEAVY) == []


def test_the_version_of_a_delivery_module_is_cheap_too() -> None:
    """aldis.delivery does not import concurrent.futures before it delivers the first call."""
    assert "concurrent.futures" not in imported("import aldis.delivery")


@pytest.mark.parametrize("name", ["aldis", *(f"aldis.{name}" for name in CORE_MODULES)])
def test_each_module_can_be_imported_first(name: str) -> None:
    """Every public module of the core can be the first one that a program imports."""
    assert name in imported(f"import {name}")


# Copies.


class Owned(NamedSignal[Any, ..., Any]):
    """A subclass with its own state."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "Its documentation.")
        self.tags = ["a"]


def receiver(sender: Any, **payload: Any) -> str:
    return "received"


def policy(failure: aldis.Failure) -> None: ...


def wrapper(receiver: Any) -> Any:
    return receiver


signals = Namespace(errors="collect")


@signals.declare
def lamp_lit(sender: Any, /, *, colour: str, seconds: int = 1) -> None:
    """Sent when a lamp is lit."""


def lamp_out(sender: Any, /, *, colour: str = "red") -> None: ...


COPIES: dict[str, Any] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())


@each_copy
@pytest.mark.parametrize(
    "make",
    [Signal, lambda: NamedSignal("lamp", "Doc."), lambda: Owned("lamp")],
    ids=["Signal", "NamedSignal", "subclass"],
)
def test_copies_are_signals_of_their_own_without_connections(copied: Any, make: Any) -> None:
    """A copied or unpickled signal has the settings of the original and no connections, and is independent of it."""
    original = make()
    original.errors = policy
    original.async_wrapper = wrapper
    original.connect(receiver)
    original.receiver_connected.connect(receiver)
    original.is_muted = False
    original.send("x")

    twin = copied(original)

    assert type(twin) is type(original)
    assert twin is not original
    assert (twin.errors, twin.async_wrapper, twin.sync_wrapper) == (policy, wrapper, None)
    assert twin.__doc__ == original.__doc__
    assert getattr(twin, "name", None) == getattr(original, "name", None)
    assert getattr(twin, "tags", None) == getattr(original, "tags", None)
    assert not twin.receivers
    assert not twin.receiver_connected.receivers
    assert twin.send("x") == []

    twin.connect(receiver, "x", weak=False)
    assert twin.send("x") == [(receiver, "received")]
    assert not original.has_receivers_for(ANY) or original.send("x") == [(receiver, "received")]
    original.disconnect(receiver)
    assert twin.send("x") == [(receiver, "received")]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_declared_signals_are_declared(copied: Any) -> None:
    """A copy of a declared signal has the same declaration, also if a decorator declared the original."""
    plain = Namespace().declare(lamp_out)

    for original in (plain, lamp_lit):
        twin = copied(original)
        assert twin.name == original.name
        assert twin.contract is not None

        with pytest.raises(aldis.PayloadError, match="'misspelt'"):
            twin.send(None, misspelt=1)


@each_copy
def test_any_stays_any(copied: Any) -> None:
    """ANY is one object, also after copying and pickling."""
    assert copied(ANY) is ANY
    assert repr(ANY) == "ANY"


@each_copy
def test_namespaces_can_be_copied(copied: Any) -> None:
    """A copied namespace has the signals, and makes new ones with the same settings."""
    original = Namespace(errors="collect")
    original.signal("lamp")
    twin = copied(original)

    assert type(twin) is Namespace
    assert list(twin) == ["lamp"]
    assert twin.signal("new").errors == "collect"
    assert "new" not in original


def test_signals_are_hashable_and_compare_by_identity() -> None:
    """Signals are hashable, and each is equal to itself only."""
    one, two = NamedSignal("lamp"), NamedSignal("lamp")

    assert one != two
    assert len({one, two, one}) == 2


def test_the_repr_names_the_signal() -> None:
    """The repr has the name of the class and of the signal."""
    assert "Signal" in repr(Signal())
    assert "'lamp'" in repr(NamedSignal("lamp"))


def test_the_default_namespace_is_one() -> None:
    """aldis.signal makes and returns signals of aldis.default_namespace."""
    try:
        made = aldis.signal("of this test", "Doc.")
        assert aldis.signal("of this test") is made
        assert aldis.default_namespace["of this test"] is made
        assert (made.name, made.__doc__) == ("of this test", "Doc.")
    finally:
        aldis.default_namespace.pop("of this test", None)


def test_the_tree_of_errors() -> None:
    """Each error is an AldisError and also the built-in that a caller would catch; the warning is a ResourceWarning."""
    tree: dict[Any, Any] = {
        aldis.InvalidReceiverError: TypeError,
        aldis.InvalidOptionError: ValueError,
        aldis.UnboundProxyError: RuntimeError,
        aldis.ContractError: TypeError,
        aldis.PayloadError: TypeError,
        aldis.AsyncReceiverError: RuntimeError,
        aldis.BlinkerImportedError: RuntimeError,
    }

    for error, base in tree.items():
        assert issubclass(error, (aldis.AldisError,))
        assert issubclass(error, base)

    errors = {value for value in vars(aldis).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert {e for e in errors if issubclass(e, aldis.AldisError)} == {*tree, aldis.AldisError}
    assert issubclass(aldis.LostReceiverWarning, aldis.AldisWarning)
    assert issubclass(aldis.AldisWarning, UserWarning)


def test_the_tree_of_the_relay_s_errors() -> None:
    """The relay's errors are in aldis.exceptions, and not in the facade."""
    tree: dict[Any, Any] = {
        exceptions.NoMessageError: RuntimeError,
        exceptions.ReceiverTimeoutError: TimeoutError,
        exceptions.RelaySchemaError: RuntimeError,
        exceptions.TransactionError: RuntimeError,
        exceptions.UnnamedSenderError: LookupError,
    }

    for error, base in tree.items():
        assert issubclass(error, exceptions.RelayError)
        assert issubclass(error, base)
        assert not hasattr(aldis, error.__name__)

    assert issubclass(exceptions.RelayError, (aldis.AldisError,))
    assert {*tree} == {*exceptions.RelayError.__subclasses__()}

    for warning in (exceptions.RelayWarning, exceptions.UncommittedMessageWarning):
        assert issubclass(warning, (aldis.AldisWarning,))
        assert issubclass(warning, RuntimeWarning)


def test_the_tree_is_drawn() -> None:
    """The docstring of aldis.exceptions lists all of its classes, each with its built-in base class."""
    drawn = re.findall(r"(\w+)\s+\((\w+)\)  ", f"{exceptions.__doc__}")
    found = {name: getattr(exceptions, name) for name in exceptions.__all__}
    bases = {name: value.__bases__[-1].__name__ for name, value in found.items()}
    leaves = {name: base for name, base in bases.items() if not found[name].__subclasses__()}

    assert dict(drawn) == leaves
    assert all(name in f"{exceptions.__doc__}" for name in found)


def test_the_package_is_typed() -> None:
    """The wheel contains py.typed, and the annotations of the small public classes can be resolved."""
    assert (Path(aldis.__file__).parent / "py.typed").exists()
    assert get_type_hints(aldis.debug) == {"on": bool, "return": type(None)}


def test_declared_signals_refuse_to_be_pickled() -> None:
    """A signal that was declared by a decorator refuses to be pickled, because the declaring function cannot be
    found by its name when it is loaded."""
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(lamp_lit)
