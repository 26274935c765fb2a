"""Backoffs: how long a message waits before its next attempt."""

from __future__ import annotations

from math import isnan
from random import uniform
from typing import TYPE_CHECKING, Any, Final, final

from aldis._core.callables import describe, is_async
from aldis.exceptions import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias, TypeGuard

    Backoff: TypeAlias = Callable[[int], float]

_LONGEST_S: Final = 366 * 86400.0


@final
class Exponential:
    """A backoff that is twice as long after each attempt.

    It varies at random by up to a quarter, so that messages which failed together do not come back together.

    :param first_s: seconds after the first attempt.
    :param longest_s: the most seconds.
    :raises InvalidOptionError: when they are not positive numbers, or ``first_s`` is larger than ``longest_s``.

    .. versionadded:: 0.1
    """

    __slots__ = ("first_s", "longest_s")

    first_s: float
    longest_s: float

    def __init__(self, first_s: float = 1.0, longest_s: float = 3600.0) -> None:
        if not (_is_number(first_s) and _is_number(longest_s) and 0 < first_s <= longest_s <= _LONGEST_S):
            raise InvalidOptionError(
                f"Exponential() takes seconds, first_s up to longest_s, not {first_s!r} and {longest_s!r}."
            )

        self.first_s = first_s
        self.longest_s = longest_s

    def __call__(self, attempt: int) -> float:
        """Return the seconds to wait after an attempt.

        :param attempt: its number, from 1.
        """
        usual = min(self.first_s * 2.0 ** min(attempt - 1, 60), self.longest_s)
        return usual * uniform(0.75, 1.25)  # noqa: S311  # This is not a secret.

    def __repr__(self) -> str:
        return f"Exponential(first_s={self.first_s:g}, longest_s={self.longest_s:g})"


def check_number(name: str, value: Any, *, least: float) -> float:
    """Return a number.

    :raises InvalidOptionError: when the value is not a number, or out of its range.
    """
    if not _is_number(value) or not least <= value <= _LONGEST_S:
        raise InvalidOptionError(f"{name} must be a number, {least:g} or more, not {value!r}.")

    return value


def check_backoff(backoff: Any) -> Backoff:
    """Return a backoff: a callable, or a fixed number of seconds.

    :raises InvalidOptionError: when the value is neither.
    """
    if callable(backoff) and not isinstance(backoff, type) and not is_async(backoff):
        return backoff  # type: ignore[no-any-return]

    if _is_number(backoff) and 0 <= backoff <= _LONGEST_S:
        return lambda _attempt: float(backoff)

    raise InvalidOptionError(
        "backoff must be seconds, or a callable that returns the seconds to wait after an attempt, such as"
        f" Exponential(), not {describe(backoff) if callable(backoff) else repr(backoff)}."
    )


def seconds_of(backoff: Backoff, attempt: int) -> float:
    """Return the seconds of a backoff, from 0 to a year.

    :raises Exception: the exception of the backoff, or an exception if its result is not a number.
    """
    found = float(backoff(attempt))

    if isnan(found):
        raise ValueError("a backoff returned NaN")

    return min(max(found, 0.0), _LONGEST_S)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
