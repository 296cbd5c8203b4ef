"""Values made by ops whose indices are data, chosen at random; see `random_programs`."""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.graph import Value
from dlc.ir.types import BOOL, F32, I32, I64, U8, DType
from tests.compiler.random_ops import RandomOps


class RandomIndices(RandomOps):
    """Ways to make a value with gathers, scatters, sorts, and sums along an axis."""

    def gathered(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims))
        return None if x is None else self._gather(x, *self._ids(x))

    def scattered(self) -> Value | None:
        """A value with parts of another one of its type added to it, or put into it."""
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        ids, axis = self._ids(x)
        updates = self._gather(self._other(x), *self._ids(x, ids, axis))
        if updates is None:
            return None
        if self.random.random() < 0.3:
            updates = self.op("select", self.op("eq", updates, updates), updates, updates)
        if self.random.random() < 0.3:
            x = self.keep(self.b.zeros(x.type))
        mode = "set" if x.dtype is BOOL or self.random.random() < 0.5 else "add"
        made = self.op("scatter", x, updates, *ids, axis=axis, mode=mode)
        return made if x.dtype in (BOOL, U8) or mode == "set" else self.clamp(made)

    def picked(self) -> Value | None:
        """A number of each row, as the loss of a classifier does."""
        x = self.pick(lambda v: len(v.dims) == 2)
        if x is None:
            return None
        rows = self.b.op("iota", dtype=self.random.choice((I32, I64)), dims=x.dims[:1], axis=0)
        column = self._index(x.dims[1], x.dims[:1])
        return self.op("gather", x, rows, column, axis=0)

    def sorted(self) -> Value | None:
        x = self.pick(lambda v: v in self.exact and bool(v.dims) and len(v.dims) < 4)
        if x is None:
            return None
        order = self.op("argsort", x)
        if self.random.random() < 0.5:
            return order
        places = [self.b.op("iota", dtype=I32, dims=x.dims, axis=axis)
                  for axis in range(len(x.dims) - 1)]
        return self.op("gather", x, *places, order, axis=0)

    def accumulated(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims) and v.dtype is not BOOL)
        if x is None:
            return None
        made = self.op("cumsum", x, axis=self.random.randrange(len(x.dims)),
                       reverse=self.random.random() < 0.5)
        return made if made.dtype is U8 else self.clamp(made)

    def flipped(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        axes = [axis for axis in range(len(x.dims)) if self.random.random() < 0.6]
        return self.op("flip", x, axes=tuple(axes or [0]))

    def _gather(self, x: Value, ids: tuple[Value, ...], axis: int) -> Value | None:
        dims = x.dims[:axis] + ids[0].dims + x.dims[axis + len(ids):]
        if len(dims) > 4 or sum(not isinstance(d, int) for d in dims) > 2:
            return None
        return self.op("gather", x, *ids, axis=axis)

    def _ids(
        self, x: Value, like: tuple[Value, ...] = (), axis: int = -1
    ) -> tuple[tuple[Value, ...], int]:
        """Indices for one or two axes of `x`; of the dims of `like`, if there are such."""
        count = len(like) or min(len(x.dims), self.random.choice((1, 1, 2)))
        if axis < 0:
            axis = self.random.randrange(len(x.dims) - count + 1)
        dims = like[0].dims if like else None
        made: list[Value] = []
        for extent in x.dims[axis:axis + count]:
            made.append(self._index(extent, dims))
            dims = made[-1].dims
        return tuple(made), axis

    def _index(self, extent: Dim, dims: tuple[Dim, ...] | None) -> Value:
        """An integer tensor of any small dims, or of `dims`, in the range of an axis."""
        source = self.pick(lambda v: v in self.exact and v.dtype is not BOOL
                           and (v.dims == dims if dims is not None else len(v.dims) < 3))
        if source is None:
            zero = self.keep(self.b.constant(0, self.b.scalar(I32, 0).type))
            source = self.keep(self.b.broadcast(zero, dims or ()))
        wide = source.dtype if source.dtype in (I32, I64) else I32  # a u8 holds few places
        dtypes: tuple[DType, ...] = (wide, I64)
        dtype = self.random.choice(dtypes)
        if source.dtype is F32 or dtype is not source.dtype:
            source = self.op("cast", source, to=dtype)
        last = self.b.op("dim", dtype=dtype, value=extent - 1)
        bounded = self.op("minimum", source, self.keep(self.b.broadcast(last, source.dims)))
        return bounded if dtype is U8 else self.op("maximum", bounded, self.b.zeros(bounded.type))
