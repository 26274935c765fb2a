"""The failure policy "log": the logger ``aldis`` logs each failure, and the send goes on."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from aldis import NamedSignal, Namespace, Signal
from aldis._core.failures import Failure, SenderPolicy
from aldis.delivery import threads

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2"


class Broken(Exception):
    pass


def fails(sender: Any, **payload: Any) -> None:
    raise Broken


async def fails_async(sender: Any, **payload: Any) -> None:
    raise Broken


def works(sender: Any, **payload: Any) -> str:
    return "worked"


async def works_async(sender: Any, **payload: Any) -> str:
    return "worked"


def send(signal: Signal[Any, ..., Any]) -> Any:
    signal.connect(fails)
    signal.connect(works)
    return signal.send(SECRET, password=SECRET)


def send_async(signal: Signal[Any, ..., Any]) -> Any:
    signal.connect(fails_async)
    signal.connect(works_async)
    return asyncio.run(signal.send_async(SECRET, password=SECRET))


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "aldis"]


@pytest.mark.parametrize("send", [send, send_async])
def test_a_failure_is_logged_and_the_other_receivers_have_results(
    send: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """E3: under "log", a failure is logged with its exception, and the send returns the results of the other
    receivers."""
    [(_, result)] = send(NamedSignal("lamp", errors="log"))

    [line] = lines(caplog)
    assert result == "worked"
    assert line.levelno == logging.ERROR
    assert line.exc_info is not None
    assert isinstance(line.exc_info[1], Broken)


def test_a_logged_failure_names_the_signal_and_the_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """E3: the log message names the signal and the receiver with its place, and shows no sender and no payload."""
    send(NamedSignal("lamp", errors="log"))

    [line] = lines(caplog)
    message = line.getMessage()
    assert "fails" in message
    assert f"{__file__}:{fails.__code__.co_firstlineno}" in message
    assert "'lamp'" in message
    assert SECRET not in message


def test_a_signal_without_a_name_is_named_by_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """E3: the log message about a signal without a name has the name of its class."""
    send(Signal(errors="log"))

    [line] = lines(caplog)
    assert "'Signal'" in line.getMessage()


def test_a_delivery_s_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """E3: under "log", a receiver that fails in a delivery is logged, and its future has the result None."""
    signal = NamedSignal("lamp", errors="log")

    with ThreadPoolExecutor(1) as executor:
        signal.connect(fails, via=threads(executor))
        [(_, future)] = signal.send()
        assert future.result() is None

    assert len(lines(caplog)) == 1


def test_a_namespace_can_log(caplog: pytest.LogCaptureFixture) -> None:
    """E3: a namespace with errors="log" makes signals that log."""
    signal = Namespace(errors="log").signal("lamp")

    assert signal.errors == "log"
    assert [result for _, result in send(signal)] == ["worked"]
    assert len(lines(caplog)) == 1


def test_an_interrupt_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """E3: an exception that is no subclass of Exception stops the send under "log" too."""
    signal = Signal(errors="log")

    @signal.connect
    def interrupt(sender: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signal.send()

    assert lines(caplog) == []


def test_a_logger_that_fails_fails_the_send_after_all_receivers() -> None:
    """E3: "log" works like a callable that logs: an exception of the logger is raised by the send, after all
    receivers ran."""

    class Refuses(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError

    signal, called = Signal(errors="log"), []
    signal.connect(fails)

    @signal.connect
    def works(sender: Any) -> None:
        called.append(sender)

    refuses = Refuses()
    logging.getLogger("aldis").addFilter(refuses)

    try:
        with pytest.raises(OSError):
            signal.send()
    finally:
        logging.getLogger("aldis").removeFilter(refuses)

    assert called == [None]


def test_a_policy_may_choose_log_by_the_sender(caplog: pytest.LogCaptureFixture) -> None:
    """E3: a policy that depends on the sender may choose "log", also if it is called as a callable."""
    signal = NamedSignal("lamp", errors=SenderPolicy(lambda sender: "log"))

    assert [result for _, result in send(signal)] == ["worked"]
    SenderPolicy(lambda sender: "log")(Failure(signal, fails, None, Broken()))
    assert len(lines(caplog)) == 2
