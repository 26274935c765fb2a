"""The send loops over a snapshot.

:meth:`Signal.send` walks a plain snapshot by itself. A send comes here when it must look at more: a sender filter, a
contract, a failure policy, async receivers, deliveries, mutes. There is one loop for ``send``, and one for
``send_async``. Both call receivers in order, ask each connection at its turn whether its receiver is still connected,
and handle failures by the signal's policy.

This module does not import ``asyncio``: awaiting does not need it.
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
from .scopes import is_muted_here, muted_keys
from .watching import SendSpan, is_telling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import TypeAlias

    from .delivery import DeliveryGroup
    from .identity import ReceiverKey
    from .snapshots import Snapshot
    from .types import AnySignal, AsyncPolicy, Wrapper

    Results: TypeAlias = list[tuple[Callable[..., Any], Any]]

default_wrappers: Final[list[Callable[[bool], Wrapper | None]]] = []
"""Functions that are asked in order for a wrapper, if the signal has no wrapper. Each is called with ``True`` for an
async receiver of ``send``, and with ``False`` for a sync receiver of ``send_async``."""


@final
class SendRun:
    """One send that does more than walk a snapshot: its calls, their results and their failures.

    :ivar calls: the connections to call, in order, with their options when the send began, because a receiver may
        connect another receiver again with other options.
    :ivar opened: what each group of deliveries prepared, by the group's identity: groups may be equal or unhashable.
    :ivar span: tells the watchers, if the send is watched.
    """

    __slots__ = (
        "called",
        "calls",
        "failures",
        "has_doubles",
        "opened",
        "payload",
        "policy",
        "registry",
        "results",
        "sender",
        "signal",
        "span",
    )

    def __init__(
        self,
        signal: AnySignal,
        sender: Any,
        payload: dict[str, Any],
        snapshot: Snapshot,
        span: SendSpan | None = None,
    ) -> None:
        registry = registry_of(signal)
        self.registry = registry
        self.span = span
        self.signal = signal
        self.sender = sender
        self.payload = payload
        self.policy = registry.policy_for(sender)
        connections = _custom_connections(signal, sender, snapshot) if registry.is_custom else snapshot.connections
        self.has_doubles = snapshot.has_doubles and not registry.is_custom
        self.called: set[ReceiverKey] = set()
        self.results: Results = []
        self.failures: list[Exception] = []

        if registry.mutes or registry.is_muted:
            muted = None if registry.is_muted else muted_keys(registry)
            connections = () if muted is None else tuple(c for c in connections if c.key not in muted)

        for interceptor in registry.interceptors:
            connections = interceptor(connections, sender, payload)

        self.calls = [(connection, connection.options) for connection in connections]
        self.opened: dict[int, tuple[DeliveryGroup, Any]] = {}

    def find_wrapper(self, wrapper: Wrapper | None, *, is_async: bool) -> Wrapper | None:
        """Return the wrapper of this send. Raise before any receiver runs if a receiver needs one and none is set.

        :param wrapper: the wrapper that is set, if there is one; otherwise :data:`default_wrappers` are asked.
        :param is_async: whether async receivers need the wrapper, or sync ones.
        """
        if wrapper is not None:
            return wrapper

        for connection, options in self.calls:
            if connection.is_async is is_async and options.via is None and (receiver := connection.ref()) is not None:
                wrapper = next(filter(None, (default(is_async) for default in default_wrappers)), None)

                if wrapper is None:
                    raise _no_wrapper(self.signal, receiver, is_async)

                return wrapper

        return None

    def open_groups(self, *, is_awaited: bool) -> None:
        """Let the groups of deliveries prepare for the send, before any receiver runs."""
        for _, options in self.calls:
            group = options.group

            if group is not None and id(group) not in self.opened:
                self.opened[id(group)] = group, group.open(self.signal, self.sender, self.payload, is_awaited)

    def close_groups(self) -> None:
        """Let the groups do their work. If a group fails, the send fails under every policy."""
        for group, opened in self.opened.values():
            try:
                group.close(opened)
            except Exception as error:
                self.failures.append(error)

    async def close_groups_async(self) -> None:
        """Close the groups as :meth:`close_groups` does, and await their return values."""
        for group, opened in self.opened.values():
            try:
                value = group.close(opened)

                if isinstance(value, CoroutineType):
                    await value
            except Exception as error:
                self.failures.append(error)

    def note_on(self, error: Exception) -> None:
        """Add notes about the failures of groups to the exception that stopped the send."""
        for failure in self.failures:
            error.add_note(f"The deliveries of this send failed, too: {type(failure).__qualname__}.")

        self.failures.clear()  # As in _raise().

    def start(self, connection: Connection, options: Options) -> Callable[..., Any] | None:
        """Return the receiver at its turn, or ``None`` if the send does not call it any more."""
        receiver = connection.ref()

        if receiver is None or (self.has_doubles and connection.key in self.called):
            return None

        if options.once:
            if not options.claim():
                return None

            # Before the call: a send by the receiver itself must not find it again.
            self.registry.use_up(connection, options)

        self.called.add(connection.key)
        return receiver

    def call(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        """Call a sync receiver, an async one through ``wrapper``, or hand the call over to a delivery."""
        if self.span is None:
            return self._call(connection, options, receiver, wrapper)

        with self.span.call(receiver, connection.is_async, options, is_delivery=options.via is not None):
            return self._call(connection, options, receiver, wrapper)

    def _call(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        if options.via is not None:
            value = options.via.deliver(self._to_deliver(receiver, connection, options, is_awaited=False))

            if isinstance(value, CoroutineType):
                value.close()
                raise _no_wrapper(self.signal, receiver, is_async=True)

            return value

        if connection.is_async:
            receiver = wrapper(as_coroutine_function(receiver))  # type: ignore[misc]  # find_wrapper() found one.

        return receiver(self.sender, **self.payload)

    def call_async(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Awaitable[Any]:
        """Return a coroutine that awaits an async receiver, a sync one through ``wrapper``, or a delivery."""
        # This method is not a coroutine itself, because each coroutine on the way to the receiver costs time.
        call = self._call_async if self.span is None else self._call_async_in_span
        return call(connection, options, receiver, wrapper)

    async def _call_async_in_span(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        assert self.span is not None

        with self.span.call(receiver, connection.is_async, options, is_delivery=options.via is not None):
            return await self._call_async(connection, options, receiver, wrapper)

    async def _call_async(
        self, connection: Connection, options: Options, receiver: Callable[..., Any], wrapper: Wrapper | None
    ) -> Any:
        if options.via is not None:
            value = options.via.deliver(self._to_deliver(receiver, connection, options, is_awaited=True))
            return await value if isinstance(value, CoroutineType) else value  # pyright: ignore[reportUnknownVariableType]  # A delivery may return anything.

        if not connection.is_async:
            receiver = wrapper(receiver)  # type: ignore[misc]  # find_wrapper() found one.

        return await receiver(self.sender, **self.payload)

    def _to_deliver(
        self, receiver: Callable[..., Any], connection: Connection, options: Options, *, is_awaited: bool
    ) -> Call:
        span = None

        if self.span is not None:
            span = partial(self.span.call, receiver, connection.is_async, options, is_delivery=False)

        return Call(
            self.signal,
            receiver,
            self.sender,
            self.payload,
            policy_for=self.registry.policy_for,
            span=span,
            is_awaited=is_awaited,
            opened=None if options.group is None else self.opened[id(options.group)][1],
        )

    def fail(self, receiver: Callable[..., Any], error: Exception) -> None:
        """Keep a failure until all receivers have run, or call the signal's own policy with it."""
        if isinstance(self.policy, str):
            self.failures.append(error)
            return

        try:
            self.policy(Failure(self.signal, receiver, self.sender, error))
        except Exception as refusal:
            # A policy may raise to make the send fail. The other receivers still run first.
            self.failures.append(refusal)

    def finish(self) -> Results:
        """Return the results, or raise the failures."""
        if self.failures:
            _raise(self.signal, self.failures)

        return self.results


def prepare(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> tuple[Any, dict[str, Any], Snapshot]:
    """Resolve the sender, check the payload against the contract, and take the snapshot."""
    registry = registry_of(signal)

    if sender.__class__ is not type(sender):
        sender = resolve(sender)

    if registry.contract is not None and [*payload] != registry.contract.order:
        payload = registry.contract.complete(signal, payload)

    return sender, payload, registry.snapshot(sender)


def watch(signal: AnySignal, sender: Any, payload: dict[str, Any]) -> SendSpan | None:
    """Return the span of a send that is watched, or ``None``."""
    registry = registry_of(signal)
    watches = registry.watches

    if not watches or is_telling():
        return None

    return SendSpan(watches, signal, sender, payload, is_muted_here(registry))


def send(signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]) -> Results:
    """Call sync receivers, and async ones through ``wrapper``."""
    sender, payload, snapshot = prepare(signal, sender, payload)

    if snapshot.is_plain and registry_of(signal).is_ordinary:
        return walk(snapshot.connections, sender, payload)

    wrapper = wrapper or signal.async_wrapper
    span = watch(signal, sender, payload)

    if span is None:
        return _send(SendRun(signal, sender, payload, snapshot), wrapper)

    with span:
        return _send(SendRun(signal, sender, payload, snapshot, span), wrapper)


def _send(run: SendRun, wrapper: Wrapper | None) -> Results:
    wrapper = run.find_wrapper(wrapper, is_async=True)
    run.open_groups(is_awaited=False)

    for connection, options in run.calls:
        receiver = run.start(connection, options)

        if receiver is None:
            continue

        try:
            value = run.call(connection, options, receiver, wrapper)
        except Exception as error:
            if run.policy == PROPAGATE:
                run.close_groups()
                run.note_on(error)
                raise

            run.fail(receiver, error)
        else:
            run.results.append((receiver, value))

    run.close_groups()
    return run.finish()


def walk(connections: Iterable[Connection], sender: Any, payload: dict[str, Any]) -> Results:
    """Call each receiver that is still connected at its turn, as :meth:`Signal.send` does inline."""
    results: Results = []
    arguments = (sender,)

    for connection in connections:
        receiver = connection.ref()

        if receiver is not None:
            results.append((receiver, receiver(*arguments, **payload)))

    return results


@final
class InTurn:
    """The default async policy: await the receivers one after the other, in the caller's task.

    It stops at the first call that raises. Only under ``"propagate"`` a call raises; see :func:`_send_async`.
    """

    async def run(self, calls: Sequence[Callable[[], Awaitable[bool]]], /) -> None:
        """Await the calls in order."""
        for call in calls:
            await call()


_IN_TURN: Final = InTurn()


async def send_async(signal: AnySignal, sender: Any, wrapper: Wrapper | None, payload: dict[str, Any]) -> Results:
    """Await async receivers, and sync ones through ``wrapper``, as the signal's async policy does."""
    policy = signal.async_policy
    sender, payload, snapshot = prepare(signal, sender, payload)

    if policy is None and snapshot.is_all_async and registry_of(signal).is_ordinary:
        return await walk_async(snapshot.connections, sender, payload)

    wrapper = wrapper or signal.sync_wrapper
    span = watch(signal, sender, payload)

    if span is None:
        return await _send_async(SendRun(signal, sender, payload, snapshot), wrapper, policy)

    with span:
        return await _send_async(SendRun(signal, sender, payload, snapshot, span), wrapper, policy)


async def walk_async(connections: Iterable[Connection], sender: Any, payload: dict[str, Any]) -> Results:
    """Await each receiver that is still connected at its turn, where all receivers are async."""
    results: Results = []

    for connection in connections:
        receiver = connection.ref()

        if receiver is not None:
            results.append((receiver, await receiver(sender, **payload)))

    return results


async def _send_async(run: SendRun, wrapper: Wrapper | None, policy: AsyncPolicy | None) -> Results:
    """Run the calls by an async policy. Results are in the order of the receivers.

    With :class:`InTurn`, ``"propagate"`` raises the first failure inside the policy and so stops it. A policy of the
    user may run receivers side by side. There is nothing to stop then, and ``"propagate"`` does what ``"collect"``
    does.
    """
    wrapper = run.find_wrapper(wrapper, is_async=False)
    run.open_groups(is_awaited=True)
    raises_at_once = policy is None and run.policy == PROPAGATE
    results: list[tuple[Callable[..., Any], Any] | None] = [None] * len(run.calls)

    async def call(position: int, connection: Connection, options: Options) -> bool:
        receiver = run.start(connection, options)

        if receiver is None:
            return True

        try:
            results[position] = (receiver, await run.call_async(connection, options, receiver, wrapper))
        except Exception as error:
            if raises_at_once:
                raise

            run.fail(receiver, error)
            return False

        return True

    try:
        await (policy or _IN_TURN).run([partial(call, position, *each) for position, each in enumerate(run.calls)])
    except BaseException as error:
        run.failures.clear()  # The traceback holds this frame, and the frame would hold them.

        if isinstance(error, Exception):
            await run.close_groups_async()
            run.note_on(error)

        raise

    run.results.extend(filter(None, results))
    await run.close_groups_async()
    return run.finish()


def _custom_connections(signal: AnySignal, sender: Any, snapshot: Snapshot) -> tuple[Connection, ...]:
    """Return connections of the receivers that a subclass's ``receivers_for`` returns, in its order.

    A receiver that is connected keeps the options of its connection.
    """
    # Reversed, so that the first of two connections of a receiver counts.
    known = {connection.key: connection for connection in reversed(snapshot.connections)}
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


def _no_wrapper(signal: AnySignal, receiver: Callable[..., Any], is_async: bool) -> AsyncReceiverError:
    if is_async:
        return AsyncReceiverError(
            f"send() cannot run the async receiver {describe(receiver)} of {signal!r}. Use send_async(), or give"
            " the signal or its namespace an async_wrapper (aldis.aio.async_to_sync is one)."
        )

    return AsyncReceiverError(
        f"send_async() has no way to run the sync receiver {describe(receiver)} of {signal!r}. Give the signal or its"
        " namespace a sync_wrapper (aldis.aio.sync_to_async is one)."
    )
