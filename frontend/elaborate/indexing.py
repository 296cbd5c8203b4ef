"""`x[…]`: places in lists; of tensors slices, single places, new axes, `...`, and indices that are
data."""

from __future__ import annotations

from dataclasses import field

from dlc.frontend.elaborate.arithmetic import as_value, constant_of
from dlc.frontend.elaborate.frames import Fault, Frame, Silent
from dlc.frontend.elaborate.gather import Place, follow, out_of_range, place_of
from dlc.frontend.elaborate.undecided import left_open
from dlc.frontend.elaborate.values import (
    Listing,
    Many,
    Number,
    Poisoned,
    Table,
    Tensor,
    Truth,
    Value,
    Variable,
    describe,
    dim_help,
)
from dlc.frontend.text import syntax
from dlc.ir import graph as ir
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span, plural
from dlc.ir.dims import Dim, at_least, ceildiv


def subscript(frame: Frame, value: Value, expr: syntax.Subscript) -> Value:
    """`value[indices]`."""
    if isinstance(value, Poisoned):
        raise Silent
    given = tuple(_evaluated(frame, index) for index in expr.indices)
    if isinstance(value, Listing) and not _as_tensor(value, expr, given):
        return _of_list(frame, value, expr, given)
    if isinstance(value, Many):
        return _of_list(frame, value, expr, given)
    if not isinstance(value, Tensor | Variable | Table | Listing):
        raise Fault("not-indexable", f"{describe(value)} has no places", expr.span)
    made = as_value(frame, value, expr.value.span)
    left = sum(1 for i in expr.indices if not isinstance(i, syntax.NewAxis | syntax.Ellipsis))
    if left > len(made.dims):
        raise Fault("too-many-indices", f"{plural(left, 'index', 'indices')} for {made.type}",
                    expr.span)
    cut, axis = _Cut(), 0
    for index, found in _expanded(expr, given, len(made.dims) - left):
        if isinstance(index, syntax.NewAxis):
            cut.left.append(None)
            continue
        _one(frame, cut, index, found, made.dims[axis])
        axis += 1
    return Tensor(_apply(frame, made, cut, expr))


def _evaluated(frame: Frame, index: syntax.Index) -> Value | None:
    """What an index is; None for a slice, `None` and `...`."""
    if isinstance(index, syntax.Slice | syntax.NewAxis | syntax.Ellipsis):
        return None
    return frame.evaluate(index)


def _as_tensor(
    value: Listing, expr: syntax.Subscript, given: tuple[Value | None, ...]
) -> bool:
    """Whether a list of numbers is indexed as the tensor that it is, not as a list."""
    if not value.known or not all(isinstance(i, Number | Truth | Listing) for i in value.items):
        return False
    (first, *more), (place, *_) = expr.indices, given
    if isinstance(first, syntax.NewAxis) or more:
        return True
    return place is not None and constant_of(place) is None


@dataclass(slots=True)
class _Cut:
    """A slice of every axis; what is left of them: dims, None for new axes, and indices."""

    start: list[Dim] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    extent: list[Dim] = field(default_factory=list)
    left: list[Dim | Place | None] = field(default_factory=list)

    def add(self, start: Dim, step: int, extent: Dim, *left: Dim | Place) -> None:
        """One axis more, and what is left of it."""
        self.start.append(start)
        self.step.append(step)
        self.extent.append(extent)
        self.left += left


def _expanded(
    expr: syntax.Subscript, given: tuple[Value | None, ...], missing: int
) -> list[tuple[syntax.Index, Value | None]]:
    """The indices with whole slices for `...`, or at the end."""
    whole: list[tuple[syntax.Index, Value | None]] = [
        (syntax.Slice(expr.span, None, None, None), None)] * missing
    dots = [i for i, index in enumerate(expr.indices) if isinstance(index, syntax.Ellipsis)]
    if len(dots) > 1:
        raise Fault("two-ellipses", "one `...` is enough", expr.indices[dots[1]].span)
    at = dots[0] if dots else len(expr.indices)
    pairs = list(zip(expr.indices, given, strict=True))
    return [*pairs[:at], *whole, *pairs[at + 1 :]]


def _apply(frame: Frame, made: ir.Value, cut: _Cut, expr: syntax.Subscript) -> ir.Value:
    """The slice, then the indices that are data, then the new axes."""
    whole = all(a == 0 and s == 1 for a, s in zip(cut.start, cut.step, strict=True))
    if not whole or tuple(cut.extent) != made.dims:
        made = frame.emit(expr.span, "slice", made, start=tuple(cut.start), step=tuple(cut.step),
                          dims=tuple(cut.extent))
    builder = frame.place(expr.span)
    made = builder.reshape(made, [e.extent if isinstance(e, Place) else e
                                  for e in cut.left if e is not None])
    runs = _runs(cut, expr)
    dims: list[Dim] = []
    for at in reversed(range(len(cut.left))):
        entry = cut.left[at]
        if at in runs:
            before = made
            axis = sum(1 for e in cut.left[:at] if e is not None)
            made = follow(frame, before, runs[at], axis, expr.span)
            count = len(made.dims) - len(before.dims) + len(runs[at])
            dims = [*made.dims[axis : axis + count], *dims]
        elif not isinstance(entry, Place):
            dims = [1 if entry is None else entry, *dims]
    return builder.reshape(made, dims)


def _runs(cut: _Cut, expr: syntax.Subscript) -> dict[int, list[Place]]:
    """The indices that stand side by side, by where the first of them stands."""
    runs: dict[int, list[Place]] = {}
    start = 0
    for at, entry in enumerate(cut.left):
        if not isinstance(entry, Place):
            start = at + 1
            continue
        runs.setdefault(start, []).append(entry)
    if sum(1 for run in runs.values() if any(p.value.dims for p in run)) > 1:
        raise Fault("index-tensors", "several index tensors stand side by side", expr.span,
                    help="`transpose` brings their axes together")
    return runs


def _one(
    frame: Frame, cut: _Cut, index: syntax.Index, value: Value | None, extent: Dim
) -> None:
    """One index into an axis of `extent`."""
    assert not isinstance(index, syntax.NewAxis | syntax.Ellipsis)
    if isinstance(index, syntax.Slice):
        _slice(frame, cut, index, extent)
        return
    assert value is not None
    if not isinstance(value, Number) or isinstance(value.value, float):
        cut.add(0, 1, extent, place_of(frame, value, extent, index.span))
        return
    cut.add(constant_place(frame, value.value, extent, index.span), 1, 1)


def constant_place(frame: Frame, index: Dim, extent: Dim, span: Span) -> Dim:
    """A constant index or a dim as a place counted from the front; it is proved, or put off."""
    place = _from_end(frame, index, extent, span)
    wrong = out_of_range(index, extent)
    if isinstance(place, int) and place < 0:
        raise Fault("index-range", wrong, span)
    frame.at_least(extent - place, 1, f"{place} < {extent}, for it is an index", span, wrong,
                   "index-range")
    frame.at_least(place, 0, f"{place} >= 0, for it is an index", span, wrong, "index-range")
    return place


def _from_end(frame: Frame, place: Dim, extent: Dim, span: Span) -> Dim:
    """Constant places below 0 count from the end; so do dims that are always below 0."""
    if at_least(place, 0) or not at_least(-place, 0):
        return place
    if not at_least(-place, 1) and not left_open(frame, Number(place)):
        raise Fault("index-range", f"{place} may be 0, which does not count from the end", span,
                    help=f"`{extent + place}` is the place")
    return extent + place


def _slice(frame: Frame, cut: _Cut, index: syntax.Slice, extent: Dim) -> None:
    if index.start is None and index.stop is None and index.step is None:
        cut.add(0, 1, extent, extent)
        return
    start = _bound(frame, index.start, 0, extent)
    stop = _bound(frame, index.stop, extent, extent)
    step = 1 if index.step is None else _step(frame, index.step)
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise Fault("slice-step", "the step of a slice is a constant >= 1", index.span,
                    help="`flip` reverses an axis")
    wrong = f"the slice {start}:{stop} of an axis of {extent}"
    for low, high in ((0, start), (start, stop), (stop, extent)):
        frame.at_least(high - low, 0, f"{low} <= {high}, for they bound a slice", index.span,
                       wrong, "index-range")
    length = ceildiv(stop - start, step)
    cut.add(start, step, length, length)


def _step(frame: Frame, expr: syntax.Expr) -> int | float | bool | None:
    value = frame.evaluate(expr)
    if left_open(frame, value):
        raise Silent
    return constant_of(value)


def _bound(frame: Frame, expr: syntax.Expr | None, default: Dim, extent: Dim) -> Dim:
    if expr is None:
        return default
    value = frame.evaluate(expr)
    if isinstance(value, Number) and not isinstance(value.value, float):
        return _from_end(frame, value.value, extent, expr.span)
    raise Fault("slice-bound", f"the bounds of a slice are constants or dims, not "
                f"{describe(value)}", expr.span, help=dim_help(value))


def _of_list(
    frame: Frame, value: Listing | Many, expr: syntax.Subscript, given: tuple[Value | None, ...]
) -> Value:
    (index, *more) = expr.indices
    if more:
        raise Fault("list-index", "a list has one index", expr.span)
    if isinstance(index, syntax.Slice):
        return _part_of_list(frame, value, index)
    if given[0] is None:
        raise Fault("list-index", "a list has places, no axes", expr.span)
    if left_open(frame, given[0]):
        return value.place(None) if isinstance(value, Listing) else Poisoned()
    place = _place(given[0], index.span)
    if isinstance(value, Listing) and not value.known:
        return value.place(place)
    if not -len(value.items) <= place < len(value.items):
        raise Fault("index-range", f"place {place} of {describe(value)}", index.span)
    return value.items[place]


def _part_of_list(frame: Frame, value: Listing | Many, index: syntax.Slice) -> Listing:
    """A slice of a list; where it begins and ends may be left open until a model is built."""
    given = [frame.evaluate(b) if b is not None else None
             for b in (index.start, index.stop, index.step)]
    if any(bound is not None and left_open(frame, bound) for bound in given):
        items = value.items[:1] if given[0] is None else (Poisoned(),) * bool(value.items)
        return Listing(items, known=False, alike=isinstance(value, Listing) and value.alike)
    bounds = [_place(bound, written.span) if bound is not None and written is not None else None
              for bound, written in zip(given, (index.start, index.stop, index.step), strict=True)]
    if isinstance(value, Listing) and not value.known:
        first = value.place(0 if bounds[0] in (None, 0) else None)
        return Listing((first,), known=False, alike=value.alike)
    return Listing(value.items[slice(*bounds)])


def _place(value: Value, span: Span) -> int:
    place = constant_of(value)
    if isinstance(place, bool) or not isinstance(place, int):
        raise Fault("list-index", "a place in a list is a constant integer", span)
    return place
