"""Convolutions as sums whose lanes lie along the maps of a result, and what of them is copied.

    y[n, o, v, u] = sum c, r, s:  x[n, c, v + r - 1, u + s - 1] * w[o, c, r, s]

A row of `y` fills vectors only if it is as long as some of them are, and each tap reads another
vector of `x`, that begins anywhere. Maps fill them whatever the size of a picture: `w` is copied
once, the lanes of o innermost, and `x` is read element by element. For that no element may lie
outside: rows of `x` are copied with zeros round them, and with as many more at their end as tiles
stick out. Neither is large beside the multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.compiler.kernels.accesses import stride, uses
from dlc.compiler.kernels.places import operands_of
from dlc.compiler.kernels.ranges import bind, extreme, index_ranges, nonnegative
from dlc.compiler.kernels.with_indices import with_reads
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import (
    Dim,
    Poly,
    ceildiv,
    coefficient,
    floordiv,
    maximum,
    minimum,
    symbol,
    symbols,
)
from dlc.ir.kernel import Access, Arg, Buffer, Compute, Index, Kernel, blocked

TURNED_SUM = 1.0  # cycles of a result that is made from sums along the maps
PADDED = 0.4  # of an element of the picture that is copied


@dataclass(frozen=True, slots=True)
class Copy:
    """A kernel that copies the buffer `source` of another one."""

    kernel: Kernel
    source: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A kernel that reads copies: its last parameters, one for each of `copies`. Its others are
    those called `kept` of the kernel that it was."""

    kernel: Kernel
    kept: tuple[str, ...]
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Maps:
    """A kernel whose sums may lie along maps.

    kernel:  with every tap at every place along a row; outside the picture is 0.
    weights: what is read along the maps; picture: the other operand.
    maps:    the outer index of the weights alone.
    along:   the outer index along which all is stored, of the picture alone.
    axis:    of the picture, whose index is `step` times `along` and, as the taps go, something from
             `low` to `high`.
    """

    kernel: Kernel
    weights: Access
    picture: Access
    maps: Index
    along: Index
    axis: int
    step: int
    low: int
    high: int

    @property
    def sum(self) -> Compute:
        """The sum itself."""
        first = self.kernel.body[0]
        assert isinstance(first, Compute)
        return first

    def packed(self, places: Dim, lanes: int) -> Packed:
        """The kernel that reads copies, if so many places of a row are computed."""
        padded = self._padded(places)
        turned = self._turned(lanes)
        reads = {self.weights: turned[1]} | ({self.picture: padded[1]} if padded else {})
        copies = ((turned[0],) if padded is None else (padded[0], turned[0]))
        buffers = [each[2] for each in ((turned,) if padded is None else (padded, turned))]

        def arg(given: Arg) -> Arg:
            return reads.get(given, given) if isinstance(given, Access) else given

        body = (with_reads(self.sum, arg), *self.kernel.body[1:])
        used = {a.buffer for c in body if isinstance(c, Compute)
                for a in (*c.args, c.target) if isinstance(a, Access)}
        kept = tuple(b for b in self.kernel.params if b.name in used)
        kernel = replace(self.kernel, params=(*kept, *buffers), body=body)
        return Packed(kernel, tuple(b.name for b in kept), copies)

    def _turned(self, lanes: int) -> tuple[Copy, Access, Buffer]:
        """The copy of the weights: maps in the lanes, all else as it was."""
        old, at = self.kernel.buffer(self.weights.buffer), self.weights.at
        axis = at.index(symbol(self.maps.name))
        new = Buffer(self._fresh("turned"), old.dtype, old.dims, "in",
                     blocked(axis, len(old.dims), lanes))
        names = tuple(symbol(f"i{k}") for k in range(len(old.dims)))
        return self._copy(old, new, Access("p0", names)), Access(new.name, at), new

    def _padded(self, places: Dim) -> tuple[Copy, Access, Buffer] | None:
        """The copy of the picture, with zeros round its rows; None if there is no need of it."""
        old, at = self.kernel.buffer(self.picture.buffer), list(self.picture.at)
        length = (places - 1) * self.step + self.high - self.low + 1
        if self.picture.fill is None and nonnegative(
                old.dims[self.axis] - length - self.low, {}) and self.low >= 0:
            return None
        here, axis = at[self.axis], self.axis
        assert not isinstance(here, Access)
        at[axis] = here - self.low
        dims = (*old.dims[:axis], length, *old.dims[axis + 1:])
        new = Buffer(self._fresh("padded"), old.dtype, dims, "in", old.layout)
        names: list[Dim] = [symbol(f"i{k}") for k in range(len(dims))]
        names[axis] += self.low
        return self._copy(old, new, Access("p0", tuple(names), 0.0)), Access(
            new.name, tuple(at)), new

    def _copy(self, old: Buffer, new: Buffer, read: Access) -> Copy:
        """What fills `new` with what is read of `old`."""
        outer = tuple(Index(f"i{k}", d) for k, d in enumerate(new.dims))
        target = Access("p1", tuple(symbol(i.name) for i in outer))
        used = frozenset[str]().union(*map(symbols, (*old.dims, *new.dims)))
        return Copy(Kernel("", tuple(sorted(used)), (
            replace(old, name="p0", role="in"), replace(new, name="p1", role="out")), (), outer,
            (Compute(target, (), read),)), old.name)

    def _fresh(self, name: str) -> str:
        taken = {b.name for b in (*self.kernel.params, *self.kernel.locals)}
        while name in taken:
            name += "_"
        return name


def maps_of(kernel: Kernel, lanes: int) -> Maps | None:
    """A kernel as a sum along maps, with vectors of so many lanes; None for all others."""
    first = kernel.body[0]
    operands = operands_of(kernel, first) if isinstance(first, Compute) else None
    rest = [c for c in kernel.body[1:] if isinstance(c, Compute)]
    if operands is None or not rest or len(rest) + 1 < len(kernel.body) or any(
            c.combine or c.over or c.where for c in rest) or not all(
            b.layout.is_row_major for b in kernel.params):
        return None
    for weights, picture in (operands, operands[::-1]):
        found = _maps(kernel, weights, picture, [c.target for c in rest], lanes)
        if found is not None:
            return found
    return None


def _maps(
    kernel: Kernel, weights: Access, picture: Access, stored: list[Access], lanes: int
) -> Maps | None:
    alone = [i for i in kernel.outer if uses(weights, i.name) and not uses(picture, i.name)]
    along = [i for i in kernel.outer if uses(picture, i.name) and not uses(weights, i.name)
             and all(stride(kernel, a, i, lanes) == 1 for a in stored)]
    if len(alone) != 1 or len(along) != 1 or weights.fill is not None or [
            e for e in weights.at if uses(Access("", (e,)), alone[0].name)] != [
            symbol(alone[0].name)]:
        return None
    axes = [k for k, e in enumerate(picture.at) if uses(Access("", (e,)), along[0].name)]
    whole = _with_all_taps(kernel, picture, along[0], axes[0]) if len(axes) == 1 else None
    if whole is None:
        return None
    (compute, padded), (axis,) = whole, axes
    e, over = padded.at[axis], {i.name: i for i in compute.over}
    assert not isinstance(e, Access)
    step = coefficient(e, along[0].name)
    others = e - symbol(along[0].name) * step if isinstance(step, int) else e
    bounds = frozenset[str]().union(*(_bounds(i) for i in compute.over))
    if not isinstance(step, int) or step < 1 or not symbols(others) <= over.keys() or (
            bounds & {alone[0].name, along[0].name}):
        return None
    ranges = index_ranges(replace(kernel, body=(compute,)))
    low, high = (extreme(others, ranges, side) for side in (-1, 1))
    if not isinstance(low, int) or not isinstance(high, int) or not (
            _inside_elsewhere(kernel, padded, axis, compute.over)):
        return None
    form = replace(kernel, body=(compute, *kernel.body[1:]))
    return Maps(form, weights, padded, alone[0], along[0], axis, step, low, high)


def _bounds(index: Index) -> frozenset[str]:
    assert not isinstance(index.low, Access)
    assert not isinstance(index.high, Access)
    return symbols(index.low) | symbols(index.high)


def _inside_elsewhere(kernel: Kernel, access: Access, axis: int, over: tuple[Index, ...]) -> bool:
    """Whether an access lies inside along all other axes, and is 0 where it does not along one."""
    ranges = index_ranges(kernel)
    dims = kernel.buffer(access.buffer).dims
    return access.fill is None or (access.fill == 0 and all(
        (nonnegative(e, ranges) and nonnegative(d - 1 - e, ranges))
        or any(_most_taps(i, e, d, ranges) for i in over if i.name in symbols(e))
        for k, (e, d) in enumerate(zip(access.at, dims, strict=True))
        if k != axis and not isinstance(e, Access)))


def _with_all_taps(
    kernel: Kernel, picture: Access, along: Index, axis: int
) -> tuple[Compute, Access] | None:
    """The sum with all taps at all places of a row, and its picture, which is 0 outside.

    None if taps are left out for another reason than that they are outside.
    """
    compute = kernel.body[0]
    assert isinstance(compute, Compute)
    clipped = [i for i in compute.over if along.name in _bounds(i)]
    if not clipped:
        return compute, picture
    e, extent = picture.at[axis], kernel.buffer(picture.buffer).dims[axis]
    assert not isinstance(e, Access)
    if len(clipped) > 1 or symbols(e) != {along.name, clipped[0].name}:
        return None
    (index,) = clipped
    found = _most_taps(index, e, extent, index_ranges(kernel))
    if found is None:
        return None
    over = tuple(Index(i.name, found) if i is index else i for i in compute.over)
    padded = replace(picture, fill=0.0)
    made = with_reads(compute, lambda a: padded if a == picture else a)
    return replace(made, over=over), padded


def _most_taps(
    index: Index, e: Dim, extent: Dim, ranges: dict[str, tuple[Dim, Dim]]
) -> int | None:
    """How many taps there would be without bounds that say where `e` is inside an axis; None if
    they say something else."""
    others = {name: known for name, known in ranges.items() if name != index.name}
    for most in _limits(index.high):
        low, high = (bind(b, {}, others) for b in _taps_inside(index.name, most, e, extent))
        if low == index.low and high == index.high:
            return most
    return None


def _limits(high: Dim | Access) -> Iterator[int]:
    """The numbers that a bound may be a minimum of."""
    if isinstance(high, int):
        yield high
    elif isinstance(high, Poly):
        for monomial, _ in high.terms:
            for factor, _ in monomial:
                if not isinstance(factor, str) and factor.kind == "min":
                    yield from _limits(factor.left)
                    yield from _limits(factor.right)


def _taps_inside(name: str, most: int, e: Dim, extent: Dim) -> tuple[Dim, Dim]:
    """From where to where a tap, of `most`, is inside an axis that it reads at `e`."""
    low: Dim = 0
    high: Dim = most
    for limit in (e, extent - 1 - e):
        step = coefficient(limit, name)
        assert isinstance(step, int)
        rest = limit - symbol(name) * step
        if step > 0:
            low = maximum(low, ceildiv(-rest, step))
        else:
            high = minimum(high, floordiv(rest, -step) + 1)
    return low, high
