"""What a break is: a deliberate mistake, which ``mutate.py`` makes to see that a test notices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """One deliberate mistake.

    :ivar what: what is broken.
    :ivar promise: the promise that is broken by it.
    :ivar file: where, below ``src/aldis``.
    :ivar old: the text that is replaced. Must be there exactly once.
    :ivar new: the text in its place.
    :ivar tests: the test files that should notice, below ``tests``, the likeliest first.
    """

    name: str
    what: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
