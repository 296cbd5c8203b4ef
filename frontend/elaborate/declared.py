"""Declared types: what their dims are, how symbols are bound, what must be proved or put off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value, check_number, is_untyped, table_of
from dlc.frontend.elaborate.frames import Fault, Frame, Silent, check_size
from dlc.frontend.elaborate.proofs import put_off, renamed
from dlc.frontend.elaborate.sparse import fitting
from dlc.frontend.elaborate.values import (
    Instance,
    Listing,
    Number,
    Poisoned,
    Sparse,
    Table,
    Tensor,
    Truth,
    Value,
    describe,
    dim_help,
)
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Diagnostic, Span, plural
from dlc.ir.dims import Dim, Poly, at_least, symbol
from dlc.ir.types import BOOL, DTYPES, DType, TensorType, sparse, tensor

GENERIC: Final = ("float", "integer")


def dim_of(frame: Frame, expr: syntax.Expr) -> Dim:
    """The dim that an expression is."""
    try:
        value = frame.evaluate(expr)
    except Fault as fault:
        raise _with_symbol_help(fault, expr) from None
    if isinstance(value, Poisoned):
        raise Silent
    if isinstance(value, Number) and not isinstance(value.value, float):
        return value.value
    raise Fault("not-a-dim", f"a dim is an integer, not {describe(value)}", expr.span,
                help=dim_help(value))


def _with_symbol_help(fault: Fault, expr: syntax.Expr) -> Fault:
    found = fault.diagnostic
    name = _name_in(found, expr)
    if found.code == "unknown-name" and name:
        help = "a symbol begins with a capital, and stands alone as a dim of some parameter"
        if found.help and not name[0].isupper():
            help = found.help
        fault.diagnostic = replace(found, code="unknown-dim", help=help)
    return fault


def _name_in(found: Diagnostic, expr: syntax.Expr) -> str:
    """The name in a dim that an error is about; empty if it is about something else."""
    names: list[syntax.Expr] = [expr]
    while names:
        each = names.pop()
        if isinstance(each, syntax.Name) and each.span == found.span:
            return each.text
        if isinstance(each, syntax.Binary):
            names += [each.left, each.right]
    return ""


def is_symbol(frame: Frame, dim: syntax.Expr | syntax.Rest) -> bool:
    """Whether a declared dim is the name of a symbol: it begins with a capital, and means nothing
    else where it stands."""
    return (
        isinstance(dim, syntax.Name)
        and dim.text[0].isupper()
        and dim.text not in frame.locals
        and not _is_member(frame.owner, dim.text)
        and not _is_constant(frame, dim.text)
    )


def _is_constant(frame: Frame, name: str) -> bool:
    found = frame.module.find(name)
    return found is not None and isinstance(found[0], syntax.Const)


def _is_member(owner: Instance | None, name: str) -> bool:
    return owner is not None and (
        name in owner.parameters or name in owner.symbols or name in owner.members)


def dtype_of(frame: Frame, kind: syntax.TypeExpr) -> DType:
    """The element type that a declared type has, where `float` and `integer` are bound already."""
    if kind.dtype in GENERIC:
        found = frame.generics.get(kind.dtype)
        if found is None:
            raise Fault("unbound-type", f"`{kind.dtype}` is bound by no parameter here", kind.span,
                        help="a type such as `f32` is meant")
        return found
    return DTYPES[kind.dtype]


def resolve(frame: Frame, kind: syntax.TypeExpr) -> TensorType:
    """The type that is declared, all symbols being bound."""
    dims: list[Dim] = []
    rests = [dim for dim in kind.dims if isinstance(dim, syntax.Rest)]
    if len(rests) > 1:
        raise Fault("unbound-dims", f"`*{rests[1].name.text}` is the second of its kind in this "
                    "type: which dims it stands for can't be told", rests[1].span)
    for dim in kind.dims:
        if isinstance(dim, syntax.Rest):
            if dim.name.text not in frame.rests:
                raise Fault("unbound-dims", f"`*{dim.name.text}` is bound by no parameter",
                            dim.span)
            dims += frame.rests[dim.name.text]
        else:
            dims.append(dim_of(frame, dim))
    made = tensor(dtype_of(frame, kind), tuple(dims))
    check_size(made, kind.span)
    return made


def declare_symbols(frame: Frame, parameters: Sequence[syntax.Parameter]) -> None:
    """Makes every symbol of a signature stand for itself: for an entry, or to check a definition.

    `*S` stands for one dim, `float` for f32 (`frame.default_float`) and `integer` for i32.
    """
    for parameter in parameters:
        frame.generics.setdefault(parameter.type.dtype, frame.default_float
                                  if parameter.type.dtype == "float" else DTYPES["i32"])
        for dim in parameter.type.dims:
            if isinstance(dim, syntax.Rest):
                frame.rests.setdefault(dim.name.text, (symbol(dim.name.text),))
            elif isinstance(dim, syntax.Name) and is_symbol(frame, dim):
                frame.symbols.setdefault(dim.text, symbol(dim.text))


def bind_symbols(
    frame: Frame, parameter: syntax.Parameter, value: Value, span: Span
) -> None:
    """Binds the symbols, `*S` and `float` of one parameter's type to what `value` has there."""
    kind = parameter.type
    if kind.dtype == "int" or is_untyped(value) or isinstance(value, Truth):
        return
    given = _given(frame, value, kind, span)
    if kind.dtype in GENERIC:
        _bind_generic(frame, kind, given.dtype, parameter, span)
    places = _line_up(kind, given)
    if places is None:
        if given.dims:  # a scalar takes the shape that other parameters have
            raise _no_rank(parameter, given, span)
        return
    for dim, found in places:
        if isinstance(dim, syntax.Rest):
            frame.rests.setdefault(dim.name.text, found)
        elif isinstance(dim, syntax.Name) and is_symbol(frame, dim):
            _bind(frame, dim.text, found[0], span)


def _no_rank(parameter: syntax.Parameter, given: TensorType, span: Span) -> Fault:
    dims = parameter.type.dims
    least = sum(not isinstance(dim, syntax.Rest) for dim in dims)
    return Fault("rank-mismatch", f"`{parameter.name.text}` has {plural(given.rank, 'dim')}, not "
                 f"{least}{' or more' if least < len(dims) else ''}", span,
                 (f"found:    {given}", f"declared at {parameter.span}"))


def require_bound(frame: Frame, parameter: syntax.Parameter, span: Span) -> None:
    """Something says how large each symbol of a parameter is: a scalar does not."""
    for dim in parameter.type.dims:
        rest = isinstance(dim, syntax.Rest)
        name = dim.name.text if isinstance(dim, syntax.Rest) else (
            dim.text if isinstance(dim, syntax.Name) and is_symbol(frame, dim) else "")
        if name and name not in (frame.rests if rest else frame.symbols):
            raise Fault("unbound-dims", f"nothing says what `{'*' * rest}{name}` of "
                        f"`{parameter.name.text}` is", span, (f"declared at {parameter.span}",),
                        "a scalar takes the dims that other arguments have")


def _bind(frame: Frame, name: str, dim: Dim, span: Span) -> None:
    if name in frame.symbols:
        return
    frame.symbols[name] = dim
    frame.at_least(dim, 1, f"{dim} >= 1, for {name} is a size", span,
                   f"the size {name} is {dim}, but must be at least 1", "zero-size")


def _given(frame: Frame, value: Value, kind: syntax.TypeExpr, span: Span) -> TensorType:
    if isinstance(value, Table):
        return value.kind
    if isinstance(value, Sparse):
        return tensor(value.values.dtype, value.dims)
    if isinstance(value, Listing) and kind.dtype in DTYPES:
        return table_of(frame, value, span, DTYPES[kind.dtype]).kind
    return as_value(frame, value, span).tensor


def _bind_generic(
    frame: Frame, kind: syntax.TypeExpr, dtype: DType, parameter: syntax.Parameter, span: Span
) -> None:
    if not (dtype.is_float if kind.dtype == "float" else dtype.is_integer):
        raise Fault("generic-type", f"`{parameter.name.text}` takes any {kind.dtype} type, "
                    f"not {dtype}", span, (f"declared at {parameter.span}",))
    frame.generics.setdefault(kind.dtype, dtype)


Places = list[tuple[syntax.Expr | syntax.Rest, tuple[Dim, ...]]]


def _line_up(kind: syntax.TypeExpr, given: TensorType) -> Places | None:
    """Which dims of a type stand for which of a declared one; None if the ranks do not fit."""
    rests = [i for i, d in enumerate(kind.dims) if isinstance(d, syntax.Rest)]
    if not rests:
        if len(kind.dims) != given.rank:
            return None
        return [(d, (g,)) for d, g in zip(kind.dims, given.dims, strict=True)]
    (at,) = rests[:1]
    after = len(kind.dims) - at - 1
    if given.rank < at + after:
        return None
    stop = given.rank - after
    return [
        *((d, (g,)) for d, g in zip(kind.dims[:at], given.dims[:at], strict=True)),
        (kind.dims[at], given.dims[at:stop]),
        *((d, (g,)) for d, g in zip(kind.dims[at + 1 :], given.dims[stop:], strict=True)),
    ]


def fit(
    frame: Frame, kind: syntax.TypeExpr, value: Value, what: str, span: Span,
    declared_at: Span | None = None,
) -> Value:
    """`value` as a declared type takes it; numbers take the type, scalars are spread."""
    if isinstance(value, Poisoned):
        raise Silent
    if kind.dtype == "int":
        return _fit_int(value, what, span)
    if kind.dtype in GENERIC and not kind.dims and is_untyped(value):
        return value
    wanted = resolve(frame, kind)
    if kind.sparse:
        return fitting(value, sparse(wanted.dtype, wanted.dims), what, span)
    if isinstance(value, Number | Truth) and not wanted.dims:
        return _fit_number(frame, wanted.dtype, value, span)
    if isinstance(value, Listing):
        value = table_of(frame, value, span, wanted.dtype)
    if isinstance(value, Table) and value.kind is wanted:
        return value
    made = as_value(frame, value, span, wanted.dtype)
    return Tensor(conform(frame, made, wanted, what, span, declared_at))


def _fit_number(frame: Frame, dtype: DType, value: Number | Truth, span: Span) -> Value:
    """A number that a scalar parameter takes: still known as the program is compiled."""
    if isinstance(value, Truth):
        if dtype is not BOOL:
            raise Fault("dtype-mismatch", f"expected {dtype}, found a bool", span)
        return value
    if isinstance(value.value, Poly):
        return Tensor(as_value(frame, value, span, dtype))
    return Table(tensor(dtype), (check_number(value.value, dtype, span),))


def _fit_int(value: Value, what: str, span: Span) -> Value:
    if isinstance(value, Number) and not isinstance(value.value, float):
        return value
    if isinstance(value, Tensor) and value.untyped:
        return value
    raise Fault("needs-integers", f"{what} is an integer, not {describe(value)}", span)


def conform(
    frame: Frame, value: ir.Value, wanted: TensorType, what: str, span: Span,
    declared_at: Span | None = None,
) -> ir.Value:
    """`value` as a value of type `wanted`: equal dims are proved or put off, scalars are spread."""
    given = value.tensor
    notes = [f"expected: {wanted}", f"found:    {given}"]
    if declared_at is not None:
        notes[0] += f", declared at {declared_at}"
    if given.dtype is not wanted.dtype:
        raise Fault("dtype-mismatch", f"{what} is {given.dtype}, not {wanted.dtype}", span, notes,
                    f"`{wanted.dtype}(x)` converts")
    if not given.dims and wanted.dims:
        return frame.place(span).broadcast(value, wanted.dims)
    if given.rank != wanted.rank:
        raise Fault("rank-mismatch",
                    f"{what} has {plural(given.rank, 'dim')}, not {wanted.rank}", span, notes)
    for a, b in zip(given.dims, wanted.dims, strict=True):
        if a != b and not put_off(frame, a, b, span):
            why = _why(a, b)
            raise Fault("symbol-mismatch" if why else "shape-mismatch",
                        f"{what} does not fit: {a} is not {b}", span, notes, why)
    return renamed(frame, value, wanted.dims, span)


def _why(a: Dim, b: Dim) -> str:
    if isinstance(a, Poly) and isinstance(b, Poly) and len(a.symbols | b.symbols) > 1:
        return "two symbols may differ: give both the same name if they are one size"
    return ""


def require_where(frame: Frame, conditions: Sequence[syntax.Expr]) -> None:
    """The `where` of a signature: proved, put off to the call, or an error."""
    for condition in conditions:
        if not isinstance(condition, syntax.Comparison):
            raise Fault("where-form", "`where` takes comparisons of dims", condition.span)
        dims = [dim_of(frame, operand) for operand in condition.operands]
        for left, sign, right in zip(dims, condition.operators, dims[1:], strict=False):
            _require(frame, left, sign, right, condition)


def _require(
    frame: Frame, left: Dim, sign: str, right: Dim, condition: syntax.Comparison
) -> None:
    span, text = condition.span, frame.text_of(condition.span)
    if sign == "!=":
        # Two integers differ where the square of their difference is at least 1.
        left, right, sign = (left - right) * (left - right), 1, ">="
        if isinstance(left, int) and not left:
            raise Fault("where-fails", f"`{text}` does not hold", span)
    difference = {"<": right - left - 1, "<=": right - left, ">": left - right - 1,
                  ">=": left - right, "==": left - right}[sign]
    if isinstance(difference, int):
        if difference < 0 or (sign == "==" and difference):
            raise Fault("where-fails", f"`{text}` does not hold", span,
                        (f"here it is {left} {sign} {right}",))
    elif sign == "==":
        frame.context.require(difference, "==", 0, text, frame.loc(span))
    elif not at_least(difference, 0):
        frame.context.require(difference, ">=", 0, text, frame.loc(span))
