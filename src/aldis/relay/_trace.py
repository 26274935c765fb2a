"""OpenTelemetry's trace context, which crosses with a message where the program uses OpenTelemetry."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

_LONGEST = 8000


def written() -> str | None:
    """The trace context of here, to be stored; ``None`` where there is none, or nobody uses OpenTelemetry."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")

    if propagate is None:
        return None

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    stored = json.dumps(carrier)
    return stored if carrier and len(stored) <= _LONGEST else None


@contextmanager
def restored(stored: str | None) -> Generator[None, None, None]:
    """Have a stored trace context be the current one, in a ``with`` block. What cannot be read is ignored."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    carrier = _carrier(stored)

    if propagate is None or not carrier:
        yield
        return

    from opentelemetry import context

    token = context.attach(propagate.extract(carrier))

    try:
        yield
    finally:
        context.detach(token)


def _carrier(stored: str | None) -> dict[str, str]:
    try:
        found: Any = json.loads(stored or "{}")
    except (ValueError, RecursionError):
        return {}

    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
