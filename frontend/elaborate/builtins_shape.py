"""Builtins that move elements: other shapes and orders of axes, parts side by side or apart."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.elaborate.arithmetic import as_value, meet
from dlc.frontend.elaborate.builtin_table import Given, builtin
from dlc.frontend.elaborate.frames import Fault, Silent
from dlc.frontend.elaborate.proofs import put_off, renamed
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Tensor,
    Value,
    Variable,
    describe,
)
from dlc.ir import graph as ir
from dlc.ir.dims import Dim, floordiv, product
from dlc.ir.types import I32


@builtin("reshape", "x, *shape")
def _reshape(given: Given) -> Value:
    x = given.tensor("x")
    dims = list(given.dims())
    whole = product(x.dims)
    if dims.count(-1) > 1:
        raise Fault("reshape-size", "`reshape` finds one dim, not two", given.span)
    if -1 in dims:
        rest = product(tuple(d for d in dims if d != -1))
        dims[dims.index(-1)] = floordiv(whole, rest) if rest != 0 else 0
    if product(tuple(dims)) != whole:
        x = _of_size(given, x, tuple(dims), whole)
    return Tensor(given.frame.emit(given.span, "reshape", x, dims=tuple(dims)))


def _of_size(given: Given, x: ir.Value, dims: tuple[Dim, ...], whole: Dim) -> ir.Value:
    """The elements of `x` in a row, as many as `dims` have: where that can be put off."""
    frame = given.frame
    if put_off(frame, product(dims), whole, given.span):
        row = frame.emit(given.span, "reshape", x, dims=(whole,))
        return renamed(frame, row, (product(dims),), given.span)
    shown = ", ".join(map(str, dims))
    raise Fault("reshape-size", f"{x.type} has {whole} elements, [{shown}] has "
                f"{product(dims)}", given.span)


@builtin("transpose", "x, *order")
def _transpose(given: Given) -> Value:
    x = given.tensor("x")
    rank = len(x.dims)
    if any(left_open(given.frame, axis) for axis in given.shape):
        raise Silent
    order = tuple(d % rank if isinstance(d, int) and -rank <= d < rank else d
                  for d in given.dims())
    if sorted(map(str, order)) != sorted(map(str, range(rank))):
        raise Fault("axis-order", f"this is no order of the {rank} axes of {x.type}",
                    given.span)
    return Tensor(given.frame.emit(given.span, "transpose", x, order=order))


@builtin("pad", "x, widths, value?")
def _pad(given: Given) -> Value:
    x = given.tensor("x")
    pairs = _pairs(given, len(x.dims))
    value = given.number("value", 0.0)
    low, high = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
    return Tensor(given.frame.emit(given.span, "pad", x, low=low, high=high, value=value))


def _pairs(given: Given, rank: int) -> list[tuple[Dim, Dim]]:
    """The widths before and after each axis."""
    widths = given.values["widths"]
    items = widths.items if isinstance(widths, Many | Listing) else ()
    pairs = [item.items for item in items
             if isinstance(item, Many | Listing) and len(item.items) == 2]
    if len(pairs) != rank or len(items) != rank:
        raise given.fault("widths", f"`pad` needs a pair of widths for each of {rank} axes",
                          "pad-widths", "`((0, 0), (2, 2))`")
    return [(given.dim(a, given.spans["widths"]), given.dim(b, given.spans["widths"]))
            for a, b in pairs]


def _several(given: Given, name: str) -> list[ir.Value]:
    value = given.values[name]
    if not isinstance(value, Many | Listing) or not value.items:
        raise given.fault(name, f"`{given.name}` takes several values, not "
                          f"{describe(value)}", help=f"`{given.name}((a, b))`")
    items = [Tensor(given.frame.context.read(v)) if isinstance(v, Variable) else v
             for v in value.items]
    made, _ = meet(given.frame, items, f"`{given.name}`", given.span)
    return made


@builtin("concat", "parts, axis?")
def _concat(given: Given) -> Value:
    """A concatenation is a sum of parts that are padded with zeros."""
    parts = _several(given, "parts")
    rank = len(parts[0].dims)
    axis = given.axis("axis", rank, 0)
    total: Dim = 0
    for place, part in enumerate(parts):
        wanted = (*parts[0].dims[:axis], *part.dims[axis : axis + 1], *parts[0].dims[axis + 1 :])
        if len(part.dims) != rank or any(
                a != b and not put_off(given.frame, a, b, given.span)
                for a, b in zip(part.dims, wanted, strict=True)):
            raise Fault("concat-shapes", f"{part.type} does not stand beside {parts[0].type}",
                        given.span)
        parts[place] = renamed(given.frame, part, wanted, given.span)
        total = total + part.dims[axis]
    return Tensor(_side_by_side(given, parts, axis, total))


def _side_by_side(given: Given, parts: Sequence[ir.Value], axis: int, total: Dim) -> ir.Value:
    """Each part where it belongs, chosen by the place along the axis."""
    builder = given.frame.place(given.span)
    result: ir.Value | None = None
    before: Dim = 0
    for part in parts:
        after = total - before - part.dims[axis]
        low = tuple(before if i == axis else 0 for i in range(len(part.dims)))
        high = tuple(after if i == axis else 0 for i in range(len(part.dims)))
        placed = builder.op("pad", part, low=low, high=high, value=0.0)
        if result is None:
            result = placed
        else:
            place = builder.op("iota", dtype=I32, dims=placed.dims, axis=axis)
            start = as_value(given.frame, Number(before), given.span, I32)
            here = builder.op("lt", place, builder.broadcast(start, placed.dims))
            result = builder.op("select", here, result, placed)
        before = before + part.dims[axis]
    assert result is not None
    return result


@builtin("stack", "parts, axis?")
def _stack(given: Given) -> Value:
    """Values of one type side by side along a new axis."""
    parts = _several(given, "parts")
    if any(p.dims != parts[0].dims for p in parts):
        raise Fault("concat-shapes", "`stack` takes values of the same dims", given.span,
                    [str(p.type) for p in parts])
    rank = len(parts[0].dims)
    axis = given.axis("axis", rank + 1, 0)
    builder = given.frame.place(given.span)
    dims = (*parts[0].dims[:axis], 1, *parts[0].dims[axis:])
    thick = [builder.reshape(p, dims) for p in parts]
    return Tensor(_side_by_side(given, thick, axis, len(parts)))


@builtin("split", "x, count, axis?")
def _split(given: Given) -> Value:
    x, count = given.tensor("x"), given.integer("count", 1)
    axis = given.axis("axis", len(x.dims), 0)
    part = floordiv(x.dims[axis], count) if count > 0 else 0
    whole = x.dims[axis]
    if count < 1 or (part * count != whole
                     and not put_off(given.frame, part * count, whole, given.span)):
        raise Fault("split-size", f"{whole} does not split into {count} equal parts", given.span)
    step = (1,) * len(x.dims)
    dims = tuple(part if i == axis else d for i, d in enumerate(x.dims))
    return Many(tuple(
        Tensor(given.frame.emit(
            given.span, "slice", x, step=step, dims=dims,
            start=tuple(part * place if i == axis else 0 for i in range(len(dims)))))
        for place in range(count)))
