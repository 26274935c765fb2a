"""Receive one message: find its receiver, decode its payload, call the receiver, and return the outcome."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from enum import Enum
from functools import partial
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from aldis._core.callables import describe
from aldis._core.registry import registry_of
from aldis.exceptions import ReceiverTimeoutError
from aldis.relay._backoff import seconds_of
from aldis.relay._payload import UnreadableError, schema_of
from aldis.relay._sender_names import UnknownSenderError
from aldis.relay._trace import attach
from aldis.relay.storage.portal import portal
from aldis.relay.storage.rows import current, message_of

from .attempts import Observers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import TypeAlias

    from aldis.relay._registry import DurableReceiver, ReceiverRegistry
    from aldis.relay._sender_names import SenderNames
    from aldis.relay.storage.rows import Row

    Guard: TypeAlias = Callable[[float | None], AbstractContextManager[Any]]
    Prepared: TypeAlias = tuple[DurableReceiver, Any, dict[str, Any]]

logger: Final = logging.getLogger("aldis.relay")

# For how many seconds a row waits if it cannot be received here. Another deploy may receive it meanwhile.
WAITING_S: Final = 15.0


class Disposition(Enum):
    """What the worker does with a row after an attempt: delete it, retry it, make it a dead letter, or let it wait."""

    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    WAITS = "waits"


class Outcome(NamedTuple):
    """How an attempt ended."""

    disposition: Disposition
    """What the worker does with the row."""

    reason: str = ""
    """Why it does this. It shows nothing of the payload."""

    wait_s: float = 0.0
    """For how many seconds the row waits, if it stays."""

    is_begun: bool = True
    """Whether the receiver was called."""


DONE: Final = Outcome(Disposition.DONE)


@final
class Consumer:
    """Receives one relay's messages in this process.

    :ivar scope: returns a context manager that is entered around each receiver: an application context in Flask.
    :ivar async_scope: returns an async context manager that is entered around each receiver in the event loop: an
        application context in Quart. If it is set, sync receivers run in a thread of the loop.
    :ivar observers: the observers of attempts.
    """

    def __init__(self, registry: ReceiverRegistry, senders: SenderNames) -> None:
        self._registry = registry
        self._senders = senders
        self.scope: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.async_scope: Callable[[], AbstractAsyncContextManager[Any]] | None = None
        self.observers = Observers()

    def receive(self, row: Row, guard: Guard) -> Outcome:
        """Run the receiver of a row.

        :param row: the claimed row.
        :param guard: a context manager that is called with the receiver's ``timeout_s``, and entered around it.
        :return: how the attempt ended.
        """
        prepared = self.prepare(row)

        with attach(row.trace):
            if not self.observers.watches:
                return self._attempt(row, prepared, guard)[0]

            found = None if isinstance(prepared, Outcome) else prepared[0]

            with self.observers.attempt(row, found) as attempt:
                outcome, attempt.exception = self._attempt(row, prepared, guard)
                attempt.outcome = outcome.disposition.value
                return outcome

    def _attempt(self, row: Row, prepared: Outcome | Prepared, guard: Guard) -> tuple[Outcome, BaseException | None]:
        """Run the receiver, if there is one. Return the outcome, and the exception that the receiver raised."""
        if isinstance(prepared, Outcome):
            return prepared, None

        found, sender, payload = prepared

        try:
            token = current.set(message_of(row))

            try:
                with self.scope():
                    self._call(found, partial(found.receiver, sender, **payload), guard)
            finally:
                current.reset(token)
        except BaseException as error:  # A receiver that calls sys.exit() must not end the worker.
            if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
                raise  # The user stops the program that drains the relay.

            return _failed(row, found, error), error

        return DONE, None

    def _call(self, found: DurableReceiver, call: Callable[[], Any], guard: Guard) -> None:
        if found.is_async or self.async_scope is not None:
            portal.run(self._call_in_loop(found, call, guard))
        else:
            _call_guarded(found, call, guard)

    async def _call_in_loop(self, found: DurableReceiver, call: Callable[[], Any], guard: Guard) -> None:
        async with nullcontext() if self.async_scope is None else self.async_scope():
            if found.is_async:
                await _await_guarded(found, call)
            else:
                await asyncio.to_thread(_call_guarded, found, call, guard)

    def prepare(self, row: Row) -> Outcome | Prepared:
        """Return the receiver, the sender and the payload of a row; or the outcome, if the row cannot be received."""
        try:
            return self._prepare(row)
        except Exception as error:  # A malformed row can cause any exception. The worker must survive it.
            return _dead(f"the row is malformed ({type(error).__qualname__})")

    def _prepare(self, row: Row) -> Outcome | Prepared:
        if row.is_malformed:
            return _dead("the row is malformed")

        try:
            sender = self._senders.read(row.sender)
        except UnknownSenderError as unknown:
            return _waits(f"no sender is registered as {str(unknown)[:100]!r} here")
        except (ValueError, TypeError, RecursionError):
            return _dead("the sender is malformed")

        found = self._registry.find(row.signal, row.receiver, sender)

        if found is None:
            return _waits("no receiver of that name is connected for that sender here")

        if row.attempts > found.durable.max_attempts:
            return _dead(f"its worker died, or lost its lease, in the last of {found.durable.max_attempts} attempts")

        payload = _payload_of(row, found)
        return payload if isinstance(payload, Outcome) else (found, sender, payload)


def _payload_of(row: Row, found: DurableReceiver) -> Outcome | dict[str, Any]:
    contract: Any = registry_of(found.signal).contract
    schema = schema_of(contract, found.signal)

    if row.version > schema.version:
        return _waits(f"its version {row.version} is newer than the code here")

    if row.payload is None:
        return _dead("the payload is larger than a send may write")

    try:
        return schema.decode(row.payload, row.version)
    except UnreadableError as error:
        return _dead(str(error))


def _waits(reason: str) -> Outcome:
    return Outcome(Disposition.WAITS, reason, WAITING_S)


def _dead(reason: str) -> Outcome:
    return Outcome(Disposition.DEAD, reason, is_begun=False)


def _call_guarded(found: DurableReceiver, call: Callable[[], Any], guard: Guard) -> None:
    with guard(found.durable.timeout_s):
        call()


async def _await_guarded(found: DurableReceiver, call: Callable[[], Any]) -> None:
    limit = asyncio.timeout(found.durable.timeout_s)

    try:
        async with limit:
            await call()
    except TimeoutError:
        if limit.expired():
            raise ReceiverTimeoutError from None

        raise


def _failed(row: Row, found: DurableReceiver, error: BaseException) -> Outcome:
    """Return the outcome of an attempt whose receiver raised.

    The reason names the class of the exception only: its message may show values of the payload.
    """
    reason = f"{describe(found.receiver)} raised {type(error).__qualname__}"
    logger.warning(
        "Message %s: attempt %d of %d: %s",
        row.message_id,
        row.attempts,
        found.durable.max_attempts,
        reason,
        exc_info=error,
    )

    if row.attempts >= found.durable.max_attempts:
        return Outcome(Disposition.DEAD, f"{reason}, in the last of {row.attempts} attempts")

    try:
        return Outcome(Disposition.FAILED, reason, seconds_of(found.durable.backoff, row.attempts))
    except Exception as broken:
        logger.exception("The backoff of %r failed; the message waits a minute", found.durable)
        return Outcome(Disposition.FAILED, f"{reason}, and its backoff raised {type(broken).__qualname__}", 60.0)
