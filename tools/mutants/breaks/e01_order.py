"""E1: receivers are called by priority, then in the order in which they were connected."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="priority-ignored",
        what="The priority of a connection does not count.",
        at="Connection.order",
        old="-self.options.priority",
        new="0",
        tests=("test_e01_order.py",),
    ),
    Break(
        name="priority-upside-down",
        what="Receivers of lower priority are called first.",
        at="Connection.order",
        old="-self.options.priority",
        new="self.options.priority",
        tests=("test_e01_order.py",),
    ),
    Break(
        name="connecting-order-lost",
        what="Receivers for any sender are called before those for one sender, whenever they were connected.",
        at="ConnectionRegistry.insert",
        old="self._serial += 1",
        new="self._serial += 0",
        tests=("test_e01_order.py",),
    ),
    Break(
        name="looking-unordered",
        what="`signal.receivers` lists receivers in another order than a send calls them.",
        at="ConnectionRegistry.connections",
        old="sorted((c for c in found if c.ref() is not None), key=lambda connection: connection.order)",
        new="[c for c in found if c.ref() is not None]",
        tests=("test_e01_order.py",),
    ),
)
