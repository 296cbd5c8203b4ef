"""Loops and branches with random bodies; see `random_programs`.

What a loop of many turns carries is exact (small integers), so that no error grows from turn to
turn; a loop of a few turns carries anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.ir.graph import Graph, Param, Value
from dlc.ir.types import BOOL, I32, tensor
from tests.compiler.random_indices import RandomIndices

DEPTH = 2  # bodies in bodies
FEW = 7  # turns


class RandomControl(RandomIndices):
    """Ways to make a value by a loop or a branch."""

    depth = 0

    def looped(self) -> Value | None:
        """A scan over one or two tensors of the same length."""
        over = self.pick(lambda v: bool(v.dims))
        if over is None or self.depth >= DEPTH:
            return None
        length = over.dims[0]
        few = isinstance(length, int) and length <= FEW
        like = [v for v in self.pool if v.dims[:1] == (length,)]
        items = [over, *self.random.sample(like, min(len(like), self.random.randint(0, 1)))]
        carried = self._some(self.random.randint(0, 3), lambda v: few or v in self.exact)
        captured = self._some(self.random.randint(0, 2))
        parts = [Value("item", tensor(v.dtype, v.dims[1:])) for v in items]
        exact = [v in self.exact for v in (*carried, *items, *captured)]
        body = RandomBody(self, [*carried, *parts, *captured], exact)
        results = [body.like(p) for p in body.inputs[:len(carried)]]
        yields = body.some_results(0 if results and self.random.random() < 0.3 else 1)
        made = self.b.emit(
            "scan", *carried, *items, *captured, regions=(body.graph([*results, *yields]),),
            carried=len(carried), items=len(items), length=length,
            reverse=self.random.random() < 0.4)
        return self._add(made, [*results, *yields], body, carried)

    def turned(self) -> Value | None:
        """A while whose number of turns depends on a value."""
        limit = self.pick(lambda v: v.type is tensor(I32) and v in self.exact)
        if self.depth >= DEPTH:
            return None
        zero = self._constant(0, Value("zero", tensor(I32)))
        limit = self.op("minimum", limit or self._constant(3, zero), self._constant(4, zero))
        carried = [zero, *self._some(self.random.randint(0, 2))]
        captured = [limit, *self._some(self.random.randint(0, 2))]
        exact = [v in self.exact for v in (*carried, *captured)]
        body = RandomBody(self, [*carried, *captured], exact)
        turn = body.op("add", body.inputs[0], body._constant(1, zero))
        results = [turn, *(body.like(p) for p in body.inputs[1:len(carried)])]
        test = RandomBody(self, [*carried, *captured], exact, steps=0)
        more = test.op("lt", test.inputs[0], test.inputs[len(carried)])
        made = self.b.emit("while", *carried, *captured, carried=len(carried),
                           regions=(test.graph([more]), body.graph(results)))
        return self._add(made, results, body, carried)

    def branched(self) -> Value | None:
        """An if, whose branches give values of the same types."""
        x = self.pick(lambda v: not v.dims and v in self.exact)
        if x is None or self.depth >= DEPTH:
            return None
        if x.dtype is not BOOL:
            x = self.op("gt", x, self._constant(0, x))
        captured = self._some(self.random.randint(1, 4))
        exact = [v in self.exact for v in captured]
        bodies = [RandomBody(self, captured, exact) for _ in range(2)]
        wanted = self.random.choices(range(len(captured)), k=self.random.randint(1, 3))
        results = [[body.like(body.inputs[k]) for k in wanted] for body in bodies]
        made = self.b.emit("if", x, *captured, regions=tuple(
            body.graph(values) for body, values in zip(bodies, results, strict=True)))
        for value, a, b in zip(made, *results, strict=True):
            if a in bodies[0].exact and b in bodies[1].exact:
                self.exact.add(value)
        self.pool += made[1:]
        return made[0]

    def _some(self, count: int, fits: Callable[[Value], bool] = lambda v: True) -> list[Value]:
        found = (self.pick(fits) for _ in range(count))
        return [v for v in found if v is not None]

    def _add(
        self, made: Sequence[Value], results: Sequence[Value], body: RandomBody,
        carried: Sequence[Value],
    ) -> Value:
        """Adds what a loop gives to the pool; the last is returned."""
        for at, (value, result) in enumerate(zip(made, results, strict=True)):
            if result in body.exact and (at >= len(carried) or carried[at] in self.exact):
                self.exact.add(value)
        self.pool += made[:-1]
        return made[-1]


class RandomBody(RandomControl):
    """A body over values of the types of others; `exact` says which of them are."""

    def __init__(
        self, outer: RandomControl, values: list[Value], exact: list[bool],
        steps: int | None = None,
    ) -> None:
        inputs = [Value(f"p{k}", v.type) for k, v in enumerate(values)]
        super().__init__(outer.random.randrange(2**32), inputs, [])
        self.depth = outer.depth + 1
        self.exact = {p for p, fine in zip(inputs, exact, strict=True) if fine}
        makers = (self.unary, self.curve, self.binary, self.spread_binary, self.chosen, self.cast,
                  self.transposed, self.reshaped, self.cut, self.padded, self.summed,
                  self.largest, self.softmax, self.product, self.counted, self.table,
                  self.gathered, self.scattered, self.sorted, self.accumulated, self.flipped,
                  self.looped, self.branched, self.turned)
        for _ in range(self.random.randint(1, 5) if steps is None else steps):
            made = self.random.choice(makers)() if self.pool else None
            if made is not None and made not in self.pool:
                self.pool.append(made)

    def like(self, param: Value) -> Value:
        """A value of a parameter's type; an exact one if the parameter is exact."""
        found = [v for v in self.pool if v.type is param.type
                 and (v in self.exact or param not in self.exact)]
        return self.random.choice([param, *found[-3:]])

    def some_results(self, least: int) -> list[Value]:
        """Values that a turn yields."""
        count = self.random.randint(least, 2)
        return [self.random.choice(self.pool[-4:]) for _ in range(count)]

    def graph(self, results: Sequence[Value]) -> Graph:
        """The body."""
        return Graph("body", tuple(map(Param, self.inputs)), tuple(self.b.nodes), tuple(results))
