"""The Celery runner: the options and settings that it refuses or warns of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery  # type: ignore[import-untyped, unused-ignore]
from kombu import entity

from aldis.exceptions import AldisWarning, InvalidOptionError, RelayWarning
from aldis.relay import DrainCounts, Relay
from aldis.relay.celery import CeleryRunner

if TYPE_CHECKING:
    from collections.abc import Callable


TASK = "aldis.relay.receive"

# kombu has no types.
a_queue: Any = entity.Queue
an_exchange: Any = entity.Exchange


# Errors and warnings.


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((None,), "takes a Celery application, not a NoneType"),
        ((Celery("x", set_as_current=False), {"name": ""}), "name of a task"),
        ((Celery("x", set_as_current=False), {"name": 5}), "name of a task"),
        ((Celery("x", set_as_current=False), {"timeout_s": 0}), "timeout_s must be a number"),
    ],
)
def test_options_that_could_not_work_are_refused(arguments: Any, match: str) -> None:
    """A runner needs an application, a name and a positive number of seconds."""
    app: Any = arguments[0]
    options: dict[str, Any] = arguments[1] if len(arguments) > 1 else {}

    with pytest.raises(InvalidOptionError, match=match):
        CeleryRunner(app, **options)


def test_order_is_refused(make_app: Callable[..., Any], engine: Any) -> None:
    """A delivery with a key is refused when it is made, because a fleet keeps no order."""
    relay = Relay(engine, runner=CeleryRunner(make_app()))

    with pytest.raises(InvalidOptionError, match=r"relay.durable\('mail'\) cannot have key='user_id'.*keeps no order"):
        relay.durable("mail", key="user_id")


def test_an_engine_is_of_one_relay(make_app: Callable[..., Any], engine: Any) -> None:
    """Two relays cannot share a runner, nor the name of a task."""
    app = make_app()
    shared = CeleryRunner(app)
    Relay(engine, runner=shared)

    for taken in (shared, CeleryRunner(app)):
        with pytest.raises(InvalidOptionError, match=rf"has a relay's task '{TASK}' already"):
            Relay(engine, runner=taken)

    Relay(engine, runner=CeleryRunner(app, name="shop.relay"))
    assert {"shop.relay", TASK} <= set(app.tasks)
    assert repr(CeleryRunner(app, name="shop.relay")).endswith(", name='shop.relay')")


def test_a_relay_is_of_its_own_application(make_app: Callable[..., Any], engine: Any) -> None:
    """The task is not registered with other applications of the process."""
    Relay(engine, runner=CeleryRunner(make_app()))
    other = make_app()
    other.finalize()

    assert TASK not in other.tasks


def test_the_task_is_safe_whatever_the_settings_are(make_app: Callable[..., Any], engine: Any) -> None:
    """Late acknowledgements, no results and JSON are the task's own settings."""
    app = make_app(task_acks_late=False, task_reject_on_worker_lost=False, task_serializer="pickle")
    Relay(engine, runner=CeleryRunner(app))
    task = app.tasks[TASK]

    assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, True, True)
    assert task.serializer == "json"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"broker_url": "memory://"}, "memory transport: it keeps no message safe"),
        ({"broker_url": "filesystem://"}, "filesystem transport"),
        ({"task_annotations": {TASK: {"acks_late": False}}}, f"task_annotations turn acks_late off for {TASK}"),
        ({"task_annotations": {"*": {"acks_late": False, "reject_on_worker_lost": False}}}, "acks_late and reject_on_"),
        ({"accept_content": ["yaml"]}, "accept_content has no 'json'"),
        ({"task_queues": [a_queue("q", durable=False)]}, "'q' loses messages: it has durable=False"),
        ({"task_queues": [a_queue("q", auto_delete=True, no_ack=True)]}, "auto_delete=True, no_ack=True.*task_routes"),
    ],
)
def test_settings_that_lose_messages_are_refused(
    make_app: Callable[..., Any], engine: Any, settings: dict[str, Any], match: str
) -> None:
    """No worker of the relay starts with settings that always lose messages."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    with pytest.raises(InvalidOptionError, match=match):
        relay.drain()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"broker_url": "redis://127.0.0.1:1"}, "Redis does not confirm.*only 3600 seconds after"),
        (
            {"broker_url": "redis://127.0.0.1:1", "broker_transport_options": {"visibility_timeout": 7}},
            r"only 7 seconds after.*\(visibility_timeout\)",
        ),
        ({"broker_url": "sqla+sqlite://"}, "tested with RabbitMQ and Redis, and not with sql"),
        ({"task_queues": [a_queue("q", message_ttl=5)]}, "'q' has x-message-ttl: it may drop messages"),
        ({"task_queues": [a_queue("q", queue_arguments={"x-max-length": 5})]}, "'q' has x-max-length"),
    ],
)
def test_settings_that_could_lose_messages_are_warned_of(
    make_app: Callable[..., Any], engine: Any, settings: dict[str, Any], match: str
) -> None:
    """A worker of the relay warns of settings that can lose messages, and says what can be lost."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    with pytest.warns(RelayWarning, match=match):
        relay.drain()

    assert issubclass(RelayWarning, AldisWarning)
    assert issubclass(RelayWarning, RuntimeWarning)


@pytest.mark.parametrize(
    "settings",
    [
        {"accept_content": ["application/json"]},
        {"task_queues": [a_queue("q", queue_arguments={"x-queue-type": "quorum"})]},
        {"task_routes": {TASK: {"exchange": an_exchange("orders", type="topic"), "routing_key": "relay"}}},
        {"task_always_eager": True, "broker_url": "memory://"},
    ],
)
def test_other_settings_are_fine(make_app: Callable[..., Any], engine: Any, settings: dict[str, Any]) -> None:
    """With other settings, a worker of the relay starts without a warning."""
    relay = Relay(engine, runner=CeleryRunner(make_app(task_default_queue="q", **settings)))
    relay.create_tables()

    assert relay.drain() == DrainCounts()


def test_a_misconfigured_worker_says_so(tmp_path: Path) -> None:
    """On the command line, a misconfigured worker ends with the exit code that says that a restart does not help."""
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\nfrom sqlalchemy import create_engine\nfrom aldis.relay import Relay\n"
        "from aldis.relay.celery import CeleryRunner\n"
        "app = Celery('shop', broker='memory://')\n"
        "relay = Relay(create_engine('sqlite:///shop.sqlite'), runner=CeleryRunner(app))\n"
    )
    command = [sys.executable, "-m", "aldis", "relay", "worker", "shop:relay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)

    assert done.returncode == 78, done.stderr
    assert "Error: CeleryRunner cannot use the memory transport" in done.stderr
