"""Blinker's contract: names, documentation, ANY, and namespaces.

Written from Blinker's documentation; each test runs on Blinker itself and on Aldis. Where the two differ on
purpose, ``differs`` names the promise.
"""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest

# Names, documentation, ANY


def test_a_signal_has_documentation(library: Any) -> None:
    """doc: passed by position or keyword, it is the signal's ``__doc__``; without it, the class's docstring is."""
    assert library.Signal("x").__doc__ == "x"
    assert library.Signal(doc="x").__doc__ == "x"
    assert library.NamedSignal("n", "x").__doc__ == "x"
    assert library.NamedSignal(name="n", doc="x").__doc__ == "x"

    for nothing in (None, ""):
        assert library.Signal(nothing).__doc__ == library.Signal.__doc__
        assert library.NamedSignal("n", nothing).__doc__ == library.NamedSignal.__doc__


def test_a_named_signal_made_by_hand(library: Any, named: Any, log: list[Any]) -> None:
    """NamedSignal: is a Signal with a name, in no namespace."""
    signal = library.NamedSignal("by-hand")
    receiver = named("called")
    signal.connect(receiver)
    signal.send()

    assert isinstance(signal, library.Signal)
    assert signal.name == "by-hand"
    assert "by-hand" not in library.default_namespace
    assert library.NamedSignal("by-hand") is not signal
    assert log == ["called"]

    with pytest.raises(TypeError):
        library.NamedSignal()


def test_the_representation_of_a_signal(library: Any) -> None:
    """repr: is the repr of an object; for a NamedSignal it ends with the name."""
    assert repr(library.Signal()).startswith(f"<{library.Signal.__module__}.Signal object at 0x")
    text = repr(library.NamedSignal("model-saved"))
    assert text.startswith(f"<{library.NamedSignal.__module__}.NamedSignal object at 0x")
    assert text.endswith("; 'model-saved'>")


def test_any_is_one_symbol(library: Any) -> None:
    """ANY: is the same object everywhere, and its repr is ANY."""
    assert library.Signal.ANY is library.ANY
    assert library.Signal().ANY is library.ANY
    assert library.NamedSignal("x").ANY is library.ANY
    assert repr(library.ANY) == str(library.ANY) == "ANY"
    assert library.ANY


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_any_is_the_same_after_pickling(library: Any, protocol: int) -> None:
    """ANY: unpickling and copying return the same object."""
    assert pickle.loads(pickle.dumps(library.ANY, protocol)) is library.ANY
    assert pickle.loads(pickle.dumps({"sender": library.ANY}, protocol))["sender"] is library.ANY
    assert copy.copy(library.ANY) is library.ANY
    assert copy.deepcopy(library.ANY) is library.ANY


# Namespaces


def test_a_namespace_makes_a_signal_once(library: Any) -> None:
    """Namespace.signal: makes one NamedSignal for a name; the first documentation stays."""
    namespace = library.Namespace()
    signal = namespace.signal("saved", "first")

    assert type(signal) is library.NamedSignal
    assert (signal.name, signal.__doc__) == ("saved", "first")
    assert namespace.signal("saved") is signal
    assert namespace.signal("saved", "second") is signal
    assert namespace.signal(name="saved", doc="third") is signal
    assert signal.__doc__ == "first"
    assert namespace.signal("deleted") is not signal
    assert library.Namespace().signal("saved") is not signal


def test_a_namespace_keeps_its_signals(library: Any) -> None:
    """Namespace: keeps a signal alive that no other object refers to."""
    namespace = library.Namespace()
    namespace.signal("saved").my_own = "attribute"
    gc.collect()

    assert namespace.signal("saved").my_own == "attribute"


def test_a_namespace_is_a_dict(library: Any) -> None:
    """Namespace: has all methods of a dict."""
    namespace = library.Namespace()
    assert issubclass(library.Namespace, dict)
    assert not namespace
    assert namespace == {}

    saved, deleted = namespace.signal("saved"), namespace.signal("deleted")
    assert list(namespace) == ["saved", "deleted"]
    assert len(namespace) == 2
    assert "saved" in namespace
    assert namespace["saved"] is saved
    assert list(namespace.values()) == [saved, deleted]
    assert list(namespace.items()) == [("saved", saved), ("deleted", deleted)]
    assert namespace.get("lost") is None

    with pytest.raises(KeyError):
        namespace["lost"]

    assert namespace.pop("saved") is saved
    assert namespace.signal("saved") is not saved
    del namespace["deleted"]
    assert list(namespace) == ["saved"]

    by_hand = library.NamedSignal("other")
    namespace["by-hand"] = by_hand
    assert namespace.signal("by-hand") is by_hand
    assert namespace.setdefault("by-hand", saved) is by_hand
    namespace.update({"more": saved})
    namespace.clear()
    assert namespace == {}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda kind, signal: kind({"saved": signal}), id="mapping"),
        pytest.param(lambda kind, signal: kind([("saved", signal)]), id="pairs"),
        pytest.param(lambda kind, signal: kind(saved=signal), id="keywords"),
        pytest.param(lambda kind, signal: kind({}, saved=signal), id="mapping and keywords"),
        pytest.param(lambda kind, signal: copy.copy(kind({"saved": signal})), id="copy"),
    ],
)
def test_a_namespace_is_constructed_like_a_dict(library: Any, make: Any) -> None:
    """Namespace: accepts the arguments of dict, and then makes further signals."""
    signal = library.NamedSignal("saved")
    namespace = make(library.Namespace, signal)

    assert type(namespace) is library.Namespace
    assert dict(namespace) == {"saved": signal}
    assert namespace.signal("saved") is signal
    assert namespace.signal("deleted").name == "deleted"


def test_the_default_namespace(library: Any) -> None:
    """signal and default_namespace: the function makes signals in this namespace."""
    signal = library.signal("conformance", doc="documented")

    assert isinstance(library.default_namespace, library.Namespace)
    assert library.default_namespace["conformance"] is signal
    assert library.signal("conformance") is signal
    assert library.signal(name="conformance") is signal
    assert library.default_namespace.signal("conformance") is signal
    assert (signal.name, signal.__doc__) == ("conformance", "documented")
