"""Development mode: whether Aldis spends time on reporting likely mistakes."""

from __future__ import annotations

import sys
import warnings
from typing import Final

from aldis.exceptions import LostReceiverWarning

_PYTHON_DEFAULT: Final = ("ignore", None, ResourceWarning, None, 0)

enabled: bool = sys.flags.dev_mode


def debug(on: bool = True) -> None:
    """Switch development mode on or off for the whole process. It is on from the start under ``-X dev``.

    In development mode each ``connect`` remembers its place, and a :class:`LostReceiverWarning` reports a
    function, lambda or partial that is garbage collected while it is weakly connected. Python hides resource
    warnings by default; this function shows these warnings, unless a warnings filter of your own matches them.

    :param on: ``False`` switches it off again.

    .. versionadded:: 0.1
    """
    global enabled  # noqa: PLW0603
    enabled = on

    if on and _only_python_decides():
        warnings.simplefilter("default", LostReceiverWarning)


def _only_python_decides() -> bool:
    """Return whether only Python's own filter, the last one, matches the warning.

    If the user adds an equal filter, Python moves that filter to the front.
    """
    matches = [index for index, entry in enumerate(warnings.filters) if issubclass(LostReceiverWarning, entry[2])]
    last = len(warnings.filters) - 1
    return matches[:1] == [last] and warnings.filters[last] == _PYTHON_DEFAULT
