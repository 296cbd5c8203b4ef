"""Small graphs for tests: random ones, and a check of gradients by differences."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Node, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops.contract import conv_spec, matmul_spec
from dlc.ir.scalar import Array
from dlc.ir.types import F64, tensor

N = symbol("N")
SIZE = 3  # of N in the tests
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.25, 3.0)


class RandomGraph:
    """Makes a graph by applying ops chosen at random to what there is so far."""

    def __init__(self, seed: int, nodes: int = 25, smooth: bool = False) -> None:
        self.random = random.Random(seed)
        self.smooth = smooth
        names = {"x": (N, 4), "y": (N, 4), "v": (4,), "w": (4, 4), "s": ()}
        self.inputs = [Value(name, tensor(F64, dims)) for name, dims in names.items()]
        self.builder = Builder(names)
        self.pool = list(self.inputs)
        makers = (self.unary, self.binary, self.scaled, self.spread, self.moved, self.cut,
                  self.summed, self.product, self.chosen, self.padded)
        while len(self.builder.nodes) < nodes:
            self.builder.phase = self.random.choice(("forward", "forward", "backward"))
            self.pool.append(self.random.choice(makers)())

    def graph(self) -> Graph:
        """The graph; its results are the last values made."""
        params = tuple(Param(value) for value in self.inputs)
        return Graph("random", params, tuple(self.builder.nodes), tuple(self.pool[-4:]))

    def arrays(self) -> list[Array]:
        """Inputs for it."""
        rng = np.random.default_rng(self.random.randrange(2**32))
        shapes = [tuple(d if isinstance(d, int) else SIZE for d in v.dims) for v in self.inputs]
        return [np.asarray(rng.uniform(-1, 1, shape)) for shape in shapes]

    def pick(self) -> Value:
        return self.random.choice(self.pool[-8:])

    def unary(self) -> Value:
        ops = ("neg", "neg", "stop_gradient") if not self.smooth else ("neg",)
        return self.builder.op(self.random.choice(ops), self.pick())

    def binary(self) -> Value:
        x = self.pick()
        others = [v for v in self.pool if v.type is x.type]
        ops = ("add", "sub", "mul", "maximum") if not self.smooth else ("add", "sub", "mul")
        return self.builder.op(self.random.choice(ops), x, self.random.choice(others))

    def scaled(self) -> Value:
        x, number = self.pick(), self.random.choice(NUMBERS)
        op = self.random.choice(("mul", "add", "sub", "div") if number else ("mul", "add", "sub"))
        constant = self.builder.constant(number, x.type)
        swap = op in ("mul", "add") and self.random.random() < 0.5
        return self.builder.op(op, *((constant, x) if swap else (x, constant)))

    def spread(self) -> Value:
        x = self.pick()
        if len(x.dims) > 2:
            return x
        front = self.random.choice(((N,), (1,), (2,)))
        return self.builder.op(
            "broadcast", x, dims=(*front, *x.dims), axes=tuple(range(1, len(x.dims) + 1)))

    def moved(self) -> Value:
        x = self.pick()
        if self.random.random() < 0.5:
            order = list(range(len(x.dims)))
            self.random.shuffle(order)
            return self.builder.op("transpose", x, order=tuple(order))
        dims = [d for d in x.dims if d != 1]
        if self.random.random() < 0.5:
            dims.insert(self.random.randrange(len(dims) + 1), 1)
        return self.builder.op("reshape", x, dims=tuple(dims))

    def cut(self) -> Value:
        x = self.pick()
        start = tuple(1 if d == 4 and self.random.random() < 0.5 else 0 for d in x.dims)
        dims = tuple(3 if first else d for first, d in zip(start, x.dims, strict=True))
        return self.builder.op("slice", x, start=start, step=(1,) * len(dims), dims=dims)

    def padded(self) -> Value:
        x, value = self.pick(), self.random.choice((0.0, 0.0, 1.0))
        low = tuple(1 if d == 3 else 0 for d in x.dims)
        return self.builder.op("pad", x, low=low, high=(0,) * len(low), value=value)

    def summed(self) -> Value:
        x = self.pick()
        return self.builder.sum(x, [i for i in range(len(x.dims)) if self.random.random() < 0.4])

    def product(self) -> Value:
        x = self.pick()
        if not x.dims or x.dims[-1] != 4:
            x = self.inputs[0]
        if len(x.dims) == 3 and self.random.random() < 0.5:
            kernel = self.builder.constant(0.5, tensor(F64, (2, x.dims[1], 3)))
            attrs = conv_spec(x.dims, kernel.dims, padding=1)
            return self.builder.op("contract", x, kernel, **attrs)
        w = self.inputs[3]
        return self.builder.op("contract", x, w, **matmul_spec(x.dims, w.dims))

    def chosen(self) -> Value:
        x = self.pick()
        others = [v for v in self.pool if v.type is x.type]
        y = self.random.choice(others)
        if self.smooth:
            return self.builder.op("mul", x, y)
        condition = self.builder.op(self.random.choice(("lt", "ge", "eq")), x, y)
        if self.random.random() < 0.5:
            condition = self.builder.op("not", condition)
        return self.builder.op("select", condition, x, self.random.choice(others))


def with_gradient(graph: Graph, loss: Value, wrt: Sequence[Value]) -> Graph:
    """A graph that returns `loss` and its gradients, as `gradient` says them."""
    results = tuple(Value(f"g{i}", value.type) for i, value in enumerate(wrt))
    node = Node("gradient", (loss, *wrt), (), results)
    return Graph(graph.name, graph.params, (*graph.nodes, node), (loss, *results))


def assert_gradients(
    graph: Graph, inputs: Sequence[Array], which: Sequence[int], seed: int = 0
) -> None:
    """Holds results 1… of `graph` against differences of result 0 along random directions.

    Result 1 + i is the gradient by input `which[i]`; all of them are f64.
    """
    rng = np.random.default_rng(seed)
    loss, *gradients = run_graph(graph, inputs)
    for at, found in zip(which, gradients, strict=True):
        direction, step = rng.normal(size=inputs[at].shape), 1e-6
        ends = []
        for sign in (1, -1):
            moved = list(inputs)
            moved[at] = np.asarray(inputs[at] + sign * step * direction)
            ends.append(float(run_graph(graph, moved)[0]))
        expected = (ends[0] - ends[1]) / (2 * step)
        scale = max(1.0, abs(expected), abs(float(loss)))
        assert abs(float(np.sum(found * direction)) - expected) < 1e-6 * scale
