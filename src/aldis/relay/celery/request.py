"""How a Celery worker treats the relay's messages: one leaves the broker only when its task has ended as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import exceptions  # type: ignore[import-untyped, unused-ignore]  # pyright: ignore[reportMissingTypeStubs]

if TYPE_CHECKING:

    class CeleryRequest:
        """As much of it as is used here. Celery has no types."""

        def reject(self, requeue: bool) -> None: ...
        def on_timeout(self, soft: bool, timeout: float) -> None: ...
        def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None: ...
else:
    from celery.worker.request import Request as CeleryRequest

# What the task, or who revoked it, has said what to do about.
_DECIDED: Final = (exceptions.Ignore, exceptions.Reject, exceptions.Terminated)


class Request(CeleryRequest):
    """Gives a message back to the broker where Celery would acknowledge it though its task has failed.

    Celery acknowledges what it killed at a hard time limit and what raised, late acknowledgements or not. The relay's
    task raises nothing, but a soft time limit may hit it at any line.
    """

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Called when a time limit of Celery's is over."""
        if not soft:
            self.reject(requeue=True)  # Nothing that is called from here on can acknowledge it.

        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        """Called when the task, or its process, has failed."""
        error = exc_info.exception

        if not isinstance(getattr(error, "exc", error), _DECIDED):  # It may be wrapped, to carry its traceback.
            self.reject(requeue=True)

        super().on_failure(exc_info, *args, **options)
