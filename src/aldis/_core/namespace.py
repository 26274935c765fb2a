"""Named signals, declared signals, and the namespaces that keep them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, overload

from aldis.exceptions import ContractError

from .callables import describe
from .contract import Contract
from .options import check_errors, check_wrappers
from .registry import registry_of
from .signal import Signal
from .types import P, R, S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .contract import Upgrader
    from .types import AsyncPolicy, ErrorPolicy, Undeclared, Wrapper


class NamedSignal(Signal[S, P, R]):
    """A signal with a name.

    :param name: the name, by which a :class:`Namespace` keeps it.
    :param doc: the signal's ``__doc__``.
    :param errors: as for :class:`Signal`. The same is true of the parameters after this one.

    .. versionadded:: 0.1
    """

    name: str
    """The signal's name."""

    @overload
    def __init__(
        self: NamedSignal[Any, ..., Undeclared],
        name: str,
        doc: str | None = None,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
    ) -> None:
        self.name = name
        super().__init__(
            doc, errors=errors, async_wrapper=async_wrapper, sync_wrapper=sync_wrapper, async_policy=async_policy
        )

    def _set_up(self, errors: ErrorPolicy) -> None:
        super()._set_up(errors)
        self._registry.title = f"the signal {self.name!r}"

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; {self.name!r}>"

    @property
    def contract(self) -> Callable[Concatenate[S, P], R] | None:
        """The function that declares the signal, or ``None``. See :meth:`Namespace.declare`."""
        contract = self._registry.contract
        return None if contract is None else contract.function


def declare_signal(signal: NamedSignal[Any, ..., Any], contract: Contract) -> None:
    """Declare a signal by a contract.

    :raises ContractError: when another function declares it already.
    :raises InvalidReceiverError: when a connected receiver cannot take the payload.
    """
    registry = registry_of(signal)
    before = registry.declare(contract)

    if before is not None and before.place != contract.place:
        raise ContractError(
            f"{describe(contract.function)} cannot declare {signal!r}: {describe(before.function)} declares it."
        )

    try:
        for connection in registry.connections():
            receiver = connection.ref()

            if receiver is not None:
                contract.check_receiver(signal, receiver)
    except BaseException:
        registry.set("contract", before)
        raise

    signal.__doc__ = contract.function.__doc__ or signal.__doc__


class Namespace(dict[str, NamedSignal[Any, ..., Any]]):
    """A mapping of names to signals, with the settings of the signals that it makes.

    :param signals: signals to begin with.
    :param errors: the failure policy of the signals that it makes, see :attr:`Signal.errors`.
    :param async_wrapper: how these signals run async receivers in ``send``, see :attr:`Signal.async_wrapper`.
    :param sync_wrapper: how these signals run sync receivers in ``send_async``, see :attr:`Signal.sync_wrapper`.
    :param async_policy: how ``send_async`` runs receivers, see :attr:`Signal.async_policy`.
    :param more: signals to begin with, by name, as ``dict`` takes them.
    :raises InvalidOptionError: when an option has a wrong value.

    .. versionadded:: 0.1
    """

    # A default for subclasses whose __init__ does not call this one: a dict works without that call.
    _settings: Mapping[str, Any] = {}

    def __init__(
        self,
        signals: Mapping[str, NamedSignal[Any, ..., Any]] | Iterable[tuple[str, NamedSignal[Any, ..., Any]]] = (),
        /,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
        **more: NamedSignal[Any, ..., Any],
    ) -> None:
        for name, value in more.items():
            if not isinstance(value, Signal):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"Namespace() got an unexpected keyword argument {name!r}, and its value is not a signal."
                )

        super().__init__(signals, **more)
        check_wrappers(async_wrapper, sync_wrapper, async_policy)
        self._settings = {
            "errors": check_errors(errors),
            "async_wrapper": async_wrapper,
            "sync_wrapper": sync_wrapper,
            "async_policy": async_policy,
        }

    def signal(self, name: str, doc: str | None = None) -> NamedSignal[Any, ..., Undeclared]:
        """Return the signal of that name. Make it if it does not exist. All threads get the same signal.

        :param name: the name.
        :param doc: the ``__doc__`` of the signal, if it is made.

        .. versionadded:: 0.1
        """
        if name in self:
            return self[name]

        made: NamedSignal[Any, ..., Undeclared] = NamedSignal(name, doc, **self._settings)
        return self.setdefault(name, made)

    @overload
    def declare(self, function: Callable[Concatenate[S, P], R], /) -> NamedSignal[S, P, R]: ...

    @overload
    def declare(
        self,
        function: None = None,
        /,
        *,
        errors: ErrorPolicy | None = None,
        version: int = 1,
        upgraders: Mapping[int, Upgrader] | None = None,
    ) -> Callable[[Callable[Concatenate[S, P], R]], NamedSignal[S, P, R]]: ...

    def declare(self, function: Any = None, /, *, errors: Any = None, version: int = 1, upgraders: Any = None) -> Any:
        """Declare a signal by a function: its name, its documentation, its payload and the types.

        ::

            @signals.declare
            def user_registered(sender: Flask, /, *, user_id: int, plan: str = "free") -> None:
                \"\"\"Sent after a user row is written.\"\"\"

        The function is never called. The signal's name is the name of the function, with hyphens. Type checkers
        check every ``send`` and every receiver against the function. ``send`` fills in the defaults, and raises
        before any receiver runs if keywords are missing or unknown. ``connect`` refuses receivers that could not
        be called. The result type ``R`` is the type of the receivers' results.

        :param function: takes the sender, then keyword-only parameters. If it has ``**extra``, sends may have
            further keywords, and receivers must take them.
        :param errors: the signal's failure policy, if it differs from the namespace's.
        :param version: the version of the payload. Raise it when you change the payload so that older payloads do not
            fit. Only durable receivers use it, because their payloads are stored; see :mod:`aldis.relay`.
        :param upgraders: by version, functions that turn a stored payload into the payload of the next version. Each
            takes a dict of plain JSON values, and returns one.
        :return: the signal. If the namespace has a signal of that name already, that signal is declared.
        :raises ContractError: when the function cannot declare a signal, or another function declares it.
        :raises InvalidReceiverError: when a connected receiver cannot take the payload.

        .. versionadded:: 0.1
        """
        if errors is not None:
            check_errors(errors)

        declare = partial(self._declare, errors=errors, version=version, upgraders=upgraders)
        return declare if function is None else declare(function)

    def _declare(
        self, function: Callable[..., Any], *, errors: Any, version: int, upgraders: Any
    ) -> NamedSignal[Any, ..., Any]:
        contract = Contract(function, version=version, upgraders=upgraders)
        signal: NamedSignal[Any, ..., Any] = self.signal(function.__name__.replace("_", "-"))
        declare_signal(signal, contract)

        if errors is not None:
            signal.errors = errors

        return signal


default_namespace: Final[Namespace] = Namespace()
"""The namespace of :func:`signal`."""


def signal(name: str, doc: str | None = None) -> NamedSignal[Any, ..., Undeclared]:
    """Return the signal of that name in :data:`default_namespace`. Make it if it does not exist.

    :param name: the name.
    :param doc: the ``__doc__`` of the signal, if it is made.

    .. versionadded:: 0.1
    """
    return default_namespace.signal(name, doc)
