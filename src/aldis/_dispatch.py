"""The send loops over a snapshot.

:meth:`Signal.send` walks a plain snapshot by itself. What comes here has something more to look at: a
sender filter, a contract, a failure policy, async receivers, deliveries, mutes. Two loops serve them, one
for ``send`` and one for ``send_async``; both call receivers in order, ask each connection at its turn
whether it is still alive, and treat failures by the signal's policy.

``asyncio`` is not imported here: awaiting needs none of it.
"""

from __future__ import annotations

from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from ._blocks import muted_keys
from ._connection import Connection, Options
from ._refs import describe, is_async, receiver_key, resolve
from ._table import PROPAGATE
from ._watching import Watched, is_telling
from .exceptions import AsyncReceiverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from ._connection import Route
    from ._refs import ReceiverKey
    from ._signal import Signal

    AnySignal: TypeAlias = Signal[Any, ..., Any]
    Results: TypeAlias = list[tuple[Callable[..., Any], Any]]
    Wrapper: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

COLLECT: Final = "collect"

crossings: Final[list[Callable[[bool], Wrapper | None]]] = []
"""Asked in order when a signal does not say how to run a receiver: called with whether an async one is to be run
from ``send``, and not a sync one from ``send_async``."""


class AsyncPolicy(Protocol):
    """How ``send_async`` runs its receivers, where that is not one after the other.

    .. versionadded:: 0.1
    """

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        """Await every call.

        :param calls: one for each receiver, in order. Each gives whether the receiver succeeded, and keeps
            what it raised for the signal's failure policy.
        """


@final
class Failure:
    """A receiver that raised, as a callable failure policy is handed it.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver that raised.
    :ivar sender: the sender.
    :ivar exception: what it raised.

    .. versionadded:: 0.1
    """

    __slots__ = ("exception", "receiver", "sender", "signal")

    exception: Exception
    receiver: Callable[..., Any]
    sender: Any
    signal: AnySignal

    def __init__(self, signal: AnySignal, receiver: Callable[..., Any], sender: Any, exception: Exception) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.exception = exception

    def __repr__(self) -> str:
        return f"<Failure of {describe(self.receiver)} on {self.signal!r}: {type(self.exception).__name__}>"


@final
class SenderPolicy:
    """A failure policy that depends on the sender.

    :ivar choose: called with the sender, gives the policy.
    """

    __slots__ = ("choose",)

    def __init__(self, choose: Callable[[Any], Any]) -> None:
        self.choose = choose

    def __call__(self, failure: Failure) -> object:
        """Treat a failure as the sender's policy does, for who takes this for a callable policy."""
        policy = self.choose(failure.sender)

        if isinstance(policy, str):
            raise failure.exception

        return policy(failure)


def policy_of(signal: AnySignal, sender: Any) -> Any:
    """The failure policy of a send."""
    policy = signal._table.errors
    return policy.choose(sender) if type(policy) is SenderPolicy else policy


@final
class Call:
    """One call of a receiver that a delivery is to make. Calling it runs the receiver.

    :ivar signal: the signal that was sent.
    :ivar receiver: the receiver.
    :ivar sender: the sender.
    :ivar payload: the keyword arguments.

    .. versionadded:: 0.1
    """

    __slots__ = ("_watching", "payload", "receiver", "sender", "signal")

    payload: dict[str, Any]
    receiver: Callable[..., Any]
    sender: Any
    signal: AnySignal

    def __init__(
        self,
        signal: AnySignal,
        receiver: Callable[..., Any],
        sender: Any,
        payload: dict[str, Any],
        watching: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.signal = signal
        self.receiver = receiver
        self.sender = sender
        self.payload = payload
        self._watching = watching

    @property
    def is_async(self) -> bool:
        """Whether the receiver is async: then calling this without a wrapper gives a coroutine."""
        return is_async(self.receiver)

    def __call__(self, wrapper: Wrapper | None = None) -> Any:
        """Run the receiver and return what it returns.

        :param wrapper: called with the receiver, gives what is called in its place: for a delivery that takes
            async receivers, what runs them.
        :raises Exception: what the receiver raised, unless the signal's failure policy is a callable: then
            that is handed the failure, and ``None`` is returned.
        """
        try:
            receiver = self.receiver if wrapper is None else wrapper(self.receiver)

            if self._watching is None:
                return receiver(self.sender, **self.payload)

            if is_async(receiver):
                return self._watch(receiver, self._watching)

            with self._watching():
                return receiver(self.sender, **self.payload)
        except Exception as error:
            if not self._is_for_policy(error):
                raise

            return None

    async def run_async(self, wrapper: Wrapper | None = None) -> Any:
        """Await the receiver and return what it returns, as calling does for one that is sync.

        :param wrapper: called with the receiver, gives an async callable: for a sync receiver, what runs it.
        :raises Exception: as for calling.
        """
        receiver = self.receiver if wrapper is None else wrapper(self.receiver)

        try:
            if self._watching is None:
                return await receiver(self.sender, **self.payload)

            return await self._watch(receiver, self._watching)
        except Exception as error:
            if not self._is_for_policy(error):
                raise

            return None

    def _is_for_policy(self, error: Exception) -> bool:
        """Hand a failure to the policy, if that is a callable. To raise it here would have it hold itself."""
        policy = policy_of(self.signal, self.sender)

        if isinstance(policy, str):
            return False

        policy(Failure(self.signal, self.receiver, self.sender, error))
        return True

    async def _watch(self, receiver: Callable[..., Any], watching: Callable[[], AbstractContextManager[None]]) -> Any:
        """The coroutine of an async receiver, watched when it is awaited: before, nothing runs."""
        with watching():
            return await receiver(self.sender, **self.payload)

    def __repr__(self) -> str:
        return f"<Call of {describe(self.receiver)} on {self.signal!r}>"


@final
class Sending:
    """One send that needs more than a walk: who is to be called, with what, and what came of it."""

    __slots__ = (
        "called",
        "failures",
        "has_doubles",
        "payload",
        "policy",
        "results",
        "sender",
        "signal",
        "turns",
        "watched",
    )

    def __init__(
        self, signal: AnySignal, sender: Any, payload: dict[str, Any], route: Route, watched: Watched | None = None
    ) -> None:
        table = signal._table
        self.watched = watched
        self.signal = signal
        self.sender = sender
        self.payload = payload
        self.policy = policy_of(signal, sender)
        connections = _ask(signal, sender, route) if table.is_custom else route.connections
        self.has_doubles = route.has_doubles and not table.is_custom
        self.called: set[ReceiverKey] = set()
        self.results: Results = []
        self.failures: list[Exception] = []
        muted: frozenset[ReceiverKey] | None = frozenset()

        if table.mutes or table.is_muted:
            muted = None if table.is_muted else muted_keys(table)
            connections = () if muted is None else tuple(c for c in connections if c.key not in muted)

        for stand_in in table.stand_ins:
            connections = stand_in(connections, sender, payload)

        # The options as they are now: a receiver may connect another again, with others.
        self.turns = [(connection, connection.options) for connection in connections]

    def require(self, wrapper: Wrapper | None, *, is_async: bool) -> Wrapper | None:
        """Refuse, before any receiver runs, those that nobody said how to cross to.

        :param is_async: the kind of receivers that needs the wrapper.
        :return: the wrapper; without one, what :data:`crossings` know, if it is needed.
        """
        if wrapper is not None:
            return wrapper

        for connection, options in self.turns:
            if connection.is_async is is_async and options.via is None and (receiver := connection.ref()) is not None:
                wrapper = next(filter(None, (crossing(is_async) for crossing in crossings)), None)

                if wrapper is None:
                    raise _cannot_cross(self.signal, receiver, is_async)

                return wrapper

        return None

    def start(self, connection: Connection, options: Options) -> Callable[..., Any] | None:
        """The receiver at its turn, or ``None`` if it is not to be called any more."""
        receiver = connection.ref()

        if receiver is None or (self.has_doubles and connection.key in self.called):
            return None

        if options.once:
            if not options.claim():
                return None

            # Before the call: a send by the receiver itself must not find it again.
            self.signal._table.use_up(connection, options)

        self.called.add(connection.key)
        return receiver

    def call(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        """Call a sync receiver, an async one through ``wrapper``, or hand the call over to a delivery."""
        if self.watched is None:
            return self._call(connection, options, receiver, wrapper)

        with self.watched.calling(receiver, connection, options, is_delivery=options.via is not None):
            return self._call(connection, options, receiver, wrapper)

    def _call(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        if options.via is not None:
            value = options.via.deliver(self._to_deliver(receiver, connection, options))

            if isinstance(value, CoroutineType):
                value.close()
                raise _cannot_cross(self.signal, receiver, is_async=True)

            return value

        if connection.is_async:
            receiver = wrapper(receiver)  # type: ignore[misc]  # require() saw to it.

        return receiver(self.sender, **self.payload)

    async def call_async(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        """As :meth:`call`, with a sync receiver through ``wrapper``."""
        if self.watched is None:
            return await self._call_async(connection, options, receiver, wrapper)

        with self.watched.calling(receiver, connection, options, is_delivery=options.via is not None):
            return await self._call_async(connection, options, receiver, wrapper)

    async def _call_async(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        if options.via is not None:
            value = options.via.deliver(self._to_deliver(receiver, connection, options))
            return await value if isinstance(value, CoroutineType) else value  # pyright: ignore[reportUnknownVariableType]

        if not connection.is_async:
            receiver = wrapper(receiver)  # type: ignore[misc]  # require() saw to it.

        return await receiver(self.sender, **self.payload)

    def _to_deliver(self, receiver: Callable[..., Any], connection: Connection, options: Options) -> Call:
        watching = None

        if self.watched is not None:
            watching = partial(self.watched.calling, receiver, connection, options, is_delivery=False)

        return Call(self.signal, receiver, self.sender, self.payload, watching)

    def fail(self, receiver: Callable[..., Any], error: Exception) -> None:
        """Keep a failure until all receivers have run, or hand it to the signal's own policy."""
        if isinstance(self.policy, str):
            self.failures.append(error)
            return

        try:
            self.policy(Failure(self.signal, receiver, self.sender, error))
        except Exception as refusal:
            # A policy may raise to make the send fail. The other receivers still run first.
            self.failures.append(refusal)

    def finish(self) -> Results:
        """The results, or what the failures come to."""
        if self.failures:
            _raise(self.signal, self.failures)

        return self.results


def prepare(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> tuple[Any, dict[str, Any], Route]:
    """Resolve the sender, hold the payload against the contract, and take the snapshot."""
    table = signal._table

    if sender.__class__ is not type(sender):
        sender = resolve(sender)

    if table.contract is not None and [*payload] != table.contract.order:
        payload = table.contract.complete(signal, payload)

    return sender, payload, table.route(sender)


def send(signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]) -> Results:
    """Send to sync receivers, and through ``wrapper`` to async ones."""
    sender, payload, route = prepare(signal, sender, payload)

    if route.is_plain and signal._table.is_ordinary:
        return walk(route.connections, sender, payload)

    wrapper = wrapper or signal.async_wrapper
    watched = watch(signal, sender, payload)

    if watched is None:
        return _send(Sending(signal, sender, payload, route), wrapper)

    with watched:
        return _send(Sending(signal, sender, payload, route, watched), wrapper)


def watch(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> Watched | None:
    """What to put around a send that is watched."""
    table = signal._table
    watches = table.watches

    if not watches or is_telling():
        return None

    is_muted = table.is_muted or (table.mutes > 0 and muted_keys(table) is None)
    return Watched(watches, signal, sender, payload, is_muted)


def _send(sending: Sending, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=True)

    for connection, options in sending.turns:
        receiver = sending.start(connection, options)

        if receiver is None:
            continue

        try:
            value = sending.call(connection, options, receiver, wrapper)
        except Exception as error:
            if sending.policy == PROPAGATE:
                raise

            sending.fail(receiver, error)
        else:
            sending.results.append((receiver, value))

    return sending.finish()


def walk(connections: Iterable[Connection], sender: Any, payload: dict[str, Any]) -> Results:
    """Call each receiver that is still alive at its turn, as :meth:`Signal.send` does inline."""
    results: Results = []
    arguments = (sender,)

    for connection in connections:
        receiver = connection.ref()

        if receiver is not None:
            results.append((receiver, receiver(*arguments, **payload)))

    return results


async def send_async(signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]) -> Results:
    """Send to async receivers, and through ``wrapper`` to sync ones, one after the other."""
    if signal.async_policy is not None:
        return await send_by(signal.async_policy, signal, sender, wrapper, payload)

    sender, payload, route = prepare(signal, sender, payload)

    if route.is_all_async and signal._table.is_ordinary:
        return await walk_async(route.connections, sender, payload)

    wrapper = wrapper or signal.sync_wrapper
    watched = watch(signal, sender, payload)

    if watched is None:
        return await _send_async(Sending(signal, sender, payload, route), wrapper)

    with watched:
        return await _send_async(Sending(signal, sender, payload, route, watched), wrapper)


async def _send_async(sending: Sending, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=False)

    for connection, options in sending.turns:
        receiver = sending.start(connection, options)

        if receiver is None:
            continue

        try:
            value = await sending.call_async(connection, options, receiver, wrapper)
        except Exception as error:
            if sending.policy == PROPAGATE:
                raise

            sending.fail(receiver, error)
        else:
            sending.results.append((receiver, value))

    return sending.finish()


async def walk_async(connections: Iterable[Connection], sender: Any, payload: dict[str, Any]) -> Results:
    """As :func:`walk`, for receivers that are all async."""
    results: Results = []

    for connection in connections:
        receiver = connection.ref()

        if receiver is not None:
            results.append((receiver, await receiver(sender, **payload)))

    return results


async def send_by(
    policy: AsyncPolicy, signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]
) -> Results:
    """As :func:`send_async`, with the receivers run as a policy sees fit. Results are in receivers' order.

    Where receivers run side by side, ``"propagate"`` has nothing to stop, and is ``"collect"``.
    """
    sender, payload, route = prepare(signal, sender, payload)
    wrapper = wrapper or signal.sync_wrapper
    watched = watch(signal, sender, payload)

    if watched is None:
        return await _send_by(policy, Sending(signal, sender, payload, route), wrapper)

    with watched:
        return await _send_by(policy, Sending(signal, sender, payload, route, watched), wrapper)


async def _send_by(policy: AsyncPolicy, sending: Sending, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=False)
    values: dict[int, tuple[Callable[..., Any], Any]] = {}

    async def call(place: int, connection: Connection, options: Options) -> bool:
        receiver = sending.start(connection, options)

        if receiver is None:
            return True

        try:
            values[place] = (receiver, await sending.call_async(connection, options, receiver, wrapper))
        except Exception as error:
            sending.fail(receiver, error)
            return False

        return True

    try:
        await policy.run([partial(call, place, *turn) for place, turn in enumerate(sending.turns)])
    except BaseException:
        sending.failures.clear()  # The traceback holds them by this frame.
        raise

    sending.results.extend(values[place] for place in sorted(values))
    return sending.finish()


def _ask(signal: AnySignal, sender: Any, route: Route) -> tuple[Connection, ...]:
    """What a signal's own ``receivers_for`` gives, as it gives it. Those that are connected keep their options."""
    known = {connection.key: connection for connection in reversed(route.connections)}  # The first of doubles.
    options = Options()
    found = list(signal.receivers_for(sender))
    return tuple(known.get(receiver_key(receiver)) or Connection(receiver, options) for receiver in found)


def _raise(signal: AnySignal, failures: list[Exception]) -> None:
    """Raise one exception unchanged, several as a group."""
    try:
        if len(failures) == 1:
            raise failures[0]

        raise ExceptionGroup(f"{len(failures)} receivers of {signal!r} failed", failures)
    finally:
        # The traceback holds this frame: without this, the exceptions would hold themselves.
        failures.clear()


def _cannot_cross(signal: AnySignal, receiver: Callable[..., Any], is_async: bool) -> AsyncReceiverError:
    if is_async:
        return AsyncReceiverError(
            f"send() cannot run the async receiver {describe(receiver)} of {signal!r}. Use send_async(), or say"
            " how to cross: give the signal or its namespace an async_wrapper (aldis.aio.run is one)."
        )

    return AsyncReceiverError(
        f"send_async() has no way to run the sync receiver {describe(receiver)} of {signal!r}. Say how to cross:"
        " give the signal or its namespace a sync_wrapper (aldis.aio.in_thread is one)."
    )
