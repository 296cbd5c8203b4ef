"""Sparse matrices: what there is of them, as rows, columns and values, and products with them.

A parameter `bag: sparse f32[N, M]` is three arrays of a graph, `bag.rows`, `bag.columns` and
`bag.values`, each of `bag.entries` elements in any order; entries of one place add up. Its sizes
are given by name, `bag.height` and `bag.width`, and so is a symbol that no dense parameter has. So
neither the number of entries nor the sizes need a new compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value, is_untyped
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.gather import check_range
from dlc.frontend.elaborate.values import Sparse, Tensor, Value, describe
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import symbol
from dlc.ir.graph import Param
from dlc.ir.types import I32, I64, SparseType, TensorType, tensor

_ALLOWED: Final = ("with a sparse matrix there are `s @ dense`, `s.T @ dense`, `s * number` and "
                   "`dense(s)`")


def declare(
    frame: Frame, parameter: syntax.Parameter, kind: TensorType
) -> tuple[Sparse, list[Param]]:
    """A sparse parameter of a function that is called from outside; its places are checked."""
    name, span, dims = parameter.name.text, parameter.span, kind.dims
    if len(dims) != 2 or not kind.dtype.is_float:
        raise Fault("sparse-type", "a sparse matrix has two dims, and floats in it", span)
    if parameter.default is not None:
        raise Fault("sparse-type", "a sparse matrix has no default", parameter.default.span)
    builder, entries = frame.context.builder, (symbol(f"{name}.entries"),)
    rows, columns = (builder.fresh(f"{name}.{part}", tensor(I32, entries))
                     for part in ("rows", "columns"))
    values = builder.fresh(f"{name}.values", tensor(kind.dtype, entries))
    for ids, extent, word in ((rows, dims[0], "row"), (columns, dims[1], "column")):
        check_range(frame, ids, extent, span,
                    f"{word} {{value}} of `{name}` is out of range: it has {extent} {word}s")
    made = Sparse(rows, columns, values, (dims[0], dims[1]))
    params = [Param(rows), Param(columns), Param(values)]
    for size, extent, word in (("height", dims[0], "rows"), ("width", dims[1], "columns")):
        given = symbol(f"{name}.{size}")
        params.append(Param(builder.fresh(str(given), tensor(I64)), "size"))
        frame.context.require(extent, "==", given, f"{name} has {extent} {word}",
                              frame.loc(span))
    return made, params


def sizes(frame: Frame, parameters: Sequence[syntax.Parameter]) -> list[Param]:
    """The symbols that stand in sparse parameters alone: each is given at the call by its name."""
    known = {dim.text for p in parameters if not p.type.sparse for dim in p.type.dims
             if isinstance(dim, syntax.Name)}
    wanted = dict.fromkeys(
        dim.text for p in parameters if p.type.sparse for dim in p.type.dims
        if isinstance(dim, syntax.Name) and dim.text in frame.symbols)
    return [Param(frame.context.builder.fresh(name, tensor(I64)), "size")
            for name in wanted if name not in known]


def fitting(value: Value, wanted: SparseType, what: str, span: Span) -> Sparse:
    """`value` where a sparse matrix is declared."""
    if not isinstance(value, Sparse):
        raise Fault("type-mismatch", f"{what} is {wanted}, not {describe(value)}", span,
                    help="sparse matrices come from outside, as arguments")
    if value.kind is not wanted:
        raise Fault("shape-mismatch", f"{what} does not fit", span,
                    (f"expected: {wanted}", f"found:    {value.kind}"))
    return value


def transposed(matrix: Sparse) -> Sparse:
    """Rows for columns."""
    return Sparse(matrix.columns, matrix.rows, matrix.values, (matrix.dims[1], matrix.dims[0]))


def binary(frame: Frame, sign: str, left: Value, right: Value, at: Span) -> Value:
    """`matrix @ dense`, `matrix * number`, `number * matrix`."""
    if sign == "@" and isinstance(left, Sparse) and not isinstance(right, Sparse):
        return Tensor(_product(frame, left, as_value(frame, right, at, left.values.dtype), at))
    if sign == "*" and not (isinstance(left, Sparse) and isinstance(right, Sparse)):
        matrix, number = (left, right) if isinstance(left, Sparse) else (right, left)
        assert isinstance(matrix, Sparse)
        if is_untyped(number) or not as_value(frame, number, at).dims:
            return _scaled(frame, matrix, number, at)
    raise Fault("sparse-operation",
                f"`{sign}` does not take {describe(left)} and {describe(right)}", at, help=_ALLOWED)


def _scaled(frame: Frame, matrix: Sparse, number: Value, at: Span) -> Sparse:
    factor = as_value(frame, number, at, matrix.values.dtype)
    if factor.dtype is not matrix.values.dtype:
        raise Fault("dtype-mismatch", f"element types differ in `*`: {matrix.values.dtype} is not "
                    f"{factor.dtype}", at)
    builder = frame.place(at)
    spread = builder.broadcast(factor, matrix.values.dims)
    values = builder.op("mul", matrix.values, spread)
    return Sparse(matrix.rows, matrix.columns, values, matrix.dims)


def _product(frame: Frame, matrix: Sparse, right: ir.Value, at: Span) -> ir.Value:
    """Each entry times the row of the right side that its column names, added to its own row."""
    notes = (f"left:  {matrix.kind}", f"right: {right.type}")
    if right.dtype is not matrix.values.dtype:
        raise Fault("dtype-mismatch", f"element types differ in `@`: {matrix.values.dtype} is not "
                    f"{right.dtype}", at, notes)
    if len(right.dims) not in (1, 2) or right.dims[0] != matrix.dims[1]:
        raise Fault("shape-mismatch", "shapes do not agree in `@`", at, notes)
    builder = frame.place(at)
    taken = builder.op("gather", right, matrix.columns, axis=0)
    weight = builder.broadcast(matrix.values, taken.dims, (0,))
    zero = builder.zeros(tensor(right.dtype, (matrix.dims[0], *right.dims[1:])))
    return builder.op("scatter", zero, builder.op("mul", taken, weight), matrix.rows, axis=0,
                      mode="add")


@builtin("dense", "s")
def _dense(given: Given) -> Value:
    """All elements of a sparse matrix, zeros where it has no entry."""
    matrix = given.values["s"]
    if not isinstance(matrix, Sparse):
        raise given.fault("s", f"`dense` takes a sparse matrix, not {describe(matrix)}",
                          "sparse-operation")
    builder = given.frame.place(given.span)
    zero = builder.zeros(tensor(matrix.values.dtype, matrix.dims))
    return Tensor(builder.op("scatter", zero, matrix.values, matrix.rows, matrix.columns, axis=0,
                             mode="add"))
