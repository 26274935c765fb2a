"""Publish to the broker of a Celery application. A message counts as published only after its confirmation."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from aldis.exceptions import InvalidOptionError, RelayWarning

if TYPE_CHECKING:
    from collections.abc import Generator

_PERSISTENT: Final = 2
_VISIBLE_S: Final = 3600

# Attributes with which a Queue of kombu may lose messages, each with its safe value.
_HARMFUL: Final = {"durable": True, "auto_delete": False, "exclusive": False, "no_ack": False}
_LIMITS: Final = {
    "expires": "x-expires",
    "message_ttl": "x-message-ttl",
    "max_length": "x-max-length",
    "max_length_bytes": "x-max-length-bytes",
}


@final
class Broker:
    """Publishes messages for one task, and refuses settings that would lose them.

    :param app: the Celery application.
    :param task: the name of the task.
    :param timeout_s: for how many seconds the broker may leave a message unconfirmed.
    """

    def __init__(self, app: Any, task: str, timeout_s: float) -> None:
        self._app = app
        self._task = task
        self._timeout_s = timeout_s
        self._idle: list[tuple[int, Any]] = []

    @property
    def is_eager(self) -> bool:
        """Return whether tasks run where they are sent. Tests may configure Celery in this way."""
        return bool(self._app.conf.task_always_eager)

    def publish(self, envelope: dict[str, Any], receiver: str) -> None:
        """Publish an envelope, and wait until the broker has confirmed it.

        :param envelope: the envelope.
        :param receiver: the receiver's name, which Celery's logs and events show for the message.
        :raises Exception: when the broker may not have the message: it is away, refused the message, or has no queue
            for it.
        """
        with self._producer() as producer:
            self._app.send_task(
                self._task,
                (envelope,),
                producer=producer,
                retry=False,
                mandatory=True,
                delivery_mode=_PERSISTENT,
                timeout=self._timeout_s,
                serializer="json",
                expires=None,
                ignore_result=True,
                add_to_parent=False,
                shadow=receiver,
                argsrepr="(...)",  # Payloads must not be logged.
                kwargsrepr="{}",
            )

    @contextmanager
    def _producer(self) -> Generator[Any, None, None]:
        """Return a producer with a connection of its own.

        After an error the connection is closed, because a late confirmation must not count for another message.
        """
        connection = self._idle_connection() or self._connect()

        try:
            yield self._app.amqp.Producer(connection, auto_declare=False)
        except BaseException:
            _drop(connection)
            raise

        self._idle.append((os.getpid(), connection))

    def _idle_connection(self) -> Any:
        while self._idle:
            pid, connection = self._idle.pop()

            if pid == os.getpid():  # Otherwise it belongs to the process from which this one was forked.
                return connection

        return None

    def _connect(self) -> Any:
        connection = self._app.connection_for_write()
        options: dict[str, Any] = connection.transport_options
        connection.transport_options = {**self._timeouts(connection), **options, **_confirms(connection)}

        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except BaseException:
            _drop(connection)
            raise

        return connection

    def _timeouts(self, connection: Any) -> dict[str, float]:
        """Return options with which a silent broker cannot hold a thread for ever."""
        names = {"amqp": ("read_timeout", "write_timeout"), "redis": ("socket_timeout", "socket_connect_timeout")}
        return dict.fromkeys(names.get(connection.transport.driver_type, ()), self._timeout_s)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while (connection := self._idle_connection()) is not None:
            connection.release()

    # Settings.

    def check(self) -> None:
        """Refuse settings that would lose messages, and warn of settings that might.

        :raises InvalidOptionError: when messages would be lost.
        """
        with self._app.connection_for_write() as connection:
            kind: str = connection.transport.driver_type
            visible_s = connection.transport_options.get("visibility_timeout", _VISIBLE_S)

        self._check_task()
        self._check_queue()

        if kind in ("memory", "filesystem"):
            raise InvalidOptionError(
                f"CeleryRunner cannot use the {kind} transport: it keeps no message safe. Set broker_url to a RabbitMQ"
                " (amqp://)."
            )

        if kind == "redis":
            _warn(
                "Redis does not confirm that a message is safe: what it has not written to its disk, or not copied to"
                " its replica, is lost when it fails. Turn appendonly on, set maxmemory-policy to noeviction, or use"
                f" RabbitMQ. And it delivers the messages of a dead worker to another worker only {visible_s} seconds"
                " after they were fetched (visibility_timeout). If a receiver runs for longer than that, its message is"
                " received a second time."
            )
        elif kind != "amqp":
            _warn(f"CeleryRunner is tested with RabbitMQ and Redis, and not with {kind}, which may lose messages.")

    def _check_task(self) -> None:
        task = self._app.tasks[self._task]
        changed = [name for name in ("acks_late", "reject_on_worker_lost") if not getattr(task, name)]

        if changed:
            raise InvalidOptionError(
                f"task_annotations turn {' and '.join(changed)} off for {self._task}. Leave the relay's task out of"
                " them: its messages would be lost with a worker."
            )

        if "json" not in (accepted := set(self._app.conf.accept_content)) and "application/json" not in accepted:
            raise InvalidOptionError(
                "accept_content has no 'json', so Celery's workers would drop the relay's messages."
            )

    def _check_queue(self) -> None:
        queue: Any = self._app.amqp.router.route({}, self._task, (), {}).get("queue")

        if queue is None:
            return  # The task is published to an exchange. The user set it up and knows where its messages go.

        harm = [
            f"{name}={getattr(queue, name)}"
            for name, safe in _HARMFUL.items()
            if bool(getattr(queue, name)) is not safe
        ]

        if harm:
            raise InvalidOptionError(
                f"The queue {queue.name!r} loses messages: it has {', '.join(harm)}. Route {self._task} to another by"
                " task_routes."
            )

        arguments: dict[str, Any] = queue.queue_arguments or {}
        limits = [key for name, key in _LIMITS.items() if getattr(queue, name) is not None or key in arguments]

        if limits:
            _warn(f"The queue {queue.name!r} has {', '.join(limits)}: it may drop messages of the relay.")


def _confirms(connection: Any) -> dict[str, bool]:
    return {"confirm_publish": True} if connection.transport.driver_type == "amqp" else {}


def _drop(connection: Any) -> None:
    """Close a connection without telling the broker, which may not answer any more."""
    collect = getattr(connection._connection, "collect", None)

    if collect is not None:
        collect()

    connection.release()


def _warn(message: str) -> None:
    warnings.warn(message, RelayWarning, stacklevel=4)
