"""OpenTelemetry for the relay: attempts are spans in the sender's trace, and waiting messages are measured."""

# The end of this file has wrong calls.
# mypy: disable-error-code="arg-type"
# pyright: reportArgumentType=false

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from aldis import InvalidOptionError, Namespace
from aldis.relay import DrainCounts, Relay
from aldis.relay.otel import instrument
from aldis.relay.worker.attempts import Observer
from aldis.relay.worker.worker import Settings, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aldis.observe import Watch
    from aldis.relay.worker.attempts import Attempt

SECRET = "ada@example.org"


class Stumbled(Exception):
    """The exception that receivers raise here."""


class Desk:
    """A sender that has a name while it is alive."""


class Room:
    """A relay with a declared signal, and the telemetry of this test."""

    def __init__(self, url: str, telemetry: Any) -> None:
        self.url = url
        self.telemetry = telemetry
        self.engine: Engine = create_engine(url)
        self.relay = Relay(self.engine)
        self.relay.create_tables()
        self.signals = Namespace()

        @self.signals.declare
        def user_registered(sender: Any, /, *, email: str) -> None: ...

        self.registered = user_registered

    def connect(self, receiver: Callable[..., Any], name: str, **options: Any) -> None:
        options.setdefault("backoff", 0.0)
        self.registered.connect(receiver, weak=False, via=self.relay.durable(name, **options))

    def send(self, sender: Any = SECRET) -> None:
        self.registered.send(sender, email=SECRET)

    def instrument(self, **options: Any) -> Watch:
        telemetry = self.telemetry
        providers = {"tracer_provider": telemetry.tracer_provider, "meter_provider": telemetry.meter_provider}
        return instrument(self.relay, **providers, **options)

    def values(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return the points of a metric: the attributes, and the value or the number of values."""
        return [
            (dict(point.attributes), point.count if hasattr(point, "count") else point.value)
            for point in self.telemetry.points.get(name, ())
        ]


def hear(sender: Any, **payload: Any) -> None: ...


def stumble(sender: Any, **payload: Any) -> None:
    raise Stumbled(SECRET)


async def hear_async(sender: Any, **payload: Any) -> None: ...


@pytest.fixture
def room(tmp_path: Path, telemetry: Any) -> Iterator[Room]:
    room = Room(f"sqlite:///{tmp_path / 'test.sqlite'}", telemetry)
    yield room
    room.engine.dispose()


def process_spans(telemetry: Any) -> list[Any]:
    return [span for span in telemetry.spans if span.name.startswith("process ")]


# Spans.


def test_one_trace_has_the_send_and_the_attempt(room: Room, telemetry: Any) -> None:
    """One trace has the request, the send, the attempt in a worker's thread, and the attempt's own spans."""

    def welcome(sender: Any, **payload: Any) -> None:
        with telemetry.tracer.start_as_current_span("query"):
            pass

    room.connect(welcome, "mail.welcome")

    with telemetry.instrument(), telemetry.tracer.start_as_current_span("request"):
        room.send()

    with room.instrument():
        Worker(room.relay, Settings(concurrency=2, drains=True)).run()

    sent: Any = ("send user-registered", [("deliver welcome", []), ("process welcome", [("query", [])])])
    assert telemetry.trees == [("request", [sent])]


PROGRAM = """
import json, os, sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from sqlalchemy import create_engine
from aldis import Namespace
from aldis.relay import Relay
from aldis.relay.otel import instrument

relay = Relay(create_engine(os.environ["URL"]))
signals = Namespace()

@signals.declare
def user_registered(sender: str, /, *, email: str) -> None: ...

@user_registered.connect(via=relay.durable("mail.welcome", backoff=0.0))
def welcome(sender, *, email, **extra):
    if relay.current().attempt == 1:
        raise LookupError

tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.to_json(None) + "\\n")))
instrument(relay, tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()]))
"""


def test_a_worker_in_another_process_goes_on_with_the_trace(room: Room, telemetry: Any, tmp_path: Path) -> None:
    """Attempts in another process are in the sender's trace, below its span, and have no values of the payload."""
    room.connect(hear, "mail.welcome")

    with telemetry.tracer.start_as_current_span("request") as request:
        room.send()

    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "aldis", "relay", "worker", "program:relay", "--drain"]
    environ = {**os.environ, "URL": room.url, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=600)
    spans = [json.loads(line) for line in result.stdout.splitlines()]
    context = request.get_span_context()
    assert [(span["name"], span["kind"]) for span in spans] == [("process mail.welcome", "SpanKind.CONSUMER")] * 2
    assert [span["attributes"]["aldis.message.outcome"] for span in spans] == ["failed", "done"]
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{context.trace_id:032x}"}
    assert {span["parent_id"] for span in spans} == {f"0x{context.span_id:016x}"}
    assert SECRET not in result.stdout


def test_what_a_span_of_an_attempt_has(room: Room, telemetry: Any) -> None:
    """A span of an attempt has the kind CONSUMER, with names and numbers by OpenTelemetry's conventions for messaging
    and by ours.
    """
    room.connect(hear, "mail.welcome")

    with room.instrument():
        room.send()
        room.relay.drain()

    [span] = process_spans(telemetry)
    message_id = span.attributes["aldis.message.id"]
    assert len(message_id) == 36
    assert dict(span.attributes) == {
        "aldis.signal.name": "user-registered",
        "aldis.receiver.name": "mail.welcome",
        "aldis.message.id": message_id,
        "aldis.message.attempt": 1,
        "aldis.message.outcome": "done",
        "code.function.name": f"{__name__}.hear",
        "code.file.path": hear.__code__.co_filename,
        "code.line.number": hear.__code__.co_firstlineno,
        "messaging.system": "aldis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail.welcome",
        "messaging.message.id": message_id,
    }
    assert (span.name, span.kind) == ("process mail.welcome", SpanKind.CONSUMER)
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert span.instrumentation_scope.name == "aldis.relay"


def test_attempts_that_fail(room: Room, telemetry: Any) -> None:
    """Each attempt has its own span, with the exception's type only; the last span says that the message is a dead
    letter.
    """
    room.connect(stumble, "mail.welcome", max_attempts=2)

    with room.instrument():
        room.send()
        assert room.relay.drain() == DrainCounts(failed=1, dead=1)

    spans = process_spans(telemetry)
    assert [span.attributes["aldis.message.attempt"] for span in spans] == [1, 2]
    assert [span.attributes["aldis.message.outcome"] for span in spans] == ["failed", "dead"]

    for span in spans:
        assert span.attributes["error.type"] == f"{__name__}.Stumbled"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        [event] = span.events
        assert (event.name, dict(event.attributes)) == ("exception", {"exception.type": f"{__name__}.Stumbled"})


def test_exceptions_are_recorded_in_full_when_that_is_asked_for(room: Room, telemetry: Any) -> None:
    """With record_exceptions, the event has the exception's text and the place where it was raised."""
    room.connect(stumble, "mail.welcome", max_attempts=1)

    with room.instrument(record_exceptions=True):
        room.send()
        room.relay.drain()

    [span] = process_spans(telemetry)
    [event] = span.events
    assert event.attributes["exception.type"] == span.attributes["error.type"] == f"{__name__}.Stumbled"
    assert event.attributes["exception.message"] == SECRET
    assert "in stumble" in event.attributes["exception.stacktrace"]


def test_a_row_that_cannot_be_read(room: Room, telemetry: Any) -> None:
    """An attempt that ends in a dead letter before its receiver runs has no function in its span, and no error type."""
    room.connect(hear, "mail.welcome")
    room.send()

    with room.engine.begin() as connection:
        connection.execute(text("UPDATE aldis_messages SET payload = '['"))

    with room.instrument():
        assert room.relay.drain() == DrainCounts(dead=1)

    [span] = process_spans(telemetry)
    assert "code.function.name" not in span.attributes
    assert (span.attributes["aldis.message.outcome"], span.attributes["error.type"]) == ("dead", "_OTHER")
    assert (span.status.status_code, span.events) == (StatusCode.ERROR, ())


def test_a_message_that_has_to_wait(room: Room, telemetry: Any) -> None:
    """A message that cannot be received here now is shown as waiting, which is no failure and has no latency."""
    room.connect(hear, "mail.welcome")
    desk = Desk()
    room.relay.register_sender(desk, "desk")
    room.send(desk)
    del desk
    gc.collect()

    with room.instrument():
        assert room.relay.drain() == DrainCounts(waiting=1)
        attributes = {"aldis.receiver.name": "mail.welcome", "aldis.message.outcome": "waits"}
        assert room.values("aldis.relay.attempts") == [(attributes, 1)]
        assert room.values("aldis.relay.latency") == []

    [span] = process_spans(telemetry)
    assert (span.attributes["aldis.message.outcome"], span.status.status_code) == ("waits", StatusCode.UNSET)


def test_async_receivers_are_below_their_attempt(room: Room, telemetry: Any) -> None:
    """An async receiver runs in another thread, and its spans are still below its attempt."""

    async def welcome(sender: Any, **payload: Any) -> None:
        with telemetry.tracer.start_as_current_span("query"):
            pass

    room.connect(welcome, "mail.welcome")

    with room.instrument():
        room.send()
        room.relay.drain()

    assert telemetry.trees == [("process welcome", [("query", [])])]
    [span] = process_spans(telemetry)
    assert span.attributes["aldis.receiver.async"] is True


def test_receivers_without_a_place(room: Room, telemetry: Any) -> None:
    """A receiver whose place in the source is unknown has no place in its span."""

    noted: dict[str, Any] = {}
    room.connect(noted.update, "mail.welcome")

    with room.instrument():
        room.send("")
        room.relay.drain()

    assert noted == {"email": SECRET}
    [span] = process_spans(telemetry)
    assert span.attributes["code.function.name"] == "dict.update"
    assert "code.file.path" not in span.attributes


def test_what_a_receiver_sends_is_below_its_attempt(room: Room, telemetry: Any) -> None:
    """The durable sends of a durable receiver continue the trace, attempt by attempt."""
    thanked = room.signals.declare(thanked_contract)

    def welcome(sender: Any, **payload: Any) -> None:
        thanked.send(sender)

    room.connect(welcome, "mail.welcome")
    thanked.connect(hear, via=room.relay.durable("mail.thanks"))

    with telemetry.instrument(), room.instrument():
        room.send()
        room.relay.drain()

    again: Any = ("send thanked", [("deliver hear", []), ("process thanks", [])])
    below = [("deliver welcome", []), ("process welcome", [again])]
    assert telemetry.trees == [("send user-registered", below)]


def thanked_contract(sender: str, /) -> None: ...


thanked_contract.__name__ = "thanked"


def test_nothing_is_current_when_an_attempt_has_ended(room: Room) -> None:
    """Two watches at once, and a receiver that raises, leave the context as it was."""
    room.connect(stumble, "mail.welcome", max_attempts=1)

    with room.instrument(), room.instrument():
        room.send()
        room.relay.drain()
        assert trace.get_current_span() is trace.INVALID_SPAN

    assert len(process_spans(room.telemetry)) == 2


# The trace context in a message.


def test_without_a_trace_context_an_attempt_begins_a_trace(room: Room, telemetry: Any) -> None:
    """A message that was sent outside of a trace, or without OpenTelemetry, has spans without a parent."""
    room.connect(hear, "mail.welcome")
    room.send()

    with room.engine.begin() as connection:
        assert connection.scalar(text("SELECT trace FROM aldis_messages")) is None

    with room.instrument():
        room.relay.drain()

    assert telemetry.trees == [("process welcome", [])]


@pytest.mark.parametrize("stored", ["[", "[]", '"x"', "{}", '{"traceparent": "nonsense"}', "[" * 100_000, b"\xff", 7])
def test_ill_meant_trace_contexts_are_ignored(room: Room, telemetry: Any, stored: Any) -> None:
    """A message is received, whatever its trace context contains."""
    room.connect(hear, "mail.welcome")
    room.send()

    with room.engine.begin() as connection:
        connection.execute(text("UPDATE aldis_messages SET trace = :stored"), {"stored": stored})

    with room.instrument():
        assert room.relay.drain() == DrainCounts(done=1)

    assert telemetry.trees == [("process welcome", [])]


class Propagator:
    """Writes a given trace context, or fails, and reads nothing."""

    fields: Any = ()

    def __init__(self, carrier: dict[str, str] | None) -> None:
        self.carrier = carrier

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        if self.carrier is None:
            raise LookupError

        carrier.update(self.carrier)

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        raise LookupError


@pytest.fixture
def usual() -> Iterator[None]:
    """Restore the usual propagators after the test."""
    propagators = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(propagators)


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("carrier", [None, {"a": "b"}, {"a": "b" * 9000}], ids=["fails", "is heard", "says too much"])
def test_propagators_of_another_make(room: Room, telemetry: Any, carrier: dict[str, str] | None) -> None:
    """Neither a send nor an attempt fails if a propagator raises or writes too much."""
    propagate.set_global_textmap(Propagator(carrier))  # type: ignore[arg-type, unused-ignore]
    room.connect(hear, "mail.welcome")

    with room.instrument():
        room.send()

        with room.engine.begin() as connection:
            stored = connection.scalar(text("SELECT trace FROM aldis_messages"))

        assert stored == ('{"a": "b"}' if carrier == {"a": "b"} else None)
        assert room.relay.drain() == DrainCounts(done=1)

    assert telemetry.trees == [("process welcome", [])]


def test_a_program_without_opentelemetry_does_not_load_it(tmp_path: Path) -> None:
    """Neither the relay nor a send nor a received message with a trace context imports OpenTelemetry."""
    program = """if True:
        import sys
        from sqlalchemy import create_engine, text
        from aldis import Namespace
        from aldis.relay import Relay

        engine = create_engine("sqlite:///" + sys.argv[1])
        relay = Relay(engine)
        relay.create_tables()

        @Namespace().declare
        def saved(sender: str, /) -> None: ...

        @saved.connect(via=relay.durable("index"))
        def index(sender): ...

        saved.send("page")

        with engine.begin() as connection:
            connection.execute(text("UPDATE aldis_messages SET trace = '{\\"traceparent\\": \\"x\\"}'"))

        print(relay.drain(), any(name.startswith("opentelemetry") for name in sys.modules))
        engine.dispose()
    """
    assert run(program, str(tmp_path / "test.sqlite")) == "DrainCounts(done=1) False"


# Metrics.


def test_attempts_are_measured(room: Room) -> None:
    """Attempts are counted and timed by receiver and outcome, and a message has the latency of its first attempt."""
    room.connect(stumble, "mail.welcome", max_attempts=2)
    room.connect(hear, "index")

    with room.instrument():
        room.send()
        room.send()
        room.relay.drain()

        error = {"error.type": f"{__name__}.Stumbled"}
        stumbled, heard = {"aldis.receiver.name": "mail.welcome"}, {"aldis.receiver.name": "index"}
        counts = {
            (("aldis.message.outcome", outcome), *sorted({**receiver, **more}.items())): 2
            for receiver, outcome, more in ((stumbled, "failed", error), (stumbled, "dead", error), (heard, "done", {}))
        }

        for name in ("aldis.relay.attempts", "aldis.relay.attempt.duration"):
            assert {tuple(sorted(attributes.items())): count for attributes, count in room.values(name)} == counts

        latencies = room.values("aldis.relay.latency")
        assert sorted(latencies, key=str) == [(heard, 2), (stumbled, 2)]
        [first, *_] = room.telemetry.points["aldis.relay.latency"]
        assert 0 <= first.min <= first.max < 60
        assert first.explicit_bounds[-1] == 86400


def test_a_clock_that_is_behind_gives_no_negative_latency(room: Room) -> None:
    """A message that was sent in the future, by the database's clock, has the latency zero."""
    room.connect(hear, "mail.welcome")
    room.send()

    with room.engine.begin() as connection:
        connection.execute(text("UPDATE aldis_messages SET sent_ms = sent_ms + 3600000"))

    with room.instrument():
        room.relay.drain()
        [point] = room.telemetry.points["aldis.relay.latency"]
        assert point.max == 0


def test_what_waits_is_measured(room: Room) -> None:
    """When they are collected, the gauges show the database's current state: each receiver's backlog, age, dead
    letters.
    """
    room.connect(stumble, "mail.welcome", max_attempts=1)

    with room.instrument():
        of_receiver = {"aldis.receiver.name": "mail.welcome"}
        assert room.values("aldis.relay.backlog") == [(of_receiver, 0)]
        room.send()
        room.send()

        with room.engine.begin() as connection:
            connection.execute(text("UPDATE aldis_messages SET sent_ms = sent_ms - 60000"))

        points = room.telemetry.points
        assert [point.value for point in points["aldis.relay.backlog"]] == [2]
        assert [60 <= point.value < 120 for point in points["aldis.relay.oldest_age"]] == [True]
        assert [point.value for point in points["aldis.relay.dead_letters"]] == [0]
        room.relay.drain()
        assert room.values("aldis.relay.backlog") == [(of_receiver, 0)]
        assert room.values("aldis.relay.dead_letters") == [(of_receiver, 2)]


def test_one_collection_asks_once(room: Room) -> None:
    """One collection reads the database once, as Relay.status does, for all gauges; the next one reads it again."""
    statements: list[str] = []
    event.listen(room.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    room.relay.status()
    once = len(statements)

    with room.instrument():
        for times in (2, 3):
            room.values("")
            assert len(statements) == times * once


def test_a_database_that_is_away(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """While the database cannot be read, there are no values and one warning; later there are values again."""
    room.connect(hear, "mail.welcome")

    with room.instrument():
        for _ in range(2):
            with room.engine.begin() as connection:
                connection.execute(text("ALTER TABLE aldis_messages RENAME TO gone"))

            assert room.values("aldis.relay.backlog") == room.values("aldis.relay.oldest_age") == []
            assert [(record.name, record.levelname) for record in caplog.records] == [("aldis.relay", "WARNING")]
            assert "cannot be measured" in caplog.text
            caplog.clear()

            with room.engine.begin() as connection:
                connection.execute(text("ALTER TABLE gone RENAME TO aldis_messages"))

            assert len(room.values("aldis.relay.backlog")) == 1

    assert caplog.records == []


def test_what_cannot_be_asked_for_other_reasons(
    room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure outside of the database is reported too, once for any number of collections."""

    def status() -> None:
        raise LookupError("no engine")

    monkeypatch.setattr(room.relay, "status", status)

    with room.instrument():
        for _ in range(2):
            assert room.values("aldis.relay.backlog") == []

    assert caplog.text.count("no engine") == 1


def test_an_error_of_the_database_shows_no_values(
    room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the database says of a statement that fails is logged without the statement's parameters."""

    def status() -> None:
        raise OperationalError("SELECT :email", {"email": SECRET}, Exception("the disk is gone"))

    monkeypatch.setattr(room.relay, "status", status)

    with room.instrument():
        assert room.values("aldis.relay.backlog") == []

    assert "the disk is gone" in caplog.text
    assert SECRET not in caplog.text


# No values.


def test_nothing_of_a_payload_is_anywhere(room: Room, telemetry: Any) -> None:
    """Neither spans nor metrics have values of payloads, senders or exceptions."""
    room.connect(stumble, "mail.welcome", max_attempts=2)
    room.connect(hear_async, "index")

    with telemetry.instrument(), room.instrument():
        room.send()
        room.relay.drain()

        with room.engine.begin() as connection:
            assert SECRET in str(connection.scalar(text("SELECT payload FROM aldis_dead_letters")))

        assert len(process_spans(telemetry)) == 3
        assert all(SECRET not in span.to_json() for span in telemetry.spans)
        assert SECRET not in telemetry.reader.get_metrics_data().to_json()


# On, off, and failures of OpenTelemetry itself.


def test_when_it_stops_nothing_is_left(room: Room, telemetry: Any) -> None:
    """After stop() there are no spans and no metrics, and an attempt makes no record."""
    room.connect(hear, "mail.welcome")
    watch = room.instrument()
    assert not watch.is_stopped
    assert len(room.values("aldis.relay.backlog")) == 1
    watch.stop()
    watch.stop()
    room.send()
    assert room.relay.drain() == DrainCounts(done=1)
    assert telemetry.spans == []
    assert telemetry.points == {}
    assert room.relay._parts.consumer.observers.watches == ()
    assert repr(watch) == "<Watch of aldis.relay.otel._Telemetry, stopped>"


def test_what_is_open_ends_when_it_stops(room: Room, telemetry: Any) -> None:
    """A watch that a receiver stops ends the span of that attempt."""
    watch = room.instrument()
    room.connect(lambda sender, **payload: watch.stop(), "mail.welcome")
    room.send()
    room.send()
    room.relay.drain()
    assert [span.name for span in telemetry.spans] == ["process mail.welcome"]
    assert trace.get_current_span() is trace.INVALID_SPAN


class Failing:
    """A processor of spans that fails at the beginning or the end of one of them."""

    def __init__(self, moment: str, name: str, error: type[BaseException]) -> None:
        self.moment = moment
        self.name = name
        self.error = error

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.fail("on_start", span)

    def on_end(self, span: Any) -> None:
        self.fail("on_end", span)

    def fail(self, moment: str, span: Any) -> None:
        if (moment, f"process {self.name}") == (self.moment, span.name):
            raise self.error

    def _on_ending(self, span: Any) -> None: ...

    def shutdown(self) -> None: ...


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["inner", "outer"])
@pytest.mark.parametrize("moment", ["on_start", "on_end"])
def test_a_telemetry_that_fails(
    room: Room, telemetry: Any, caplog: pytest.LogCaptureFixture, moment: str, name: str, error: type[BaseException]
) -> None:
    """If a span cannot be made or ended, this is reported once, the watch is removed, and messages are received."""
    telemetry.tracer_provider.add_span_processor(Failing(moment, name, error))
    inner = room.signals.declare(thanked_contract)
    inner.connect(hear, via=room.relay.durable("inner"))

    def pass_on(sender: Any, **payload: Any) -> None:
        inner.send(sender)
        assert room.relay.drain() == DrainCounts(done=1)

    room.connect(pass_on, "outer")

    with room.instrument() as watch:
        room.send()
        assert room.relay.drain() == DrainCounts(done=1)
        assert watch.is_stopped
        assert trace.get_current_span() is trace.INVALID_SPAN
        room.send()
        assert room.relay.drain() == DrainCounts(done=1)

    assert [record.getMessage() for record in caplog.records] == [
        "The watcher aldis.relay.otel._Telemetry failed and was removed. Signals and receivers are not affected."
    ]


def test_nothing_is_kept(room: Room, telemetry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A running watch keeps neither exceptions nor records of attempts, and the meters keep no relay."""
    caplog.set_level(logging.CRITICAL, "aldis.relay")  # pytest keeps the objects that are logged.
    raised: list[Any] = []

    def fall(sender: Any, **payload: Any) -> None:
        error = Stumbled()
        raised.append(weakref.ref(error))
        raise error

    room.connect(fall, "mail.welcome", max_attempts=1)
    watch: Any = room.instrument()
    room.send()
    room.relay.drain()
    gc.collect()
    assert [ref() for ref in raised] == [None]
    assert watch.watcher._open == {}
    kept = weakref.ref(room.relay)
    del watch, room.relay
    room.signals.clear()
    room.registered = None  # type: ignore[assignment]
    gc.collect()
    assert kept() is None
    assert "aldis.relay.backlog" not in telemetry.points


def test_records_of_attempts_let_go_of_exceptions(room: Room) -> None:
    """An observer sees the exception when the attempt ends; the record that it keeps has plain values only."""
    seen: list[Any] = []

    class Keeps(Observer):
        def attempt_began(self, attempt: Attempt) -> None:
            seen.append((attempt.outcome, attempt.duration_s, attempt.exception))

        def attempt_ended(self, attempt: Attempt) -> None:
            seen.append((attempt, type(attempt.exception)))

    room.connect(stumble, "mail.welcome", max_attempts=1)

    with room.relay._parts.consumer.observers.add(Keeps()):
        room.send()
        room.relay.drain()

    [began, (attempt, kind)] = seen
    assert (began, kind) == ((None, None, None), Stumbled)
    assert (attempt.outcome, attempt.exception, attempt.receiver) == ("dead", None, "mail.welcome")
    assert 0 <= attempt.duration_s < 60


def test_a_relay_that_is_gone(room: Room, telemetry: Any) -> None:
    """Gauges of a relay that was collected, whose watch still exists, have no values."""
    watch = room.instrument()
    room.relay = None  # type: ignore[assignment]
    room.registered = None  # type: ignore[assignment]
    room.signals.clear()
    gc.collect()
    assert "aldis.relay.backlog" not in telemetry.points
    assert not watch.is_stopped


# The package.


def run(program: str, *arguments: str) -> str:
    """Run a program in a new interpreter, and return what it prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout.strip()


def test_a_missing_package_is_named() -> None:
    """Without OpenTelemetry, the import of aldis.relay.otel says what to install."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import aldis.relay.otel\n"
        "except ImportError as error: print(error)"
    )

    assert run(program) == "aldis.otel needs OpenTelemetry's API. Install it with: pip install aldis[otel]"


def test_without_an_sdk_it_does_nothing(room: Room) -> None:
    """With the API alone, whose providers do nothing, messages are received as always."""
    room.connect(hear, "mail.welcome")

    with instrument(room.relay) as watch:
        room.send()
        assert room.relay.drain() == DrainCounts(done=1)
        assert not watch.is_stopped


def test_bad_input_is_refused(room: Room) -> None:
    """Bad arguments are refused at once, and no observer is added."""
    with pytest.raises(InvalidOptionError, match="takes a Relay, not a Engine"):
        instrument(room.engine)

    with pytest.raises(InvalidOptionError, match=r"tracer_provider must be .*not a NoOpTracer"):
        instrument(room.relay, tracer_provider=trace.NoOpTracer())

    with pytest.raises(InvalidOptionError, match="meter_provider must be"):
        instrument(room.relay, meter_provider=trace.NoOpTracerProvider())

    assert room.relay._parts.consumer.observers.watches == ()
