"""Arithmetic on intervals `(low, high)` of integers, whose ends may be infinite."""

from __future__ import annotations

from math import inf, isinf

Interval = tuple[float, float]
ALL: Interval = (-inf, inf)


def times(left: Interval, right: Interval) -> Interval:
    """Where a product lies; 0 times infinity is 0."""
    ends = [a * b if a and b else 0.0 for a in left for b in right]
    return min(ends), max(ends)


def floor_divide(left: Interval, right: Interval) -> Interval:
    """Where a quotient rounded down lies; anywhere if the divisor may be 0 or less."""
    (a, b), (c, d) = left, right
    if c <= 0:
        return ALL
    return _ratio(a, d if a >= 0 else c), _ratio(b, c if b >= 0 else d)


def remainder(left: Interval, right: Interval) -> Interval:
    """Where a remainder lies; anywhere if the divisor may be 0 or less."""
    if right[0] <= 0:
        return ALL
    return 0, min(right[1] - 1, left[1]) if left[0] >= 0 else right[1] - 1


def _ratio(a: float, b: float) -> float:
    if isinf(a):
        return a
    return (0 if a >= 0 else -1) if isinf(b) else a // b
