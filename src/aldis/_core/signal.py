"""The public methods of a signal. Other modules of this package do the work."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, Generic, overload

from aldis.exceptions import InvalidOptionError

from . import dispatch
from .identity import ANY, resolve, resolve_bound
from .options import check_callable, check_errors, check_options, check_wrappers
from .receivers_view import Receivers
from .registry import ConnectionRegistry
from .scopes import ConnectChange, ConnectScope, MuteScope, is_muted_here
from .types import P, R, S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from .contract import Contract
    from .delivery import Delivery
    from .types import AsyncPolicy, Connector, ErrorPolicy, F, Undeclared, Wrapper

_MISSING: Any = object()


class Signal(Generic[S, P, R]):
    """Calls its receivers when it is sent.

    ``Signal[S, P, R]`` is generic over the type of its senders, the parameters of its payload and the result of
    its receivers; :meth:`Namespace.declare` takes all three from a function. Without a declaration, any sender
    and any payload are allowed, as in Blinker.

    Every method may be called from any thread and any task, also from receivers and from destructors.

    :param doc: the signal's ``__doc__``.
    :param errors: the failure policy, see :attr:`errors`.
    :param async_wrapper: see :attr:`async_wrapper`.
    :param sync_wrapper: see :attr:`sync_wrapper`.
    :param async_policy: see :attr:`async_policy`.
    :raises InvalidOptionError: when an option has a wrong value.

    .. versionadded:: 0.1
    """

    ANY: ClassVar[Any] = ANY
    """Any sender."""

    set_class: ClassVar[type[Any]] = set
    """Chooses the order of receivers in Blinker. Accepted here, and not used: the order is fixed."""

    async_wrapper: Wrapper | None
    """How ``send`` runs async receivers: called with the receiver, returns a sync callable.
    :func:`aldis.aio.async_to_sync` is one, Flask's ``app.ensure_sync`` another. May be set at any time."""

    sync_wrapper: Wrapper | None
    """How ``send_async`` runs sync receivers: called with the receiver, returns an async callable.
    :func:`aldis.aio.sync_to_async` is one, Quart's ``app.ensure_async`` another. May be set at any time."""

    async_policy: AsyncPolicy | None
    """How ``send_async`` runs receivers if not one after the other: for example
    :class:`aldis.aio.Concurrent`. May be set at any time."""

    # An attribute of the class until a signal needs its own: reading __dict__ would slow down every send.
    _change_signals: dict[str, Signal[Any, ..., Undeclared]] | None = None

    _finds_receivers_itself: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._finds_receivers_itself = cls.receivers_for is not Signal.receivers_for

    @overload
    def __init__(
        self: Signal[Any, ..., Undeclared],
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
        doc: str | None = None,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
    ) -> None: ...

    def __init__(
        self,
        doc: str | None = None,
        *,
        errors: ErrorPolicy = "propagate",
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        async_policy: AsyncPolicy | None = None,
    ) -> None:
        if doc:
            self.__doc__ = doc

        check_wrappers(async_wrapper, sync_wrapper, async_policy)
        self.async_wrapper = async_wrapper
        self.sync_wrapper = sync_wrapper
        self.async_policy = async_policy
        self._set_up(check_errors(errors))

    def _set_up(self, errors: ErrorPolicy) -> None:
        self._registry = ConnectionRegistry(errors, self._finds_receivers_itself)
        self._registry.signal_ref = weakref.ref(self)
        self._receivers = Receivers(self._registry)

    # Connecting.

    @overload
    def connect(
        self: Signal[Any, ..., Undeclared],
        receiver: F,
        sender: Any = ...,
        weak: bool = ...,
        *,
        priority: float = ...,
        once: bool = ...,
        via: Delivery | None = ...,
    ) -> F: ...

    @overload
    def connect(
        self,
        receiver: Callable[Concatenate[S, P], R],
        sender: Any = ...,
        weak: bool = ...,
        *,
        priority: float = ...,
        once: bool = ...,
        via: Delivery | None = ...,
    ) -> Callable[Concatenate[S, P], R]: ...

    @overload
    def connect(
        self,
        receiver: Callable[Concatenate[S, P], Awaitable[R]],
        sender: Any = ...,
        weak: bool = ...,
        *,
        priority: float = ...,
        once: bool = ...,
        via: Delivery | None = ...,
    ) -> Callable[Concatenate[S, P], Awaitable[R]]: ...

    @overload
    def connect(
        self,
        *,
        sender: Any = ...,
        weak: bool = ...,
        priority: float = ...,
        once: bool = ...,
        via: Delivery | None = ...,
    ) -> Connector[S, P, R]: ...

    def connect(
        self,
        receiver: Any = _MISSING,
        sender: Any = ANY,
        weak: bool = True,
        *,
        priority: float = 0,
        once: bool = False,
        via: Delivery | None = None,
    ) -> Any:
        """Connect a receiver: each send calls it.

        Use it as a plain call, as a bare decorator, or as a decorator with options::

            saved.connect(audit)

            @saved.connect
            def audit(sender, **payload): ...

            @saved.connect(sender=app, priority=10)
            def audit(sender, **payload): ...

        Receivers are called by priority, then in the order in which they were connected. Connecting the same
        receiver to the same sender again changes the options of that one connection. The connection keeps its
        place among those of its priority, and a connection that holds its receiver strongly stays strong. A
        receiver that is connected both to a sender and to :data:`ANY` is called once by each send, at the first
        of its two places. A send that is under way does not call a receiver that is connected meanwhile.

        :param receiver: called as ``receiver(sender, **payload)``.
        :param sender: call the receiver for this sender only. ``str``, ``int`` and ``bytes`` match by value
            (``0`` and ``False`` are equal), every other sender by identity. A proxy such as ``current_app``
            counts as the object it points to. When the sender is garbage collected, the connection ends. A
            sender that cannot be referenced weakly is kept alive while something is connected to it.
        :param weak: hold the receiver weakly: when it is garbage collected, the connection ends. Set it to
            ``False`` for lambdas, partials and functions inside functions.
        :param priority: higher is called earlier.
        :param once: disconnect before the first call.
        :param via: how the receiver gets called, if not at once: see :mod:`aldis.delivery`.
        :return: the receiver; without a receiver, a decorator that returns the receiver.
        :raises InvalidReceiverError: when it is not callable, cannot be referenced weakly, or cannot take
            the declared payload.
        :raises InvalidOptionError: when an option has a wrong value, or the delivery cannot take the receiver.
        :raises UnboundProxyError: when the sender is a proxy that points to no object here.

        .. versionadded:: 0.1
        """
        if receiver is _MISSING:

            def connector(receiver: Any) -> Any:
                self.connect(receiver, sender, weak, priority=priority, once=once, via=via)
                return receiver

            return connector

        contract = self._check_receiver(receiver)
        options = check_options(self, receiver, priority, once, via)
        found = resolve_bound(sender)
        connection = self._registry.make_connection(receiver, found, options, weak=bool(weak))
        scope = ConnectScope.take(self, receiver, found)
        change = ConnectChange(self._registry, connection, receiver, found, in_scope=scope is not None)
        change.make()

        if scope is not None:
            scope.changes.append(change)

        try:
            if self._registry.contract is not contract:
                self._check_receiver(receiver)  # The signal was declared meanwhile.

            self._announce("receiver_connected", receiver=receiver, sender=sender, weak=weak)
        except BaseException:
            if scope is None:
                change.undo()
            else:
                scope.undo()

            raise

        return receiver

    def connect_via(self, sender: Any, weak: bool = False) -> Connector[S, P, R]:
        """Decorate a receiver to connect it to one sender.

        Unlike :meth:`connect`, this holds the receiver strongly unless ``weak=True``.

        :param sender: as for :meth:`connect`.
        :param weak: as for :meth:`connect`.
        :return: a decorator that returns the receiver.

        .. versionadded:: 0.1
        """

        def connector(receiver: Any) -> Any:
            self.connect(receiver, sender, weak)
            return receiver

        return connector  # type: ignore[return-value]

    @contextmanager
    def connected_to(self, receiver: Callable[..., Any], sender: Any = ANY) -> Generator[None, None, None]:
        """Connect a receiver while a ``with`` block runs, holding it strongly.

        At the end, the block takes away exactly what it added. A receiver stays if it was connected before, if it
        was connected again meanwhile, or if another such block needs it.

        :param receiver: as for :meth:`connect`.
        :param sender: as for :meth:`connect`.

        .. versionadded:: 0.1
        """
        sender = resolve_bound(sender)  # Once: at the end, the proxy may be unbound, or point to another object.
        scope = ConnectScope(self, receiver, sender)

        # Call the public methods, because subclasses may override them. The scope takes their changes.
        with scope:
            self.connect(receiver, sender=sender, weak=False)

        try:
            yield
        finally:
            with scope:
                self.disconnect(receiver, sender)

            scope.undo()

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """Disconnect a receiver: no send calls it any more.

        A send that is under way does not call it either, if its turn has not come. A receiver that is not
        connected is ignored.

        :param receiver: a receiver.
        :param sender: disconnect it from this sender only; by default from all senders.
        :raises UnboundProxyError: when the sender is a proxy that points to no object here.

        .. versionadded:: 0.1
        """
        found = resolve_bound(sender)
        scope = ConnectScope.take(self, receiver, found)

        if scope is None:
            self._registry.remove(receiver, found)
        else:
            scope.undo()

        self._announce("receiver_disconnected", receiver=receiver, sender=sender)

    def _check_receiver(self, receiver: Any) -> Contract | None:
        contract = self._registry.contract
        check_callable(self, receiver)

        if contract is not None:
            contract.check_receiver(self, receiver)

        return contract

    # Sending.

    @overload
    def send(
        self: Signal[Any, ..., Undeclared],
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[tuple[Callable[..., Any], Any]]: ...

    @overload
    def send(self, sender: S, /, *args: P.args, **payload: P.kwargs) -> list[tuple[Callable[..., Any], R]]: ...

    def send(  # type: ignore[misc]  # noqa: PLR0912  # mypy wants *args for P.args; no payload is positional.
        self, sender: Any = None, /, *, _async_wrapper: Wrapper | None = None, **payload: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers that are connected now, in order, in this thread.

        :param sender: the sender.
        :param payload: keyword arguments for the receivers. If the signal is declared, the defaults of its
            declaration are filled in.
        :param _async_wrapper: use this for this send, instead of :attr:`async_wrapper`.
        :return: ``(receiver, result)`` for each receiver that returned, in order.
        :raises PayloadError: when the signal is declared and keywords are missing or unknown.
        :raises AsyncReceiverError: when a receiver is async and there is no wrapper. No receiver ran.
        :raises Exception: what receivers raise, as :attr:`errors` says.

        .. versionadded:: 0.1
        """
        # This function stays whole, with its most common cases apart, because it is the hot path: a call to another
        # function, and even a loop for the one receiver that most signals have, would cost a tenth of a send.
        registry = self._registry
        connections = registry.plain

        if connections is None:
            contract = registry.contract

            if contract is not None and [*payload] != contract.order:
                payload = contract.complete(self, payload)

            connections = registry.others

            if registry.filters:
                found = registry.by_sender.get(sender if type(sender) is str else id(sender))
                connections = connections if found is None and registry.is_other(sender) else found

            if connections is None:
                return dispatch.send(self, sender, _async_wrapper, payload)

        if not connections:
            return []

        if sender.__class__ is not type(sender):
            sender = resolve(sender)

        if len(connections) == 1:
            receiver = connections[0].ref()

            if receiver is None:
                return []

            return [(receiver, receiver(sender, **payload) if payload else receiver(sender))]

        results: list[tuple[Callable[..., Any], Any]] = []

        if not payload:
            for connection in connections:
                ref = connection.ref
                receiver = ref()

                if receiver is not None:
                    results.append((receiver, receiver(sender)))

            return results

        arguments = (sender,)

        for connection in connections:
            ref = connection.ref
            receiver = ref()

            if receiver is not None:
                results.append((receiver, receiver(*arguments, **payload)))

        return results

    @overload
    async def send_async(
        self: Signal[Any, ..., Undeclared],
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[tuple[Callable[..., Any], Any]]: ...

    @overload
    async def send_async(
        self, sender: S, /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    async def send_async(  # type: ignore[misc]  # As for send().
        self, sender: Any = None, /, *, _sync_wrapper: Wrapper | None = None, **payload: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """Await the receivers that are connected now, one after the other, in order, in this task.

        An :attr:`async_policy` may run them in another way.

        :param sender: the sender.
        :param payload: as for :meth:`send`.
        :param _sync_wrapper: use this for this send, instead of :attr:`sync_wrapper`.
        :return: ``(receiver, result)`` for each receiver that returned, in order.
        :raises PayloadError: as :meth:`send`.
        :raises AsyncReceiverError: when a receiver is sync and there is no wrapper. No receiver ran.
        :raises Exception: what receivers raise, as :attr:`errors` says.

        .. versionadded:: 0.1
        """
        if self._registry.plain == ():
            return []  # Without receivers, skip the cost of a second coroutine.

        return await dispatch.send_async(self, sender, _sync_wrapper, payload)

    @property
    def errors(self) -> ErrorPolicy:
        """What happens when a receiver raises an :class:`Exception`. May be set at any time.

        ``"propagate"``
            The first exception stops the send and is raised by it.
        ``"collect"``
            All receivers run. Then one exception is raised unchanged, several as an ``ExceptionGroup``.
        ``"log"``
            All receivers run. Each failure is logged with its exception by the logger ``aldis``, and ``send``
            returns the results of the receivers that did not fail. The line names the signal and the
            receiver, and never shows the payload or the sender.
        a callable
            Is called with each :class:`~aldis.Failure`, as it happens, and all receivers run. ``send`` does
            not raise, and returns the results of the receivers that did not fail. If the callable itself
            raises, the other receivers still run, and then ``send`` raises that, as ``"collect"`` does.

        ``KeyboardInterrupt``, ``asyncio.CancelledError`` and everything else that is not an :class:`Exception`
        stops the send under every policy.

        :raises InvalidOptionError: when set to anything else.
        """
        policy: ErrorPolicy = self._registry.errors
        return policy

    @errors.setter
    def errors(self, policy: ErrorPolicy) -> None:
        self._registry.set("errors", check_errors(policy))

    # Muting.

    @contextmanager
    def muted(self, *receivers: Callable[..., Any]) -> Generator[None, None, None]:
        """Call no receivers while a ``with`` block runs. Also a decorator, for functions that are not async.

        The block mutes the current thread or task, and until it ends also the tasks started in it. Blocks nest.

        :param receivers: mute only these receivers.
        :raises InvalidReceiverError: when one of them is not callable.

        .. versionadded:: 0.1
        """
        for receiver in receivers:
            check_callable(self, receiver)

        scope = MuteScope(self._registry, receivers)
        scope.open()

        try:
            yield
        finally:
            scope.close()

    @property
    def is_muted(self) -> bool:
        """Whether a send from here would call no receivers.

        Set it to mute the signal in all threads and tasks; prefer :meth:`muted`.
        """
        return is_muted_here(self._registry)

    @is_muted.setter
    def is_muted(self, value: bool) -> None:
        self._registry.set("is_muted", bool(value))

    # Looking.

    @property
    def receivers(self) -> Receivers:
        """The connected receivers, as a mapping that is true when a receiver is connected.

        Test it before you compute a costly payload: ``if saved.receivers: ...``. Do not rely on its keys. Its
        values are receivers or weak references to them. ``clear()`` disconnects all.
        """
        return self._receivers

    @receivers.setter
    def receivers(self, receivers: object) -> None:
        if receivers:
            raise InvalidOptionError("receivers can only be set to something empty, which disconnects all.")

        self._registry.clear()

    def has_receivers_for(self, sender: Any) -> bool:
        """Return whether a send by ``sender`` would call a receiver.

        :param sender: a sender; with :data:`ANY`, only receivers connected to any sender count.

        .. versionadded:: 0.1
        """
        return any(True for _ in self.receivers_for(sender))

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
        """Iterate over the living receivers of a send by ``sender``, in order.

        A subclass may override this: ``send`` then calls the receivers that it returns.

        :param sender: a sender; with :data:`ANY`, only receivers connected to any sender are returned.
        :return: an iterator over the receivers that are connected now.

        .. versionadded:: 0.1
        """
        seen: set[object] = set()

        for connection in self._registry.snapshot(resolve(sender)).connections:
            receiver = connection.ref()

            if receiver is not None and connection.key not in seen:
                seen.add(connection.key)
                yield receiver

    @property
    def receiver_connected(self) -> Signal[Any, ..., Undeclared]:
        """Sent at the end of each :meth:`connect`, with this signal as sender and ``receiver``, ``sender``
        and ``weak`` as they were given. If one of its receivers raises, the connection is undone.
        """
        return self._change_signal("receiver_connected")

    @property
    def receiver_disconnected(self) -> Signal[Any, ..., Undeclared]:
        """Sent at the end of each :meth:`disconnect`, with this signal as sender and ``receiver`` and
        ``sender`` as they were given. Not sent when a receiver or a sender is garbage collected.
        """
        return self._change_signal("receiver_disconnected")

    def _change_signal(self, name: str) -> Signal[Any, ..., Undeclared]:
        if self._change_signals is None:
            self.__dict__.setdefault("_change_signals", {})

        signals = self._change_signals
        assert signals is not None
        return signals.get(name) or signals.setdefault(name, Signal(f"{name} of {self!r}"))

    def _announce(self, name: str, **change: Any) -> None:
        if self._change_signals is not None and name in self._change_signals:
            self._change_signals[name].send(self, **change)

    def _clear_state(self) -> None:
        """Disconnect all. Blinker has this method, and its users call it in tests."""
        self._registry.clear()

    def _cleanup_bookkeeping(self) -> None:
        """Do nothing: Aldis leaves nothing to clean up. Kept for users of Blinker."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings for a copy or a pickle. A copy is a signal of its own, without connections.

        A declared signal can be copied, but not pickled: pickle finds a function by its name, and the name of the
        declaring function means the signal.
        """
        state = {name: value for name, value in self.__dict__.items() if name not in _CONNECTED}
        return {**state, "errors": self.errors, "contract": self._registry.contract}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings = dict(state)
        errors, contract = settings.pop("errors"), settings.pop("contract")
        self.__dict__.update(settings)
        self._set_up(errors)
        self._registry.contract = contract


_CONNECTED: Final = frozenset({"_receivers", "_registry", "_change_signals"})
