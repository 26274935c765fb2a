"""All functions of aldis.testing in one object, for fixtures."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, final

from aldis._core.identity import ANY

from ._isolation import isolate
from ._recording import fake, record
from ._templates import captured_templates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from aldis.observe._selection import AldisSignals, AnySignals

    from ._recording import Recording


@final
class SignalTester:
    """The functions of :mod:`aldis.testing` as methods, whose blocks last until the tester is closed.

    The pytest fixture ``signal_tester`` is one. With unittest, write ``self.enterContext(SignalTester())`` in
    ``setUp``.

    .. versionadded:: 0.1
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks = ExitStack()

    def record(self, *signals: AnySignals, sender: Any = ANY) -> Recording:
        """Record from now on. See :func:`aldis.testing.record`."""
        return self._blocks.enter_context(record(*signals, sender=sender))

    def fake(
        self, *signals: AnySignals, only: Callable[..., Any] | Collection[Callable[..., Any]] | None = None
    ) -> Recording:
        """Keep receivers from running from now on. See :func:`aldis.testing.fake`."""
        return self._blocks.enter_context(fake(*signals, only=only))

    def isolate(self, *signals: AldisSignals) -> None:
        """Put connections back when the tester is closed. See :func:`aldis.testing.isolate`."""
        self._blocks.enter_context(isolate(*signals))

    def captured_templates(self, app: Any) -> list[tuple[Any, Any]]:
        """Record templates from now on. See :func:`aldis.testing.captured_templates`."""
        return self._blocks.enter_context(captured_templates(app))

    def close(self) -> None:
        """End all blocks, the latest first."""
        self._blocks.close()

    def __enter__(self) -> SignalTester:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
