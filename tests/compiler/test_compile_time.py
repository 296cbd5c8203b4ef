"""Passes take no longer than the program is long: values read twice, long chains, deep nesting."""

from __future__ import annotations

import time

import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import passes
from dlc.compiler.runner import run_passes
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import matmul_spec
from dlc.ir.types import F32, I32, DType, tensor

LONG = 1200  # steps of a chain: more than Python has calls in each other
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
    run_passes(passes(Options()), graph)
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


def long_turns(name: str) -> tuple[Graph, Graph]:
    """A scan whose turn computes a long chain from its parameter `name`; its gradient."""
    turns, dims = symbol("T"), (symbol("N"), 4)
    kinds = {"carried": dims, "item": dims, "captured": dims, "weight": (4, 4)}
    params = {name: Value(name, tensor(F32, kind)) for name, kind in kinds.items()}
    inner = Builder(kinds)
    y = params[name]
    for _ in range(LONG):
        y = inner.op("sin", y)
    y = inner.op("contract", y, params["weight"], **matmul_spec(y.dims, (4, 4)))
    after = inner.op("add", params["carried"], y)
    body = Graph("turn", tuple(map(Param, params.values())), tuple(inner.nodes), (after,))
    outer = params | {"item": Value("item", tensor(F32, (turns, *dims)))}
    inputs = tuple(outer.values())
    b = Builder(kinds)
    result = b.emit("scan", *inputs, regions=(body,), carried=1, items=1, length=turns,
                    reverse=False)
    forward = tuple(b.nodes)
    adjoints = b.emit("gradient", b.sum(result[0], (0, 1)), *inputs)
    given = tuple(map(Param, inputs))
    return Graph("f", given, forward, result), Graph("df", given, tuple(b.nodes), adjoints)


@pytest.mark.parametrize("name", ["carried", "item", "captured"])
def test_long_chains_in_loops(name: str) -> None:
    """Of what is the same in all turns, of what leaves the loop as a product, of what stays."""
    for graph in long_turns(name):
        assert seconds(graph) < 4 * SECONDS
