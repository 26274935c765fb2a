"""The trace context of OpenTelemetry. It crosses with a message if the program uses OpenTelemetry."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator

logger: Final = logging.getLogger("aldis.relay")

_LONGEST = 8000


def inject() -> str | None:
    """Return the current trace context, in a form to store; ``None`` if there is none, or OpenTelemetry is not used."""
    if not _is_in_use():
        return None

    carrier: dict[str, str] = {}

    try:
        from opentelemetry import propagate

        propagate.inject(carrier)
        stored = json.dumps(carrier)
    except Exception:  # A propagator may run any code, and its failure must not make the send fail.
        logger.debug("The trace context could not be written", exc_info=True)
        return None

    return stored if carrier and len(stored) <= _LONGEST else None


@contextmanager
def attach(stored: str | None) -> Generator[None, None, None]:
    """Make a stored trace context current in a ``with`` block. Ignore it if it cannot be read."""
    found = _extracted(stored) if stored and _is_in_use() else None

    if found is None:
        yield
        return

    from opentelemetry import context

    token = context.attach(found)

    try:
        yield
    finally:
        context.detach(token)


def _is_in_use() -> bool:
    # Every program that uses OpenTelemetry imports this module. The module of propagators may be imported only by
    # Aldis.
    return "opentelemetry.context" in sys.modules


def _extracted(stored: str) -> Any:
    carrier = _carrier(stored)

    if not carrier:
        return None

    try:
        from opentelemetry import propagate

        return propagate.extract(carrier)
    except Exception:
        logger.debug("The trace context could not be read", exc_info=True)
        return None


def _carrier(stored: str) -> dict[str, str]:
    try:
        found: Any = json.loads(stored)
    except (ValueError, TypeError, RecursionError):
        return {}

    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
