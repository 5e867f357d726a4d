"""Checks of single settings in a layer's configuration: each returns the plain value or raises."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

MAX_SIZE = 2**16
"""Cap on any size or count in a configuration: larger ones are attacks on memory."""
MAX_NUMBER = 1e300
"""Of other numbers: Python's own may have any count of digits, which no float holds."""


def integer(value: Any) -> int:
    """A whole number from 0 to `MAX_SIZE`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{value!r} is not a whole number")
    if not 0 <= int(value) <= MAX_SIZE:
        raise ValueError(f"{value} lies outside 0..{MAX_SIZE}")
    return int(value)


def positive(value: Any) -> int:
    """A whole number from 1 to `MAX_SIZE`."""
    if integer(value) < 1:
        raise ValueError(f"{value} is not positive")
    return int(value)


def pair(value: Any) -> tuple[int, ...]:
    """One positive whole number, or two: (rows, columns)."""
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError(f"{value!r} is not a pair")
        return tuple(positive(item) for item in value)
    return (positive(value),) * 2


def number(value: Any) -> float:
    """A finite number."""
    right = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not right or not -MAX_NUMBER < value < MAX_NUMBER:
        raise ValueError(f"{str(value)[:40]!r} is not a finite number")
    return float(value)


def not_negative(value: Any) -> float:
    """A finite number from 0."""
    if number(value) < 0:
        raise ValueError(f"{value} is negative")
    return float(value)


def numbers_or_number(value: Any) -> float | list[float]:
    """A finite number, or a list of them (one for each channel)."""
    if isinstance(value, list | tuple):
        return [number(item) for item in value]
    return number(value)


def flag(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(value)


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`check`, or None."""
    return lambda value: None if value is None else check(value)


def one_of(*allowed: Any) -> Callable[[Any], Any]:
    """One of the given values."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, allowed))}")
        return value

    return check


def last_axis(value: Any) -> int:
    """The channel axis, written -1, 3 or [3]; other axes are refused."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or value not in (-1, 1, 3):
        raise ValueError(f"axis {value!r} is not the last one")
    return value


channels_last = one_of("channels_last", None)
padding_mode = one_of("valid", "same")
