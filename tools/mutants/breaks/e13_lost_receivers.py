"""E13: in development, a weakly held function that dies while it is connected is reported."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="loss-unsaid",
        what="No warning is given for a receiver that was collected while connected.",
        at="_receiver_died",
        old="partial(_warn_of_loss, registry.title, *connection.connected_at)",
        new="partial(str)",
        tests=("test_e13_lost_receivers.py",),
    ),
    Break(
        name="loss-of-partials-unsaid",
        what="No warning is given for a partial that was collected while connected.",
        at="is_easily_lost",
        old="(FunctionType, BuiltinFunctionType, partial)",
        new="(FunctionType, BuiltinFunctionType)",
        tests=("test_e13_lost_receivers.py",),
    ),
    Break(
        name="loss-placed-wrong",
        what="The warning names the place of the first connect, not of the last.",
        at="_update",
        old="connection.connected_at = new.connected_at",
        new="pass",
        tests=("test_e13_lost_receivers.py",),
    ),
)
