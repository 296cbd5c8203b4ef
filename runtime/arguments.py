"""Are these the arguments that the function takes? What is not is said in the user's words.

Everything here runs once for each new set of shapes, except `scalar_check` and `Arguments.gather`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.runtime.artifact import Manifest, SizeSpec, TensorSpec
from dlc.runtime.dims import evaluate, holds, solve, symbols_of
from dlc.runtime.errors import ArgumentError
from dlc.runtime.foreign import NoArray, array_of
from dlc.runtime.memory import Array, describe

__all__ = ["Arguments", "scalar_check"]


LARGEST_SIZE = 2**31 - 1  # more elements along one axis than that are a slip


class Arguments:
    """The door of one function. Values stand in this order: inputs, then sizes."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._function = manifest.name
        self._inputs = manifest.inputs
        self._specs: tuple[TensorSpec | SizeSpec, ...] = (*manifest.inputs, *manifest.sizes)
        self._places = {spec.name: at for at, spec in enumerate(self._specs)}
        self._order = _order(manifest)
        self.in_order = self._order == tuple(range(len(self._order)))  # as they are written

    def fail(self, text: str) -> ArgumentError:
        """An error that names the function."""
        return ArgumentError(f"{self._function}: {text}")

    def gather(self, positional: Sequence[object], named: Mapping[str, object]) -> list[object]:
        """The values in order, defaults filled in."""
        if len(positional) > len(self._specs):
            takes = f"{len(self._specs)} argument{'s' * (len(self._specs) != 1)}"
            raise self.fail(f"takes {takes} ({self.signature()}), {len(positional)} given")
        given: dict[int, object] = dict(zip(self._order, positional, strict=False))
        for name, value in named.items():
            at = self._places.get(name)
            if at is None:
                raise self._unknown(name)
            if at in given:
                raise self.fail(f"argument `{name}` is given twice")
            given[at] = value
        return self._complete(given)

    def _complete(self, given: dict[int, object]) -> list[object]:
        """Defaults for what is left out; all that is missing in one error."""
        missing = []
        for at, spec in enumerate(self._specs):
            if at not in given:
                if spec.default is None:
                    missing.append(f"`{spec.name}` ({spec.text})")
                given[at] = spec.default
        if missing:
            word = "arguments" if len(missing) > 1 else "argument"
            raise self.fail(f"missing {word} {', '.join(missing)}")
        return [given[at] for at in range(len(self._specs))]

    def signature(self) -> str:
        """The arguments as they are written, with their types."""
        specs = [self._specs[at] for at in self._order]
        return ", ".join(f"{spec.name}: {spec.text}" for spec in specs)

    def _unknown(self, name: str) -> ArgumentError:
        import difflib

        near = difflib.get_close_matches(name, self._places, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it takes ({self.signature()})"
        return self.fail(f"there is no argument `{name}`; {hint}")

    def admit(self, at: int, value: object, rows: bool = False) -> Array:
        """`value` as an array of exactly the element type, C-contiguous, aligned, native; with one
        axis more in front if it has `rows`.

        An array that is all of that already is taken as it lies in memory, whoever made it; others
        are copied. No value changes its type here.
        """
        spec = self._inputs[at]
        if isinstance(value, list | tuple):
            raise self.fail(
                f"argument `{spec.name}` is a {type(value).__name__}, but the function takes "
                f"{spec.text}; make it a NumPy array of {spec.dtype}"
            )
        try:
            array = array_of(value)
        except NoArray as error:
            raise self.fail(f"argument `{spec.name}` {error}") from error
        if _is_bfloat16(spec, array):
            array = array.view(np.uint16)
        if array.dtype.newbyteorder("=") != spec.numpy or array.ndim != len(spec.dims) + rows:
            raise self.mismatch(spec, array)
        array = np.ascontiguousarray(array, spec.numpy)
        return array if array.flags.aligned else array.copy()

    def size(self, at: int, value: object) -> int:
        """Size number `at` as an int of 0 at least."""
        number = _accept_integer(value, 0, LARGEST_SIZE)
        if number is None:
            kind = "" if isinstance(value, int) else f" ({type(value).__name__})"
            raise self.fail(
                f"argument `{self._manifest.sizes[at].name}` is {value!r}{kind}, but it is a "
                f"size: a whole number from 0 to {LARGEST_SIZE}"
            )
        return number

    def mismatch(self, spec: TensorSpec, value: object) -> ArgumentError:
        """The error that quotes both sides."""
        if isinstance(value, np.ndarray | np.generic):
            found = describe(value.dtype, value.shape)
            if value.dtype == object:
                found = "an array of Python objects"
        else:
            found = f"{value!r} ({type(value).__name__})"
        return self.misfit(spec, found)

    def misfit(self, spec: TensorSpec, found: str) -> ArgumentError:
        """The error for an argument that is something else."""
        return self.fail(f"argument `{spec.name}` is {found}, but the function takes {spec.text}")

    def bind(self, values: Sequence[object]) -> dict[str, int]:
        """The size of every symbol, from the shapes; all shapes and conditions are checked."""
        arrays: list[tuple[TensorSpec, Any]] = [
            (spec, value)
            for spec, value in zip(self._inputs, values, strict=False)
            if spec.dims and hasattr(value, "shape")
        ]
        for spec, array in arrays:
            if array.ndim != len(spec.dims):
                raise self.mismatch(spec, array)
        given = values[len(self._inputs):]
        sizes = {s.name: self.size(at, n)
                 for at, (s, n) in enumerate(zip(self._manifest.sizes, given, strict=True))}
        sources: dict[str, tuple[TensorSpec, Array]] = {}
        for spec, array in arrays:
            for dim, extent in zip(spec.dims, array.shape, strict=True):
                if isinstance(dim, str) and dim not in sizes:
                    sizes[dim], sources[dim] = extent, (spec, array)
        self._solve_rest(arrays, sizes, sources)
        self._check_symbols(sizes, sources)
        for spec, array in arrays:
            self._check_shape(spec, array, sizes, sources)
        self._check_conditions(sizes)
        return {name: sizes[name] for name in self._manifest.symbols}

    def _solve_rest(
        self,
        arrays: Sequence[tuple[TensorSpec, Array]],
        sizes: dict[str, int],
        sources: dict[str, tuple[TensorSpec, Array]],
    ) -> None:
        """Find the symbols that stand in no dim alone from linear dims (`2 * N`), in any order."""
        progress = True
        while progress and not sizes.keys() >= set(self._manifest.symbols):
            progress = False
            for spec, array in arrays:
                for dim, extent in zip(spec.dims, array.shape, strict=True):
                    found = solve(dim, extent, sizes)
                    if found is not None:
                        sizes[found[0]], sources[found[0]] = found[1], (spec, array)
                        progress = True

    def _check_symbols(
        self, sizes: Mapping[str, int], sources: Mapping[str, tuple[TensorSpec, Array]]
    ) -> None:
        for name in self._manifest.symbols:
            if name not in sizes:
                raise self._no_size(name, sizes)
            if name in sources and name[0].isupper() and sizes[name] < 1:
                spec, array = sources[name]
                shape = describe(array.dtype, array.shape)
                raise self.fail(
                    f"{name} is {sizes[name]} in argument `{spec.name}` ({shape}): "
                    "a symbol is at least 1"
                )

    def _no_size(self, name: str, sizes: Mapping[str, int]) -> ArgumentError:
        """Why `name` could not be found."""
        for spec in self._inputs:
            if any(name in symbols_of(dim) for dim in spec.dims):
                return self.fail(f"no {name} makes argument `{spec.name}` fit {spec.text}")
        return self.fail(f"no argument tells the size of {name}")

    def _check_shape(
        self,
        spec: TensorSpec,
        array: Array,
        sizes: Mapping[str, int],
        sources: Mapping[str, tuple[TensorSpec, Array]],
    ) -> None:
        for dim, extent in zip(spec.dims, array.shape, strict=True):
            if evaluate(dim, sizes) == extent:
                continue
            if isinstance(dim, str):
                raise self.fail(
                    f"{dim} is {sizes[dim]}{_source(dim, sources)}, but {extent} in argument "
                    f"`{spec.name}` ({describe(array.dtype, array.shape)})"
                )
            where = ", ".join(f"{name} = {sizes[name]}" for name in sorted(symbols_of(dim)))
            error = self.mismatch(spec, array)
            raise ArgumentError(f"{error}, where {where}" if where else str(error))

    def _check_conditions(self, sizes: Mapping[str, int]) -> None:
        for condition in self._manifest.conditions:
            left, right = condition.left, condition.right
            if not holds(left, condition.relation, right, sizes):
                names = sorted(symbols_of(left) | symbols_of(right))
                found = ", ".join(f"{name} is {sizes[name]}" for name in names)
                raise self.fail(f"`{condition.text}` does not hold: {found}")


def _order(manifest: Manifest) -> tuple[int, ...]:
    """The arguments in the order in which they are written, as their numbers."""
    places = {spec.place: at for at, spec in enumerate(manifest.sizes, len(manifest.inputs))}
    inputs = iter(range(len(manifest.inputs)))
    count = len(manifest.inputs) + len(manifest.sizes)
    return tuple(places[at] if at in places else next(inputs) for at in range(count))


def _source(name: str, sources: Mapping[str, tuple[TensorSpec, Array]]) -> str:
    """Where the size of a symbol comes from; nothing for one that is an argument itself."""
    if name not in sources:
        return ""
    spec, array = sources[name]
    return f" in argument `{spec.name}` ({describe(array.dtype, array.shape)})"


def _is_bfloat16(spec: TensorSpec, array: Array) -> bool:
    """Whether it is an array of a bfloat16 that some package adds to NumPy."""
    return spec.dtype == "bf16" and array.dtype.name == "bfloat16"


Accept: TypeAlias = Callable[[object], object]


def scalar_check(arguments: Arguments, spec: TensorSpec) -> Accept:
    """A function from what the caller gave for a scalar to what the cell of its type takes.

    A float takes any real number, an integer integers of its range, a bool bools only; an array
    without dims counts as a number of its own type.
    """
    dtype, accept = spec.numpy, _accepter(spec)

    def check(value: object) -> object:
        if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == dtype:
            return value
        accepted = accept(value)
        if accepted is None:
            raise arguments.mismatch(spec, value)
        return accepted

    if spec.dtype not in ("f32", "f64"):
        return check
    largest = float(np.finfo(dtype).max)

    def check_float(value: object) -> object:
        """The usual case first: it is on the path of every call."""
        return value if type(value) is float and -largest <= value <= largest else check(value)

    return check_float


def _accepter(spec: TensorSpec) -> Accept:
    """What a type takes as a number: the value for its cell, or None."""
    if spec.dtype == "bf16":
        return _accept_bf16
    if spec.dtype == "bool":
        return lambda value: value if isinstance(value, bool | np.bool_) else None
    if spec.numpy.kind == "f":
        largest = float(np.finfo(spec.numpy).max)
        return lambda value: _accept_float(value, largest)
    limits = np.iinfo(spec.numpy)
    low, high = int(limits.min), int(limits.max)
    return lambda value: _accept_integer(value, low, high)


def _accept_float(value: object, largest: float) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if math.isfinite(number) and abs(number) > largest else number


def _accept_integer(value: object, low: int, high: int) -> int | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        return None
    return int(value) if low <= int(value) <= high else None


def _accept_bf16(value: object) -> int | None:
    """The bit pattern, rounded to nearest even as the hardware does."""
    wide = _accept_float(value, float(np.finfo(np.float32).max))
    if wide is None:
        return None
    single = np.array(wide, np.float32)
    bits = int(single.view(np.uint32))
    return 0x7FC0 if np.isnan(single) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
