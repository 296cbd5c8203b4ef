"""`x[…]`: places in lists, and slices, single places, new axes and `...` of tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.frontend.elaborate.arithmetic import as_value, constant_of
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Poisoned,
    Table,
    Tensor,
    Value,
    Variable,
    describe,
)
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dims import Dim, ceildiv


def subscript(frame: Frame, value: Value, expr: syntax.Subscript) -> Value:
    """`value[indices]`."""
    if isinstance(value, Poisoned):
        raise Silent
    if isinstance(value, Listing | Many):
        return _of_list(frame, value, expr)
    if not isinstance(value, Tensor | Variable | Table):
        raise Fault("type-mismatch", f"{describe(value)} has no places", expr.span)
    made = as_value(frame, value, expr.value.span)
    cut = _Cut()
    axis = 0
    left = sum(1 for i in expr.indices if not isinstance(i, syntax.NewAxis | syntax.Ellipsis))
    if left > len(made.dims):
        raise Fault("shape-mismatch", f"{left} indices for {made.type}", expr.span)
    for index in _expanded(expr, len(made.dims) - left):
        if isinstance(index, syntax.NewAxis):
            cut.shape.append(1)
            continue
        _one(frame, cut, index, made.dims[axis])
        axis += 1
    return Tensor(_apply(frame, made, cut, expr))


@dataclass(slots=True)
class _Cut:
    """A slice of every axis, and the shape that is left."""

    start: list[Dim] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    extent: list[Dim] = field(default_factory=list)
    shape: list[Dim] = field(default_factory=list)

    def add(self, start: Dim, step: int, extent: Dim, keep: bool) -> None:
        """One axis more."""
        self.start.append(start)
        self.step.append(step)
        self.extent.append(extent)
        if keep:
            self.shape.append(extent)


def _expanded(expr: syntax.Subscript, missing: int) -> list[syntax.Index]:
    """The indices with whole slices for `...`, or at the end."""
    whole: list[syntax.Index] = [syntax.Slice(expr.span, None, None, None)] * missing
    dots = [i for i, index in enumerate(expr.indices) if isinstance(index, syntax.Ellipsis)]
    if len(dots) > 1:
        raise Fault("syntax", "one `...` is enough", expr.indices[dots[1]].span)
    at = dots[0] if dots else len(expr.indices)
    return [*expr.indices[:at], *whole, *expr.indices[at + 1 :]]


def _apply(frame: Frame, made: ir.Value, cut: _Cut, expr: syntax.Subscript) -> ir.Value:
    whole = all(a == 0 and s == 1 for a, s in zip(cut.start, cut.step, strict=True))
    if not whole or tuple(cut.extent) != made.dims:
        made = frame.emit(expr.span, "slice", made, start=tuple(cut.start), step=tuple(cut.step),
                          dims=tuple(cut.extent))
    return frame.place(expr.span).reshape(made, cut.shape)


def _one(frame: Frame, cut: _Cut, index: syntax.Index, extent: Dim) -> None:
    """One index into an axis of `extent`."""
    assert not isinstance(index, syntax.NewAxis | syntax.Ellipsis)
    if isinstance(index, syntax.Slice):
        _slice(frame, cut, index, extent)
        return
    value = frame.evaluate(index)
    if not isinstance(value, Number) or isinstance(value.value, float):
        raise Fault("unsupported", f"an index that is {describe(value)} is not supported yet",
                    index.span)
    place = _from_end(value.value, extent)
    if isinstance(place, int) and place < 0:
        raise Fault("index-range", f"index {value.value} of an axis of {extent}", index.span)
    frame.at_least(extent - place, 1, f"{place} < {extent}, for it is an index", index.span,
                   f"index {value.value} of an axis of {extent}", "index-range")
    cut.add(place, 1, 1, False)


def _from_end(place: Dim, extent: Dim) -> Dim:
    """Constant places below 0 count from the end."""
    return extent + place if isinstance(place, int) and place < 0 else place


def _slice(frame: Frame, cut: _Cut, index: syntax.Slice, extent: Dim) -> None:
    if index.start is None and index.stop is None and index.step is None:
        cut.add(0, 1, extent, True)
        return
    start = _bound(frame, index.start, 0, extent)
    stop = _bound(frame, index.stop, extent, extent)
    step = 1 if index.step is None else constant_of(frame.evaluate(index.step))
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise Fault("type-mismatch", "the step of a slice is a constant >= 1", index.span,
                    help="`flip` reverses an axis")
    wrong = f"the slice {start}:{stop} of an axis of {extent}"
    for low, high in ((0, start), (start, stop), (stop, extent)):
        frame.at_least(high - low, 0, f"{low} <= {high}, for they bound a slice", index.span,
                       wrong, "index-range")
    cut.add(start, step, ceildiv(stop - start, step), True)


def _bound(frame: Frame, expr: syntax.Expr | None, default: Dim, extent: Dim) -> Dim:
    if expr is None:
        return default
    value = frame.evaluate(expr)
    if isinstance(value, Number) and not isinstance(value.value, float):
        return _from_end(value.value, extent)
    raise Fault("type-mismatch", f"the bounds of a slice are constants or dims, not "
                f"{describe(value)}", expr.span)


def _of_list(frame: Frame, value: Listing | Many, expr: syntax.Subscript) -> Value:
    (index, *more) = expr.indices
    if more:
        raise Fault("type-mismatch", "a list has one index", expr.span)
    if isinstance(index, syntax.Slice):
        bounds = [_place(frame, b) if b is not None else None
                  for b in (index.start, index.stop, index.step)]
        return Listing(value.items[slice(*bounds)], not isinstance(value, Listing) or value.known)
    if isinstance(index, syntax.NewAxis | syntax.Ellipsis):
        raise Fault("type-mismatch", "a list has places, no axes", expr.span)
    place = _place(frame, index)
    if isinstance(value, Listing) and not value.known:
        return value.items[0]
    if not -len(value.items) <= place < len(value.items):
        raise Fault("index-range", f"place {place} of {describe(value)}", index.span)
    return value.items[place]


def _place(frame: Frame, expr: syntax.Expr) -> int:
    place = constant_of(frame.evaluate(expr))
    if isinstance(place, bool) or not isinstance(place, int):
        raise Fault("type-mismatch", "a place in a list is a constant integer", expr.span)
    return place
