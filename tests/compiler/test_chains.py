"""Chains of products: attention and its gradients without a matrix of weights in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.llvm.target import target
from dlc.compiler.options import Options
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.simplify import simplify
from dlc.compiler.pipeline import dump_graph, plan
from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Builder, Graph, Value
from dlc.ir.interpret import run_graph
from dlc.ir.ops.contract import spec
from dlc.ir.program import Program
from dlc.ir.scalar import Array
from dlc.ir.types import BF16, BOOL, F16, F32, F64, I32, DType
from tests.compiler.assembly import TARGETS, spilling
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_kernels import check, graph, value

N, T, S, D = map(symbol, "NTSD")
PROGRAM = Path(__file__).parents[1] / "benchmarks" / "programs" / "attention.dl"
SIZES = ((1, 1, 1), (2, 17, 5), (1, 70, 130), (3, 129, 64), (2, 64, 65), (1, 16, 200))


def einsum(b: Builder, text: str, x: Value, y: Value) -> Value:
    """A contraction of two tensors, as NumPy writes it."""
    reads, out = text.split("->")
    left, right = reads.split(",")
    extents: dict[str, Dim] = dict(zip(left + right, (*x.dims, *y.dims), strict=True))
    maps = tuple(tuple(map(symbol, part)) for part in (left, right, out))
    return b.op("contract", x, y, **spec(
        extents, maps[:2], maps[2], tuple(extents[n] for n in out)))


class Attention:
    """A graph in the making: queries, keys and values, and what the weights are made of."""

    def __init__(
        self, heads: int = 2, depth: Dim = 8, dtype: DType = F32,
        dims: tuple[Dim, Dim, Dim] = (N, T, S),
    ) -> None:
        n, t, s = dims
        self.b = Builder(("q", "k", "v", "g", "more"))
        self.q = value("q", n, heads, t, depth, dtype=dtype)
        self.k = value("k", n, heads, s, depth, dtype=dtype)
        self.v = value("v", n, s, heads, depth, dtype=dtype)
        self.g = value("g", n, t, heads, depth, dtype=dtype)
        self.inputs = [self.q, self.k, self.v, self.g]
        self.scores = einsum(self.b, "nhqd,nhkd->nhqk", self.q, self.k)

    def input(self, *dims: Dim, dtype: DType = F32) -> Value:
        """One more input."""
        made = value("more", *dims, dtype=dtype)
        self.inputs.append(made)
        return made

    def hide(self, keep: Value) -> None:
        """Scores that are not kept are -inf."""
        low = self.b.constant(float("-inf"), self.scores.type)
        self.scores = self.b.op("select", keep, self.scores, low)

    def graph(self, gradients: bool = True, weights: Value | None = None) -> Graph:
        """The mixed values; and the gradients of their product with `g`."""
        b = self.b
        if weights is None:
            weights = b.op("softmax", self.scores, axis=3)
        y = einsum(b, "nhqk,nkhd->nqhd", weights, self.v)
        results = [y]
        if gradients:
            loss = b.sum(b.op("mul", y, self.g), (0, 1, 2, 3))
            results += [b.op("gradient", loss, x) for x in (self.q, self.k, self.v)]
        return graph(b, self.inputs, results)


def draw(made: Graph, sizes: Sequence[int], seed: int = 0, depth: int = 0) -> list[Array]:
    """Arrays for all inputs; weights far from equal, so that maxima rise along a row."""
    rng = np.random.default_rng(seed)
    env = dict(zip("NTS", sizes, strict=True)) | {"D": depth}
    out: list[Array] = []
    for v in made.inputs:
        shape = tuple(evaluate(d, env) for d in v.dims)
        numbers = rng.standard_normal(shape) * (3 if v.name in "qk" else 1)
        out.append(rng.random(shape) < 0.7 if v.dtype is BOOL else numbers.astype(v.dtype.numpy))
    return out


def program(made: Graph) -> Program:
    return plan(made, Options())[0]


def matrices(made: Program) -> list[str]:
    """What lies in memory, between the arguments and the results, along both T and S."""
    return [b.name for b in made.buffers
            if b.kind == "temp" and {T, S} <= {symbol(str(d)) for d in b.dims}]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cpu", ["", "haswell"])
def test_attention_and_its_gradients(cpu: str, sizes: tuple[int, int, int]) -> None:
    made = Attention().graph()
    CompiledGraph(made, Options(target=cpu)).check(draw(made, sizes), 2e-4, 2e-4)


def test_no_matrix_of_weights_is_in_memory() -> None:
    made = program(Attention().graph())
    assert matrices(made) == []
    assert sum(chain_parts(k) is not None for k in made.kernels) == 3
    assert len(made.kernels) == 4  # the fourth: the sum of y * g over each row
    assert all(s.part for n, s in made.schedules for k in made.kernels
               if k.name == n and chain_parts(k) is not None)


@pytest.mark.parametrize("depth", [1, 3, 64, 100, 256, 300, 513])
@pytest.mark.parametrize("cpu", ["", "haswell"])
def test_a_depth_that_is_a_symbol(cpu: str, depth: int) -> None:
    """In one block of at most 256, or in some."""
    made = Attention(depth=D).graph()
    assert matrices(program(made)) == []
    arrays = draw(made, (2, 20, 70), depth=depth)
    arrays[0] /= 1 + depth ** 0.5
    CompiledGraph(made, Options(target=cpu)).check(arrays, 1e-3, 1e-3)


def test_a_depth_that_is_a_symbol_has_the_bits_of_a_number() -> None:
    arrays = draw(Attention(depth=40).graph(), (2, 33, 130))
    one, other = (CompiledGraph(Attention(depth=d).graph()).run(arrays) for d in (40, D))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_products_of_products_with_symbols_are_kept() -> None:
    """Only what is made with exp is likely the weights of few values a row."""
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", T, D), value("k", S, D), value("v", S, N)
    made = graph(b, [q, k, v], [einsum(b, "qk,kd->qd", b.op(
        "tanh", einsum(b, "qd,kd->qk", q, k)), v)])
    assert not any(chain_parts(kernel) for kernel in program(made).kernels)


def test_forward_alone_is_one_kernel() -> None:
    made = program(Attention().graph(gradients=False))
    assert [chain_parts(k) is not None for k in made.kernels] == [True]


def test_a_matrix_that_is_a_result_is_not_made_twice() -> None:
    a = Attention()
    weights = a.b.op("softmax", a.scores, axis=3)
    made = a.graph(weights=weights)
    made = replace(made, results=(*made.results, weights))
    assert not any(chain_parts(k) for k in program(made).kernels)
    CompiledGraph(made).check(draw(made, (2, 17, 33)), 2e-4, 2e-4)


def check_hidden_keys(compile: Callable[[Graph], CompiledGraph]) -> Graph:
    """Keys that are hidden, all of them in the first text: its results and gradients are zeros."""
    a = Attention()
    keep = a.input(N, S, dtype=BOOL)
    a.hide(a.b.broadcast(keep, a.scores.dims, (0, 3)))
    made = a.graph()
    arrays = draw(made, (3, 40, 70))
    arrays[-1][0] = False
    compiled = compile(made)
    compiled.check(arrays, 2e-4, 2e-4)
    y, *gradients = compiled.run(arrays)
    assert not y[0].any()
    assert not any(g[0].any() for g in gradients)
    return made


def check_sixteen_bits(dtype: DType, compile: Callable[[Graph], CompiledGraph]) -> Graph:
    """Nearer to the truth than the meaning itself, in which every step is rounded."""
    made, wide = Attention(dtype=dtype).graph(), Attention().graph()
    arrays = [np.asarray(a, dtype.numpy) for a in draw(wide, (2, 17, 70))]
    truth = run_graph(differentiate(wide), [np.asarray(a, np.float32) for a in arrays])
    meant = run_graph(differentiate(made), arrays)
    for found, other, right in zip(compile(made).run(arrays), meant, truth, strict=True):
        error, allowed = (np.abs(np.asarray(a, np.float32) - right).max() for a in (found, other))
        assert error <= 1.1 * allowed
    return made


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("cpu", ["", "haswell"])
def test_sixteen_bits(cpu: str, dtype: DType) -> None:
    made = check_sixteen_bits(dtype, lambda made: CompiledGraph(made, Options(target=cpu)))
    assert matrices(program(made)) == []


def triangle(seen: str) -> Graph:
    """Each query sees the keys up to its own place, or from there on: the first part of a row may
    be all hidden."""
    a = Attention(dims=(N, T, T))
    i, j = (a.b.op("iota", dtype=I32, dims=a.scores.dims, axis=axis) for axis in (2, 3))
    a.hide(a.b.op(seen, j, i))
    return a.graph()


def test_hidden_keys_and_rows_with_none_left() -> None:
    assert matrices(program(check_hidden_keys(CompiledGraph))) == []


@pytest.mark.parametrize("seen", ["le", "ge"])
def test_a_triangle_of_keys(seen: str) -> None:
    made = triangle(seen)
    CompiledGraph(made).check(draw(made, (2, 150, 0)), 2e-4, 2e-4)


def test_scores_with_something_added() -> None:
    a = Attention()
    bias = a.input(2, T, S)
    a.scores = a.b.op("add", a.scores, a.b.broadcast(bias, a.scores.dims, (1, 2, 3)))
    made = a.graph()
    assert matrices(program(made)) == []
    CompiledGraph(made).check(draw(made, (2, 33, 70)), 2e-4, 2e-4)


def test_weights_that_are_dropped() -> None:
    """What weights are multiplied by is a factor of the rest, not of the rows."""
    a = Attention()
    keep = a.input(N, T, S)
    weights = a.b.op("softmax", a.scores, axis=3)
    weights = a.b.op("mul", weights, a.b.broadcast(keep, weights.dims, (0, 2, 3)))
    made = a.graph(weights=weights)
    CompiledGraph(made).check(draw(made, (2, 33, 70)), 3e-4, 3e-4)


def test_doubles() -> None:
    made = Attention(dtype=F64).graph()
    CompiledGraph(made).check(draw(made, (2, 37, 70)), 1e-11, 1e-11)


def test_one_text_and_constant_sizes() -> None:
    made = Attention(heads=1, depth=12, dims=(1, 300, 4100)).graph()
    assert any(chain_parts(k) for k in program(made).kernels)
    CompiledGraph(made).check(draw(made, (0, 0, 0)), 3e-4, 3e-4)


def test_small_matrices_are_kept() -> None:
    made = Attention(dims=(1, 12, 12)).graph()
    assert not any(chain_parts(k) for k in program(made).kernels)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_any_number_of_lanes(lanes: int) -> None:
    a = Attention(dims=(1, N, N + 3))
    check(differentiate_simply(a.graph()), 21, lanes)


def differentiate_simply(made: Graph) -> Graph:
    return simplify(differentiate(made))


def test_larger_and_larger_scores() -> None:
    """Sums so far are scaled down again and again, and what was so far can become nothing."""
    made = Attention(heads=1, depth=8).graph(gradients=False)
    q, k, v, g = draw(made, (1, 20, 300))
    k = k * np.linspace(0, 60, 300, dtype=np.float32)[None, None, :, None]
    CompiledGraph(made).check([q, k, v, g], 3e-4, 3e-4)


def test_what_is_not_a_number_stays_in_its_row() -> None:
    made = Attention(heads=1).graph(gradients=False)
    arrays = draw(made, (1, 40, 130))
    arrays[0][0, 0, 7] = np.nan
    (expected,) = run_graph(made, arrays)
    (y,) = CompiledGraph(made).run(arrays)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y[0, 7]).all()
    assert np.isnan(y).sum() == y[0, 7].size


def test_keys_that_all_heads_share() -> None:
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", N, 4, T, 8), value("k", N, S, 8), value("v", N, S, 8)
    weights = b.op("softmax", einsum(b, "nhqd,nkd->nhqk", q, k), axis=3)
    made = graph(b, [q, k, v], [einsum(b, "nhqk,nkd->nhqd", weights, v)])
    assert [chain_parts(kernel) is not None for kernel in program(made).kernels] == [True]
    CompiledGraph(made).check(draw(made, (2, 35, 70)), 2e-4, 2e-4)


def test_products_of_products_without_a_softmax() -> None:
    """Linear in the rows: there is no maximum, and nothing to scale."""
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", T, 8), value("k", S, 8), value("v", S, 24)
    made = graph(b, [q, k, v], [einsum(b, "qk,kd->qd", b.op(
        "tanh", einsum(b, "qd,kd->qk", q, k)), v)])
    assert [chain_parts(kernel) is not None for kernel in program(made).kernels] == [True]
    CompiledGraph(made).check(draw(made, (0, 45, 100)), 2e-4, 2e-4)


def test_weights_that_are_used_twice_in_a_row() -> None:
    """The second product waits for the first one: they can't be one kernel."""
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", T, 8), value("k", T, 8), value("v", T, 24)
    weights = b.op("softmax", einsum(b, "qd,kd->qk", q, k), axis=1)
    once = einsum(b, "qk,kd->qd", weights, v)
    made = graph(b, [q, k, v], [einsum(b, "qk,kd->qd", weights, once)])
    CompiledGraph(made).check(draw(made, (0, 75, 0)), 2e-4, 2e-4)


def test_two_products_of_the_same_weights_are_one_kernel() -> None:
    b = Builder(("q", "k", "v", "g"))
    q, k, v, g = value("q", T, 8), value("k", S, 8), value("v", S, 24), value("g", S, 3)
    weights = b.op("softmax", einsum(b, "qd,kd->qk", q, k), axis=1)
    made = graph(b, [q, k, v, g], [einsum(b, "qk,kd->qd", weights, x) for x in (v, g)])
    kernels = program(made).kernels
    assert sum(chain_parts(kernel) is not None for kernel in kernels) == 1
    assert matrices(program(made)) == []
    CompiledGraph(made).check(draw(made, (0, 75, 30)), 2e-4, 2e-4)


@pytest.mark.parametrize("cpu", TARGETS)
@pytest.mark.parametrize("depth", [64, D])
def test_no_vector_lies_on_the_stack(depth: Dim, cpu: str) -> None:
    made = Attention(heads=12, depth=depth).graph()
    text = dump_graph(made, "llvm", Options(target=cpu))
    assert [loop.function for loop in spilling(text, target(cpu))] == []


def test_the_same_code_in_every_process() -> None:
    """Sets of texts have another order in each."""
    command = [sys.executable, "-m", "dlc", "dump", str(PROGRAM), "--model", "Layer",
               "--function", "fit", "--stage", "loops"]
    made = {subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True,
                           capture_output=True).stdout for seed in range(4)}
    assert len(made) == 1


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_operands_that_are_rounded(precision: str) -> None:
    """Weights are rounded before they are divided by their sum: so no matrix of them is needed."""
    made = Attention().graph()
    options = Options(verify=True, precision=precision)
    assert matrices(plan(made, options)[0]) == []
    arrays = [a / 2 for a in draw(made, (2, 70, 130))]
    digits = {"bf16": 8, "f16": 11}[precision]
    compiled = CompiledGraph(made, options)
    compiled.check(arrays, 2.0 ** -digits * 16, 2.0 ** -digits * 16)
    exact = CompiledGraph(made).run(arrays)
    assert all(abs(a - b).max() > 2.0 ** (-digits - 4)
               for a, b in zip(compiled.run(arrays), exact, strict=True))
