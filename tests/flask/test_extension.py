"""The extension: policies of an application, crossing to async receivers, several applications."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import flask.signals
import pytest
from flask import Flask, current_app

import aldis.flask as room
from aldis import AsyncReceiverError, Failure, InvalidOptionError, Namespace, Signal
from aldis.flask import Aldis, failures_of
from aldis.observe import SendRecord, watch

if TYPE_CHECKING:
    from collections.abc import Callable


def make(errors: Any = None, name: str = "shop") -> Flask:
    """An application with the extension, and one view."""
    app = Flask(name)
    app.logger.disabled = False

    if errors is not None:
        app.config["ALDIS_ERRORS"] = errors

    Aldis(app)

    @app.get("/")
    def index() -> str:
        return "index"

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    return app


def break_at(signal: Any, error: type[Exception] = OSError) -> Callable[..., Any]:
    """Connect a receiver that fails."""

    def broken(sender: Any, **payload: Any) -> None:
        raise error("secret")

    broken.__qualname__ = f"broken_at_{signal.name}"
    return signal.connect(broken, weak=False)  # type: ignore[no-any-return]


def test_without_it_nothing_changes() -> None:
    """The default is Flask's: request_finished makes a 500 of the response, got_request_exception raises out of it."""
    app = make()
    app.logger.disabled = True
    receiver = break_at(room.request_finished)
    assert app.test_client().get("/").status_code == 500
    room.request_finished.disconnect(receiver)
    break_at(room.got_request_exception)

    with pytest.raises(OSError, match="secret"):
        app.test_client().get("/broken")


CORE = room._core_signals.CORE_SIGNALS
BREAKABLE = [signal for signal in CORE if "template" not in signal.name and "flash" not in signal.name]


@pytest.mark.parametrize("signal", BREAKABLE, ids=lambda signal: signal.name)
@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/broken", 500)])
def test_log_changes_no_response(signal: Any, path: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """With "log", a receiver that raises changes no response, the others run, and the failure is logged and counted."""
    app = make("log")
    ran: list[str] = []
    break_at(signal)

    def after(sender: Any, **payload: Any) -> None:
        ran.append("after")

    signal.connect(after, priority=-1)
    records: list[SendRecord] = []

    with caplog.at_level(logging.ERROR), watch(records.append, signal):
        assert app.test_client().get(path).status_code == status

    sent = signal.name != "got-request-exception" or status == 500
    logged = [record for record in caplog.records if "failed on" in record.message]
    assert len(logged) == len(ran) == sent
    assert [record.name for record in logged] == ["shop"] * sent
    assert all(f"broken_at_{signal.name}" in record.message and record.exc_info for record in logged)
    assert sum(failures_of(app).values()) == sent
    assert [[call.outcome for call in record.calls] for record in records] == [["raised", "returned"]] * sent


def test_a_policy_of_one_s_own() -> None:
    """A callable is handed each failure; if it raises, that is what the request gets."""
    failures: list[Failure] = []
    app = make(failures.append)
    receiver = break_at(room.request_started)
    assert app.test_client().get("/").status_code == 200
    (failure,) = failures
    assert (failure.receiver, failure.sender, type(failure.exception)) == (receiver, app, OSError)

    def strict(failure: Failure) -> None:
        raise failure.exception

    other = make(strict, "other")
    other.logger.disabled = True
    assert other.test_client().get("/").status_code == 500


def test_each_application_has_its_own() -> None:
    """The policy is the sender's: an application without one, or with another, is not affected."""
    quiet, loud, plain = make("log", "quiet"), make("propagate", "loud"), Flask("plain")
    plain.get("/")(lambda: "index")
    break_at(room.request_started)

    for app, status in ((quiet, 200), (loud, 500), (plain, 500)):
        logging.getLogger(app.name).disabled = True
        assert app.test_client().get("/").status_code == status


def test_the_signal_s_own_policy_is_for_those_without_one() -> None:
    """What was set on the signal before holds for applications that propagate, and for sends by others."""
    got: list[Failure] = []
    room.message_flashed.errors = got.append
    quiet = make("log", "quiet")
    logging.getLogger("quiet").disabled = True
    break_at(room.message_flashed)
    room.message_flashed.send(quiet, message="x", category="y")
    assert got == []
    room.message_flashed.send(Flask("plain"), message="x", category="y")
    assert len(got) == 1
    make("log", "second")
    room.message_flashed.send(Flask("plain"), message="x", category="y")
    assert len(got) == 2


def test_a_failure_can_be_handed_to_the_signal_s_policy() -> None:
    """What asks the signal for its policy, as deliveries do, gets that of the sender."""
    failures: list[Failure] = []
    app = make(failures.append)
    make("log", "other")
    errors: Any = room.request_started.errors
    errors(Failure(room.request_started, break_at, app, OSError("x")))
    assert len(failures) == 1

    with pytest.raises(OSError, match="x"):
        errors(Failure(room.request_started, break_at, Flask("plain"), OSError("x")))


def test_an_application_beside_one_with_a_policy_stops_at_the_first_failure() -> None:
    """E3: who keeps "propagate" has it in full, whatever another application in the process has chosen."""
    make("log")
    usual = make()
    called: list[str] = []
    break_at(room.request_started)
    room.request_started.connect(lambda sender: called.append("next"), weak=False)

    with pytest.raises(OSError, match="secret"):
        room.request_started.send(usual)

    assert called == []


@pytest.mark.parametrize("errors", ["ignore", 3, None])
def test_what_is_no_policy_is_refused(errors: Any) -> None:
    """A configuration that cannot be is refused when the application is set up, which then has no extension."""
    app = Flask("shop")
    app.config["ALDIS_ERRORS"] = errors

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        Aldis(app)

    assert "aldis" not in app.extensions


def test_an_async_policy_is_refused() -> None:
    """Nobody would await it."""

    async def policy(failure: Failure) -> None: ...

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        make(policy)


def test_twice_is_refused() -> None:
    """An application is set up once."""
    app = make()

    with pytest.raises(InvalidOptionError, match="Aldis already"):
        Aldis(app)


def test_a_factory() -> None:
    """One extension serves several applications, and keeps none of them."""
    signals = Namespace()
    extension = Aldis(show=[signals])
    first, second = Flask("first"), Flask("second")
    extension.init_app(first)
    extension.init_app(second)
    states = [app.extensions["aldis"] for app in (first, second)]
    assert states[0] is not states[1]
    assert [state.shown for state in states] == [(signals,)] * 2
    assert first not in vars(extension).values()


# Crossing to async receivers.


def test_async_receivers_of_any_signal_cross_through_the_application() -> None:
    """E9: in an application with the extension, send runs async receivers of signals that do not say how."""
    app, signal = make(), Signal()
    ran: list[str] = []

    @signal.connect
    async def receiver(sender: Any) -> str:
        await asyncio.sleep(0)
        ran.append(current_app.name)
        return "done"

    with app.app_context():
        assert signal.send() == [(receiver, "done")]

    assert ran == ["shop"]


def test_elsewhere_they_do_not() -> None:
    """Outside a context, and in an application without the extension, it is refused before anything ran."""
    make()
    signal = Signal()

    @signal.connect
    async def receiver(sender: Any) -> None: ...

    with pytest.raises(AsyncReceiverError):
        signal.send()

    with Flask("plain").app_context(), pytest.raises(AsyncReceiverError):
        signal.send()


def test_in_an_async_view_send_is_refused() -> None:
    """E9: where an event loop runs, send is refused before any receiver ran, and send_async works."""
    app, signal = make(), Signal()
    ran: list[str] = []

    @signal.connect
    def first(sender: Any) -> None:
        ran.append("first")

    @signal.connect
    async def receiver(sender: Any) -> None:
        ran.append("async")

    @app.get("/async")
    async def view() -> str:
        with pytest.raises(AsyncReceiverError, match="send_async"):
            signal.send()

        signal.disconnect(first)
        await signal.send_async()
        return "done"

    assert app.test_client().get("/async").text == "done"
    assert ran == ["async"]


def test_sync_receivers_do_not_cross_by_it() -> None:
    """send_async has nothing to learn from an application that is sync."""
    app, signal = make(), Signal()

    @signal.connect
    def receiver(sender: Any) -> None: ...

    with app.app_context(), pytest.raises(AsyncReceiverError):
        asyncio.run(signal.send_async())


def test_flask_s_signals_are_where_they_were() -> None:
    """The extension connects nothing by itself."""
    make("log")
    assert not any(getattr(flask.signals, signal.name.replace("-", "_")).receivers for signal in CORE)
