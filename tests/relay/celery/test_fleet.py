"""Celery worker processes receive the messages that a relay worker has published, also after kills."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

import pytest

from aldis.relay import DrainCounts
from tests.relay.celery.brokers import PATIENCE_S, RABBITMQ, REDIS, Place, answering, soon
from tests.relay.celery.shop_program import attempts, made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.program,
    pytest.mark.filterwarnings("ignore:Redis does not confirm:aldis.exceptions.RelayWarning"),
]


@pytest.fixture(scope="module", params=[RABBITMQ, REDIS], ids=["rabbitmq", "redis"])
def broker(request: pytest.FixtureRequest) -> str:
    return answering(request.param)


@pytest.fixture(scope="module")
def fleet(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a shop with a Celery worker."""
    with Place(tmp_path_factory.mktemp("fleet"), broker) as place, place.worker("--pool", "solo"):
        yield place


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a shop with RabbitMQ, and a Celery worker that kills tasks after a second."""
    place = Place(tmp_path_factory.mktemp("limited"), answering(RABBITMQ))

    with place, place.worker("--pool", "prefork", "--time-limit", "1"):
        yield place


def send(place: Place, do: str = "") -> str:
    """Send an order, and return the message's id."""
    [(_, message_id)] = place.shop.ordered.send("customer", do=do)
    return str(message_id)


def row_of(place: Place, message_id: str) -> Any:
    return next((row for row in place.rows() if row.message_id == message_id and row.token is None), None)


def test_celery_runs_receivers(fleet: Place) -> None:
    """The Celery worker receives a message once, in its first attempt, and no row is left."""
    message_id = send(fleet)
    assert fleet.shop.relay.drain() == DrainCounts(done=1)
    soon(lambda: message_id in fleet.ids(made))

    assert fleet.ids(attempts).count(message_id) == 1
    assert row_of(fleet, message_id) is None


def test_celery_awaits_async_receivers(fleet: Place) -> None:
    """A Celery worker awaits an async receiver, like any worker."""
    [(_, message_id)] = fleet.shop.shipped.send("customer", do="")
    fleet.shop.relay.drain()

    soon(lambda: message_id in fleet.ids(made))


def test_what_fails_comes_again_until_it_is_dead(fleet: Place) -> None:
    """Attempts are counted, a backoff is between them, and the last failure makes a dead letter."""
    message_id = send(fleet, "fail")
    fleet.shop.relay.drain()
    row = soon(lambda: row_of(fleet, message_id))
    assert (row.attempts, fleet.shop.relay.drain()) == (1, DrainCounts())

    fleet.deliver(fleet.shop.relay.dead_letters)
    [letter] = fleet.shop.relay.dead_letters()
    fleet.shop.relay.drop_dead(letter.id)
    assert (letter.message_id, letter.attempts) == (message_id, 2)
    assert letter.reason.endswith(") raised OSError, in the last of 2 attempts")
    assert fleet.ids(attempts).count(message_id) == 2
    assert message_id not in fleet.ids(made)


def test_what_takes_too_long_is_interrupted(fleet: Place) -> None:
    """timeout_s holds in a Celery worker."""
    message_id = send(fleet, "linger")
    fleet.shop.relay.drain()
    row = soon(lambda: row_of(fleet, message_id))

    assert row.failure.endswith(") raised ReceiverTimeoutError")
    fleet.forget(message_id)


def test_what_is_unknown_there_waits(fleet: Place) -> None:
    """A message for a receiver that the Celery worker's deploy does not know is not lost, and uses no attempt."""

    def newcomer(sender: object, *, do: str) -> None: ...

    fleet.shop.shipped.connect(newcomer, via=fleet.shop.relay.durable("shop.newcomer"))
    fleet.shop.shipped.send("customer", do="")
    fleet.shop.relay.drain()
    row = soon(lambda: next((row for row in fleet.rows() if row.receiver == "shop.newcomer" and not row.token), None))

    assert row.attempts == 0
    assert row.failure == "no receiver of that name is connected for that sender here"
    fleet.forget(row.message_id)


def test_a_relay_worker_killed_before_it_deletes_leaves_a_duplicate(fleet: Place) -> None:
    """A row whose relay worker died before the deletion is published again: two messages of one id, and one effect."""
    message_id = send(fleet)
    assert fleet.publish_and_die() == (-signal.SIGKILL, "done")
    soon(lambda: fleet.ids(attempts).count(message_id) == 1)
    assert [row.message_id for row in fleet.rows() if row.token] == [message_id]

    fleet.hurry()
    assert fleet.shop.relay.drain() == DrainCounts(done=1)
    soon(lambda: fleet.ids(attempts).count(message_id) == 2)
    assert fleet.ids(made).count(message_id) == 1
    assert row_of(fleet, message_id) is None


def test_a_celery_worker_killed_in_a_receiver_loses_nothing(broker: str, tmp_path: Path) -> None:
    """After a Celery worker was killed, another one releases the message, which is then received, with one effect."""
    with Place(tmp_path, broker, visibility_s=2) as place:
        message_id = send(place, "die_once")

        with place.worker("--pool", "solo") as process:
            place.shop.relay.drain()
            assert process.wait(PATIENCE_S) == -signal.SIGKILL

        if broker == REDIS:
            place.outlast_visibility()

        with place.worker("--pool", "solo"):
            row = soon(lambda: row_of(place, message_id))
            assert (row.attempts, row.crashes, row.failure) == (0, 1, "its worker died, or lost its connection")

            place.deliver(lambda: message_id in place.ids(made))
            assert place.ids(attempts).count(message_id) == 2
            assert place.ids(made).count(message_id) == 1


def test_a_message_that_kills_its_workers_is_a_dead_letter(limited: Place) -> None:
    """A message that kills its Celery workers becomes a dead letter, and other messages are received meanwhile."""
    message_id, other_id = send(limited, "die"), send(limited)
    limited.deliver(limited.shop.relay.dead_letters)

    [letter] = limited.shop.relay.dead_letters()
    limited.shop.relay.drop_dead(letter.id)
    assert (letter.message_id, letter.reason) == (message_id, "its workers died, or lost their connection, 3 times")
    assert limited.ids(attempts).count(message_id) == 3
    assert limited.ids(made).count(other_id) == 1


def test_a_hard_time_limit_of_celery_loses_nothing(limited: Place) -> None:
    """When Celery kills a task at its time limit and acknowledges it, the message is a row again, and only one."""
    [(_, message_id)] = cast("Any", limited.shop.packed).send("customer", do="")
    limited.shop.relay.drain()
    row = soon(lambda: row_of(limited, message_id))
    other_id = send(limited)
    limited.shop.relay.drain()
    soon(lambda: other_id in limited.ids(made))

    assert (row.attempts, row.crashes) in {(0, 1), (1, 0)}
    assert [row.message_id for row in limited.rows()] == [message_id]
    limited.forget(message_id)
