"""The extension: failure policies of applications, wrappers for async receivers, several applications."""

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
    """Make an application with the extension and one view."""
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
    """Without the extension, failures act as in Flask: the response is a 500, and got_request_exception raises."""
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
    """With "log", a failed receiver changes no response, the others run, and the failure is logged and counted."""
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
    """A callable policy is called with each failure; if it raises, the request gets this exception."""
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
    """The policy belongs to the sender: an application with another policy, or without one, is not affected."""
    quiet, loud, plain = make("log", "quiet"), make("propagate", "loud"), Flask("plain")
    plain.get("/")(lambda: "index")
    break_at(room.request_started)

    for app, status in ((quiet, 200), (loud, 500), (plain, 500)):
        logging.getLogger(app.name).disabled = True
        assert app.test_client().get("/").status_code == status


def test_the_signal_s_own_policy_is_for_those_without_one() -> None:
    """A policy that was set on the signal earlier holds for applications that propagate, and for other senders."""
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
    """A delivery that asks the signal for its policy gets the policy of the sender."""
    failures: list[Failure] = []
    app = make(failures.append)
    make("log", "other")
    errors: Any = room.request_started.errors
    errors(Failure(room.request_started, break_at, app, OSError("x")))
    assert len(failures) == 1

    with pytest.raises(OSError, match="x"):
        errors(Failure(room.request_started, break_at, Flask("plain"), OSError("x")))


def test_an_application_beside_one_with_a_policy_stops_at_the_first_failure() -> None:
    """E3: an application with "propagate" stops at the first failure, whatever other applications have chosen."""
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
    """An invalid configuration is refused at init_app, and the application then has no extension."""
    app = Flask("shop")
    app.config["ALDIS_ERRORS"] = errors

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        Aldis(app)

    assert "aldis" not in app.extensions


def test_an_async_policy_is_refused() -> None:
    """An async policy is refused, because no code would await it."""

    async def policy(failure: Failure) -> None: ...

    with pytest.raises(InvalidOptionError, match="ALDIS_ERRORS"):
        make(policy)


def test_twice_is_refused() -> None:
    """A second init_app of the same application is refused."""
    app = make()

    with pytest.raises(InvalidOptionError, match="Aldis already"):
        Aldis(app)


def test_a_factory() -> None:
    """One extension serves several applications, and keeps no reference to them."""
    signals = Namespace()
    extension = Aldis(show=[signals])
    first, second = Flask("first"), Flask("second")
    extension.init_app(first)
    extension.init_app(second)
    states = [app.extensions["aldis"] for app in (first, second)]
    assert states[0] is not states[1]
    assert [state.shown for state in states] == [(signals,)] * 2
    assert first not in vars(extension).values()


# Wrappers for async receivers.


def test_async_receivers_of_any_signal_cross_through_the_application() -> None:
    """E9: in an application with the extension, send runs async receivers of signals that have no wrapper."""
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
    """Outside of a context, or in an application without the extension, send raises before any receiver runs."""
    make()
    signal = Signal()

    @signal.connect
    async def receiver(sender: Any) -> None: ...

    with pytest.raises(AsyncReceiverError):
        signal.send()

    with Flask("plain").app_context(), pytest.raises(AsyncReceiverError):
        signal.send()


def test_in_an_async_view_send_is_refused() -> None:
    """E9: in a running event loop, send raises before any receiver runs, and send_async works."""
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
    """send_async takes no wrapper from a sync application."""
    app, signal = make(), Signal()

    @signal.connect
    def receiver(sender: Any) -> None: ...

    with app.app_context(), pytest.raises(AsyncReceiverError):
        asyncio.run(signal.send_async())


def test_flask_s_signals_are_where_they_were() -> None:
    """The extension itself connects no receiver."""
    make("log")
    assert not any(getattr(flask.signals, signal.name.replace("-", "_")).receivers for signal in CORE)
