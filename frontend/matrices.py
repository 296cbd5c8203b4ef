"""Sparse matrices as arguments: SciPy's, or three arrays, as the arrays and sizes of a graph.

No value changes its type here; places that the matrix does not have are an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.inputs import SPARSE, Input
from dlc.runtime.errors import ArgumentError
from dlc.runtime.memory import DTYPES, describe

Array = NDArray[Any]
_LARGEST = 2**31 - 1


def spread(
    function: str, inputs: Sequence[Input], positional: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments by name, with the parts of a matrix in its place; ArgumentError for a matrix
    that is missing or does not fit."""
    signature = ", ".join(f"{each.name}: {each.text}" for each in inputs)
    if len(positional) > len(inputs):
        raise ArgumentError(f"{function}: takes {len(inputs)} arguments ({signature}), "
                            f"{len(positional)} given")
    given = dict(zip((each.name for each in inputs), positional, strict=False))
    for name, value in named.items():
        if name in given:
            raise ArgumentError(f"{function}: argument `{name}` is given twice")
        given[name] = value
    for each in inputs:
        if not each.dtype.startswith(SPARSE):
            continue
        if each.name not in given:
            raise ArgumentError(f"{function}: missing argument `{each.name}` ({each.text})")
        given.update(_parts(function, each, given.pop(each.name)))
    return given


def _parts(function: str, wanted: Input, value: object) -> dict[str, Any]:
    """The three arrays of a matrix, its sizes, and the symbols that its sizes are."""
    name = wanted.name
    rows, columns, values, shape = _coordinates(function, wanted, value)
    dtype = DTYPES[wanted.dtype.removeprefix(SPARSE)]
    fits = rows.shape == columns.shape == values.shape and values.ndim == 1 and len(shape) == 2
    if not fits or values.dtype != dtype or rows.dtype.kind not in "iu" or (
            columns.dtype.kind not in "iu"):
        raise ArgumentError(
            f"{function}: argument `{name}` has values {describe(values.dtype, values.shape)}, "
            f"rows {describe(rows.dtype, rows.shape)} and columns "
            f"{describe(columns.dtype, columns.shape)}, but the function takes {wanted.text}")
    for ids, extent, word in ((rows, shape[0], "row"), (columns, shape[1], "column")):
        wrong = ids[(ids < 0) | (ids >= min(extent, _LARGEST))]
        if wrong.size:
            raise ArgumentError(f"{function}: {word} {wrong[0]} of argument `{name}` is out of "
                                f"range: it has {extent} {word}s")
    sizes = {dim: size for dim, size in zip(wanted.dims, shape, strict=True)
             if isinstance(dim, str) and dim in wanted.sizes}
    return {
        f"{name}.rows": rows.astype(np.int32), f"{name}.columns": columns.astype(np.int32),
        f"{name}.values": values, f"{name}.height": shape[0], f"{name}.width": shape[1], **sizes,
    }


def _coordinates(
    function: str, wanted: Input, value: Any
) -> tuple[Array, Array, Array, tuple[int, ...]]:
    """Rows, columns and values of anything with SciPy's `tocoo`, or of a tuple; and the shape."""
    if hasattr(value, "tocoo"):
        found = value.tocoo()
        return (np.asarray(found.row), np.asarray(found.col), np.asarray(found.data),
                tuple(int(size) for size in found.shape))
    try:
        values, (rows, columns), shape = value
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{function}: argument `{wanted.name}` is a {type(value).__name__}, but the function "
            f"takes {wanted.text}: a matrix of scipy.sparse, or (values, (rows, columns), shape)"
        ) from None
    return np.asarray(rows), np.asarray(columns), np.asarray(values), sizes
