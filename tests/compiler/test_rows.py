"""Kernels that go along rows: what is one kernel, and that its numbers are those of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.decompose import decompose
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fuse import fuse
from dlc.compiler.passes.split_reductions import split_reductions
from dlc.compiler.pipeline import plan
from dlc.frontend.build import Build
from dlc.ir.dims import Dim, ceildiv, symbol
from dlc.ir.fused import Cut, FusedGraph
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.kernel import Compute
from dlc.ir.loops import For, Statement
from dlc.ir.ops import OPS
from dlc.ir.program import Launch
from dlc.ir.types import I32
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_kernels import check, graph, schedule, value

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


def gradient(b: Builder, y: Value, g: Value, of: Value) -> Value:
    """The gradient of `of`, if that of `y` is `g`."""
    known: dict[Value, Value] = {y: g}
    for node in reversed(list(b.nodes)):
        if node.result not in known or not callable(OPS[node.op].vjp):
            continue
        back = OPS[node.op].vjp(b, node, (known[node.result],))  # type: ignore[operator]
        for operand, d in zip(node.operands, back, strict=True):
            if d is not None:
                old = known.get(operand)
                known[operand] = d if old is None else b.op("add", old, d)
    return known[of]


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
    made = graph(b, [x, g], [y, gradient(b, y, g, x)])
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


def var_first(dims: tuple[Dim, ...], axes: tuple[int, ...]) -> Graph:
    b = Builder("x")
    x = value("x", *dims)
    return graph(b, [x], [normed(b, x, axes)])


STRIPES = ((1, 1), (3, 5), (37, 64), (5, 131), (9, 300), (131, 257), (2, 513))


@pytest.mark.parametrize("shape", STRIPES)
def test_rows_side_by_side_of_any_number(shape: tuple[int, int]) -> None:
    """Stripes that are whole, that end in a whole vector, and that end in a ragged one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    for made in (softmax(0), softmax(0, "log_softmax"), var_first((M, N), (0,))):
        (group,) = fused(made).groups
        assert group.row is not None
        assert len(plan(made, Options(target="x86-64-v4"))[0].steps) == 1
        CompiledGraph(made).check([x], 2e-5, 2e-6)
    b = Builder("x")
    v = value("x", M, N)
    least = b.op("reduce_max", b.op("neg", v), axes=(0,))
    made = graph(b, [v], [b.op("argmax", v, axis=0), least, b.sum(v, (0,))])
    x[x < -1], x[rng.random(shape) < 0.02] = -np.inf, np.nan
    CompiledGraph(made).check([np.round(x)], 1e-5)


@pytest.mark.parametrize(("dims", "axes"), [
    ((7, 3, 5, 70), (0, 1, 2)), ((4, 6, 33), (1,)), ((4, 300), (0,)), ((5, 6, 7, 34), (0, 2)),
    ((40, 16), (0,)), ((40, 600), (0,))])
def test_norms_over_axes_before_the_last(dims: tuple[int, ...], axes: tuple[int, ...]) -> None:
    for lanes in (4, 16):
        check(var_first(dims, axes), lanes=lanes)


def test_rows_side_by_side_are_read_in_long_pieces() -> None:
    program = schedule(softmax(0, dims=(M, N)), 16)
    ((_, made),) = program.schedules
    assert [(t.index, t.size) for t in made.tiles] == [(made.vector, 16)]
    assert set(innermost(program.loops[0].body)) == {f"{made.vector}.s"}


def innermost(body: tuple[Statement, ...]) -> Iterator[str]:
    """The variables of the loops that hold no loops."""
    for loop in (s for s in body if isinstance(s, For)):
        yield from innermost(loop.body) if any(isinstance(s, For) for s in loop.body) else [
            loop.var]


def test_gradients_of_a_norms_parameters_are_one_pass() -> None:
    b = Builder("xg")
    x, g = value("x", 12, N), value("g", 12, N)
    made = graph(b, [x, g], [b.sum(b.op("mul", x, g), (0,)), b.sum(g, (0,))])
    (group,) = fused(made).groups
    assert len(group.outputs) == 2
    check(made)


def channels(dims: tuple[Dim, ...]) -> tuple[Builder, Value, Graph]:
    """Sums over all axes but the second of what is also a result: of a batch of any size."""
    b = Builder("xg")
    x, g = value("x", *dims), value("g", *dims)
    axes = tuple(a for a in range(len(dims)) if a != 1)
    y = b.op("maximum", b.op("mul", x, g), b.broadcast(b.constant(0.0, x.type), dims, ()))
    made = graph(b, [x, g], [y, b.sum(y, axes), b.sum(b.op("mul", y, x), axes), b.sum(g, axes)])
    return b, x, made


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("rest", [(40,), (9, 5, 7), (16, 8, 8), (300,)])
def test_sums_over_the_batch_and_what_they_are_of_are_one_pass(
    n: int, rest: tuple[int, ...]
) -> None:
    made = channels((N, *rest))[2]
    split = split_reductions(eliminate_dead(made), Options(target="x86-64-v4", lanes=16))
    group, *others = fuse(split, Options(lanes=16)).groups
    assert group.row is not None
    assert group.row.cut == Cut(0, 64, ceildiv(N, 64))
    assert len(group.outputs) == 4
    assert all(g.root is not None and g.root.op == "tree_sum" for g in others)
    rng = np.random.default_rng(n)
    x, g = (rng.integers(-3, 4, (n, *rest)).astype(np.float32) for _ in range(2))
    CompiledGraph(made).check([x, g], 1e-5, 1e-4)


NORMED = """import nn
model Net {
    a = nn.Conv2d(3, 16, kernel=3, padding=1)
    n = nn.BatchNorm(16)
    b = nn.Dense(16, 10)

    step fit(x: f32[N, 3, 9, 8], y: i32[N]) -> f32 {
        loss = softmax_cross_entropy(b(mean(x |> a |> n |> relu, axis=(2, 3))), y)
        minimize loss with sgd(lr=0.1)
        return loss
    }
}
"""


def normed_step(folder: Path) -> Graph:
    file = folder / "net.dl"
    file.write_text(NORMED)
    return Build(file).model("Net", {}).graph("fit")


@pytest.mark.parametrize("n", [1, 5, 16, 64, 67, 150])
def test_a_batch_norm_with_the_batch_in_the_lanes(n: int, tmp_path: Path) -> None:
    made = normed_step(tmp_path)
    rng = np.random.default_rng(n)
    arrays = []
    for p in made.params:
        dims = tuple(d if isinstance(d, int) else n for d in p.value.dims)
        array = rng.standard_normal(dims).astype(np.float32)
        arrays.append(rng.integers(0, 10, dims).astype(np.int32) if p.value.dtype is I32
                      else np.abs(array) if p.role == "var" else array)
    CompiledGraph(made).check(arrays, 2e-3, 2e-4)


def test_passes_of_a_batch_norm(tmp_path: Path) -> None:
    """Forward: the mean, the variance. What is normalised is computed where it is read. Backward:
    all sums of the incoming gradient, the variance's part, the gradient with its own sum."""
    program, _ = plan(normed_step(tmp_path), Options(target="x86-64-v4", hints={"N": 64}))
    schedules = dict(program.schedules)
    kernels = {k.name: k for k in program.kernels}
    passes = [kernels[s.kernel] for s in program.steps if isinstance(s, Launch)
              and any(p.dims[1:] == (16, 9, 8) for p in kernels[s.kernel].params)]
    rows = [k for k in passes if schedules[k.name].sweep]
    assert len(rows) == 5
    assert all(len(schedules[k.name].tiles) == 1 for k in rows)
    elementwise = [k for k in passes if not any(
        isinstance(c, Compute) and c.combine for c in k.body)]
    assert not elementwise


def test_axes_along_rows_that_are_neighbours_are_one() -> None:
    program = check(var_first((5, 6, 7, 9), (0, 2, 3)))
    (kernel,) = program.kernels
    assert {tuple(i.high for i in c.over) for c in kernel.body
            if isinstance(c, Compute) and c.over} == {(5, 63)}
