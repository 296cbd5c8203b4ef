"""The contraction against its definition, and against NumPy where NumPy has a name for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlc.ir.dims import evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops import OPS, Op, Sample, TypeRuleError
from dlc.ir.ops.contract import (
    Spec,
    conv_spec,
    einsum_spec,
    extents_of,
    map_of,
    maps_of,
    matmul_spec,
    pool_spec,
    spec,
    sum_spec,
)
from dlc.ir.scalar import Array
from dlc.ir.types import F64, I32, U8, parse_type, tensor
from tests.ir.support import of_samples, random_inputs, sample_graph

RNG = np.random.default_rng(0)


def run(attrs: Spec, *arrays: Array) -> Array:
    values = [Value(f"x{i}", tensor(F64, x.shape)) for i, x in enumerate(arrays)]
    b = Builder(v.name for v in values)
    out = b.op("contract", *values, **attrs)  # type: ignore[arg-type]
    graph = Graph("g", tuple(map(Param, values)), tuple(b.nodes), (out,))
    return run_graph(graph, arrays)[0]


def by_definition(graph: Graph, inputs: list[Array]) -> Array:
    """One turn of a loop for each point of the domain."""
    (node,) = graph.nodes
    extents = extents_of(node)
    out = np.zeros(tuple(map(int, map(str, node.result.dims))))
    for point in itertools.product(*(range(int(str(e))) for e in extents.values())):
        env = dict(zip(extents, point, strict=True))
        term = 1.0
        for at, x in zip(maps_of(node), inputs, strict=True):
            index = tuple(evaluate(e, env) for e in at)
            inside = all(0 <= i < n for i, n in zip(index, x.shape, strict=True))
            term *= x[index] if inside else 0.0
        index = tuple(evaluate(e, env) for e in map_of(node.attr("out")))
        if all(0 <= i < n for i, n in zip(index, out.shape, strict=True)):
            out[index] += term
    return out


def small(op: Op) -> bool:
    return op.name == "contract"


@pytest.mark.parametrize(**of_samples(small))
def test_it_is_its_definition(op: Op, sample: Sample) -> None:
    graph = sample_graph(op, sample, wide=True)
    domain = np.prod([int(str(e)) for e in extents_of(graph.nodes[0]).values()])
    if domain > 50_000:
        return
    inputs = random_inputs(graph, sample)
    np.testing.assert_allclose(run_graph(graph, inputs)[0], by_definition(graph, inputs), rtol=1e-9)


def test_reads_outside_are_zero_and_writes_outside_are_dropped() -> None:
    i, j = symbol("i"), symbol("j")
    attrs = spec({"i": 5, "j": 3}, ((3 - i - j,), (j,)), (2 * i + j - 3,), (4,))
    x, w = RNG.normal(size=4), RNG.normal(size=3)
    values = (Value("x", tensor(F64, (4,))), Value("w", tensor(F64, (3,))))
    b = Builder(["x", "w"])
    out = b.op("contract", *values, **attrs)  # type: ignore[arg-type]
    graph = Graph("g", tuple(map(Param, values)), tuple(b.nodes), (out,))
    np.testing.assert_allclose(run_graph(graph, [x, w])[0], by_definition(graph, [x, w]))


@pytest.mark.parametrize(("left", "right"), [
    ((3, 5), (5, 7)), ((4, 6), (6,)), ((6,), (6, 2)), ((2, 3, 5), (2, 5, 4)), ((2, 3, 5), (5, 4)),
    ((0, 5), (5, 3)), ((3, 0), (0, 2)), ((6,), (6,))])
def test_matmul(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = RNG.normal(size=left), RNG.normal(size=right)
    np.testing.assert_allclose(run(matmul_spec(left, right), a, b), a @ b, atol=1e-12)


@pytest.mark.parametrize("formula", ["ij,jk->ik", "nd,nkd->nk", "bij,bkj->bik", "ii->i", "ij->ji",
                                     "i,j->ij", "ij->", "i->i"])
def test_einsum(formula: str) -> None:
    sizes = dict(zip("ijkndb", (3, 4, 5, 2, 6, 3), strict=True))
    shapes = [tuple(sizes[c] for c in part) for part in formula.split("->")[0].split(",")]
    arrays = [RNG.normal(size=shape) for shape in shapes]
    found = run(einsum_spec(formula, *shapes), *arrays)
    np.testing.assert_allclose(found, np.einsum(formula, *arrays), atol=1e-12)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [
    (1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (3, 0, 1, 2), (2, 3, 2, 4)])
def test_conv(stride: int, padding: int, dilation: int, groups: int) -> None:
    x, w = RNG.normal(size=(2, 4, 10, 9)), RNG.normal(size=(8, 4 // groups, 3, 2))
    found = run(conv_spec(x.shape, w.shape, stride, padding, dilation, groups), x, w)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    right = np.zeros_like(found)
    per_in, per_out = 4 // groups, 8 // groups
    for o, u, v in np.ndindex(*found.shape[1:]):
        first = o // per_out * per_in
        window = padded[:, first : first + per_in,
                        u * stride : u * stride + 2 * dilation + 1 : dilation,
                        v * stride : v * stride + dilation + 1 : dilation]
        right[:, o, u, v] = (window * w[o]).sum(axis=(1, 2, 3))
    assert found.shape[2] == (10 + 2 * padding - dilation * 2 - 1) // stride + 1
    np.testing.assert_allclose(found, right, atol=1e-12)


def test_pool_and_sum() -> None:
    x = RNG.normal(size=(2, 3, 7, 6))
    found = run(pool_spec(x.shape, 2, 2), x)
    np.testing.assert_allclose(
        found, x[:, :, :6].reshape(2, 3, 3, 2, 3, 2).sum(axis=(3, 5)), atol=1e-12)
    np.testing.assert_allclose(run(sum_spec(x.shape, (0, 2)), x), x.sum(axis=(0, 2)), atol=1e-12)


def test_narrow_integers_are_summed_in_i32() -> None:
    x = Value("x", tensor(U8, (1000,)))
    b = Builder(["x"])
    out = b.sum(x, (0,))
    assert out.type is tensor(I32)
    graph = Graph("g", (Param(x),), tuple(b.nodes), (out,))
    assert int(run_graph(graph, [np.full(1000, 255, np.uint8)])[0]) == 255_000


@pytest.mark.parametrize(("types", "attrs"), [
    (("f32[3, 4]", "f32[5, 2]"), lambda: matmul_spec((3, 4), (5, 2))),
    (("f32[3, 4]",), lambda: einsum_spec("ij->ik", (3, 4))),
    (("f32[3, 4]", "f32[3, 4]"), lambda: sum_spec((3, 4), (0,))),
    (("f32[3]",), lambda: sum_spec((3, 4), (0,))),
    (("f32[3, 4]", "f64[4, 2]"), lambda: matmul_spec((3, 4), (4, 2))),
    (("f32[3]",), lambda: spec({"i": 3}, ((symbol("j"),),), (symbol("i"),), (3,))),
])
def test_what_does_not_fit_is_told(types: tuple[str, ...], attrs: object) -> None:
    with pytest.raises(TypeRuleError):
        OPS["contract"].infer(tuple(map(parse_type, types)), dict(attrs()), ())  # type: ignore
