"""Kernels that go along rows: what is one kernel, and that its numbers are those of the graph."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.decompose import decompose
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fuse import fuse
from dlc.ir.dims import Dim, symbol
from dlc.ir.fused import FusedGraph
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.ops import OPS
from dlc.ir.types import I32
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_kernels import check, graph, value

M, N = symbol("M"), symbol("N")
SHAPES = ((1, 1), (3, 5), (37, 64), (5, 131), (64, 129), (2, 4099))


def softmax(axis: int, op: str = "softmax", dims: tuple[Dim, ...] = (M, N)) -> Graph:
    b = Builder("x")
    x = value("x", *dims)
    return graph(b, [x], [b.op(op, x, axis=axis)])


def normed(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    """(x - mean) / sqrt(variance + 1e-5) over axes."""
    kept = tuple(a for a in range(len(x.dims)) if a not in axes)
    total = b.sum(x, axes)
    mean = b.op("mul", total, b.constant(1 / 64, total.type))
    apart = b.op("sub", x, b.broadcast(mean, x.dims, kept))
    square = b.sum(b.op("mul", apart, apart), axes)
    scale = b.op("rsqrt", b.op("add", square, b.constant(1e-5, square.type)))
    return b.op("mul", apart, b.broadcast(scale, x.dims, kept))


def fused(made: Graph) -> FusedGraph:
    return fuse(eliminate_dead(decompose(made)), Options())


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_a_row_op_is_one_kernel(op: str) -> None:
    made = fused(softmax(1, op))
    assert [len(g.outputs) for g in made.groups] == [1]
    assert made.groups[0].row is not None
    assert made.groups[0].row.over == (N,)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis(axis: int) -> None:
    check(softmax(axis, dims=(6, 33, 18)))
    check(softmax(axis, "log_softmax", (6, 33, 18)), lanes=4)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_any_length(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 5
    for axis in (0, 1):
        for op in ("softmax", "log_softmax"):
            CompiledGraph(softmax(axis, op)).check([x], 2e-5, 2e-6)


def test_rows_that_hold_nothing_but_minus_infinity() -> None:
    x = np.full((3, 40), -np.inf, np.float32)
    x[1, 3] = 2
    for op in ("softmax", "log_softmax"):
        CompiledGraph(softmax(1, op)).check([x], 1e-6, 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_largest_of_a_row(shape: tuple[int, int]) -> None:
    b = Builder("x")
    x = value("x", M, N)
    made = graph(b, [x], [b.op("argmax", x, axis=1), b.op("reduce_max", x, axes=(1,))])
    rng = np.random.default_rng(1)
    for array in (rng.integers(0, 4, shape), -np.inf * np.ones(shape),
                  np.where(rng.random(shape) < 0.1, np.nan, 1)):
        CompiledGraph(made).check([array.astype(np.float32)])


@pytest.mark.parametrize("dims", [(40, 64), (8, 8, 64)])
def test_a_norm_and_its_gradient_are_one_kernel(dims: tuple[int, ...]) -> None:
    b = Builder("xg")
    x, g = value("x", *dims), value("g", *dims)
    y = normed(b, x, (len(dims) - 1,))
    gradients: dict[Value, Value] = {y: g}
    for node in reversed(list(b.nodes)):
        if node.result not in gradients or not callable(OPS[node.op].vjp):
            continue
        back = OPS[node.op].vjp(b, node, (gradients[node.result],))  # type: ignore[operator]
        for operand, d in zip(node.operands, back, strict=True):
            if d is not None:
                old = gradients.get(operand)
                gradients[operand] = d if old is None else b.op("add", old, d)
    made = graph(b, [x, g], [y, gradients[x]])
    assert [g.row is not None for g in fused(made).groups] == [True]
    check(made)


def test_what_is_read_elsewhere_in_a_row_is_another_kernel() -> None:
    b = Builder("x")
    x = value("x", 40, 64)
    shifted = b.op("flip", b.op("exp", x), axes=(1,))
    total = b.sum(shifted, (1,))
    made = graph(b, [x], [b.op("mul", shifted, b.broadcast(total, x.dims, (0,)))])
    check(made)


def test_dear_elements_are_kept() -> None:
    """exp is computed once, though two sweeps need it and it is no result."""
    b = Builder("x")
    x = value("x", 40, 64)
    e = b.op("exp", x)
    rest = b.op("gt", e, b.broadcast(b.sum(e, (1,)), x.dims, (0,)))
    made = graph(b, [x], [b.op("cast", rest, to=I32)])
    (group,) = fused(made).groups
    assert e in group.outputs
    check(made)
