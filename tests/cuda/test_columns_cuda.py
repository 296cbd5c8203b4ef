"""Sums down columns, shared by the threads of a block: any number of columns, rows and dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.options import Options
from dlc.compiler.pipeline import compile_cuda
from dlc.compiler.schedules.columns import THREADS, Columns
from dlc.ir.dims import Dim, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import sum_spec
from dlc.ir.scalar import Array
from dlc.ir.types import BF16, F16, F32, F64, I32, I64, U8, DType, tensor
from tests.compiler.test_ops_compiled import last_digits
from tests.cuda.compiled import HEADERS, CudaGraph
from tests.cuda.on_cpu import Module, needs_compiler

N = symbol("N")
KINDS = (F32, F64, F16, BF16, I32, I64, U8)


@pytest.fixture(params=[1, 4, 32, 128], ids="{} beside".format)
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many columns in a block, whatever the model says."""
    monkeypatch.setattr(Columns, "beside", lambda self, target: request.param)
    return int(request.param)


def down(rows: Dim, columns: int, dtype: DType) -> Graph:
    """What there is of all columns: their sums, maxima and where these stand, trees, a norm."""
    x = Value("x", tensor(dtype, (rows, columns)))
    b = Builder("x")
    out = [b.op("contract", x, **sum_spec(x.dims, (0,))), b.op("reduce_max", x, axes=(0,)),
           b.op("argmax", x, axis=0)]
    out.append(b.op("tree_sum", x))
    if dtype.is_float and dtype.size >= 4:
        most = b.broadcast(b.op("reduce_max", x, axes=(0,)), x.dims, (1,))
        e = b.op("exp", b.op("sub", x, most))
        total = b.op("contract", e, **sum_spec(x.dims, (0,)))
        out.append(b.op("div", e, b.broadcast(total, x.dims, (1,))))
    return Graph("down", (Param(x),), tuple(b.nodes), tuple(out))


def numbers(dtype: DType, *shape: int) -> Array:
    rng = np.random.default_rng(5)
    if not dtype.is_float:
        return rng.integers(0 if dtype is U8 else -9, 9, shape).astype(dtype.numpy)
    return np.asarray(rng.integers(-64, 64, shape) / 16, dtype.numpy)


@needs_compiler
@pytest.mark.parametrize(("dtype", "beside"), [
    *((F32, beside) for beside in (1, 4, 32, 128)), *((kind, 4) for kind in KINDS[1:])],
    ids=str, indirect=["beside"])
def test_columns(dtype: DType, beside: int) -> None:
    last = last_digits(dtype) if dtype in (F32, F64) else 2.0**-7
    for columns in (1, 33):
        compiled = CudaGraph(down(N, columns, dtype))
        assert f"part = {f'(thread / {beside})' if beside > 1 else 'thread'};" in (
            compiled.made.text)
        for rows in (1, 31, 33, 1000):
            compiled.check([numbers(dtype, rows, columns)], rtol=last, atol=99 * last)
    CudaGraph(down(4097, 3, dtype)).check([numbers(dtype, 4097, 3)], rtol=last, atol=99 * last)


@needs_compiler
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 31, 257, 1000, 4097])
def test_trees_have_the_pairs_of_the_language(rows: int, beside: int) -> None:
    """To the last bit, the sign of a sum of zeros and what is no number too."""
    x = Value("x", tensor(F32, (N, 5)))
    b = Builder("x")
    graph = Graph("tree", (Param(x),), tuple(b.nodes), (b.op("tree_sum", x),))
    graph = Graph("tree", (Param(x),), tuple(b.nodes), graph.results)
    values = np.random.default_rng(rows).standard_normal((rows, 5)).astype("f4") * 1e3
    values[:, 0], values[rows // 2, 1] = -0.0, np.inf
    values[-1, 2] = np.nan
    compiled = CudaGraph(graph)
    compiled.check([values])
    found = compiled.run([values])[0]
    assert np.signbit(found[0])


@needs_compiler
@pytest.mark.parametrize("place", [np.inf, np.nan])
def test_the_first_of_the_largest(place: float, beside: int) -> None:
    x = Value("x", tensor(F32, (N, 3)))
    b = Builder("x")
    out = b.op("argmax", x, axis=0)
    compiled = CudaGraph(Graph("most", (Param(x),), tuple(b.nodes), (out,)))
    values = np.zeros((700, 3), "f4")
    values[[77, 300, 699], 1] = place
    assert compiled.run([values])[0].tolist() == [0, 77, 0]


@needs_compiler
@pytest.mark.parametrize("beside", [1, 32], indirect=True)
def test_barriers_are_needed(beside: int) -> None:
    """Where values pass through shared memory, and where that is used again."""
    graph = down(1000, 33, F32)
    compiled = CudaGraph(graph)
    values = [numbers(F32, 1000, 33)]
    compiled.check(values, rtol=1e-5, atol=1e-5)
    text = compiled.made.text
    places = [m.span() for m in re.finditer(r"__syncthreads\(\);", text)]
    assert places
    broken = 0
    for start, end in places:
        compiled.module = Module(text[:start] + text[end:], HEADERS)
        try:
            compiled.check(values, rtol=1e-5, atol=1e-5)
        except AssertionError:
            broken += 1
    assert broken >= len(places) // 2


def chunked(build: Callable[[Builder, Value], Value], dims: tuple[Dim, ...], **hints: int) -> str:
    x = Value("x", tensor(F32, dims))
    b = Builder("x")
    graph = Graph("sums", (Param(x),), tuple(b.nodes), (build(b, x),))
    graph = Graph("sums", (Param(x),), tuple(b.nodes), graph.results)
    return compile_cuda(graph, Options(target="cuda:sm_80", hints=hints)).text


@pytest.mark.parametrize(("dims", "axes", "passes"), [
    ((65536, 128), (0,), 2),  # a bias of many places
    ((65536, 16384), (0,), 1),  # enough columns for all processors
    ((256, 64, 56, 56), (0, 2, 3), 2),  # moments of a batch norm
    ((1 << 22,), (0,), 2),
    ((32, 128), (0,), 1),
    ((N, 128), (0,), 2),
    ((16384, 4096), (1,), 1),
])
def test_long_sums_are_made_by_all_processors(
    dims: tuple[Dim, ...], axes: tuple[int, ...], passes: int
) -> None:
    text = chunked(lambda b, x: b.op("contract", x, **sum_spec(x.dims, axes)), dims, N=65536)
    assert text.count("__global__") == passes


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_what_columns_take(arch: str, beside: int) -> None:
    for dtype in KINDS:
        text = compile_cuda(down(N, 33, dtype), Options(target="cuda:sm_80")).text
        found = compile_cubin(text, arch)[1]
        assert [r for r in found if r.spilled or r.stack or r.registers > 96] == []


def test_a_block_has_as_many_columns_as_it_pays() -> None:
    wide, narrow = Columns(1 << 20, 64, 1 << 20, 4, 4), Columns(512, 1 << 16, 512, 4, 4)
    assert wide.beside("cuda:sm_80") == THREADS
    assert narrow.beside("cuda:sm_80") < 32
    assert Columns(10, 1 << 12, 10, 4, 4).beside("cuda:sm_80") <= 16
