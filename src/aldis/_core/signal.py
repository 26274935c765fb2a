"""The public verbs of a signal. What they do is in the modules below."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, Generic, overload

from aldis.exceptions import InvalidOptionError

from . import dispatch
from .identity import ANY, resolve, resolve_bound
from .options import check_callable, check_crossing, check_errors, check_options
from .receivers_view import Receivers
from .registry import ConnectionRegistry
from .scopes import ConnectScope, MuteScope, muted_keys
from .types import P, R, S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from .contract import Contract
    from .delivery import Delivery
    from .types import AsyncPolicy, Connector, ErrorPolicy, F, Undeclared, Wrapper

_MISSING: Any = object()


class Signal(Generic[S, P, R]):
    """Calls receivers when it is sent.

    ``Signal[S, P, R]`` is generic over the type of its senders, the parameters of its payload and what its
    receivers return; :meth:`Namespace.declare` takes all three from a function. Without a declaration,
    any sender and any payload are allowed, as in Blinker.

    Every method may be called from any thread and any task, from receivers and from destructors too.

    :param doc: the signal's ``__doc__``.
    :param errors: the failure policy, see :attr:`errors`.
    :param async_wrapper: see :attr:`async_wrapper`.
    :param sync_wrapper: see :attr:`sync_wrapper`.
    :param async_policy: see :attr:`async_policy`.
    :raises InvalidOptionError: when an option is not of its kind.

    .. versionadded:: 0.1
    """

    ANY: ClassVar[Any] = ANY
    """Stands for any sender."""

    set_class: ClassVar[type[Any]] = set
    """Blinker's way to influence the order of receivers. Accepted and not used: the order is fixed."""

    async_wrapper: Wrapper | None
    """How ``send`` runs async receivers: called with the receiver, returns a sync callable.
    :func:`aldis.aio.async_to_sync` is one, Flask's ``app.ensure_sync`` another. May be set at any time."""

    sync_wrapper: Wrapper | None
    """How ``send_async`` runs sync receivers: called with the receiver, returns an async callable.
    :func:`aldis.aio.sync_to_async` is one, Quart's ``app.ensure_async`` another. May be set at any time."""

    async_policy: AsyncPolicy | None
    """How ``send_async`` runs receivers if not one after the other: for example
    :class:`aldis.aio.Concurrent`. May be set at any time."""

    # An attribute of the class until somebody watches: to ask for __dict__ would slow down every send.
    _watched_changes: dict[str, Signal[Any, ..., Undeclared]] | None = None

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

        check_crossing(async_wrapper, sync_wrapper, async_policy)
        self.async_wrapper = async_wrapper
        self.sync_wrapper = sync_wrapper
        self.async_policy = async_policy
        self._set_up(check_errors(errors))

    def _set_up(self, errors: ErrorPolicy) -> None:
        self._registry = ConnectionRegistry(errors, self._finds_receivers_itself)
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
        """Have ``receiver`` called when the signal is sent.

        A plain call, a bare decorator and a decorator with options are all right::

            saved.connect(audit)

            @saved.connect
            def audit(sender, **payload): ...

            @saved.connect(sender=app, priority=10)
            def audit(sender, **payload): ...

        Receivers are called by priority, then in the order in which they were connected. To connect the
        same receiver to the same sender again changes the options of that one connection: it keeps its
        place among those of its priority, and one that holds its receiver strongly goes on to do so. A
        receiver that is connected to a sender and to :data:`ANY` is called once by each send, in the first
        of its places. A send that is under way does not call what is connected meanwhile.

        :param receiver: called as ``receiver(sender, **payload)``.
        :param sender: call it for this sender only. ``str``, ``int`` and ``bytes`` match by value (``0``
            and ``False`` are equal), everything else by identity; a proxy such as ``current_app`` means
            the object behind it. When the sender is garbage collected, the connection goes. A sender that
            cannot be referenced weakly is kept alive while something is connected to it.
        :param weak: hold the receiver weakly: when it is garbage collected, the connection goes. Set it to
            ``False`` for lambdas, partials and functions inside functions.
        :param priority: higher is called earlier.
        :param once: disconnect before the first call.
        :param via: how the receiver gets called, if not at once: see :mod:`aldis.delivery`.
        :return: the receiver; without one, a decorator that returns the receiver.
        :raises InvalidReceiverError: when it is not callable, cannot be referenced weakly, or cannot take
            the declared payload.
        :raises InvalidOptionError: when an option is not of its kind, or the delivery cannot take the
            receiver.
        :raises UnboundProxyError: when the sender is a proxy that stands for nothing.

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
        block = ConnectScope.take(self, receiver, found)
        addition = self._registry.add(receiver, found, options, weak=bool(weak), hold=block is not None)

        if block is not None:
            block.additions.append(addition)

        try:
            if self._registry.contract is not contract:
                self._check_receiver(receiver)  # The signal was declared meanwhile.

            self._tell("receiver_connected", receiver=receiver, sender=sender, weak=weak)
        except BaseException:
            if block is None:
                addition.undo()
            else:
                block.undo()

            raise

        return receiver

    def connect_via(self, sender: Any, weak: bool = False) -> Connector[S, P, R]:
        """Decorate a receiver to connect it to one sender.

        Unlike :meth:`connect`, this holds the receiver strongly unless it is told otherwise.

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

        At the end, exactly what the block added is taken away: a receiver that was connected before, or is
        connected again in the meantime, or is wanted by another such block, stays.

        :param receiver: as for :meth:`connect`.
        :param sender: as for :meth:`connect`.

        .. versionadded:: 0.1
        """
        sender = resolve_bound(sender)  # Once: at the end, a proxy may stand for nothing, or for another.
        block = ConnectScope(self, receiver, sender)

        # By the public verbs, as subclasses may have their own. The block catches what those come to.
        with block:
            self.connect(receiver, sender=sender, weak=False)

        try:
            yield
        finally:
            with block:
                self.disconnect(receiver, sender)

            block.undo()

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """Have ``receiver`` called no more.

        Also by sends that are under way, if its turn has not come. One that is not connected is ignored.

        :param receiver: a receiver.
        :param sender: for this sender only; by default for all.
        :raises UnboundProxyError: when the sender is a proxy that stands for nothing.

        .. versionadded:: 0.1
        """
        found = resolve_bound(sender)
        block = ConnectScope.take(self, receiver, found)

        if block is None:
            self._registry.remove(receiver, found)
        else:
            block.undo()

        self._tell("receiver_disconnected", receiver=receiver, sender=sender)

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

        :param sender: who sends.
        :param payload: keyword arguments for the receivers. If the signal is declared, the defaults of its
            declaration are filled in.
        :param _async_wrapper: for this send, what :attr:`async_wrapper` is for all.
        :return: ``(receiver, result)`` for each receiver that returned, in order.
        :raises PayloadError: when the signal is declared and keywords are missing or unknown.
        :raises AsyncReceiverError: when a receiver is async and there is no wrapper. No receiver ran.
        :raises Exception: what receivers raise, as :attr:`errors` has it.

        .. versionadded:: 0.1
        """
        # The hot path, kept whole and with its commonest cases apart: each call out of it, and even a loop for
        # the one receiver that most signals have, would cost a tenth of a send.
        table = self._registry
        connections = table.plain

        if connections is None:
            contract = table.contract

            if contract is not None and [*payload] != contract.order:
                payload = contract.complete(self, payload)

            connections = table.others

            if table.filters:
                route = table.routes.get(sender if type(sender) is str else id(sender))
                connections = connections if route is None and table.is_other(sender) else route

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

        With an :attr:`async_policy`, as that has it.

        :param sender: who sends.
        :param payload: as for :meth:`send`.
        :param _sync_wrapper: for this send, what :attr:`sync_wrapper` is for all.
        :return: ``(receiver, result)`` for each receiver that returned, in order.
        :raises PayloadError: as :meth:`send`.
        :raises AsyncReceiverError: when a receiver is sync and there is no wrapper. No receiver ran.
        :raises Exception: what receivers raise, as :attr:`errors` has it.

        .. versionadded:: 0.1
        """
        if self._registry.plain == ():
            return []  # Nobody listens: not worth a coroutine.

        return await dispatch.send_async(self, sender, _sync_wrapper, payload)

    @property
    def errors(self) -> ErrorPolicy:
        """What happens when a receiver raises an :class:`Exception`. May be set at any time.

        ``"propagate"``
            The first exception stops the send and is raised by it.
        ``"collect"``
            All receivers run. Then one exception is raised unchanged, several as an ``ExceptionGroup``.
        a callable
            Is called with each :class:`~aldis.Failure`, as it happens, and all receivers run. ``send`` does
            not raise, and returns the results of those that did not fail. If the callable itself raises,
            the others still run, and then ``send`` raises that, as ``"collect"`` does.

        ``KeyboardInterrupt``, ``asyncio.CancelledError`` and all else that is no :class:`Exception` stops
        the send under every policy.

        :raises InvalidOptionError: when set to something else.
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

        Holds for the current thread or task, and for tasks started in the block until it ends. Blocks nest.

        :param receivers: mute these only.
        :raises InvalidReceiverError: when one of them is not callable.

        .. versionadded:: 0.1
        """
        for receiver in receivers:
            check_callable(self, receiver)

        mute = MuteScope(self._registry, receivers)
        mute.open()

        try:
            yield
        finally:
            mute.close()

    @property
    def is_muted(self) -> bool:
        """Whether a send from here would call no receivers.

        Set it to mute the signal in all threads and tasks; prefer :meth:`muted`.
        """
        table = self._registry
        return table.is_muted or (table.mutes > 0 and muted_keys(table) is None)

    @is_muted.setter
    def is_muted(self, value: bool) -> None:
        self._registry.set("is_muted", bool(value))

    # Looking.

    @property
    def receivers(self) -> Receivers:
        """The connected receivers, as a mapping that is true when there are any.

        Test it before computing a costly payload: ``if saved.receivers: ...``. What its keys are is not
        part of the contract. Its values are receivers or weak references to them. ``clear()`` disconnects all.
        """
        return self._receivers

    @receivers.setter
    def receivers(self, receivers: object) -> None:
        if receivers:
            raise InvalidOptionError("receivers can only be set to something empty, which disconnects all.")

        self._registry.clear()

    def has_receivers_for(self, sender: Any) -> bool:
        """Whether a send by ``sender`` has a live receiver.

        :param sender: a sender; with :data:`ANY`, only receivers for any sender count.

        .. versionadded:: 0.1
        """
        return any(True for _ in self.receivers_for(sender))

    def receivers_for(self, sender: Any) -> Iterator[Callable[..., Any]]:
        """The live receivers of a send by ``sender``, in order.

        A subclass may override this: ``send`` then calls what it gives.

        :param sender: a sender; with :data:`ANY`, only receivers for any sender are given.
        :return: an iterator over the receivers that are connected now.

        .. versionadded:: 0.1
        """
        seen: set[object] = set()

        for connection in self._registry.route(resolve(sender)).connections:
            receiver = connection.ref()

            if receiver is not None and connection.key not in seen:
                seen.add(connection.key)
                yield receiver

    @property
    def receiver_connected(self) -> Signal[Any, ..., Undeclared]:
        """Sent at the end of each :meth:`connect`, with this signal as sender and ``receiver``, ``sender``
        and ``weak`` as they were given. If one of its receivers raises, the connection is undone.
        """
        return self._watched("receiver_connected")

    @property
    def receiver_disconnected(self) -> Signal[Any, ..., Undeclared]:
        """Sent at the end of each :meth:`disconnect`, with this signal as sender and ``receiver`` and
        ``sender`` as they were given. Not sent when a receiver or a sender is garbage collected.
        """
        return self._watched("receiver_disconnected")

    def _watched(self, name: str) -> Signal[Any, ..., Undeclared]:
        if self._watched_changes is None:
            self.__dict__.setdefault("_watched_changes", {})

        watched = self._watched_changes
        assert watched is not None
        return watched.get(name) or watched.setdefault(name, Signal(f"{name} of {self!r}"))

    def _tell(self, name: str, **change: Any) -> None:
        if self._watched_changes is not None and name in self._watched_changes:
            self._watched_changes[name].send(self, **change)

    def _clear_state(self) -> None:
        """Disconnect all. Blinker's name for it; Blinker's users call it in tests."""
        self._registry.clear()

    def _cleanup_bookkeeping(self) -> None:
        """Nothing: there is nothing left behind. Kept for users of Blinker."""

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles of a signal are signals of their own: its settings, without its connections.

        A declared signal can be copied, but not pickled: what declares it has no name of its own any more.
        """
        state = {name: value for name, value in self.__dict__.items() if name not in _CONNECTED}
        return {**state, "errors": self.errors, "contract": self._registry.contract}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings = dict(state)
        errors, contract = settings.pop("errors"), settings.pop("contract")
        self.__dict__.update(settings)
        self._set_up(errors)
        self._registry.contract = contract


_CONNECTED: Final = frozenset({"_receivers", "_registry", "_watched_changes"})
