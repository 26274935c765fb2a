"""One message, received: who receives it, with what, and what came of it."""

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

# How long to leave a row that cannot be received here. Another deploy may receive it meanwhile.
WAITING_S: Final = 15.0


class Disposition(Enum):
    """What is to be done with a row."""

    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    WAITS = "waits"


class Outcome(NamedTuple):
    """What came of an attempt, why, for how many seconds to leave the row, if it stays, and whether it began at all."""

    what: Disposition
    why: str = ""
    wait_s: float = 0.0
    is_begun: bool = True


DONE: Final = Outcome(Disposition.DONE)


@final
class Consumer:
    """How one relay's messages are received in this process.

    :ivar scope: gives what is entered around each receiver: an application's context in Flask.
    :ivar async_scope: gives what is entered around each receiver in the loop: an application's context in Quart. If
        there is one, sync receivers run in a thread of the loop.
    :ivar observers: who is told of attempts.
    """

    def __init__(self, registry: ReceiverRegistry, senders: SenderNames) -> None:
        self._registry = registry
        self._senders = senders
        self.scope: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.async_scope: Callable[[], AbstractAsyncContextManager[Any]] | None = None
        self.observers = Observers()

    def receive(self, row: Row, guard: Guard) -> Outcome:
        """Run the receiver of a row.

        :param row: as it was claimed.
        :param guard: entered around the receiver, with its ``timeout_s``.
        """
        prepared = self.prepare(row)

        with attach(row.trace):
            if not self.observers.watches:
                return self._attempt(row, prepared, guard)[0]

            found = None if isinstance(prepared, Outcome) else prepared[0]

            with self.observers.attempt(row, found) as attempt:
                outcome, attempt.exception = self._attempt(row, prepared, guard)
                attempt.outcome = outcome.what.value
                return outcome

    def _attempt(self, row: Row, prepared: Outcome | Prepared, guard: Guard) -> tuple[Outcome, BaseException | None]:
        """Run the receiver, if there is one. Gives what it raised, too."""
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
        except BaseException as error:  # A receiver that exits is no reason to end the worker.
            if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
                raise  # Somebody stops the program that drains the relay.

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
                await _awaited(found, call)
            else:
                await asyncio.to_thread(_call_guarded, found, call, guard)

    def prepare(self, row: Row) -> Outcome | Prepared:
        """Who receives a row, from whom, and with what; or why nobody does."""
        try:
            return self._prepare(row)
        except Exception as error:  # It may be of any make.
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
            return _dead(f"its worker died, or lost it, in the last of {found.durable.max_attempts} attempts")

        payload = _payload_of(row, found)
        return payload if isinstance(payload, Outcome) else (found, sender, payload)


def _payload_of(row: Row, found: DurableReceiver) -> Outcome | dict[str, Any]:
    schema = schema_of(registry_of(found.signal).contract, found.signal)

    if row.version > schema.version:
        return _waits(f"its version {row.version} is newer than the code here")

    if row.payload is None:
        return _dead("the payload is larger than a send may write")

    try:
        return schema.decode(row.payload, row.version)
    except UnreadableError as error:
        return _dead(str(error))


def _waits(why: str) -> Outcome:
    return Outcome(Disposition.WAITS, why, WAITING_S)


def _dead(why: str) -> Outcome:
    return Outcome(Disposition.DEAD, why, is_begun=False)


def _call_guarded(found: DurableReceiver, call: Callable[[], Any], guard: Guard) -> None:
    with guard(found.durable.timeout_s):
        call()


async def _awaited(found: DurableReceiver, call: Callable[[], Any]) -> None:
    limit = asyncio.timeout(found.durable.timeout_s)

    try:
        async with limit:
            await call()
    except TimeoutError:
        if limit.expired():
            raise ReceiverTimeoutError from None

        raise


def _failed(row: Row, found: DurableReceiver, error: BaseException) -> Outcome:
    """What to do after a receiver raised. The reason has the kind of the exception: its message may show values."""
    why = f"{describe(found.receiver)} raised {type(error).__qualname__}"
    logger.warning(
        "Message %s: attempt %d of %d: %s",
        row.message_id,
        row.attempts,
        found.durable.max_attempts,
        why,
        exc_info=error,
    )

    if row.attempts >= found.durable.max_attempts:
        return Outcome(Disposition.DEAD, f"{why}, in the last of {row.attempts} attempts")

    try:
        return Outcome(Disposition.FAILED, why, seconds_of(found.durable.backoff, row.attempts))
    except Exception as broken:
        logger.exception("The backoff of %r failed; the message waits a minute", found.durable)
        return Outcome(Disposition.FAILED, f"{why}, and its backoff {type(broken).__qualname__}", 60.0)
