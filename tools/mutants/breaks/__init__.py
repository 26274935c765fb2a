"""What a break is, and all breaks: one file for each promise."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal


class BreakError(Exception):
    """A break that does not fit the source, or names a test that does not exist."""


@dataclass(frozen=True)
class Break:
    """One deliberate mistake in one definition of the source.

    A break names no file of the source, and does not depend on how the source is formatted. So it survives moves, and
    a script that renames words can rename those in here.

    :ivar name: the name of the break, for the table and for ``--only``.
    :ivar what: what goes wrong, as a sentence.
    :ivar at: the qualified name of the function, class or assigned name that contains the mistake: ``Signal.send``,
        ``_send_async``, ``_LONGEST_ID``. The setter of a property is ``Signal.errors.setter``, an inner function
        ``outer.inner``. ``<module>`` stands for the statements of a module that define no name, and needs ``beside``.
    :ivar old: the code that is replaced; see :mod:`..pattern`. It must occur exactly once.
    :ivar new: the code that replaces it.
    :ivar tests: the test files that should notice, the likeliest first: the file name, or the end of the path where
        several files have the same name (``flask/test_extension.py``).
    :ivar beside: another name that the same module defines, where several modules define ``at``.
    :ivar nth: which occurrence is replaced, counted from 1, where ``old`` occurs several times.
    :ivar language: ``"javascript"`` for functions of the live page; see :mod:`..script`.
    """

    name: str
    what: str
    at: str
    old: str
    new: str
    tests: tuple[str, ...]
    beside: str | None = None
    nth: int | None = None
    language: Literal["python", "javascript"] = "python"

    def choose(self, count: int) -> int:
        """Return the index of the occurrence that is replaced, of so many that were found.

        :raises BreakError: if there is no such occurrence, or if it is not clear which one is meant.
        """
        if count == 0:
            raise BreakError(f"{self.at} does not contain:\n{self.old}")

        if self.nth is None and count > 1:
            raise BreakError(f"{self.at} contains this {count} times, so `nth` is needed:\n{self.old}")

        if self.nth is not None and not (count > 1 and 1 <= self.nth <= count):
            raise BreakError(f"`nth` is {self.nth}, but {self.at} contains this {count} times:\n{self.old}")

        return (self.nth or 1) - 1


@dataclass(frozen=True)
class Promise:
    """The breaks of one file.

    :ivar name: the name of the file, without its suffix.
    :ivar summary: the docstring of the file, which says what is promised.
    """

    name: str
    summary: str
    breaks: tuple[Break, ...]


def load() -> list[Promise]:
    """Return all breaks, by promise.

    :raises BreakError: if two breaks have the same name.
    """
    promises = [_load(found.name) for found in iter_modules(__path__)]
    names = [broken.name for promise in promises for broken in promise.breaks]
    twice = {name for name in names if names.count(name) > 1}

    if twice:
        raise BreakError(f"two breaks are called {', '.join(sorted(twice))}")

    return promises


def _load(name: str) -> Promise:
    module = import_module(f"{__name__}.{name}")
    return Promise(name, module.__doc__ or "", module.BREAKS)
