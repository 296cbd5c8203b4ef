"""Products by way of shared memory: small ones too here, so that every form has odd edges."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.compiler.schedules import product_tiles
from dlc.ir.dims import evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import conv_spec, matmul_spec
from dlc.ir.types import F32, F64, DType, tensor
from tests.compiler import test_fuse_updates as updates
from tests.compiler import test_ops_compiled as ops
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import Module, needs_compiler
from tests.cuda.test_examples_cuda import draw, graph_of

M, N = symbol("M"), symbol("N")


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_tiles, "WAIT", 1 << 30)


def dense(rows: object, inner: int, columns: int) -> Graph:
    """tanh(max(x, 0) @ w + b), which has a prologue and an epilogue."""
    x = Value("x", tensor(F32, (rows, inner)))  # type: ignore[arg-type]
    w, bias = Value("w", tensor(F32, (inner, columns))), Value("b", tensor(F32, (columns,)))
    b = Builder("xwb")
    positive = b.op("maximum", x, b.constant(0.0, x.type))
    made = b.op("contract", positive, w, **matmul_spec(x.dims, w.dims))
    out = b.op("tanh", b.op("add", made, b.broadcast(bias, made.dims, (1,))))
    return Graph("dense", (Param(x), Param(w), Param(bias)), tuple(b.nodes), (out,))


def numbers(graph: Graph, **sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal([evaluate(d, sizes) for d in p.value.dims]).astype(np.float32) * 0.3
            for p in graph.params]


@needs_compiler
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_products_and_convolutions_of_odd_sizes(dtype: DType) -> None:
    together = ops.Together(ops.products(dtype), compiled=CudaGraph)
    assert "__shared__" in together.compiled.made.text  # type: ignore[attr-defined]
    last = ops.last_digits(dtype)
    for n in (1, 37, 70):
        together.check(n, last, 2.5 * last)


@needs_compiler
@pytest.mark.parametrize(("side", "threads"), [((4, 4), 16), ((8, 8), 16), ((8, 4), 8),
                                               ((4, 8), 4), ((4, 4), 2)])
@pytest.mark.parametrize("rows", [1, 63, 130])
def test_what_is_done_before_and_after(
    rows: int, side: tuple[int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_tiles, "SIDES", (side,))
    monkeypatch.setattr(product_tiles, "GRID", (threads,))
    graph = dense(N, 37, 67)
    compiled = CudaGraph(graph)
    assert ("parts" in compiled.made.text) == (threads < 16)
    compiled.check(numbers(graph, N=rows), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize(("barriers", "barrier"), [(2, 0), (2, 1), (3, 2)])
def test_each_barrier_is_needed(
    barriers: int, barrier: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_tiles, "GRID", (16 if barriers == 2 else 8,))
    graph = dense(70, 67, 70)
    compiled = CudaGraph(graph)
    places = [m.span() for m in re.finditer(r"__syncthreads\(\);", compiled.made.text)]
    assert len(places) == barriers
    start, end = places[barrier]
    compiled.module = Module(compiled.made.text[:start] + compiled.made.text[end:], HEADERS)
    with pytest.raises(AssertionError):
        compiled.check(numbers(graph), rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("barrier", [None, 0, 1])
def test_two_stages(barrier: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_tiles, "SIDES", ((8, 8),))
    monkeypatch.setattr(product_tiles, "GRID", (16,))
    graph = dense(N, 67, 70)
    compiled = CudaGraph(graph)
    assert "const Index stage = (turn % 2);" in compiled.made.text
    places = [m.span() for m in re.finditer(r"__syncthreads\(\);", compiled.made.text)]
    assert len(places) == 2
    if barrier is None:
        for rows in (1, 130):
            compiled.check(numbers(graph, N=rows), rtol=1e-5, atol=1e-5)
        return
    start, end = places[barrier]
    compiled.module = Module(compiled.made.text[:start] + compiled.made.text[end:], HEADERS)
    with pytest.raises(AssertionError):
        compiled.check(numbers(graph, N=130), rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("body", updates.WITH.values(), ids=list(updates.WITH))
def test_gradients_that_end_with_updates(body: str, tmp_path: Path) -> None:
    graph = updates.step(tmp_path, body, 37, 101, 11)
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal([evaluate(d, {"N": 67}) for d in p.value.dims])
              .astype(np.float32) for p in graph.params]
    arrays = [np.abs(a) if p.role == "var" else a
              for p, a in zip(graph.params, arrays, strict=True)]
    CudaGraph(graph).check(arrays, 2e-4, 2e-5)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("file", "name"), [("plain_lenet5.dl", "fit"), ("zoo/unet.dl", "fit"),
                                            ("zoo/decoder.dl", "fit"), ("zoo/maml.dl", "fit")])
def test_steps_of_examples(file: str, name: str) -> None:
    graph = graph_of(file, name)
    CudaGraph(graph).check(draw(graph), rtol=2e-3, atol=2e-4)


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_sums_lie_in_registers(arch: str) -> None:
    x, w = Value("x", tensor(F32, (N, 64, 28, 28))), Value("w", tensor(F32, (2048, 64, 3, 3)))
    b = Builder("xw")
    made = b.op("contract", x, w, **conv_spec(x.dims, w.dims))
    conv = Graph("conv", (Param(x), Param(w)), tuple(b.nodes), (made,))
    for graph in (dense(M, 4096, 4096), conv):
        options = Options(target="cuda:sm_80", hints={"M": 4096, "N": 64})
        each = compile_cubin(compile_cuda(graph, options).text, arch)[1]
        tiles = [r for r in each if r.shared]
        assert tiles
        assert [r for r in tiles if r.stack or r.spilled] == []
        assert max(r.registers for r in tiles) <= 168  # of 255 that a thread of 256 may have
        assert max(r.shared for r in tiles) >= 2 * 4 * 8 * (64 + 4)
