"""`fit.run(steps, batch=64, …)`: many steps in one call, over batches of arrays.

Batches are consecutive examples. The last batch of a pass has what is left, as in `dlc train`, and
the next pass begins at the start. The bits are those of as many calls with these batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.inputs import Input
from dlc.ir.dataclass import dataclass
from dlc.runtime.dims import symbols_of
from dlc.runtime.errors import ArgumentError
from dlc.runtime.foreign import NoArray
from dlc.runtime.function import Function
from dlc.runtime.steps import Feed

Array = NDArray[Any]
Batch = int | Mapping[str, int]


def run(
    function: Function, inputs: Sequence[Input], steps: int, batch: Batch | None,
    arguments: Mapping[str, Any],
) -> Any:
    """The results of all steps, each an array with the steps along its first axis.

    `batch` is a number of examples, which counts for the first dim of the first array; or the
    number for a named symbol, `{"T": 32}`. What has that symbol as a dim is data, and is cut along
    that dim. Without `batch`, an array with one axis more than the parameter has a row for each
    step. Numbers may be arrays of one number for each step. All else is the same in each step.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise _error(function, f"runs a number of steps, not {steps!r}")
    given = {name: _array(function, name, value) for name, value in arguments.items()}
    ranks = {each.name: len(each.dims) for each in inputs}
    rows = {name: array for name, array in given.items()
            if array.ndim == 1 + ranks.get(name, array.ndim) and (batch is None or array.ndim == 1)}
    for name, array in rows.items():
        if len(array) != steps:
            raise _error(function, f"`{name}` has {len(array)} rows, but there are {steps} steps")
    if batch is None:
        fixed = {name: value for name, value in arguments.items() if name not in rows}
        return function.run_steps(steps, Feed(fixed, rows))
    data = _data(function, inputs, given, batch)
    fixed = {n: value for n, value in arguments.items() if n not in rows and n not in data.full}
    return _joined([function.run_steps(count, Feed(fixed, _part(rows, done, count), cycle, start))
                    for done, count, cycle, start in data.segments(steps)])


@dataclass(frozen=True, slots=True)
class _Data:
    """Batches of all data: the full ones in a row, then the one that is left (or none)."""

    full: Mapping[str, Array]
    rest: Mapping[str, Array]
    batches: int  # full ones

    def segments(self, steps: int) -> Iterator[tuple[int, int, Mapping[str, Array], int]]:
        """(steps before it, its steps, its batches, the first of them), one after another."""
        done = 0
        while done < steps:
            at = done % (self.batches + bool(self.rest))
            if at == self.batches:
                yield done, 1, self.rest, 0
                done += 1
                continue
            count = min(steps - done, self.batches - at) if self.rest else steps - done
            yield done, count, self.full, at
            done += count


def _data(
    function: Function, inputs: Sequence[Input], given: Mapping[str, Array], batch: Batch
) -> _Data:
    symbol, size = _symbol(function, inputs, batch)
    axes = {each.name: each.dims.index(symbol) for each in inputs if symbol in each.dims}
    data = {name: given[name] for name in axes if name in given}
    for each in inputs:
        if each.name in data and data[each.name].ndim != len(each.dims):
            raise function._arguments.mismatch(each, data[each.name])  # type: ignore[arg-type]
    counts = {name: array.shape[axes[name]] for name, array in data.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} in `{name}`" for name, count in counts.items())
        raise _error(function, f"the number of examples differs: {told}")
    if not counts or not min(counts.values()):
        raise _error(function, f"no argument has examples along {symbol}")
    count = min(counts.values())
    size = min(size, count)
    left = count % size
    if left:
        _check_results(function, symbol, size, count)
    full = {name: _batches(array, axes[name], count // size, size) for name, array in data.items()}
    rest = {name: _rest(array, axes[name], left) for name, array in data.items()} if left else {}
    return _Data(function.placed(full), function.placed(rest), count // size)


def _symbol(function: Function, inputs: Sequence[Input], batch: Batch) -> tuple[str, int]:
    """The symbol that counts the examples of a batch, and how many there are."""
    if isinstance(batch, Mapping):
        if len(batch) != 1:
            raise _error(function, "`batch` names one symbol")
        ((symbol, size),) = batch.items()
    else:
        first = next((each.dims[0] for each in inputs if each.dims), None)
        if not isinstance(first, str) or not first.isidentifier():
            raise _error(function, "no symbol stands in front of its first array: name the one "
                         'that counts examples, `batch={"N": 64}`')
        symbol, size = first, batch
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise _error(function, f"a batch has a number of examples, not {size!r}")
    mixed = re.compile(rf"\b{re.escape(symbol)}\b")
    if any(mixed.search(str(dim)) for each in inputs for dim in each.dims if dim != symbol):
        raise _error(function, f"a dim is made of {symbol}: such data can't be cut into batches")
    return symbol, size


def _check_results(function: Function, symbol: str, size: int, count: int) -> None:
    """Results of all steps make one array only if they are of one size."""
    if any(symbol in symbols_of(dim) for spec in function.manifest.outputs for dim in spec.dims):
        raise _error(function, f"a result has {symbol} as a dim, and the last of {count} examples "
                     f"make a batch smaller than {size}: choose a batch that divides {count}")


def _batches(array: Array, axis: int, batches: int, size: int) -> Array:
    """Full batches as rows: the array itself where its first axis has the examples."""
    shape = (*array.shape[:axis], batches, size, *array.shape[axis + 1 :])
    if not axis and not isinstance(array, np.ndarray):  # it lies on a GPU, and stays there
        return array[: batches * size].reshape(shape)
    array = np.asarray(array)
    whole = array[(slice(None),) * axis + (slice(batches * size),)]
    return np.ascontiguousarray(np.moveaxis(whole.reshape(shape), axis, 0))


def _rest(array: Array, axis: int, left: int) -> Array:
    """The last examples, as the one row."""
    count = array.shape[axis]
    if not axis and not isinstance(array, np.ndarray):
        return array[count - left :].reshape((1, left, *array.shape[1:]))
    return np.take(np.asarray(array), range(count - left, count), axis)[None]


def _part(rows: Mapping[str, Array], start: int, count: int) -> dict[str, Array]:
    return {name: array[start : start + count] for name, array in rows.items()}


def _joined(results: list[Any]) -> Any:
    """The results of all segments in a row."""
    if len(results) == 1 or results[0] is None:
        return results[0]
    if isinstance(results[0], tuple):
        return tuple(map(np.concatenate, zip(*results, strict=True)))
    return np.concatenate(results)


def _array(function: Function, name: str, value: object) -> Array:
    try:
        array: Array = function.array_of(value)
    except NoArray as error:
        raise _error(function, f"argument `{name}` {error}") from error
    return array


def _error(function: Function, text: str) -> ArgumentError:
    return ArgumentError(f"{function.name}: {text}")
