"""What a `scan` goes over, and how: tensors, ranges of any length, its options."""

from __future__ import annotations

from typing import Final

from dlc.frontend.elaborate.arithmetic import as_value
from dlc.frontend.elaborate.declared import conform
from dlc.frontend.elaborate.expressions import evaluate, resolve
from dlc.frontend.elaborate.frames import Fault, Frame
from dlc.frontend.elaborate.proofs import put_off
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import Builtin, Listing, Number, Tensor, Truth, Value, describe
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.diagnostics import did_you_mean, plural
from dlc.ir.dims import Dim
from dlc.ir.types import I32, tensor

_OPTIONS: Final = ("reverse", "recompute")


def flags_of(frame: Frame, statement: syntax.Scan) -> dict[str, bool]:
    """`reverse=true` goes from the last place to the first; `recompute=true` keeps of the turns
    nothing but what is carried, for the gradient."""
    flags = dict.fromkeys(_OPTIONS, False)
    for option in statement.options:
        assert option.name is not None
        name = option.name.text
        if name not in _OPTIONS:
            raise Fault("unknown-option", f"`scan` has no option `{name}`", option.name.span,
                        help=did_you_mean(name, _OPTIONS) or "it has `reverse` and `recompute`")
        value = evaluate(frame, option.value)
        if left_open(frame, value):
            continue
        if not isinstance(value, Truth):
            raise Fault("constant-argument", f"`{name}` is `true` or `false`, not "
                        f"{describe(value)}", option.value.span)
        flags[name] = value.value
    return flags


def sources_of(frame: Frame, statement: syntax.Scan) -> tuple[list[ir.Value], Dim]:
    """The tensors that a scan goes over, and how long they all are."""
    if not statement.sources:
        raise Fault("not-scannable", "a `scan` goes over something", statement.span,
                    help="`scan x in xs`, `scan i in range(n)`")
    values = [_source(frame, expr) for expr in statement.sources]
    names = len(statement.targets)
    if names != len(values):
        raise Fault("name-count", f"{plural(names, 'name')} for "
                    f"{plural(len(values), 'value')} to go over", statement.span,
                    help="`scan x, m in xs, ms` goes over two tensors side by side")
    length = values[0].dims[0]
    for at, (value, expr) in enumerate(zip(values, statement.sources, strict=True)):
        dims = (length, *value.dims[1:])
        if value.dims[0] != length and not put_off(frame, value.dims[0], length, expr.span):
            raise Fault("scan-lengths", f"these are not equally long: {length} is not "
                        f"{value.dims[0]}", expr.span, [str(v.type) for v in values])
        values[at] = conform(frame, value, tensor(value.dtype, dims), "what is gone over",
                             expr.span)
    return values, length


def _source(frame: Frame, expr: syntax.Expr) -> ir.Value:
    """One tensor to go over; a range of any length is one of i32."""
    count = _count(frame, expr)
    if count is not None:
        return frame.emit(expr.span, "iota", dtype=I32, dims=(count,), axis=0)
    value = evaluate(frame, expr)
    if isinstance(value, Listing) and value.items and not _numbers(value):
        raise Fault("not-scannable", f"`scan` goes over tensors, not {describe(value)}", expr.span,
                    help="`for` goes over lists, and is unrolled")
    made = value if isinstance(value, Number | Truth) else as_value(frame, value, expr.span)
    if not isinstance(made, ir.Value) or not made.dims:
        raise Fault("not-scannable", f"`scan` goes over the leading axis of a tensor, not over "
                    f"{describe(value)}", expr.span, help="`range(n)` makes numbers of it")
    return made


def _numbers(value: Value) -> bool:
    if isinstance(value, Listing):
        return all(_numbers(item) for item in value.items)
    return isinstance(value, Number | Truth)


def _count(frame: Frame, expr: syntax.Expr) -> Dim | None:
    """The `n` of `range(n)`; None for anything else."""
    if not (isinstance(expr, syntax.Call) and len(expr.arguments) == 1
            and isinstance(expr.function, syntax.Name)
            and resolve(frame, expr.function) == Builtin("range")):
        return None
    (argument,) = expr.arguments
    value = evaluate(frame, argument.value)
    if not isinstance(value, Number) or isinstance(value.value, float):
        help = "an `int` parameter can be one: `fn f(n: int)`" if isinstance(value, Tensor) else ""
        raise Fault("not-a-dim", f"the length of a range is a dim, not {describe(value)}",
                    argument.span, help=help)
    count = value.value
    frame.at_least(count, 0, f"{count} >= 0, for it is the length of a range", argument.span,
                   f"a range of {count}", "number-range")
    return count
