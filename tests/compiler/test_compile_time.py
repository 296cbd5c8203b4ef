"""What is computed from a value twice is not compiled twice: time grows with the program's length."""

from __future__ import annotations

import time

import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_graph
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.types import F32, I32, DType, tensor

DEPTH = 18  # where work doubles at each step, this takes longer than `SECONDS` by far
SECONDS = 1.5


def square(b: Builder, x: Value, y: Value) -> Value:
    return b.op("add", b.op("mul", y, y), x)


def gathered(b: Builder, x: Value, y: Value) -> Value:
    return b.op("gather", y, y, axis=0)


def mirrored(b: Builder, x: Value, y: Value) -> Value:
    return b.op("mul", b.op("flip", y, axes=(0,)), b.op("neg", y))


def branched(b: Builder, x: Value, y: Value) -> Value:
    """A branch that gets a value twice."""
    condition = b.op("lt", b.sum(x, (0,)), b.scalar(F32, 0.0))
    inner = Builder(["a", "c"])
    a, c = Value("a", x.type), Value("c", x.type)
    total = inner.op("mul", a, c)
    bodies = tuple(Graph(name, (Param(a), Param(c)), tuple(inner.nodes), (result,))
                   for name, result in (("then", total), ("otherwise", a)))
    return b.emit("if", condition, y, y, regions=bodies)[0]


def nested(b: Builder, x: Value, y: Value) -> Value:
    """A loop, in which `DEPTH` // 3 loops stand, each in the other."""
    return _loops(b, y, DEPTH // 3)


def _loops(b: Builder, y: Value, depth: int) -> Value:
    if not depth:
        return b.op("sin", y)
    inner = Builder(["h"])
    h = Value("h", y.type)
    made = inner.op("mul", _loops(inner, h, depth - 1), h)
    body = Graph(f"turn{depth}", (Param(h),), tuple(inner.nodes), (made,))
    return b.emit("scan", y, regions=(body,), carried=1, items=0, length=2, reverse=False)[0]


STEPS = {square: DEPTH, gathered: DEPTH, mirrored: DEPTH, branched: DEPTH, nested: 1}


def chain(step, count: int, dtype: DType = F32) -> tuple[Builder, Value, Value]:
    b = Builder(["x"])
    x = y = Value("x", tensor(dtype, (symbol("N"),)))
    for _ in range(count):
        y = step(b, x, y)
    return b, x, y


def seconds(graph: Graph) -> float:
    start = time.process_time()
    compile_graph(graph, Options(verify=False))
    return time.process_time() - start


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_values_that_are_read_twice(step) -> None:
    b, x, y = chain(step, STEPS[step], I32 if step is gathered else F32)
    assert seconds(Graph("f", (Param(x),), tuple(b.nodes), (y,))) < SECONDS


@pytest.mark.parametrize("step", [s for s in STEPS if s is not gathered], ids=lambda s: s.__name__)
def test_gradients_of_values_that_are_read_twice(step) -> None:
    b, x, y = chain(step, STEPS[step])
    result = b.op("gradient", b.sum(y, (0,)), x)
    assert seconds(Graph("f", (Param(x),), tuple(b.nodes), (result,))) < SECONDS
