"""Values made by ops that are chosen at random; see `random_programs`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from dlc.ir.dims import Dim, product, symbol, symbols
from dlc.ir.graph import Builder, Value
from dlc.ir.ops import OPS
from dlc.ir.ops.contract import conv_spec, einsum_spec, matmul_spec, pool_spec
from dlc.ir.types import BOOL, F32, F64, I32, I64, U8

N, M = symbol("N"), symbol("M")


class RandomOps:
    """Ways to make a value of those there are; None where there is no fitting one."""

    def __init__(self, seed: int, inputs: list[Value], variables: list[Value]) -> None:
        self.random = random.Random(seed)
        self.inputs, self.variables = inputs, variables
        self.b = Builder(v.name for v in (*inputs, *variables))
        self.pool: list[Value] = [*inputs, *variables]
        self.exact: set[Value] = set(self.pool)

    # Choosing.

    def pick(self, fits: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A value that fits, a recent one more likely."""
        found = [v for v in self.pool if fits(v)]
        if not found:
            return None
        return self.random.choice(found[-6:] if self.random.random() < 0.6 else found)

    def keep(self, made: Value, *sources: Value) -> Value:
        """Marks what is made of exact values as exact."""
        if all(v in self.exact for v in sources):
            self.exact.add(made)
        return made

    def op(self, op: str, *operands: Value, **attrs: object) -> Value:
        """An op of exact operands is exact."""
        return self.keep(self.b.op(op, *operands, **attrs), *operands)  # type: ignore[arg-type]

    def clamp(self, x: Value, low: float = -8, high: float = 8) -> Value:
        """Keeps numbers small."""
        low = 0 if x.dtype is U8 else low
        x = self.op("minimum", x, self._constant(high, x))
        return self.op("maximum", x, self._constant(low, x))

    def _constant(self, number: float, like: Value) -> Value:
        made = self.b.constant(number, like.type)
        self.exact.add(made)
        return made

    def _other(self, x: Value) -> Value:
        return self.random.choice([v for v in self.pool if v.type is x.type])

    # Element by element.

    def unary(self) -> Value | None:
        x = self.pick(lambda v: v.dtype is not BOOL)
        if x is None:
            return None
        ops = ["neg", "abs", "stop_gradient"] if x.dtype is not U8 else ["stop_gradient"]
        if x.dtype.is_float and x in self.exact:
            ops += ["floor", "round", "sign"]
        return self.op(self.random.choice(ops), x)

    def curve(self) -> Value | None:
        x = self.pick(lambda v: v.dtype.is_float)
        if x is None:
            return None
        op = self.random.choice(("tanh", "exp", "sigmoid", "sin", "erf", "softplus"))
        return self.b.op(op, self.clamp(x))

    def binary(self) -> Value | None:
        x = self.pick()
        assert x is not None
        y = self._other(x)
        if x.dtype is BOOL:
            return self.op(self.random.choice(("and", "or", "eq", "ne")), x, y)
        op = self.random.choice(("add", "sub", "mul", "maximum", "minimum"))
        return self.clamp(self.op(op, x, y)) if x.dtype is not U8 else self.op(op, x, y)

    def spread_binary(self) -> Value | None:
        """A value with another of fewer dims, or a constant, spread over it."""
        x = self.pick(lambda v: v.dtype is not BOOL and bool(v.dims))
        if x is None:
            return None
        small = [v for v in self.pool if v.dtype is x.dtype and _axes(v.dims, x.dims) is not None]
        y = self.random.choice([*small, self._constant(self.random.choice((0, 1, 2)), x)])
        if y.dims != x.dims:
            y = self.keep(self.b.broadcast(y, x.dims, _axes(y.dims, x.dims)), y)
        op = self.random.choice(("add", "sub", "mul", "maximum"))
        return self.clamp(self.op(op, x, y)) if x.dtype is not U8 else self.op(op, x, y)

    def chosen(self) -> Value | None:
        x = self.pick()
        y = self.pick(lambda v: x is not None and v.dims == x.dims and v in self.exact)
        if x is None or y is None:
            return None
        if y.dtype is BOOL:
            condition = y if self.random.random() < 0.5 else self.op("not", y)
        else:
            op = self.random.choice(("lt", "ge", "eq", "ne", "le", "gt"))
            others = [v for v in self.pool if v.type is y.type and v in self.exact]
            condition = self.op(op, y, self.random.choice(others))
        if self.random.random() < 0.2:
            return condition
        return self.op("select", condition, x, self._other(x))

    def cast(self) -> Value | None:
        x = self.pick(lambda v: v in self.exact)
        if x is None:
            return None
        to = self.random.choice((F32, F32, F32, F64, I32, I64, U8, BOOL))
        return self.op("cast", x, to=to) if to is not x.dtype else None

    def counted(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        dtype = self.random.choice((I32, F32, I64))
        if self.random.random() < 0.3:
            made = self.b.op("dim", dtype=dtype, value=self.random.choice((N, N + 2, 2 * N)))
        else:
            made = self.b.op("iota", dtype=dtype, dims=x.dims,
                             axis=self.random.randrange(len(x.dims)))
        self.exact.add(made)
        return self.clamp(made, high=100)

    def table(self) -> Value | None:
        dims = tuple(self.random.choice(((6,), (6, 6), (4, 3), (2, 1, 6))))
        count = int(np.prod(dims))
        values = tuple(float(self.random.randrange(-3, 4)) for _ in range(count))
        made = self.b.op("table", dtype=F32, dims=dims, values=values)
        self.exact.add(made)
        return made

    # Movers.

    def transposed(self) -> Value | None:
        x = self.pick(lambda v: len(v.dims) > 1)
        if x is None:
            return None
        order = list(range(len(x.dims)))
        self.random.shuffle(order)
        return self.op("transpose", x, order=tuple(order))

    def reshaped(self) -> Value | None:
        """Two neighbouring axes become one, or one becomes two."""
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        dims, at = list(x.dims), self.random.randrange(len(x.dims))
        extent = dims[at]
        if self.random.random() < 0.5 and at + 1 < len(dims):
            dims[at:at + 2] = [product((dims[at], dims[at + 1]))]
        elif isinstance(extent, int) and len(dims) < 4:
            divisors = [k for k in range(1, extent + 1) if extent % k == 0]
            first = self.random.choice(divisors)
            dims[at:at + 1] = [first, extent // first]
        elif not isinstance(extent, int) and extent != N:
            dims = [N, *_without(x.dims, at, extent // N)] if extent // N * N == extent else dims
        if product(tuple(dims)) != product(x.dims) or tuple(dims) == x.dims:
            return None
        return self.op("reshape", x, dims=tuple(dims))

    def squeezed(self) -> Value | None:
        x = self.pick(lambda v: len(v.dims) < 4)
        if x is None:
            return None
        dims = [d for d in x.dims if d != 1 or self.random.random() < 0.5]
        if self.random.random() < 0.5:
            dims.insert(self.random.randrange(len(dims) + 1), 1)
        return self.op("reshape", x, dims=tuple(dims)) if tuple(dims) != x.dims else None

    def cut(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        start, step, dims = [], [], []
        for d in x.dims:
            by = self.random.choice((1, 1, 2, 3)) if isinstance(d, int) else 1
            first = self.random.randrange(min(d, 3)) if isinstance(d, int) else 0
            most = (d - first + by - 1) // by if isinstance(d, int) else 0
            start.append(first)
            step.append(by)
            dims.append(self.random.randrange(1, most + 1) if most else d)
        return self.op("slice", x, start=tuple(start), step=tuple(step), dims=tuple(dims))

    def padded(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims) and v.dtype is not BOOL)
        if x is None:
            return None
        often = 0.05  # of the batch
        low = tuple(self.random.randrange(3) if isinstance(d, int) or self.random.random() < often
                    else 0 for d in x.dims)
        high = tuple(self.random.randrange(3) if isinstance(d, int) else 0 for d in x.dims)
        return self.op("pad", x, low=low, high=high,
                       value=float(self.random.choice((0, 0, 1, 3))))

    # Reductions.

    def summed(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims))
        if x is None:
            return None
        axes = [i for i in range(len(x.dims)) if self.random.random() < 0.5]
        return self.clamp(self.keep(self.b.sum(x, axes), x), -50, 50) if axes else None

    def largest(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims) and v.dtype is not BOOL)
        if x is None:
            return None
        axes = tuple(i for i in range(len(x.dims)) if self.random.random() < 0.5)
        return self.op("reduce_max", x, axes=axes) if axes else None

    def argmax(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims) and v.dtype is not BOOL and v in self.exact)
        return None if x is None else self.op(
            "argmax", x, axis=self.random.randrange(len(x.dims)))

    def softmax(self) -> Value | None:
        x = self.pick(lambda v: bool(v.dims) and v.dtype.is_float)
        return None if x is None else self.b.op(
            self.random.choice(("softmax", "log_softmax")), self.clamp(x),
            axis=self.random.randrange(len(x.dims)))

    def contraction(self, *operands: Value, **attrs: object) -> Value:
        """A contraction of small numbers, made small again."""
        small = tuple(self.clamp(v) for v in operands)
        made = self.b.op("contract", *small, **attrs)  # type: ignore[arg-type]
        return self.clamp(self.keep(made, *small), -50, 50)

    def product(self) -> Value | None:
        w = self.pick(lambda v: len(v.dims) == 2 and not symbols(v.dims[0]))
        if w is None or w.dtype is BOOL:
            return None
        x = self.pick(lambda v: v.dtype is w.dtype and bool(v.dims) and v.dims[-1] == w.dims[0]
                      and len(v.dims) <= 3)
        return None if x is None else self.contraction(x, w, **matmul_spec(x.dims, w.dims))

    def convolution(self) -> Value | None:
        x = self.pick(lambda v: len(v.dims) == 4 and v.dtype is F32 and v.dims[1] in (2, 4)
                      and all(isinstance(d, int) and d > 2 for d in v.dims[2:]))
        if x is None:
            return None
        w = self.variables[2]
        groups = 2 if x.dims[1] == 4 else 1
        attrs = conv_spec(x.dims, w.dims, stride=self.random.choice((1, 2)),
                          padding=self.random.choice((0, 1, 2)), groups=groups)
        if self.random.random() < 0.3:  # the gradient by the weights, and by the input
            y = self.b.op("contract", x, w, **attrs)
            vjp = OPS["contract"].vjp
            assert callable(vjp)
            dx, dw = vjp(self.b, self.b.nodes[-1], (self.b.op("tanh", self.clamp(y)),))
            assert dx is not None
            assert dw is not None
            self.pool.append(self.clamp(dx))
            return self.clamp(dw)
        return self.contraction(x, w, **attrs)

    def pooled(self) -> Value | None:
        x = self.pick(lambda v: len(v.dims) == 4 and v.dtype in (F32, F64)
                      and all(isinstance(d, int) and d > 2 for d in v.dims[2:]))
        return None if x is None else self.contraction(
            x, **pool_spec(x.dims, self.random.choice((2, 3)), self.random.choice((1, 2))))

    def paired(self) -> Value | None:
        """Two values with the batch each."""
        x = self.pick(lambda v: len(v.dims) == 2 and v.dims[0] == N and v.dtype is not BOOL)
        if x is None:
            return None
        y = self.random.choice([v for v in self.pool if len(v.dims) == 2 and v.dims[0] == N
                                and v.dtype is x.dtype])
        formulas = ["na,nb->ab", "na,nb->nab", "na,nb->n", "na,nb->a", "na,nb->ba"]
        if x.dims == y.dims:
            formulas += ["na,na->n", "na,na->a", "na,ma->nm"]
        formula = self.random.choice(formulas)
        return self.contraction(x, y, **einsum_spec(formula, x.dims, y.dims))


def _axes(small: tuple[Dim, ...], dims: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """Places of the axes of a small value in a larger one, from the last backwards."""
    found: list[int] = []
    at = len(dims) - 1
    for d in reversed(small):
        while at >= 0 and dims[at] != d and d != 1:
            at -= 1
        if at < 0:
            return None
        found.append(at)
        at -= 1
    return tuple(reversed(found))


def _without(dims: Sequence[Dim], at: int, rest: Dim) -> list[Dim]:
    """The dims after the first, when axis `at` (a multiple of the batch) loses the batch."""
    return [rest, *dims[1:]] if at == 0 else []
