"""OpenTelemetry's context travels with a message, by its API alone. For tests with an SDK, see tests/otel."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy import Engine, StaticPool, create_engine, select, update
from sqlalchemy.orm import Session

from aldis import NamedSignal, Namespace
from aldis.relay import DrainCounts, Relay
from aldis.relay.storage.tables import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

SPAN = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def order_placed(sender: Any, /, *, order_id: int) -> object: ...


class Shop:
    """A relay on a database in memory, whose receivers record the context that they run in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relay = Relay(engine)
        self.relay.create_tables()
        self.placed: NamedSignal[Any, ..., Any] = Namespace().declare(order_placed)
        self.seen: list[tuple[int, Any]] = []

    def note(self, sender: Any, **payload: Any) -> None:
        self.seen.append((trace.get_current_span().get_span_context().trace_id, baggage.get_baggage("customer")))

    async def note_async(self, sender: Any, **payload: Any) -> None:
        await asyncio.sleep(0)
        self.note(sender)

    def stored(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(messages.c.trace).order_by(messages.c.id)))


@pytest.fixture
def shop() -> Iterator[Shop]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield Shop(engine)
    engine.dispose()


@pytest.fixture
def traced() -> Iterator[None]:
    """Run the test in a span, with baggage."""
    there = baggage.set_baggage("customer", "Ada", trace.set_span_in_context(NonRecordingSpan(SPAN)))
    token = context.attach(there)
    yield
    context.detach(token)


def elsewhere(work: Any) -> Any:
    """Do some work in the context of another trace, as a worker does."""
    token = context.attach(context.Context())

    try:
        return work()
    finally:
        context.detach(token)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", ["note", "note_async"])
def test_the_context_of_the_send_is_that_of_the_receiver(shop: Shop, kind: str) -> None:
    """The receiver runs in the trace of the send, with its baggage, and afterwards the context is as before."""
    shop.placed.connect(getattr(shop, kind), weak=False, via=shop.relay.durable("billing"))
    shop.placed.send("shop", order_id=1)
    (stored,) = shop.stored()
    assert json.loads(stored)["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"

    def work() -> None:
        assert shop.relay.drain() == DrainCounts(done=1)
        assert not trace.get_current_span().get_span_context().is_valid
        assert baggage.get_baggage("customer") is None

    elsewhere(work)
    assert shop.seen == [(0xABC, "Ada")]


@pytest.mark.usefixtures("traced")
def test_each_attempt_and_each_receiver_is_in_the_trace(shop: Shop) -> None:
    """All receivers of a send run in its trace, in each of their attempts, also after one that raised."""

    def failing(sender: Any, **payload: Any) -> None:
        shop.note(sender)
        raise LookupError

    shop.placed.connect(failing, via=shop.relay.durable("failing", max_attempts=2, backoff=0))
    shop.placed.connect(shop.note, weak=False, via=shop.relay.durable("noting"))
    shop.placed.send("shop", order_id=1)

    assert elsewhere(shop.relay.drain) == DrainCounts(done=1, failed=1, dead=1)
    assert shop.seen == [(0xABC, "Ada")] * 3


@pytest.mark.usefixtures("traced")
def test_the_context_is_that_of_the_send_and_not_of_the_commit(shop: Shop) -> None:
    """The trace context is the send's, wherever the transaction is committed."""
    shop.placed.connect(shop.note, weak=False, via=shop.relay.durable("billing"))

    with Session(shop.engine) as session:
        session.begin()
        shop.placed.send("shop", order_id=1)
        elsewhere(session.commit)

    elsewhere(shop.relay.drain)
    assert shop.seen == [(0xABC, "Ada")]


def test_outside_of_any_trace_nothing_is_written(shop: Shop) -> None:
    """A send outside of any trace writes no context, and its receiver runs outside of any trace."""
    shop.placed.connect(shop.note, weak=False, via=shop.relay.durable("billing"))
    shop.placed.send("shop", order_id=1)
    assert shop.stored() == [None]
    shop.relay.drain()
    assert shop.seen == [(0, None)]


@pytest.mark.usefixtures("traced")
def test_a_context_that_is_too_large_is_left_out(shop: Shop) -> None:
    """A context with too much baggage for a row is not written, and the message is."""
    shop.placed.connect(shop.note, weak=False, via=shop.relay.durable("billing"))
    loaded = context.get_current()

    for number in range(100):
        loaded = baggage.set_baggage(f"key{number}", "x" * 75, loaded)

    token = context.attach(loaded)

    try:
        shop.placed.send("shop", order_id=1)
    finally:
        context.detach(token)

    assert shop.stored() == [None]
    assert elsewhere(shop.relay.drain) == DrainCounts(done=1)
    assert shop.seen == [(0, None)]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "stored", ["", "{", "[]", "null", "{}", '{"traceparent": 3}', "[" * 100_000], ids=lambda s: s[:9]
)
def test_a_context_that_cannot_be_read_is_ignored(shop: Shop, stored: str) -> None:
    """A message with an unreadable context is received, outside of any trace."""
    shop.placed.connect(shop.note, weak=False, via=shop.relay.durable("billing"))
    shop.placed.send("shop", order_id=1)

    with shop.engine.begin() as connection:
        connection.execute(update(messages).values(trace=stored))

    assert elsewhere(shop.relay.drain) == DrainCounts(done=1)
    assert shop.seen == [(0, None)]
