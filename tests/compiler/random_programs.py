"""Random functions with a symbolic batch: all kinds of ops, dtypes, variables, results, calls.

Numbers are small integers wherever they can be (`exact`), so that comparisons, roundings and
indices do not hang on the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlc.compiler.passes.differentiate import differentiate
from dlc.ir.diagnostics import UserError
from dlc.ir.dims import Dim, evaluate, product, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.scalar import Array
from dlc.ir.types import BOOL, F32, F64, I32, I64, U8, DType, tensor
from tests.compiler.random_control import RandomControl
from tests.compiler.random_ops import M, N

INPUTS: tuple[tuple[str, DType, tuple[Dim, ...]], ...] = (
    ("x", F32, (N, 6)), ("y", F32, (N, 6)), ("image", F32, (N, 2, 7, 5)), ("u", U8, (N, 17)),
    ("i", I32, (N,)), ("d", F64, (N, 3)), ("l", I64, (N, 6)), ("b", BOOL, (N, 6)),
    ("s", F32, ()), ("k", F32, (4, 3)),
    ("z", F32, (M, N)), ("h", F32, (M, 4, N)),
)
VARIABLES: tuple[tuple[str, DType, tuple[Dim, ...]], ...] = (
    ("w", F32, (6, 6)), ("w2", F32, (6, 6)), ("c", F32, (4, 2, 3, 3)), ("n", I64, ()),
    ("m", F32, (6,)), ("e", F64, (3,)),
)


class RandomProgram(RandomControl):
    """Makes a function by applying ops chosen at random to what there is so far."""

    def __init__(self, seed: int, steps: int = 15) -> None:
        super().__init__(
            seed, [Value(n, tensor(t, d)) for n, t, d in INPUTS],
            [Value(n, tensor(t, d)) for n, t, d in VARIABLES])
        makers = [m for m, weight in self.makers() for _ in range(weight)]
        wanted = len(self.pool) + steps
        while len(self.pool) < wanted:
            made = self.random.choice(makers)()
            if made is not None and made not in self.pool:
                self.pool.append(made)

    def makers(self) -> tuple[tuple[Callable[[], Value | None], int], ...]:
        """The ways to make a value, and how often each is taken."""
        return (
            (self.unary, 2), (self.curve, 2), (self.binary, 4), (self.spread_binary, 3),
            (self.chosen, 2), (self.cast, 2), (self.transposed, 2), (self.reshaped, 3),
            (self.squeezed, 1), (self.cut, 2), (self.padded, 2), (self.summed, 2),
            (self.largest, 2), (self.argmax, 1), (self.softmax, 1), (self.product, 3),
            (self.convolution, 2), (self.pooled, 1), (self.paired, 2), (self.called, 2),
            (self.counted, 1), (self.table, 1), (self.gathered, 3), (self.scattered, 3),
            (self.picked, 1), (self.sorted, 1), (self.accumulated, 2), (self.flipped, 1),
            (self.looped, 3), (self.branched, 2), (self.turned, 1),
        )

    def graph(self) -> Graph:
        """The function: results and new values of variables are chosen at random."""
        if self.random.random() < 0.5:
            self.differentiated()
        late = [v for v in self.pool if v.dims.count(N) <= 1][-10:]
        results = self.random.sample(late, min(4, len(late)))
        results += self.random.choices(self.pool, k=2)
        updates = []
        for variable in self.variables:
            if self.random.random() < 0.7:
                same = [v for v in self.pool if v.type is variable.type and v != variable]
                if not same or self.random.random() < 0.4:
                    same = [self._updated(variable)]
                updates.append((variable.name, self.random.choice(same[-4:])))
        if self.random.random() < 0.3:
            total = self.b.sum(self.inputs[0], (0, 1))
            fine = self.b.op("lt", total, self.b.constant(1e9, total.type))
            self.b.emit("check", fine, text="the sum is small")
        params = (*(Param(v) for v in self.inputs), *(Param(v, "var") for v in self.variables))
        return Graph("random", params, tuple(self.b.nodes), tuple(results), tuple(updates))

    def arrays(self, n: int) -> list[Array]:
        """Inputs and variables for it."""
        rng = np.random.default_rng(self.random.randrange(2**32))
        out: list[Array] = []
        for v in (*self.inputs, *self.variables):
            low, high = {U8: (0, 9), BOOL: (0, 2)}.get(v.dtype, (-4, 5))
            shape = [evaluate(d, {"N": n, "M": 1 + n * 7 % 20}) for d in v.dims]
            out.append(np.asarray(rng.integers(low, high, shape)).astype(v.dtype.numpy))
        return out

    # State, and shared functions.

    def called(self) -> Value | None:
        """Results of a function that is kept whole, on values of one size."""
        x = self.pick(lambda v: v.dtype is F32 and bool(v.dims))
        if x is None:
            return None
        y = self._other(x)
        size = product(x.dims)
        flat = [self.b.reshape(self.clamp(v), (size,)) for v in (x, y)]
        callee = self.random.choice(CALLEES)
        results = self.b.emit("call", *flat, self.inputs[8], regions=(callee,))
        if self.random.random() < 0.5:
            self.pool.append(self.b.reshape(results[1], x.dims))
        return self.b.reshape(results[0], x.dims)

    def differentiated(self) -> None:
        """Gradients of a loss made of a few values, by inputs and variables."""
        terms = [v for v in self.pool if v.dtype is F32][-3:]
        loss = self.b.scalar(F32, 0.0)
        for v in terms:
            part = self.b.sum(self.b.op("tanh", v), range(len(v.dims)))
            loss = self.b.op("add", loss, part)
        wrt = [v for v in (*self.inputs, *self.variables)
               if v.dtype is F32 and self.random.random() < 0.5]
        made, before = self.b.emit("gradient", loss, *wrt), list(self.b.nodes)
        try:
            differentiate(Graph("f", (), tuple(before), made))
        except UserError:  # something flat lies between
            self.b.nodes = before[:-1]
        else:
            self.pool += [loss, *map(self.clamp, made)]

    def _stepped(self, variable: Value, other: Value) -> Value:
        """A new value from a shared function, whose second result may be the other's new value."""
        size = product(variable.dims)
        flat = [self.b.reshape(v, (size,)) for v in (variable, other)]
        made = self.b.emit("call", *flat, self.inputs[8], regions=(self.random.choice(CALLEES),))
        values = [self.b.reshape(v, variable.dims) for v in made]
        self.pool.append(values[1])
        return values[0]

    def _updated(self, variable: Value) -> Value:
        """A new value made of the variable's old one, and perhaps of another's."""
        similar = [v for v in self.variables if v.type is variable.type]
        other = self.random.choice(similar)
        if variable.dtype is F32 and self.random.random() < 0.4:
            return self._stepped(variable, other)
        if self.random.random() < 0.3 and len(variable.dims) == 2:
            other = self.op("transpose", other, order=(1, 0))
        number = self._constant(self.random.choice((1, 2)), variable)
        return self.clamp(self.op("add", self.op("mul", variable, number), other))


def _callees() -> tuple[Graph, ...]:
    """An optimizer's step; one whose results are its values changed about; one that makes one."""
    size = symbol("P")
    p, g = (Value(n, tensor(F32, (size,))) for n in "pg")
    s = Value("s", tensor(F32))
    b = Builder("pgs")
    speed = b.op("add", g, b.op("mul", p, b.broadcast(b.op("tanh", s), (size,))))
    step = b.op("sub", p, b.op("mul", speed, b.constant(0.5, p.type)))
    half = b.constant(0.5, p.type)
    params = tuple(map(Param, (p, g, s)))
    return tuple(Graph(name, params, tuple(b.nodes), results) for name, results in (
        ("step", (step, speed)), ("swap", (g, p)), ("twice", (step, step)), ("half", (half, p)),
        ("back", (speed, step))))


CALLEES = _callees()
