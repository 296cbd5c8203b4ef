"""The protocol in which an elementwise op says its formula, once for all targets.

A formula is a function of a `ScalarBuilder` and its arguments. NumPy (here), LLVM IR and CUDA C
implement the protocol. The primitives are a closed list: what all targets do in a few instructions,
with the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlc.ir.types import BF16, BOOL, DTYPES, F32, F64, I32, I64, DType

T = TypeVar("T")

BINARY: Final = ("add", "sub", "mul", "div", "floordiv", "mod", "maximum", "minimum",
                 "and", "or", "xor", "shl", "lshr")
COMPARISONS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY: Final = ("neg", "abs", "sqrt", "floor", "round", "not")
PRIMITIVES: Final = (*BINARY, *COMPARISONS, *UNARY, "fma", "select", "ldexp")


class ScalarBuilder(ABC, Generic[T]):
    """Makes values of type T (arrays, names of registers, C expressions) by primitives.

    maximum and minimum propagate nan; round goes to even; comparisons with nan are false, but for
    ne; floordiv and mod floor, and give 0 for an integer divisor 0; ldexp(x, n) is x times 2**n for
    a whole number n of x's type, of at most twice the size of exponents, where that is a normal
    number, 0 or inf.
    """

    @abstractmethod
    def primitive(self, op: str, *args: T) -> T:
        """Applies a primitive of `PRIMITIVES`."""

    @abstractmethod
    def const(self, dtype: DType, value: float) -> T:
        """A constant."""

    @abstractmethod
    def cast(self, x: T, to: DType) -> T:
        """Conversion: float to integer truncates, saturates, nan gives 0; bool gives 0 or 1."""

    @abstractmethod
    def bitcast(self, x: T, to: DType) -> T:
        """The same bits as another type of the same size."""

    @abstractmethod
    def dtype(self, x: T) -> DType:
        """The element type of `x`."""

    def like(self, x: T, value: float) -> T:
        """A constant of the type of `x`."""
        return self.const(self.dtype(x), value)

    def add(self, a: T, b: T) -> T:
        """a + b"""
        return self.primitive("add", a, b)

    def sub(self, a: T, b: T) -> T:
        """a - b"""
        return self.primitive("sub", a, b)

    def mul(self, a: T, b: T) -> T:
        """a * b"""
        return self.primitive("mul", a, b)

    def div(self, a: T, b: T) -> T:
        """a / b, correctly rounded"""
        return self.primitive("div", a, b)

    def fma(self, a: T, b: T, c: T) -> T:
        """a * b + c, rounded once"""
        return self.primitive("fma", a, b, c)

    def select(self, c: T, a: T, b: T) -> T:
        """a where c, else b"""
        return self.primitive("select", c, a, b)

    def rarely(
        self, where: T, compute: Callable[[], tuple[T, ...]], usual: tuple[T, ...]
    ) -> tuple[T, ...]:
        """`compute()` where `where` holds, else `usual`. It is computed only if it holds somewhere,
        which is to be rare: code may branch round it."""
        return tuple(self.select(where, a, b) for a, b in zip(compute(), usual, strict=True))

    def repeat(
        self, times: int, step: Callable[[tuple[T, ...]], tuple[T, ...]], values: tuple[T, ...]
    ) -> tuple[T, ...]:
        """`step` of `values`, again and again: code may be a loop, where it would be long."""
        for _ in range(times):
            values = step(values)
        return values

    def compare(self, op: str, a: T, b: T) -> T:
        """A comparison: one of `COMPARISONS`."""
        return self.primitive(op, a, b)

    def polynomial(self, x: T, coefficients: tuple[float, ...], square: T | None = None) -> T:
        """The polynomial with these coefficients, highest power first, by Horner's rule.

        Given the square of x, two powers at a time, which takes half as long. Terms are made where
        they are added, so that few are held at a time.
        """
        step, ones = (x, len(coefficients)) if square is None else (square, len(coefficients) % 2)
        single, pairs = coefficients[:ones], coefficients[ones:]
        value: T | None = None
        for c in single:
            value = self._added(value, step, self.like(x, c))
        for c, d in zip(pairs[::2], pairs[1::2], strict=True):
            value = self._added(value, step, self.fma(self.like(x, c), x, self.like(x, d)))
        assert value is not None
        return value

    def _added(self, value: T | None, step: T, term: T) -> T:
        """A step of Horner's rule; the first one is its term."""
        return term if value is None else self.fma(value, step, term)


Array = NDArray[Any]  # of any dtype: which one is said by the types of the Graph

_NUMPY: Final[dict[str, Callable[..., Array]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "maximum": np.maximum,
    "minimum": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt,
    "floor": np.floor, "round": np.rint, "not": np.invert, "select": np.where,
}


class NumpyBuilder(ScalarBuilder[Array]):
    """Evaluates a formula on arrays: what every backend's code for it is held against."""

    def primitive(self, op: str, *args: Array) -> Array:
        with np.errstate(all="ignore"):
            if op == "fma":
                return _fma(*args)
            if op == "ldexp":
                return np.asarray(np.ldexp(args[0], np.nan_to_num(args[1]).astype(np.int32)))
            if op == "lshr":
                unsigned = args[0].view(f"uint{args[0].dtype.itemsize * 8}")
                shifted = np.right_shift(unsigned, args[1].astype(unsigned.dtype))
                return np.asarray(shifted).view(args[0].dtype)
            return np.asarray(_NUMPY[op](*args))

    def rarely(
        self, where: Array, compute: Callable[[], tuple[Array, ...]], usual: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        return super().rarely(where, compute, usual) if where.any() else usual

    def const(self, dtype: DType, value: float) -> Array:
        return np.asarray(value, dtype.numpy)

    def cast(self, x: Array, to: DType) -> Array:
        return cast_array(x, to)

    def bitcast(self, x: Array, to: DType) -> Array:
        return x.view(to.numpy)

    def dtype(self, x: Array) -> DType:
        return _BY_NUMPY[x.dtype.name]


_BY_NUMPY: Final = {t.numpy: t for t in reversed(DTYPES.values()) if t.name != "bf16"}


def _fma(a: Array, b: Array, c: Array) -> Array:
    if a.dtype == np.float32:
        # A product of two f32 is exact in f64; adding rounds twice at most once in 2**29.
        return np.asarray(a.astype("float64") * b + c).astype("float32")
    # The product as a sum of two f64 (Dekker 1971), then the sum with its error (Knuth).
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    error = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    total = product + c
    back = total - product
    error = error + ((product - (total - back)) + (c - back))
    fused = total + error
    # Without an error the sum is exact, and adding 0 would lose the sign of -0.
    return np.where(np.isfinite(fused) & (error != 0), fused, total)


def _halves(x: Array) -> tuple[Array, Array]:
    """An f64 as a sum of two numbers of at most 26 bits."""
    scaled = x * 134217729.0
    high = scaled - (scaled - x)
    return high, x - high


def cast_array(x: Array, to: DType) -> Array:
    """`x` converted as the language says: truncated, saturated, nan to 0; bool by `x != 0`.

    What becomes bf16 stays f32, as NumPy has no such type, with the digits of bf16.
    """
    if to is BOOL:
        return np.asarray(x != 0)
    if to.is_integer and x.dtype.kind == "f":
        info = np.iinfo(to.numpy)
        with np.errstate(all="ignore"):
            whole = np.nan_to_num(np.trunc(x.astype("float64")), nan=0.0)
            inside = np.clip(whole, float(info.min), float(info.max))
            out = np.asarray(inside).astype(to.numpy)
        return np.where(whole >= float(info.max), info.max, out).astype(to.numpy)
    with np.errstate(all="ignore"):
        return _nearest_bf16(x) if to is BF16 else np.asarray(x).astype(to.numpy)


def _nearest_bf16(x: Array) -> Array:
    """Numbers of any type as f32 with the digits of bf16: rounded once, halves to even."""
    exact = np.asarray(x).astype("float64")
    near = np.asarray(exact.astype("float32"))
    # Towards 0, the last bit set where that is not exact: then a second rounding does no harm.
    bits = near.view("uint32").astype("int64")
    odd = np.where(near == exact, bits, (bits - (np.abs(near) > np.abs(exact))) | 1)
    rounded = (odd + 0x7FFF + ((odd >> 16) & 1)) & 0xFFFF0000
    made = np.asarray(rounded.astype("uint32")).view("float32")
    return np.where(np.isnan(near), near, made)


__all__ = ["BINARY", "COMPARISONS", "F32", "F64", "I32", "I64", "PRIMITIVES", "UNARY", "Array",
           "NumpyBuilder", "ScalarBuilder", "cast_array"]
