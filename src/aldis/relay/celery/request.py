"""Acknowledge a message to the broker only when its task has ended properly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import exceptions  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore[reportMissingTypeStubs]

if TYPE_CHECKING:

    class CeleryRequest:
        """The part of Celery's class that is used here. Celery has no types."""

        def reject(self, requeue: bool) -> None:
            """Return the message to the broker, or drop it."""

        def on_timeout(self, soft: bool, timeout: float) -> None:
            """Handle a time limit that is over."""

        def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
            """Handle a task, or its process, that has failed."""
else:
    from celery.worker.request import Request as CeleryRequest

# Exceptions by which the task, or a revocation, has decided what happens with the message.
_DECIDED: Final = (exceptions.Ignore, exceptions.Reject, exceptions.Terminated)


class Request(CeleryRequest):
    """Returns a message to the broker when Celery would acknowledge it although its task has failed.

    Even with late acknowledgements, Celery acknowledges a task that it killed at a hard time limit, and a task that
    raised. The relay's task raises nothing, but a soft time limit may interrupt it at any line.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Return the message to the broker when a hard time limit of Celery is over."""
        if not soft:
            self.reject(requeue=True)  # From here on, nothing can acknowledge it.

        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        """Return the message to the broker when the task, or its process, has failed."""
        error = exc_info.exception

        # Celery may wrap the exception, to keep its traceback.
        if not isinstance(getattr(error, "exc", error), _DECIDED):
            self.reject(requeue=True)

        super().on_failure(exc_info, *args, **options)
