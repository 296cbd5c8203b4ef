"""Types of values: tensors with symbolic dims, tuples, sparse matrices and row sets.

Types are interned (`tensor`, `tuple_type`, `sparse`, `rows` return one object for equal arguments),
so that comparing two costs an identity test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, product, substitute, symbols
from dlc.ir.dims_text import parse_dim

__all__ = [
    "BF16", "BOOL", "DTYPES", "F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8",
    "DType", "RowsType", "SparseType", "TensorType", "TupleType", "Type",
    "parse_type", "rows", "size", "sparse", "substitute_type", "tensor", "tuple_type",
    "type_symbols",
]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type. `kind` is one of `float`, `int`, `uint`, `bool`; `size` counts bytes."""

    name: str
    kind: str
    size: int

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer type (bool is none)."""
        return self.kind in ("int", "uint")

    @property
    def numpy(self) -> str:
        """NumPy's name of it (bf16 is held as f32 there)."""
        if self.name == "bf16":
            return "float32"
        return "bool" if self.kind == "bool" else f"{self.kind}{self.size * 8}"


F16, BF16 = DType("f16", "float", 2), DType("bf16", "float", 2)
F32, F64 = DType("f32", "float", 4), DType("f64", "float", 8)
I8, I16 = DType("i8", "int", 1), DType("i16", "int", 2)
I32, I64 = DType("i32", "int", 4), DType("i64", "int", 8)
U8, BOOL = DType("u8", "uint", 1), DType("bool", "bool", 1)
DTYPES = {t.name: t for t in (F16, BF16, F32, F64, I8, I16, I32, I64, U8, BOOL)}


@dataclass(frozen=True, slots=True, eq=False)
class TensorType:
    """A dense tensor; a scalar has no dims."""

    dtype: DType
    dims: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.dims))}]" if self.dims else str(self.dtype)

    @property
    def rank(self) -> int:
        """The number of dims."""
        return len(self.dims)


@dataclass(frozen=True, slots=True, eq=False)
class TupleType:
    """Several values."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@dataclass(frozen=True, slots=True, eq=False)
class SparseType:
    """A sparse matrix in CSR form with i32 columns."""

    dtype: DType
    dims: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"sparse {self.dtype}[{', '.join(map(str, self.dims))}]"


@dataclass(frozen=True, slots=True, eq=False)
class RowsType:
    """A row set: `count` rows of a tensor of `dims`, an index each (TensorFlow's IndexedSlices)."""

    dtype: DType
    dims: tuple[Dim, ...]
    count: Dim

    def __str__(self) -> str:
        return f"rows {self.dtype}[{', '.join(map(str, self.dims))}] of {self.count}"


Type = TensorType | TupleType | SparseType | RowsType


def tensor(dtype: DType, dims: tuple[Dim, ...] = ()) -> TensorType:
    """The tensor type of `dtype` and `dims`."""
    return _tensor(dtype, dims)  # `cache` would take f() and f(()) for different calls


@cache
def _tensor(dtype: DType, dims: tuple[Dim, ...]) -> TensorType:
    return TensorType(dtype, dims)


@cache
def tuple_type(items: tuple[Type, ...]) -> TupleType:
    """The type of several values."""
    return TupleType(items)


@cache
def sparse(dtype: DType, dims: tuple[Dim, ...]) -> SparseType:
    """The type of a sparse matrix."""
    return SparseType(dtype, dims)


@cache
def rows(dtype: DType, dims: tuple[Dim, ...], count: Dim) -> RowsType:
    """The type of a row set."""
    return RowsType(dtype, dims, count)


def size(kind: TensorType) -> Dim:
    """The number of elements."""
    return product(kind.dims)


def type_symbols(kind: Type) -> frozenset[str]:
    """The symbols in a type's dims."""
    if isinstance(kind, TupleType):
        return frozenset().union(*(type_symbols(item) for item in kind.items))
    found = frozenset[str]().union(*(symbols(dim) for dim in kind.dims))
    return found | symbols(kind.count) if isinstance(kind, RowsType) else found


def substitute_type(kind: Type, values: Mapping[str, Dim]) -> Type:
    """`kind` with symbols replaced."""
    if isinstance(kind, TupleType):
        return tuple_type(tuple(substitute_type(item, values) for item in kind.items))
    dims = tuple(substitute(dim, values) for dim in kind.dims)
    if isinstance(kind, RowsType):
        return rows(kind.dtype, dims, substitute(kind.count, values))
    return sparse(kind.dtype, dims) if isinstance(kind, SparseType) else tensor(kind.dtype, dims)


_TYPE = re.compile(r"(sparse |rows )?(\w+)(?:\[(.*?)\])?(?: of (.*))?$")


def parse_type(text: str) -> Type:
    """The type that `text` writes down, as `str(type)` prints it; ValueError for anything else."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        return tuple_type(tuple(parse_type(part) for part in split_commas(text[1:-1])))
    match = _TYPE.match(text)
    if match is None or match[2] not in DTYPES or (match[1] == "rows ") != (match[4] is not None):
        raise ValueError(f"not a type: {text!r}")
    dtype = DTYPES[match[2]]
    dims = tuple(parse_dim(part) for part in split_commas(match[3] or ""))
    if match[1] == "rows ":
        return rows(dtype, dims, parse_dim(match[4]))
    return sparse(dtype, dims) if match[1] else tensor(dtype, dims)


def split_commas(text: str) -> list[str]:
    """The parts of `text` between the commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts
