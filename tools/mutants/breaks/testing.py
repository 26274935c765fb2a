"""Testing: fakes and isolation show what a test does, and restore what they found."""

from __future__ import annotations

from typing import Final

from . import Break

BREAKS: Final = (
    Break(
        name="fakes-unseen",
        what="A fake does not keep receivers from running.",
        at="SnapshotCache.is_ordinary",
        old="self.is_custom or self.is_muted or self.mutes > 0 or self.watches or self.interceptors",
        new="self.is_custom or self.is_muted or self.mutes > 0 or self.watches",
        tests=("test_fake.py",),
    ),
    Break(
        name="isolation-forgets",
        what="`isolate` does not reconnect the receivers that were disconnected.",
        at="RegistryBackup.restore",
        old="backup.restore(self._registry)",
        new="pass",
        tests=("test_isolate.py",),
    ),
)
