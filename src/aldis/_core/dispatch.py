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
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import AsyncReceiverError

from .call import Call
from .callables import as_coroutine_function, describe
from .connections import Connection
from .failures import PROPAGATE, Failure
from .identity import receiver_key, resolve
from .options import Options
from .registry import registry_of
from .scopes import muted_keys
from .watching import SendSpan, is_telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from .connections import Snapshot
    from .delivery import DeliveryGroup
    from .identity import ReceiverKey
    from .types import AnySignal, AsyncPolicy, Wrapper

    Results: TypeAlias = list[tuple[Callable[..., Any], Any]]

default_wrappers: Final[list[Callable[[bool], Wrapper | None]]] = []
"""Asked in order when a signal does not say how to run a receiver: called with whether an async one is to be run
from ``send``, and not a sync one from ``send_async``."""


@final
class SendRun:
    """One send that needs more than a walk: who is to be called, with what, and what came of it."""

    __slots__ = (
        "called",
        "failures",
        "has_doubles",
        "opened",
        "payload",
        "policy",
        "results",
        "sender",
        "signal",
        "turns",
        "watched",
    )

    def __init__(
        self, signal: AnySignal, sender: Any, payload: dict[str, Any], route: Snapshot, watched: SendSpan | None = None
    ) -> None:
        table = registry_of(signal)
        self.watched = watched
        self.signal = signal
        self.sender = sender
        self.payload = payload
        self.policy = registry_of(signal).policy_for(sender)
        connections = _ask(signal, sender, route) if table.is_custom else route.connections
        self.has_doubles = route.has_doubles and not table.is_custom
        self.called: set[ReceiverKey] = set()
        self.results: Results = []
        self.failures: list[Exception] = []
        muted: frozenset[ReceiverKey] | None = frozenset()

        if table.mutes or table.is_muted:
            muted = None if table.is_muted else muted_keys(table)
            connections = () if muted is None else tuple(c for c in connections if c.key not in muted)

        for intercept in table.interceptors:
            connections = intercept(connections, sender, payload)

        # The options as they are now: a receiver may connect another again, with others.
        self.turns = [(connection, connection.options) for connection in connections]
        self.opened: dict[int, tuple[DeliveryGroup, Any]] = {}  # By identity: groups may be equal, or not hashable.

    def require(self, wrapper: Wrapper | None, *, is_async: bool) -> Wrapper | None:
        """Refuse, before any receiver runs, those that nobody said how to cross to.

        :param is_async: the kind of receivers that needs the wrapper.
        :return: the wrapper; without one, what :data:`default_wrappers` know, if it is needed.
        """
        if wrapper is not None:
            return wrapper

        for connection, options in self.turns:
            if connection.is_async is is_async and options.via is None and (receiver := connection.ref()) is not None:
                wrapper = next(filter(None, (crossing(is_async) for crossing in default_wrappers)), None)

                if wrapper is None:
                    raise _cannot_cross(self.signal, receiver, is_async)

                return wrapper

        return None

    def open_groups(self, *, is_awaited: bool) -> None:
        """Have the groups of deliveries look at the send, before any receiver runs."""
        for _, options in self.turns:
            group = options.group

            if group is not None and id(group) not in self.opened:
                self.opened[id(group)] = group, group.open(self.signal, self.sender, self.payload, is_awaited)

    def close_groups(self) -> None:
        """Have them do their work. If that fails, the send does, under every policy."""
        for group, opened in self.opened.values():
            try:
                group.close(opened)
            except Exception as error:
                self.failures.append(error)

    async def close_groups_async(self) -> None:
        """As :meth:`close_groups`, where it may take awaiting."""
        for group, opened in self.opened.values():
            try:
                value = group.close(opened)

                if isinstance(value, CoroutineType):
                    await value
            except Exception as error:
                self.failures.append(error)

    def note_on(self, error: Exception) -> None:
        """Say on the exception that stopped the send what else failed."""
        for failure in self.failures:
            error.add_note(f"Besides, what was to be delivered before it was not: {type(failure).__qualname__}.")

        self.failures.clear()  # As in _raise().

    def start(self, connection: Connection, options: Options) -> Callable[..., Any] | None:
        """The receiver at its turn, or ``None`` if it is not to be called any more."""
        receiver = connection.ref()

        if receiver is None or (self.has_doubles and connection.key in self.called):
            return None

        if options.once:
            if not options.claim():
                return None

            # Before the call: a send by the receiver itself must not find it again.
            registry_of(self.signal).use_up(connection, options)

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
            value = options.via.deliver(self._to_deliver(receiver, connection, options, is_awaited=False))

            if isinstance(value, CoroutineType):
                value.close()
                raise _cannot_cross(self.signal, receiver, is_async=True)

            return value

        if connection.is_async:
            receiver = wrapper(as_coroutine_function(receiver))  # type: ignore[misc]  # require() saw to it.

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
            value = options.via.deliver(self._to_deliver(receiver, connection, options, is_awaited=True))
            return await value if isinstance(value, CoroutineType) else value  # pyright: ignore[reportUnknownVariableType]

        if not connection.is_async:
            receiver = wrapper(receiver)  # type: ignore[misc]  # require() saw to it.

        return await receiver(self.sender, **self.payload)

    def _to_deliver(
        self, receiver: Callable[..., Any], connection: Connection, options: Options, *, is_awaited: bool
    ) -> Call:
        watching = None

        if self.watched is not None:
            watching = partial(self.watched.calling, receiver, connection, options, is_delivery=False)

        opened = None if options.group is None else self.opened[id(options.group)][1]
        return Call(self.signal, receiver, self.sender, self.payload, watching, is_awaited=is_awaited, opened=opened)

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


def prepare(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> tuple[Any, dict[str, Any], Snapshot]:
    """Resolve the sender, hold the payload against the contract, and take the snapshot."""
    table = registry_of(signal)

    if sender.__class__ is not type(sender):
        sender = resolve(sender)

    if table.contract is not None and [*payload] != table.contract.order:
        payload = table.contract.complete(signal, payload)

    return sender, payload, table.route(sender)


def send(signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]) -> Results:
    """Send to sync receivers, and through ``wrapper`` to async ones."""
    sender, payload, route = prepare(signal, sender, payload)

    if route.is_plain and registry_of(signal).is_ordinary:
        return walk(route.connections, sender, payload)

    wrapper = wrapper or signal.async_wrapper
    watched = watch(signal, sender, payload)

    if watched is None:
        return _send(SendRun(signal, sender, payload, route), wrapper)

    with watched:
        return _send(SendRun(signal, sender, payload, route, watched), wrapper)


def watch(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> SendSpan | None:
    """What to put around a send that is watched."""
    table = registry_of(signal)
    watches = table.watches

    if not watches or is_telling():
        return None

    is_muted = table.is_muted or (table.mutes > 0 and muted_keys(table) is None)
    return SendSpan(watches, signal, sender, payload, is_muted)


def _send(sending: SendRun, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=True)
    sending.open_groups(is_awaited=False)

    for connection, options in sending.turns:
        receiver = sending.start(connection, options)

        if receiver is None:
            continue

        try:
            value = sending.call(connection, options, receiver, wrapper)
        except Exception as error:
            if sending.policy == PROPAGATE:
                sending.close_groups()
                sending.note_on(error)
                raise

            sending.fail(receiver, error)
        else:
            sending.results.append((receiver, value))

    sending.close_groups()
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

    if route.is_all_async and registry_of(signal).is_ordinary:
        return await walk_async(route.connections, sender, payload)

    wrapper = wrapper or signal.sync_wrapper
    watched = watch(signal, sender, payload)

    if watched is None:
        return await _send_async(SendRun(signal, sender, payload, route), wrapper)

    with watched:
        return await _send_async(SendRun(signal, sender, payload, route, watched), wrapper)


async def _send_async(sending: SendRun, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=False)
    sending.open_groups(is_awaited=True)

    for connection, options in sending.turns:
        receiver = sending.start(connection, options)

        if receiver is None:
            continue

        try:
            value = await sending.call_async(connection, options, receiver, wrapper)
        except Exception as error:
            if sending.policy == PROPAGATE:
                await sending.close_groups_async()
                sending.note_on(error)
                raise

            sending.fail(receiver, error)
        else:
            sending.results.append((receiver, value))

    await sending.close_groups_async()
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
        return await _send_by(policy, SendRun(signal, sender, payload, route), wrapper)

    with watched:
        return await _send_by(policy, SendRun(signal, sender, payload, route, watched), wrapper)


async def _send_by(policy: AsyncPolicy, sending: SendRun, wrapper: Wrapper | None) -> Results:
    wrapper = sending.require(wrapper, is_async=False)
    sending.open_groups(is_awaited=True)
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
    except BaseException as error:
        sending.failures.clear()  # The traceback holds them by this frame.

        if isinstance(error, Exception):
            await sending.close_groups_async()
            sending.note_on(error)

        raise

    sending.results.extend(values[place] for place in sorted(values))
    await sending.close_groups_async()
    return sending.finish()


def _ask(signal: AnySignal, sender: Any, route: Snapshot) -> tuple[Connection, ...]:
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
            " how to cross: give the signal or its namespace an async_wrapper (aldis.aio.async_to_sync is one)."
        )

    return AsyncReceiverError(
        f"send_async() has no way to run the sync receiver {describe(receiver)} of {signal!r}. Say how to cross:"
        " give the signal or its namespace a sync_wrapper (aldis.aio.sync_to_async is one)."
    )
