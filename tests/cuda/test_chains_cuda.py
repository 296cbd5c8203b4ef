"""Attention in tiles on a GPU: no matrix of weights in memory, forwards and backwards."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.kernels.chain_parts import chain_parts
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda, plan
from dlc.compiler.schedules import chain_tiles
from dlc.ir.graph import Builder, Graph
from dlc.ir.interpret import run_graph
from dlc.ir.types import BF16, F16, F32, F64, DType
from tests.compiler.compiled import CompiledGraph
from tests.compiler.test_chains import (
    SIZES,
    Attention,
    N,
    S,
    T,
    check_hidden_keys,
    check_sixteen_bits,
    draw,
    einsum,
    matrices,
    triangle,
)
from tests.compiler.test_kernels import graph, value
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import Module, needs_compiler

GPU = Options(target="cuda:sm_80")


def chains(made: Graph) -> list[bool]:
    """Of each kernel, whether it is a chain."""
    return [chain_parts(k) is not None for k in plan(made, GPU)[0].kernels]


def test_no_matrix_of_weights_is_in_memory() -> None:
    made = plan(Attention().graph(), GPU)[0]
    assert matrices(made) == []
    assert sum(chain_parts(k) is not None for k in made.kernels) == 3
    assert len(made.kernels) == 4  # the fourth: the sum of y * g over each row


@needs_compiler
@pytest.mark.parametrize("depth", [8, 40])
def test_attention_and_its_gradients(depth: int) -> None:
    made = Attention(depth=depth).graph()
    compiled = CudaGraph(made)
    for sizes in SIZES:
        compiled.check(draw(made, sizes), 2e-4, 2e-4)


@needs_compiler
@pytest.mark.parametrize("height", [64, 32, 16])
@pytest.mark.parametrize("width", [64, 32, 16])
def test_tiles_of_all_sizes(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_tiles, "HEIGHTS", (height,))
    monkeypatch.setattr(chain_tiles, "WIDTHS", (width,))
    made = Attention(depth=24).graph()
    compiled = CudaGraph(made)
    assert f"first_p += {width}" in compiled.made.text
    compiled.check(draw(made, (1, 70, 130)), 2e-4, 2e-4)


@needs_compiler
@pytest.mark.parametrize("barrier", range(4))
def test_each_barrier_is_needed(barrier: int) -> None:
    made = Attention(heads=1).graph(gradients=False)
    compiled = CudaGraph(made)
    places = [m.span() for m in re.finditer(r"__syncthreads\(\);", compiled.made.text)]
    assert len(places) == 4
    start, end = places[barrier]
    compiled.module = Module(compiled.made.text[:start] + compiled.made.text[end:], HEADERS)
    with pytest.raises(AssertionError):
        compiled.check(draw(made, (1, 70, 130)), 1e-3, 1e-3)


@needs_compiler
def test_hidden_keys_and_rows_with_none_left() -> None:
    assert sum(chains(check_hidden_keys(CudaGraph))) == 3


@needs_compiler
@pytest.mark.parametrize("seen", ["le", "ge"])
def test_a_triangle_of_keys(seen: str) -> None:
    made = triangle(seen)
    assert sum(chains(made)) == 3
    CudaGraph(made).check(draw(made, (2, 150, 0)), 2e-4, 2e-4)


@needs_compiler
def test_scores_with_something_added() -> None:
    a = Attention()
    bias = a.input(2, T, S)
    a.scores = a.b.op("add", a.scores, a.b.broadcast(bias, a.scores.dims, (1, 2, 3)))
    made = a.graph()
    assert sum(chains(made)) == 3
    CudaGraph(made).check(draw(made, (2, 33, 70)), 2e-4, 2e-4)


@needs_compiler
def test_weights_that_are_dropped() -> None:
    a = Attention()
    keep = a.input(N, T, S)
    weights = a.b.op("softmax", a.scores, axis=3)
    weights = a.b.op("mul", weights, a.b.broadcast(keep, weights.dims, (0, 2, 3)))
    made = a.graph(weights=weights)
    CudaGraph(made).check(draw(made, (2, 33, 70)), 3e-4, 3e-4)


@needs_compiler
def test_doubles() -> None:
    made = Attention(dtype=F64).graph()
    assert sum(chains(made)) == 3
    CudaGraph(made).check(draw(made, (2, 37, 70)), 1e-11, 1e-11)


@needs_compiler
def test_constant_sizes() -> None:
    made = Attention(heads=1, depth=12, dims=(1, 128, 8192)).graph()
    assert any(chains(made))
    CudaGraph(made).check(draw(made, (0, 0, 0)), 3e-4, 3e-4)


@needs_compiler
def test_larger_and_larger_scores_and_what_is_not_a_number() -> None:
    made = Attention(heads=1, depth=8).graph(gradients=False)
    compiled = CudaGraph(made)
    q, k, v, g = draw(made, (1, 40, 300))
    k = k * np.linspace(0, 60, 300, dtype=np.float32)[None, None, :, None]
    compiled.check([q, k, v, g], 3e-4, 3e-4)
    q[0, 0, 7] = np.nan
    (expected,) = run_graph(made, [q, k, v, g])
    (y,) = compiled.run([q, k, v, g])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y).sum() == y[0, 7].size


@needs_compiler
@pytest.mark.parametrize("of_scores", ["softmax", "tanh"])
def test_keys_that_all_heads_share(of_scores: str) -> None:
    """Without a softmax a chain is linear in the rows: there is nothing to scale."""
    b = Builder(("q", "k", "v"))
    q, k, v = value("q", N, 4, T, 8), value("k", N, S, 8), value("v", N, S, 20)
    scores = einsum(b, "nhqd,nkd->nhqk", q, k)
    weights = b.op("softmax", scores, axis=3) if of_scores == "softmax" else b.op("tanh", scores)
    made = graph(b, [q, k, v], [einsum(b, "nhqk,nke->nhqe", weights, v)])
    assert chains(made) == [True]
    CudaGraph(made).check(draw(made, (2, 35, 70)), 2e-4, 2e-4)


@needs_compiler
def test_two_products_of_the_same_weights() -> None:
    b = Builder(("q", "k", "v", "g"))
    q, k, v, g = value("q", T, 8), value("k", S, 8), value("v", S, 24), value("g", S, 3)
    weights = b.op("softmax", einsum(b, "qd,kd->qk", q, k), axis=1)
    made = graph(b, [q, k, v, g], [einsum(b, "qk,kd->qd", weights, x) for x in (v, g)])
    assert sum(chains(made)) == 1
    CudaGraph(made).check(draw(made, (0, 75, 30)), 2e-4, 2e-4)


@needs_compiler
@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
def test_sixteen_bits(dtype: DType) -> None:
    assert sum(chains(check_sixteen_bits(dtype, CudaGraph))) == 3


@needs_compiler
@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_products_of_rounded_operands(precision: str) -> None:
    made = Attention(depth=32).graph()
    compiled = CudaGraph(made, Options(precision=precision))
    arrays = draw(made, (2, 17, 70))
    meant = CompiledGraph(made, Options(precision=precision)).run(arrays)
    for found, other in zip(compiled.run(arrays), meant, strict=True):
        np.testing.assert_allclose(found, other, 2e-2, 2e-2)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("depth", [8, 40, 64, 128, 256])
def test_all_lies_in_registers(depth: int, dtype: DType) -> None:
    made = Attention(heads=8, depth=depth, dtype=dtype).graph()
    options = Options(target="cuda:sm_80", hints={"N": 8, "T": 1024, "S": 1024})
    text = compile_cuda(made, options).text
    for arch in ("sm_80", "sm_90a"):
        each = compile_cubin(text, arch)[1]
        assert sum(r.shared > 4096 for r in each) == 3
        assert [r for r in each if r.spilled or r.stack] == []
