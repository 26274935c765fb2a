"""The contestants of a send: the setup of each one for a case, and the statement that is measured.

A contestant is a function that takes a case and returns a slice, or ``None`` if its library has no such feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.harness.timing import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness.timing import Slice

    Receiver = Callable[..., Any]


class Sender:
    """A sender that is matched by identity."""


class Listener:
    """The object of a receiver that is a method."""


@dataclass
class Case:
    """One case: the send that is measured.

    :ivar count: the number of receivers that the send calls. If it is 0 and ``by`` is a sender, one receiver is
        connected to another sender.
    :ivar by: any sender, or one sender: an object, which matches by identity, or a string.
    :ivar keys: the number of keywords in the payload.
    :ivar kind: the kind of receivers: ``function(sender, **payload)``, a function that names its keywords, or a bound
        method ``method(sender, **payload)``.
    """

    count: int
    by: Literal["any", "object", "str"] = "any"
    keys: int = 1
    kind: Literal["function", "named", "method"] = "function"

    def __post_init__(self) -> None:
        self.sender: Any = "orders" if self.by == "str" else Sender()
        self.other: Any = "customers" if self.by == "str" else Sender()
        self.names = "abcdefgh"[: self.keys]
        self.keywords = "".join(f", {name}=1" for name in self.names)
        self.named = ", ".join(("sender", *self.names))
        self.kept: list[Receiver] = []  # Most libraries hold receivers weakly.

    def receivers(self, parameters: str = "") -> list[Receiver]:
        """Return the receivers of the send.

        :param parameters: the receivers' parameters, for libraries that call receivers in their own way.
        """
        return [self._receiver(parameters) for _ in range(self.count)]

    def connections(self) -> list[tuple[Receiver, Any]]:
        """Return the receivers with their senders, ``None`` for any sender."""
        if self.by == "any":
            return [(receiver, None) for receiver in self.receivers()]

        return [(receiver, self.sender) for receiver in self.receivers()] or [(self._receiver(), self.other)]

    def send(self, code: str, signal: object) -> Slice:
        """Return the slice for a send, from its code."""
        return statement(code, signal=signal, sender=self.sender, case=self)

    def _receiver(self, parameters: str = "") -> Receiver:
        parameters = parameters or (self.named if self.kind == "named" else "sender, **payload")
        receiver: Receiver

        # Each receiver has its own code object, as real receivers have.
        if self.kind == "method":
            receiver = MethodType(eval(f"lambda self, {parameters}: None"), Listener())
        else:
            receiver = eval(f"lambda {parameters}: None")

        self.kept.append(receiver)
        return receiver


class Loop:
    """The loop that one would write by hand."""

    def __init__(self, receivers: list[Receiver]) -> None:
        self.receivers = receivers

    def send(self, sender: Any, **payload: Any) -> list[tuple[Receiver, Any]]:
        results = []

        for receiver in self.receivers:
            results.append((receiver, receiver(sender, **payload)))  # noqa: PERF401  # As it would be written.

        return results


class LoopBySender:
    """The same loop with a sender filter."""

    def __init__(self, receivers: list[tuple[Receiver, Any]]) -> None:
        self.receivers = receivers

    def send(self, sender: Any, **payload: Any) -> list[tuple[Receiver, Any]]:
        results = []

        for receiver, wanted in self.receivers:
            if wanted is None or wanted is sender:
                results.append((receiver, receiver(sender, **payload)))

        return results


class LoopByString:
    """The same loop for senders that match by equality instead of identity."""

    def __init__(self, receivers: list[tuple[Receiver, Any]]) -> None:
        self.receivers = receivers

    def send(self, sender: Any, **payload: Any) -> list[tuple[Receiver, Any]]:
        results = []

        for receiver, wanted in self.receivers:
            if wanted is None or wanted == sender:
                results.append((receiver, receiver(sender, **payload)))

        return results


def by_hand(case: Case) -> Slice:
    if case.by == "any":
        return case.send(f"signal.send(sender{case.keywords})", Loop(case.receivers()))

    loop = LoopBySender if case.by == "object" else LoopByString
    return case.send(f"signal.send(sender{case.keywords})", loop(case.connections()))


def aldis(case: Case) -> Slice:
    from aldis import Signal

    signal: Any = Signal()

    for receiver, wanted in case.connections():
        signal.connect(receiver, signal.ANY if wanted is None else wanted)

    return case.send(f"signal.send(sender{case.keywords})", signal)


def blinker(case: Case) -> Slice:
    from blinker import Signal

    signal = Signal()

    for receiver, wanted in case.connections():
        signal.connect(receiver, signal.ANY if wanted is None else wanted)

    return case.send(f"signal.send(sender{case.keywords})", signal)


def psygnal(case: Case) -> Slice:
    from psygnal import SignalInstance

    # It has no senders and no keywords, so: an emitter for each sender, and values by position.
    signal = SignalInstance((object,) * (1 + case.keys))

    for receiver in case.receivers(case.named):
        signal.connect(receiver)

    return case.send(f"signal.emit(sender{', 1' * case.keys})", signal)


def django(case: Case, *, use_caching: bool = False) -> Slice | None:
    from django.dispatch import Signal  # type: ignore[import-untyped]

    # Its receivers must accept **kwargs, and its cache refers to senders weakly, which strings do not allow.
    if case.kind == "named" or (use_caching and case.by == "str"):
        return None

    signal = Signal(use_caching)

    for receiver, wanted in case.connections():
        signal.connect(receiver, wanted)

    return case.send(f"signal.send(sender{case.keywords})", signal)


def django_cached(case: Case) -> Slice | None:
    return django(case, use_caching=True)


def pluggy(case: Case) -> Slice:
    from pluggy import HookimplMarker, HookspecMarker, PluginManager

    # It has no senders, so: a manager for each. Its receivers name the keywords that they take.
    manager = PluginManager("benchmark")
    manager.add_hookspecs(_plugin(HookspecMarker("benchmark")(eval(f"lambda {case.named}: None"))))
    mark = HookimplMarker("benchmark")

    for receiver in case.receivers(case.named):
        mark(getattr(receiver, "__func__", receiver))
        manager.register(_plugin(receiver))

    return case.send(f"signal.saved(sender=sender{case.keywords})", manager.hook)


def _plugin(function: Receiver) -> Any:
    plugin: Any = Listener()
    plugin.saved = function
    return plugin


def pyee(case: Case) -> Slice:
    from pyee import EventEmitter

    # It has no senders, so: an event for each. It holds receivers strongly.
    signal = EventEmitter()

    for receiver in case.receivers():
        signal.on("saved", receiver)

    return case.send(f"signal.emit('saved', sender{case.keywords})", signal)


CONTESTANTS: dict[str, Callable[[Case], Slice | None]] = {
    "by hand": by_hand,
    "Aldis": aldis,
    "Blinker": blinker,
    "psygnal": psygnal,
    "Django": django,
    "Django, cached": django_cached,
    "pluggy": pluggy,
    "pyee": pyee,
}


def slices(case: Case, names: list[str] | None = None) -> dict[str, Slice]:
    """Return a slice for each contestant that is installed and supports the case."""
    found = {}

    for name in names or CONTESTANTS:
        try:
            run = CONTESTANTS[name](case)
        except ModuleNotFoundError:
            continue

        if run is not None:
            found[name] = run

    return found
