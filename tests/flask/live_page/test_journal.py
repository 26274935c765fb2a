"""The entries that the live page keeps, and how it shows them."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from flask import Response, stream_with_context

import aldis
from aldis import Namespace
from aldis.delivery import threads
from aldis.flask.live_page.journal import BUDGET, MAX_REQUESTS, MAX_ROWS, Journal
from aldis.flask.live_page.snapshots import current

from .conftest import Shop


def test_nothing(shop: Shop) -> None:
    """At first there are no entries."""
    assert shop.entries() == []


def test_request(shop: Shop) -> None:
    """A request is shown with its path, status and time, and with its sends and their receivers."""

    @shop.placed.connect(priority=3)
    def pack(sender: Any, **payload: Any) -> None: ...

    shop.get("/order?token=abc")
    [entry] = shop.entries()
    assert (entry["method"], entry["path"], entry["status"], entry["failure"]) == ("GET", "/order", 200, None)
    assert entry["duration"] >= 0
    assert entry["closed"] >= entry["duration"]
    assert not entry["partial"]
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    assert send["sender"] == "Flask 'shop'"
    assert send["payload"] == [["order_id", "int"]]
    assert (send["failure"], send["muted"]) == (None, False)
    assert send["offset"] >= 0
    [call] = send["calls"]
    assert call["receiver"].endswith("test_request.<locals>.pack")
    assert call["place"].endswith("page/test_journal.py:" + str(pack.__code__.co_firstlineno))
    assert (call["outcome"], call["failure"], call["priority"]) == ("returned", None, 3)
    assert (call["async"], call["via"], call["sends"]) == (False, None, [])


def test_path(shop: Shop) -> None:
    """A path is shown in readable form, with the application's mount point, and up to a limit."""
    shop.get("/lamps/ö", environ_overrides={"SCRIPT_NAME": "/shop"})
    shop.get("/lamps/" + "x" * 1000)
    first, second = shop.entries()
    assert first["path"] == "/shop/lamps/ö"
    assert len(second["path"]) == 300


def test_failure(shop: Shop) -> None:
    """A failed receiver is shown with its exception's class, and never with the exception's text."""

    @shop.placed.connect
    def break_down(sender: Any, **payload: Any) -> None:
        raise ValueError("the secret is 1234")

    shop.get("/order")
    assert "1234" not in str(shop.events())
    [entry] = shop.entries()
    [call] = next(send["calls"] for send in entry["sends"] if send["signal"] == "order-placed")
    assert (call["outcome"], call["failure"]) == ("raised", "ValueError")


def test_failed_request(shop: Shop) -> None:
    """A request whose exception leaves the application is shown with the exception's class."""
    shop.placed.errors = "propagate"

    @shop.placed.connect
    def break_down(sender: Any, **payload: Any) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        shop.get("/order")

    [entry] = shop.entries()
    assert (entry["status"], entry["failure"]) == (None, "ValueError")
    assert entry["sends"][-1]["failure"] in {None, "ValueError"}
    assert current.get() is None


def test_nested_sends(shop: Shop) -> None:
    """A send of a receiver is shown in the receiver's call."""
    issued = shop.signals.signal("invoice-issued")
    queued = shop.signals.signal("mail-queued")

    @issued.connect
    def mail(sender: Any) -> None:
        queued.send("mail")

    @shop.placed.connect
    def invoice(sender: Any, **payload: Any) -> None:
        issued.send("shop")
        queued.send("again")

    shop.get("/order")
    [entry] = shop.entries()
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    first, second = send["calls"][0]["sends"]
    assert (first["signal"], second["signal"], second["sender"]) == ("invoice-issued", "mail-queued", "'again'")
    assert [nested["signal"] for nested in first["calls"][0]["sends"]] == ["mail-queued"]
    assert not any(send["signal"] == "mail-queued" for send in entry["sends"])
    assert shop.journal._nested == {}


def test_outside_a_request(shop: Shop) -> None:
    """A send outside of a request is shown too, with all sends inside of it."""
    shop.get("/_aldis/")
    swept = shop.signals.signal("swept")
    shop.placed.connect(lambda sender: swept.send("sweeper"), weak=False)
    shop.placed.send("someone")
    [entry] = shop.entries()
    assert (entry["method"], entry["path"], entry["status"]) == (None, "", None)
    [send] = entry["sends"]
    assert (send["signal"], send["calls"][0]["sends"][0]["signal"]) == ("order-placed", "swept")


def test_muted_and_unnamed(journal: Journal) -> None:
    """A muted send is shown as muted, and a signal without a name is shown by its class."""
    signal = aldis.Signal()

    with signal.muted():
        signal.send()

    [entry] = journal.changes(0)
    assert (entry.sends[0].name, entry.sends[0].is_muted, entry.sends[0].sender) == ("Signal", True, "None")


def test_200_are_kept(shop: Shop) -> None:
    """The last 200 requests are kept, and also the last 200 sends outside of requests."""
    shop.journal._clock = iter(range(10_000)).__next__
    shop.journal._second_s = -1  # One request in each second, so that all are recorded.
    shop.get("/lamps/first")

    for number in range(MAX_REQUESTS + 5):
        shop.get(f"/lamps/{number}")
        shop.placed.send("someone")

    entries = shop.journal.changes(0)
    requests = [entry.path for entry in entries if entry.method]
    assert requests == [f"/lamps/{number}" for number in range(5, MAX_REQUESTS + 5)]
    assert len(entries) == 2 * MAX_REQUESTS
    assert shop.journal.requests == MAX_REQUESTS + 6


def test_streamed_response(shop: Shop) -> None:
    """Sends while a response is streamed, and while it is closed, belong to its request."""

    def parts() -> Any:
        shop.placed.send("part")
        yield "a"
        assert current.get() is not None

    @shop.app.get("/stream")
    def stream() -> Response:
        response = Response(stream_with_context(parts()))
        response.call_on_close(lambda: shop.placed.send("closing"))
        return response

    shop.get("/stream")
    assert current.get() is None
    [entry] = shop.entries()
    senders = [send["sender"] for send in entry["sends"] if send["signal"] == "order-placed"]
    assert senders == ["'part'", "'closing'"]


def test_stream_that_breaks(shop: Shop) -> None:
    """A stream that raises is shown with its exception's class."""

    def parts() -> Any:
        yield "a"
        raise KeyError

    shop.app.get("/stream")(parts)

    with pytest.raises(KeyError), shop.client.get("/stream") as response:
        response.get_data()

    [entry] = shop.entries()
    assert (entry["status"], entry["failure"]) == (200, "KeyError")


def test_other_bodies(shop: Shop) -> None:
    """A body that need not be watched goes to the server as it is."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    statuses: list[Any] = []

    class Wrapper(list[bytes]):
        pass

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [], (None, None, None))
        return bodies.pop()

    bodies: list[Any] = [Wrapper(), (b"",), iter([b"one"])]
    shop.page._inner = application
    streamed: Any = shop.page(environ, lambda *answer: statuses.append(answer))
    assert list(streamed) == [b"one"]
    streamed.close()
    assert shop.page(environ, lambda *answer: None) == (b"",)
    environ["wsgi.file_wrapper"] = Wrapper  # type: ignore[assignment]
    assert type(shop.page(environ, lambda *answer: None)) is Wrapper
    assert statuses == [("200 OK", [], (None, None, None))]


def test_request_in_a_request(shop: Shop) -> None:
    """Sends in a request that a receiver makes belong to that request, and other sends to the outer one."""
    signals = Namespace()
    inner = signals.signal("inner")

    @shop.app.get("/inner")
    def view() -> str:
        inner.send("view")
        return ""

    @shop.placed.connect
    def call_ourselves(sender: Any, **payload: Any) -> None:
        shop.app.test_client().get("/inner").close()
        inner.send("receiver")

    shop.get("/order")
    entries = {entry["path"]: entry for entry in shop.entries()}
    assert [send["sender"] for send in entries["/inner"]["sends"] if send["signal"] == "inner"] == ["'view'"]
    [send] = [send for send in entries["/order"]["sends"] if send["signal"] == "order-placed"]
    assert [nested["sender"] for nested in send["calls"][0]["sends"]] == ["'receiver'"]


def test_several_applications(shop: Shop) -> None:
    """An application's page shows its own requests, and no sends of other applications' requests."""
    other = type(shop)()
    shop.get("/order")
    other.get("/order")
    assert [entry["path"] for entry in shop.entries()] == ["/order"]
    assert [entry["path"] for entry in other.entries()] == ["/order"]
    other.journal.sleep()


def test_delivered_later(shop: Shop) -> None:
    """A call that a delivery makes after the send is shown with the send, and so are the call's own sends."""
    go, done = threading.Event(), shop.signals.signal("done")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(go.wait)

        @shop.placed.connect(via=threads(pool))
        def later(sender: Any, **payload: Any) -> None:
            done.send("later")

        shop.get("/order")
        [entry] = shop.entries()
        [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
        assert [call["outcome"] for call in send["calls"]] == ["delivered"]
        last = shop.events()[-2][2]
        go.set()

    [entry] = shop.entries(last)
    [send] = [send for send in entry["sends"] if send["signal"] == "order-placed"]
    first, second = send["calls"]
    assert (first["outcome"], second["outcome"]) == ("delivered", "returned")
    assert "ThreadDelivery" in second["via"] or "threads" in second["via"]
    assert [nested["signal"] for nested in second["sends"]] == ["done"]


def test_delivered_later_in_a_receiver(journal: Journal) -> None:
    """Outside of requests, a receiver's send is shown as it was at its end, and a later call does no harm."""
    signals = Namespace()
    outer, inner = signals.signal("outer"), signals.signal("inner")
    calls: list[Any] = []

    class Late:
        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

        def deliver(self, call: Any, /) -> None:
            calls.append(call)

    inner.connect(lambda sender: None, weak=False, via=Late())
    outer.connect(lambda sender: inner.send(), weak=False)
    outer.send()
    calls[0]()
    [entry] = journal.changes(0)
    [nested] = entry.sends[0].calls[0].sends
    assert ([call.outcome for call in nested.calls], journal.is_watching) == (["delivered"], True)


def test_call_that_outlives_its_send(journal: Journal) -> None:
    """A call that another thread begins during the send is shown once, whenever it ends."""
    signals = Namespace()
    entry = journal.begin("GET", "/")
    signal, go, began = signals.signal("a"), threading.Event(), threading.Event()

    class Hasty:
        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

        def deliver(self, call: Any, /) -> None:
            self.thread = threading.Thread(target=call)
            self.thread.start()
            began.wait()

    hasty = Hasty()

    @signal.connect(via=hasty)
    def slow(sender: Any) -> None:
        began.set()
        go.wait()

    token = current.set(entry)
    signal.send()
    current.reset(token)
    [sent] = entry.sends
    assert [call.outcome for call in sent.calls] == ["delivered"]
    go.set()
    hasty.thread.join()
    assert [call.outcome for call in sent.calls] == ["delivered", "returned"]
    assert entry.size == 3


def test_task_that_outlives_its_receiver(journal: Journal) -> None:
    """A send in a thread that outlives the receiver that started it is shown by itself."""
    import contextvars

    signals = Namespace()
    signal, other = signals.signal("a"), signals.signal("b")
    contexts: list[contextvars.Context] = []
    signal.connect(lambda sender: contexts.append(contextvars.copy_context()), weak=False)
    signal.send()
    contexts[0].run(other.send)
    assert [entry.sends[0].name for entry in journal.changes(0)] == ["a", "b"]


def test_large_requests(journal: Journal) -> None:
    """Of a request with very many sends, the first sends are kept, and the others are counted."""
    one = Namespace().signal("one")
    entry = journal.begin("GET", "/")
    token = current.set(entry)

    for _ in range(MAX_ROWS + 10):
        one.send()

    current.reset(token)
    assert (len(entry.sends), entry.left_out) == (MAX_ROWS, 10)


def test_large_receivers(journal: Journal) -> None:
    """Of a receiver with very many sends, the first sends are kept, and the others are counted."""
    signals = Namespace()
    many, one = signals.signal("many"), signals.signal("one")

    def send_many(sender: Any) -> None:
        for _ in range(MAX_ROWS + 20):
            one.send()

    many.connect(send_many)
    many.send()
    [entry] = journal.changes(0)
    [sent] = entry.sends
    assert (len(sent.calls[0].sends), sent.size) == (MAX_ROWS - 2, MAX_ROWS)
    assert sent.left_out == 22
    assert journal._nested == {}


def test_large_sends(journal: Journal) -> None:
    """Of a send with very many receivers, the first calls are kept, and the others are counted."""
    one = Namespace().signal("one")

    for _ in range(MAX_ROWS + 30):
        one.connect(lambda sender: None, weak=False)

    one.send()
    [entry] = journal.changes(0)
    [sent] = entry.sends
    assert (len(sent.calls), sent.left_out) == (MAX_ROWS - 1, 31)


def test_budget() -> None:
    """When the budget of a second is used up, nothing is watched until the second ends, and the request says so."""
    now = [0.0]
    journal = Journal(clock=lambda: now[0])
    signal = Namespace().signal("a")

    def request(sends: int) -> Any:
        entry = journal.begin("GET", "/")
        token = current.set(entry)

        for _ in range(sends):
            signal.send()

        current.reset(token)
        journal.end(entry)
        return entry

    entries = [request(BUDGET - 1), request(MAX_ROWS), request(3)]
    assert [(len(entry.sends), entry.is_partial) for entry in entries] == [
        (BUDGET - 1, False),
        (MAX_ROWS, False),
        (0, True),
    ]
    assert not journal.is_watching
    now[0] = 1.0
    entry = request(3)
    assert (len(entry.sends), entry.is_partial, journal.is_watching) == (3, False, True)
    entry = journal.begin("GET", "/")
    journal._pause()
    journal.end(entry)
    assert entry.is_partial
    journal.sleep()


def test_budget_outside_requests() -> None:
    """Sends outside of requests have the same budget, until a page is read in the next second."""
    now = [0.0]
    journal = Journal(clock=lambda: now[0])
    journal.wake()
    signal = Namespace().signal("a")

    for _ in range(BUDGET + 5):
        signal.send()

    assert (journal.changes(0)[-1].number, journal.is_watching) == (BUDGET, False)
    journal.wake()
    assert not journal.is_watching
    now[0] = 1.5
    journal.wake()
    assert journal.is_watching
    journal.sleep()


def test_watching_begins_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """When several threads begin to watch at once, only one watcher is added; a watcher that is paused meanwhile stays
    paused.
    """
    from aldis import observe

    journal._watch()
    signal = Namespace().signal("a")
    signal.send()
    assert len(journal.changes(0)) == 1
    journal.sleep()
    watch = observe.watch

    def slow(watcher: Any) -> Any:
        journal._pause()
        return watch(watcher)

    monkeypatch.setattr(observe, "watch", slow)
    journal.wake()
    signal.send()
    assert (journal.is_watching, journal.changes(0)) == (False, [])


def test_no_deadlock(journal: Journal) -> None:
    """A send that would wait for the journal is not recorded, because two threads could wait for each other."""
    signal = Namespace().signal("a")
    held, go = threading.Event(), threading.Event()

    class Late:
        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

        def deliver(self, call: Any, /) -> None:
            self.call = call

    def hold() -> None:
        with journal._lock:
            held.set()
            go.wait()

    late = Late()
    signal.connect(lambda sender: None, weak=False, via=late)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    signal.send()
    late.call()
    go.set()
    thread.join()
    assert journal.changes(0) == []


def test_nothing_is_kept_alive(journal: Journal) -> None:
    """The journal keeps no sender, receiver, signal or value alive, and the watcher keeps no journal alive."""

    class Thing:
        def receive(self, sender: Any, **payload: Any) -> None: ...

    signal = Namespace().signal("a")
    sender, receiver, value = Thing(), Thing(), Thing()
    signal.connect(receiver.receive)
    signal.send(sender, value=value)
    refs = [weakref.ref(thing) for thing in (sender, receiver, value, signal)]
    del sender, receiver, value, signal
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    other = Journal()
    other.wake()
    ref = weakref.ref(other)
    del other
    gc.collect()
    assert ref() is None
    Namespace().signal("b").send()


def test_eye_without_journal(journal: Journal) -> None:
    """A watcher whose journal is collected in the middle of a send records nothing."""
    from aldis.flask.live_page.journal import JournalWatcher
    from aldis.observe import watch

    other = Journal()
    calls: list[Any] = []

    class Late:
        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

        def deliver(self, call: Any, /) -> None:
            calls.append(call)

    signal = Namespace().signal("a")
    signal.connect(lambda sender: None, weak=False, via=Late())

    with watch(JournalWatcher(other)):
        del other
        gc.collect()
        signal.send()
        calls[0]()

    journal.sleep()


def test_receivers_of_their_own_ways(shop: Shop) -> None:
    """Senders, receivers and deliveries that fail when they are asked for their names do not harm the page."""

    class Wayward(str):
        def __repr__(self) -> str:
            raise RuntimeError

        __slots__ = ()

    class Receiver:
        def __call__(self, sender: Any) -> None: ...

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError if name == "__qualname__" else AttributeError

    class Via:
        def check(self, signal: Any, receiver: Any, is_async: bool, /) -> None: ...

        def deliver(self, call: Any, /) -> None: ...

        def __repr__(self) -> str:
            raise RuntimeError

    class Module(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if name == "__name__":
                raise RuntimeError

            return super().__getattribute__(name)

    shop.get("/_aldis/")
    shop.placed.connect(Receiver(), weak=False)
    shop.placed.connect(lambda sender: None, weak=False, via=Via())
    shop.placed.send(Wayward("x"))
    shop.placed.send(Module("m"))
    [entry, other] = shop.entries()
    [send] = entry["sends"]
    assert other["sends"][0]["sender"] == "(a sender without a name)"
    assert send["sender"] == "'x'"
    assert send["calls"][0]["receiver"].endswith("Receiver")
    assert send["calls"][1]["via"].endswith("Via")
    assert shop.journal.is_watching


def test_many_signals(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page knows the signals that were sent as long as they live, up to a thousand."""
    monkeypatch.setattr("aldis.flask.live_page.journal.BUDGET", 10_000)
    kept = Namespace()

    for number in range(1100):
        Namespace().signal(f"gone-{number}").send()

    kept.signal("a").send()
    kept.signal("a").send()
    assert [signal.name for signal in journal.signals()] == ["a"]

    for number in range(1100):
        kept.signal(str(number)).send()

    assert len(list(journal.signals())) == 1000
