"""Many calls in one, on a GPU: for each step the next part of some arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlc.runtime.errors import ArgumentError, CheckFailed
from dlc.runtime.foreign import array_of
from dlc.runtime.memory import Array
from dlc.runtime.steps import Feed

__all__ = ["repeat"]


def repeat(call: Callable[..., Any], name: str, steps: int, feed: Feed) -> Any:
    """The results of `steps` calls of the function `name`, each an array with the steps along its
    first axis."""
    each = {key: array_of(value) for key, value in feed.each.items()}
    for key, array in each.items():
        if array.ndim == 0 or len(array) != steps:
            raise ArgumentError(f"{name}: `{key}` has no row for each of {steps} steps")
    cycle = {key: array_of(value) for key, value in feed.cycle.items()}
    results = [_call(call, _given(feed, each, cycle, step), step, steps) for step in range(steps)]
    if results[0] is None:
        return None
    if isinstance(results[0], tuple):
        return tuple(map(np.stack, zip(*results, strict=True)))
    return np.stack(results)


def _given(
    feed: Feed, each: Mapping[str, Array], cycle: Mapping[str, Array], step: int
) -> dict[str, object]:
    """The arguments of one step."""
    rows = {key: array[step] for key, array in each.items()}
    parts = {key: array[(feed.start + step) % len(array)] for key, array in cycle.items()}
    return {**feed.fixed, **rows, **parts}


def _call(call: Callable[..., Any], given: dict[str, object], step: int, steps: int) -> Any:
    try:
        return call(**given)
    except CheckFailed as error:
        error.add_note(f"This was step {step + 1} of {steps}; those before it count.")
        raise
