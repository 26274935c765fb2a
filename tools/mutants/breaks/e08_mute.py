"""E8: `muted()` nests, holds for the current thread or task alone, and can name receivers."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="mute-ends-all",
        what="The end of an inner `muted` block ends the outer one too.",
        at="MuteScope.close",
        old="self.registry.count_mute(-1)",
        new="self.registry.count_mute(-self.registry.mutes)",
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-forgets-the-outer",
        what="An inner `muted` block replaces the outer one.",
        at="MuteScope.open",
        old="(*(scope for scope in _open.get() if scope.is_open), self)",
        new="(self,)",
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-never-ends-in-tasks",
        what="A task that was started inside a `muted` block stays muted after the block.",
        at="muted_keys",
        old="scope.is_open and scope.registry is registry",
        new='getattr(scope, "registry", registry) is registry',
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-of-other-signals",
        what="A `muted` block mutes other signals too, if they are muted somewhere else.",
        at="muted_keys",
        old="scope.is_open and scope.registry is registry",
        new="scope.is_open",
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-everywhere",
        what="A `muted` block mutes other threads and tasks too.",
        at="SendRun.__init__",
        old="None if registry.is_muted else muted_keys(registry)",
        new="None if registry.is_muted or registry.mutes else muted_keys(registry)",
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-names-the-last",
        what="Of nested blocks that name receivers, only the innermost mutes its receivers.",
        at="muted_keys",
        old="keys |= scope.keys",
        new="keys = scope.keys",
        tests=("test_e08_mute.py",),
    ),
    Break(
        name="mute-unnoticed",
        what="A `muted` block does not mute a signal that was sent before the block.",
        at="ConnectionRegistry.count_mute.change",
        old="self.close_fast_ways()",
        new="pass",
        tests=("test_e08_mute.py",),
    ),
)
