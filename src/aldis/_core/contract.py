"""The contract of a declared signal: read once from the declaring function, it checks receivers and payloads.

The first declaration imports ``inspect``; ``import aldis`` does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import ContractError, InvalidReceiverError, PayloadError

from .callables import describe, is_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from inspect import Signature
    from typing import TypeAlias

    Upgrader: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

_RESERVED: Final = frozenset({"_async_wrapper", "_sync_wrapper"})


@final
class Contract:
    """The payload of a declared signal.

    :ivar function: the function that declares it.
    :ivar names: all keywords that receivers get.
    :ivar order: the same keywords in the order of the declaration. Most sends use this order, and comparing lists is
        much cheaper than comparing sets.
    :ivar defaults: the defaults that ``send`` fills in.
    :ivar is_open: whether sends may have further keywords (``**extra`` in the declaration).
    :ivar version: the version of the payload, for code that stores payloads.
    :ivar upgraders: by version, the functions that turn a stored payload into the next version.
    :ivar is_foreign: whether a framework sends the signal. Its further keywords go to receivers unchanged.
    """

    __slots__ = (
        "__weakref__",
        "defaults",
        "function",
        "is_foreign",
        "is_open",
        "names",
        "order",
        "upgraders",
        "version",
    )

    defaults: dict[str, Any]
    function: Callable[..., Any]
    is_foreign: bool
    is_open: bool
    names: frozenset[str]
    order: list[str]
    upgraders: dict[int, Upgrader]
    version: int

    def __init__(
        self,
        function: Any,
        *,
        is_foreign: bool = False,
        version: int = 1,
        upgraders: Mapping[int, Upgrader] | None = None,
    ) -> None:
        if not callable(function) or not hasattr(function, "__name__"):
            raise ContractError(
                f"declare() takes a function whose parameters are the payload, not {function!r}."
                " Write: @signals.declare above def name(sender, /, *, keyword: type) -> None."
            )

        if is_async(function):
            raise ContractError(
                f"{describe(function)} declares a signal, so it is never called: write it with def, not async def."
                " Receivers may still be async."
            )

        self.function = function
        self.is_foreign = is_foreign
        self.version = _checked_version(version, function)
        self.upgraders = _checked_upgraders({} if upgraders is None else upgraders, version, function)

        try:
            signature = _signature(function)
        except (TypeError, ValueError):
            raise ContractError(f"{describe(function)} has no signature to read the payload from.") from None

        self._read(signature)

        if not function.__name__.isidentifier():
            raise ContractError(f"{describe(function)} declares a signal by its name, so it must have one: use def.")

    def _read(self, signature: Signature) -> None:
        where = describe(self.function)
        sender, *payload = signature.parameters.values() or (None,)

        if sender is None or sender.kind not in (sender.POSITIONAL_ONLY, sender.POSITIONAL_OR_KEYWORD):
            raise ContractError(f"{where} must take the sender first: def name(sender, /, *, ...).")

        self.is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in payload)
        named = [parameter for parameter in payload if parameter.kind is not parameter.VAR_KEYWORD]
        positional = [parameter.name for parameter in named if parameter.kind is not parameter.KEYWORD_ONLY]

        if positional:
            raise ContractError(
                f"{where}: the payload is sent by keyword, so put a * before {_listed(positional)}:"
                " def name(sender, /, *, ...)."
            )

        self.order = [parameter.name for parameter in named]
        self.names = frozenset(self.order)
        self.defaults = {p.name: p.default for p in named if p.default is not p.empty}
        reserved = self.names & _RESERVED

        if reserved:
            raise ContractError(f"{where}: send() keeps {_listed(reserved)} for itself. Rename it.")

    @property
    def place(self) -> tuple[object, object]:
        """The place of the declaring function. A reloaded module declares its signals again, from the same place."""
        return getattr(self.function, "__module__", None), getattr(self.function, "__qualname__", None)

    def complete(self, signal: object, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the payload with the defaults filled in.

        :raises PayloadError: when keywords are missing or unknown.
        """
        if self.is_foreign:
            # Quart 0.23 passes the wrapper of send to send_async. It must not reach the receivers as payload.
            payload = {name: value for name, value in payload.items() if name not in _RESERVED}

        if payload.keys() == self.names:
            return payload

        whole = {**self.defaults, **payload}

        takes_more = self.is_open or self.is_foreign

        if whole.keys() == self.names or (takes_more and whole.keys() >= self.names):
            return whole

        missing = self.names - whole.keys()
        unknown = () if takes_more else whole.keys() - self.names
        faults = _faults(("is missing", missing), ("does not declare", unknown))
        raise PayloadError(f"The send to {signal!r} {faults}. It is declared by {describe(self.function)}.")

    def check_receiver(self, signal: object, receiver: Callable[..., Any]) -> None:
        """Raise if a receiver could not be called with the payload.

        Built-ins without a signature pass.

        :raises InvalidReceiverError: names the parameters that do not fit.
        """
        try:
            signature = _signature(receiver)
        except (TypeError, ValueError):
            return

        payload: dict[str, Any] = dict.fromkeys(self.names)

        if self.is_open:
            payload["_any_further_keyword"] = None

        try:
            signature.bind(None, **payload)
        except TypeError as error:
            raise InvalidReceiverError(
                f"{describe(receiver)} cannot receive {signal!r}: it {self._misfits(signature) or error}."
                f" The signal is declared by {describe(self.function)}."
            ) from None

    def _misfits(self, signature: Signature) -> str:
        parameters = list(signature.parameters.values())
        keywords = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        first = next((p for p in parameters if p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD), None)
        by_keyword = first.name if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD else None

        surplus = () if takes_any else self.names - keywords
        unknown = [p.name for p in required if p is not first and p.name not in self.names]
        misfits = _faults(("cannot take", surplus), ("requires parameters that the signal does not send:", unknown))

        messages = (
            (first is None, "must take the sender as its first positional parameter"),
            (
                by_keyword in self.names,
                f"takes the sender as {by_keyword!r}, which is also in the payload (put a / after the sender)",
            ),
            (bool(surplus), f"{misfits} (add **extra to ignore what it does not use)"),
            (bool(misfits), misfits),
            (
                self.is_open and not takes_any,
                "must take **extra, because the signal is declared with further keywords",
            ),
        )
        return next((message for is_reason, message in messages if is_reason), "")


def _checked_version(version: Any, function: Any) -> int:
    if type(version) is not int or version < 1:
        raise ContractError(f"{describe(function)}: version must be 1 or more, an int, not {version!r}.")

    return version


def _checked_upgraders(upgraders: Any, version: int, function: Any) -> dict[int, Upgrader]:
    """Return the upgraders. Raise if they do not lead from one version to the next, up to the declared one."""
    where = describe(function)

    if not isinstance(upgraders, Mapping):
        raise ContractError(f"{where}: upgraders must be in a dict, by the number of the version that each upgrades.")

    checked: dict[Any, Any] = dict(upgraders)  # pyright: ignore[reportUnknownArgumentType]

    if any(not callable(upgrader) or is_async(upgrader) for upgrader in checked.values()):
        raise ContractError(
            f"{where}: each upgrader must be a function that takes a payload as a dict and returns one."
        )

    first = version - len(checked)

    if first < 1 or any(type(number) is not int or not first <= number < version for number in checked):
        raise ContractError(
            f"{where}: upgraders must lead from one version to the next, up to {version}. Pass one for each version"
            f" from the oldest that may still be stored to {version - 1}, by number."
        )

    return checked


def _signature(function: Callable[..., Any]) -> Signature:
    import inspect

    return inspect.signature(function)


def _faults(*faults: tuple[str, Iterable[str]]) -> str:
    return " and ".join(f"{what} {_listed(names)}" for what, names in faults if names)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
