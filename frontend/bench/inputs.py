"""Arguments of a function by their types: random numbers, of given or likely sizes.

Integers are at most 2 to the power that a function's own checks accept: a label below ten classes
is drawn below eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import numpy as np

from dlc.frontend.errors import user_error
from dlc.frontend.inputs import SPARSE, Input
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import did_you_mean
from dlc.runtime.dims import Expression, evaluate, symbols_of
from dlc.runtime.errors import CheckFailed
from dlc.runtime.memory import DTYPES

USUAL: Final = 64  # a size of which nothing is known
LARGEST_BITS: Final = 16  # integers are tried below 2**16 first
A_ROW: Final = 8  # entries of a sparse matrix


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says: sizes of symbols, numbers, arrays; and the sizes that are likely."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, int] = field(default_factory=dict)


def find_arguments(
    inputs: Sequence[Input], given: Given, seed: int, call: Callable[..., object]
) -> dict[str, Any]:
    """Arguments that `call` takes without a failed check; UserError for names that are unknown."""
    _check_names(inputs, given)
    failed: CheckFailed | None = None
    for bits in range(LARGEST_BITS, -1, -1):
        arguments = make_arguments(inputs, given, seed, 1 << bits)
        try:
            call(**arguments)
        except CheckFailed as error:
            failed = error
        else:
            return arguments
    assert failed is not None
    raise failed


def make_arguments(
    inputs: Sequence[Input], given: Given, seed: int, bound: int
) -> dict[str, Any]:
    """Random arguments; integers are below `bound`, floats from 0 to 1."""
    generator = np.random.default_rng(seed)
    sizes = {name: given.sizes.get(name, given.hints.get(name, USUAL))
             for name in _symbols(inputs)}
    made = {}
    for each in inputs:
        if each.name in given.arrays:
            made[each.name] = given.arrays[each.name]
        elif each.name in given.numbers:
            number = given.numbers[each.name]
            made[each.name] = number if each.dtype in _FLOATS else int(number)
        elif each.default is None:
            made[each.name] = _make(each, sizes, given, generator, bound)
    return made


def _symbols(inputs: Sequence[Input]) -> Iterator[str]:
    """The symbols in the types of the inputs."""
    for each in inputs:
        for dim in each.dims:
            yield from sorted(symbols_of(_expression(dim)))


def _expression(dim: Any) -> Expression:
    found: Expression = dim
    return found


_FLOATS: Final = ("f16", "bf16", "f32", "f64")


def _make(
    each: Input, sizes: Mapping[str, int], given: Given, generator: np.random.Generator, bound: int
) -> Any:
    if each.dtype == "int":
        return given.sizes.get(each.name, given.hints.get(each.name, USUAL))
    shape = tuple(evaluate(_expression(dim), sizes) for dim in each.dims)
    if each.dtype.startswith(SPARSE):
        return _sparse(each.dtype.removeprefix(SPARSE), shape, generator)
    array = _array(each.dtype, shape, generator, bound)
    return array if shape else array[()].item()


def _array(
    dtype: str, shape: tuple[int, ...], generator: np.random.Generator, bound: int
) -> np.ndarray[Any, np.dtype[Any]]:
    if dtype == "bool":
        return generator.random(shape) < 0.5
    if dtype == "bf16":
        bits = generator.random(shape, np.float32).view(np.uint32) >> 16
        return np.asarray(bits).astype(np.uint16)
    kind = DTYPES[dtype]
    if kind.kind in "iu":
        most = min(bound, int(np.iinfo(kind).max) + 1)
        return np.asarray(generator.integers(0, most, shape)).astype(kind)
    return np.asarray(generator.random(shape)).astype(kind)


def _sparse(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    """A matrix with some entries a row, as arrays of coordinates."""
    height, width = shape
    each = min(A_ROW, width)
    rows = np.repeat(np.arange(height, dtype=np.int32), each)
    columns = np.asarray(generator.integers(0, max(width, 1), rows.size)).astype(np.int32)
    values = _array(dtype, rows.shape, generator, 1)
    return values, (rows, columns), shape


def _check_names(inputs: Sequence[Input], given: Given) -> None:
    """UserError for a name that the function does not have."""
    names = {each.name: each for each in inputs}
    lengths = [*dict.fromkeys(_symbols(inputs)), *(n for n, i in names.items() if i.dtype == "int")]
    scalars = [n for n, i in names.items() if not i.dims and i.dtype != "int"]
    for flag, said, known in (("size", given.sizes, lengths), ("set", given.numbers, scalars),
                              ("input", given.arrays, list(names))):
        for name in said:
            if name not in known:
                raise user_error(
                    "unknown-setting", f"--{flag} {name}: the function has no such "
                    + {"size": "size", "set": "number", "input": "argument"}[flag],
                    did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}")
