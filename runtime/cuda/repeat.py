"""Many calls in one, on a GPU: for each step the next part of some arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.runtime.function import Function
from dlc.runtime.steps import Feed, rows_of, told_step

__all__ = ["repeat"]


def repeat(function: Function, steps: int, feed: Feed) -> Any:
    """The results of `steps` calls, each an array with the steps along its first axis."""
    rows, period = rows_of(function, steps, feed)
    results = []
    for step in range(steps):
        turn = (feed.start + step) % period if period else 0
        given = {name: array[turn if name in feed.cycle else step] for name, array in rows.items()}
        with told_step(step, steps):
            results.append(function(**{**feed.fixed, **given}))
    if results[0] is None:
        return None
    if isinstance(results[0], tuple):
        return tuple(map(np.stack, zip(*results, strict=True)))
    return np.stack(results)
