"""Declared signals: one function defines the signal's name, documentation, payload and types."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from aldis import ContractError, Failure, InvalidReceiverError, NamedSignal, Namespace, PayloadError, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


def lamp_lit(sender: Any, /, *, colour: str, seconds: int = 1, unit: str = "s") -> None:
    """Sent when a lamp is lit."""


def lamp_out(sender: Any, /) -> None: ...


def lamp_open(sender: Any, /, *, colour: str = "red", **extra: Any) -> None: ...


class Stage:
    """A declared signal with a receiver that stores its payload."""

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        self.got: list[dict[str, Any]] = []
        self.signal: Signal[Any, ..., Any] = Namespace(**settings).declare(function)
        self.signal.connect(self.receive)

    def receive(self, _: Any, /, **payload: Any) -> None:
        self.got.append(payload)


def test_the_declared_name_has_hyphens() -> None:
    """The signal's name is the function's name with hyphens, and the namespace has the signal under this name."""
    signals = Namespace()
    signal: NamedSignal[Any, ..., Any] = signals.declare(lamp_lit)

    assert isinstance(signal, NamedSignal)
    assert signal.name == "lamp-lit"
    assert signals["lamp-lit"] is signal
    assert signals.signal("lamp-lit") is signal
    assert list(signals) == ["lamp-lit"]


def test_the_signal_has_the_function_s_documentation_and_stores_the_function() -> None:
    """The documentation is the function's docstring, and the contract is the function itself."""
    signal = Namespace().declare(lamp_lit)

    assert signal.__doc__ == "Sent when a lamp is lit."
    assert signal.contract == lamp_lit
    assert NamedSignal("x").contract is None


def test_without_a_docstring_the_documentation_stays() -> None:
    """A declaration without a docstring does not change the documentation that the signal has."""
    signals = Namespace()
    signals.signal("lamp-out", "From before.")

    assert signals.declare(lamp_out).__doc__ == "From before."


@pytest.mark.parametrize("form", ["bare", "empty", "options"])
def test_it_works_as_a_decorator(form: str) -> None:
    """declare is a decorator, bare, with empty parentheses and with options, and returns the signal."""
    signals = Namespace()
    forms: dict[str, Any] = {
        "bare": signals.declare,
        "empty": signals.declare(),
        "options": signals.declare(errors="collect"),
    }
    decorate = forms[form]

    @decorate  # type: ignore[untyped-decorator, unused-ignore]
    def lamp_lit(sender: Any, /, *, colour: str) -> None: ...

    assert lamp_lit is signals["lamp-lit"]
    assert lamp_lit.errors == ("collect" if form == "options" else "propagate")


@pytest.mark.parametrize("errors", ["collect", print], ids=["collect", "callable"])
def test_options_work_in_a_plain_call_too(errors: Any) -> None:
    """declare(function, errors=...) sets the policy as the decorator form does."""
    signal: Any = Namespace().declare(lamp_lit, errors=errors)  # type: ignore[call-overload]

    assert signal.errors == errors


def test_the_declaring_function_is_not_called() -> None:
    """declare and send never call the declaring function."""

    def happened(sender: Any, /, *, a: int = 1) -> None:
        raise AssertionError("called")

    stage = Stage(happened)
    stage.signal.send()

    assert stage.got == [{"a": 1}]


@pytest.mark.parametrize("sender", [None, "x"])
@pytest.mark.parametrize("errors", ["propagate", "collect"])
def test_defaults_are_filled_in(sender: Any, errors: Any) -> None:
    """Every receiver gets the whole payload: a keyword that the send leaves out has its declared default."""
    stage = Stage(lamp_lit, errors=errors)
    stage.signal.connect(stage.receive, "x")

    stage.signal.send(sender, colour="red")
    stage.signal.send(sender, unit="ms", colour="red")
    stage.signal.send(sender, seconds=5, unit="h", colour="blue")
    stage.signal.send(sender, colour="red", seconds=1, unit="s")

    assert stage.got == [
        {"colour": "red", "seconds": 1, "unit": "s"},
        {"colour": "red", "seconds": 1, "unit": "ms"},
        {"colour": "blue", "seconds": 5, "unit": "h"},
        {"colour": "red", "seconds": 1, "unit": "s"},
    ]


def test_receivers_do_not_share_a_payload() -> None:
    """A receiver that changes its keywords does not change those of other receivers or of the declaration."""
    stage = Stage(lamp_open)

    def spoil(_: Any, /, **payload: Any) -> None:
        payload.clear()

    stage.signal.connect(spoil, priority=1)
    stage.signal.send()
    stage.signal.send(b=1)

    assert stage.got == [{"colour": "red"}, {"colour": "red", "b": 1}]


WRONG: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "missing": (lamp_lit, {}, "is missing 'colour'"),
    "missing, with others": (lamp_lit, {"seconds": 3}, "is missing 'colour'"),
    "unknown": (lamp_lit, {"colour": "red", "color": "red"}, "does not declare 'color'"),
    "misspelt": (lamp_lit, {"color": "red"}, "is missing 'colour' and does not declare 'color'"),
    "several": (lamp_lit, {"b": 1, "a": 1, "colour": "red"}, "does not declare 'a', 'b'"),
    "any at all": (lamp_out, {"a": 1}, "does not declare 'a'"),
    "as many as declared": (lamp_lit, {"colour": "red", "seconds": 1, "units": "s"}, "does not declare 'units'"),
    "case": (lamp_lit, {"Colour": "red"}, "is missing 'colour' and does not declare 'Colour'"),
}


@pytest.mark.parametrize(("function", "payload", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("errors", ["propagate", "collect", lambda failure: None], ids=["propagate", "collect", "call"])
@pytest.mark.parametrize("sender", [None, "x"])
@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "not connected"])
def test_a_wrong_payload_is_refused(
    function: Callable[..., Any], payload: dict[str, Any], message: str, errors: Any, sender: Any, is_connected: bool
) -> None:
    """Missing and unknown keywords are refused before any receiver runs, under every policy, with and without
    receivers."""
    stage = Stage(function, errors=errors)

    if not is_connected:
        stage.signal.disconnect(stage.receive)

    for _ in range(2):
        with pytest.raises(
            PayloadError, match=rf"The send to .*'lamp-.*'> {message}\. .*{function.__name__}"
        ) as raised:
            stage.signal.send(sender, **payload)

        assert isinstance(raised.value, TypeError)

    assert stage.got == []


def test_the_message_shows_no_values() -> None:
    """The message names keywords, and never shows their values."""
    stage = Stage(lamp_lit)

    with pytest.raises(PayloadError) as raised:
        stage.signal.send("the sender", password="hunter2", seconds="twelve")

    assert "hunter2" not in str(raised.value)
    assert "twelve" not in str(raised.value)
    assert "the sender" not in str(raised.value)


def test_an_open_declaration_accepts_further_keywords() -> None:
    """If the declaration has **extra, a send may have further keywords, and the defaults are still filled in."""
    stage = Stage(lamp_open)
    stage.signal.send()
    stage.signal.send(other=1)
    stage.signal.send("x", other=1, colour="blue")

    assert stage.got == [{"colour": "red"}, {"colour": "red", "other": 1}, {"colour": "blue", "other": 1}]


def test_an_open_declaration_still_requires() -> None:
    """If the declaration has **extra, declared keywords without a default are still required."""

    def happened(sender: Any, /, *, a: int, **extra: Any) -> None: ...

    stage = Stage(happened)

    with pytest.raises(PayloadError, match="is missing 'a'"):
        stage.signal.send(b=1)

    assert stage.got == []


def test_keywords_with_the_names_of_the_engine_s_parameters() -> None:
    """A payload may have keywords named sender, signal, receiver, self, weak and payload."""

    def happened(s: Any, /, *, sender: int, signal: int, receiver: int, self: int, weak: int, payload: int) -> None: ...

    stage = Stage(happened)
    names = ("sender", "signal", "receiver", "self", "weak", "payload")
    payload: dict[str, Any] = dict.fromkeys(names, 1)
    stage.signal.send(None, **payload)

    with pytest.raises(PayloadError, match="'weak'"):
        stage.signal.send(None, **{name: 1 for name in names if name != "weak"})

    assert stage.got == [dict.fromkeys(names, 1)]


def test_a_declared_signal_without_a_payload() -> None:
    """A declaration may have the sender as its only parameter."""
    stage = Stage(lamp_out)
    stage.signal.send()
    stage.signal.send("x")

    assert stage.got == [{}, {}]


# Functions that cannot declare a signal.


def local(source: str) -> Any:
    space: dict[str, Any] = {}
    exec(source, space)
    return space["f"]


CANNOT: dict[str, tuple[Any, str]] = {
    "no parameters": (local("def f(): ..."), "must take the sender first"),
    "no sender": (local("def f(*, a): ..."), "must take the sender first"),
    "only **": (local("def f(**extra): ..."), "must take the sender first"),
    "only *": (local("def f(*args): ..."), "must take the sender first"),
    "positional payload": (local("def f(sender, a, b=1): ..."), r"put a \* before 'a', 'b'"),
    "positional-only payload": (local("def f(sender, a, /, *, b): ..."), r"put a \* before 'a'"),
    "variadic": (local("def f(sender, *args, b): ..."), "'args'"),
    "reserved": (local("def f(sender, /, *, _async_wrapper): ..."), "'_async_wrapper'.*Rename"),
    "reserved too": (local("def f(sender, /, *, _sync_wrapper=1): ..."), "'_sync_wrapper'.*Rename"),
    "async": (local("async def f(sender, /, *, a): ..."), "write it with def, not async def"),
    "a string": ("lamp-lit", "takes a function"),
    "a number": (3, "takes a function"),
    "a signal": (Signal(), "takes a function"),
    "a built-in without a signature": (dict, "dict"),
    "a module": (warnings, "warnings"),
    "a lambda": (lambda sender: None, "by its name.*use def"),
}


@pytest.mark.parametrize(("function", "message"), CANNOT.values(), ids=CANNOT.keys())
def test_a_function_that_cannot_declare_is_refused(function: Any, message: str) -> None:
    """A function that cannot declare a signal is refused with a message that says what to change, and no signal is
    made."""
    signals = Namespace()

    with pytest.raises(ContractError, match=message) as raised:
        signals.declare(function)

    assert isinstance(raised.value, TypeError)
    assert signals == {}


# Declaring an existing signal.


def test_an_existing_signal_is_declared() -> None:
    """Declaring a signal that exists by name keeps the object and its receivers, and checks both from then on."""
    signals = Namespace()
    signal: NamedSignal[Any, ..., Any] = signals.signal("lamp-lit")
    got: list[Any] = []

    @signal.connect
    def receiver(sender: Any, **payload: Any) -> None:
        got.append(payload)

    signal.send(a=1)

    assert signals.declare(lamp_lit) is signal
    signal.send(colour="red")

    with pytest.raises(PayloadError, match="'a'"):
        signal.send(a=1)

    assert got == [{"a": 1}, {"colour": "red", "seconds": 1, "unit": "s"}]


def test_a_connected_receiver_that_does_not_fit_refuses_the_declaration() -> None:
    """If a connected receiver cannot take the payload, the declaration is refused, and the signal stays as it was."""
    signals = Namespace()
    signal = signals.signal("lamp-lit", "From before.")
    log: list[Any] = []

    def narrow(sender: Any, a: int) -> None:
        log.append(a)

    signal.connect(narrow, "x")

    with pytest.raises(InvalidReceiverError, match="narrow"):
        signals.declare(errors="collect")(lamp_lit)

    assert signal.contract is None
    assert signal.__doc__ == "From before."
    assert signal.errors == "propagate"
    signal.send("x", a=1)
    assert log == [1]


def test_a_receiver_that_is_removed_meanwhile_is_no_obstacle() -> None:
    """A receiver that is disconnected or collected while the signal is being declared does not make the declaration
    fail."""
    signals = Namespace()
    signal = signals.signal("lamp-lit")

    class Reads:
        """A receiver that runs code when its parameters are read."""

        @property
        def __signature__(self) -> inspect.Signature:
            signal.disconnect(narrow)
            return inspect.signature(lambda sender, **payload: None)

        def __call__(self, sender: Any, **payload: Any) -> None: ...

    def narrow(sender: Any, a: int) -> None: ...

    reads = Reads()
    signal.connect(reads)
    signal.connect(narrow)
    declared = signals.declare(lamp_lit)

    assert declared.contract == lamp_lit


def test_another_function_cannot_declare_it_again() -> None:
    """A signal has one declaration: another function with the same name is refused, and the first one stays."""
    signals = Namespace()
    signal = signals.declare(lamp_lit)
    other = local("def f(sender, /, *, other): ...")
    other.__name__ = "lamp_lit"

    with pytest.raises(ContractError, match=r"cannot declare .*'lamp-lit'.*: .*lamp_lit.* declares it"):
        signals.declare(other)

    assert signal.contract == lamp_lit


def test_names_that_differ_by_hyphens_only_are_one() -> None:
    """For declare, lamp_lit and lamp-lit are one name; a signal with the name lamp_lit may still be made."""
    signals = Namespace()
    undeclared = signals.signal("lamp_lit")

    assert signals.declare(lamp_lit) is not undeclared  # type: ignore[comparison-overlap, unused-ignore]
    assert undeclared.contract is None


def test_the_same_function_may_declare_it_again() -> None:
    """A module that is run again, for example by a reload, declares its signals again, and the newer declaration
    counts."""
    signals = Namespace()
    source = "def f(sender, /, *, a{}): ..."
    first, second = local(source.format("")), local(source.format(", b=2"))
    first.__module__ = second.__module__ = "shop"
    signal = signals.declare(first)

    assert signals.declare(second) is signal
    assert signal.contract is second
    got: list[Any] = []
    signal.connect(lambda _, /, **payload: got.append(payload), weak=False)
    signal.send(None, a=1)
    assert got == [{"a": 1, "b": 2}]


def test_namespaces_do_not_share_declarations() -> None:
    """The same name in two namespaces means two signals, each with its own declaration or without one."""
    one, two = Namespace(), Namespace()
    one.declare(lamp_lit)

    assert two.signal("lamp-lit").contract is None
    two.signal("lamp-lit").send(whatever=1)


def test_a_policy_sees_no_payload_errors() -> None:
    """A failing receiver of a declared signal is handled by the policy; a wrong payload is not."""
    failures: list[Failure] = []
    stage = Stage(lamp_lit, errors=failures.append)

    @stage.signal.connect
    def fails(sender: Any, **payload: Any) -> None:
        raise LookupError

    stage.signal.send(colour="red")

    with pytest.raises(PayloadError):
        stage.signal.send()

    assert len(failures) == 1
    assert len(stage.got) == 1


def test_subclasses_with_their_own_receivers_are_checked() -> None:
    """A declared signal of a subclass that overrides receivers_for checks and completes payloads too."""

    class Own(NamedSignal[Any, ..., Any]):
        def receivers_for(self, sender: Any) -> Any:
            return iter([receiver])

    got: list[Any] = []

    def receiver(_: Any, /, **payload: Any) -> None:
        got.append(payload)

    signals = Namespace()
    signals["lamp-lit"] = Own("lamp-lit")
    signal: Signal[Any, ..., Any] = signals.declare(lamp_lit)
    signal.send(colour="red")

    with pytest.raises(PayloadError):
        signal.send()

    assert got == [{"colour": "red", "seconds": 1, "unit": "s"}]


# Versions.


def contract_of(signal: Signal[Any, ..., Any]) -> Any:
    return signal._registry.contract


def upgrade(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


def test_a_declaration_has_version_1_by_default() -> None:
    """A declaration has version 1 and no upgraders by default; each form of declare accepts both options."""
    plain: Any = Namespace().declare(lamp_lit)
    decorated: Any = Namespace().declare(version=3, upgraders={1: upgrade, 2: upgrade}, errors="collect")(lamp_lit)
    called: Any = Namespace().declare(lamp_lit, version=2)  # type: ignore[call-overload]

    assert (contract_of(plain).version, contract_of(plain).upgraders) == (1, {})
    assert (contract_of(decorated).version, contract_of(decorated).upgraders) == (3, {1: upgrade, 2: upgrade})
    assert (contract_of(called).version, contract_of(called).upgraders) == (2, {})
    assert decorated.errors == "collect"


@pytest.mark.parametrize(
    "upgraders", [None, {}, {2: upgrade}, {1: upgrade, 2: upgrade}, {2: dict, 1: upgrade}], ids=str
)
def test_upgraders_lead_up_to_the_version(upgraders: Any) -> None:
    """Upgraders may begin at any version, because older payloads may no longer exist, and come in any order."""
    signal: Any = Namespace().declare(version=3, upgraders=upgraders)(lamp_lit)

    assert contract_of(signal).upgraders == (upgraders or {})


def test_the_declaration_copies_its_upgraders() -> None:
    """Changing the dict of upgraders later does not change the declaration."""
    upgraders = {1: upgrade}
    signal: Any = Namespace().declare(version=2, upgraders=upgraders)(lamp_lit)
    upgraders.clear()

    assert contract_of(signal).upgraders == {1: upgrade}


@pytest.mark.parametrize("version", [0, -1, 1.0, True, "2", None], ids=repr)
def test_an_invalid_version_is_refused(version: Any) -> None:
    """E12: A version is a whole number from 1 on."""
    signals = Namespace()

    with pytest.raises(ContractError, match=r"lamp_lit .*version must be 1 or more, an int, not"):
        signals.declare(version=version)(lamp_lit)

    assert signals == {}


async def upgrade_later(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


LEAD_NOWHERE: dict[str, tuple[int, Any, str]] = {
    "a gap": (4, {1: upgrade, 3: upgrade}, "must lead from one version to the next, up to 4"),
    "not up to the version": (3, {1: upgrade}, "oldest that may still be stored to 2"),
    "of the version itself": (2, {1: upgrade, 2: upgrade}, "up to 2"),
    "newer than the version": (2, {2: upgrade}, "up to 2"),
    "of a first version": (1, {1: upgrade}, "up to 1"),
    "before the first": (2, {0: upgrade, 1: upgrade}, "up to 2"),
    "by no number": (2, {"1": upgrade}, "by number"),
    "by several kinds": (3, {"1": upgrade, 2: upgrade}, "by number"),
    "by a fraction": (2, {1.0: upgrade}, "by number"),
    "by a truth": (2, {True: upgrade}, "by number"),
    "no function": (2, {1: "upgrade"}, "upgrader must be a function"),
    "nothing": (2, {1: None}, "upgrader must be a function"),
    "async": (2, {1: upgrade_later}, "upgrader must be a function"),
    "a list": (2, [upgrade], "in a dict"),
    "one function": (2, upgrade, "in a dict"),
    "an empty list": (2, [], "in a dict"),
}


@pytest.mark.parametrize(("version", "upgraders", "message"), LEAD_NOWHERE.values(), ids=LEAD_NOWHERE.keys())
def test_upgraders_that_do_not_reach_the_version_are_refused(version: int, upgraders: Any, message: str) -> None:
    """E12: Upgraders that cannot make the declared payload are refused with a message that says what to pass, and no
    signal is made."""
    signals = Namespace()

    with pytest.raises(ContractError, match=rf"lamp_lit .*{message}"):
        signals.declare(version=version, upgraders=upgraders)(lamp_lit)

    assert signals == {}


def test_the_same_function_may_declare_another_version() -> None:
    """A module that is run again with another version declares that version."""
    signals = Namespace()
    first, second = local("def f(sender, /, *, a): ..."), local("def f(sender, /, *, b): ...")
    first.__module__ = second.__module__ = "shop"
    signal: Any = signals.declare(first)
    signals.declare(version=2, upgraders={1: upgrade})(second)

    assert contract_of(signal).version == 2
    assert contract_of(signal).order == ["b"]


def test_versions_do_not_change_sends() -> None:
    """Upgraders are for stored payloads: a send never calls them."""

    def refuse(payload: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("called")

    got: list[Any] = []
    signal: Any = Namespace().declare(version=2, upgraders={1: refuse})(lamp_lit)
    signal.connect(lambda _, /, **payload: got.append(payload), weak=False)
    signal.send(None, colour="red")

    assert got == [{"colour": "red", "seconds": 1, "unit": "s"}]
